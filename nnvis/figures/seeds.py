"""A curve over the seeds: the median, in which diverged runs are the worst there can be, and the range of the others.

spread = over_seeds([Course(times, loss), Course(times, other, broken=True)])
spread.times, spread.median, spread.low, spread.high        # (T,) each
courses = courses_of(study)                                 # variant -> seed -> Curves, on one clock
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nnvis.figures.course import Curves
from nnvis.figures.reading import Clock, NoData
from nnvis.record.study import Study
from nnvis.record.vocabulary import FloatArray, IntArray


@dataclass(frozen=True)
class Course:
    """A curve of one seed."""

    times: FloatArray  # (T,) increasing
    values: FloatArray  # (T,)
    broken: bool = False  # whether the run diverged, so that the curve has no rest


@dataclass(frozen=True)
class Spread:
    """A curve over the seeds. A diverged run is at the worst value (Inf, of a loss) from its end on."""

    times: FloatArray  # (T,)
    median: FloatArray  # (T,) over all seeds
    low: FloatArray  # (T,) over the seeds that did not diverge; NaN of none
    high: FloatArray  # (T,)
    seeds: IntArray  # (T,) how many seeds the median is of

    @property
    def last(self) -> float:
        """The median at the end; NaN of nothing."""
        return float(self.median[-1]) if len(self.median) else float("nan")


def over_seeds(courses: Sequence[Course], worst: float = np.inf) -> Spread:
    """Median and range of the seeds' curves, at every time at which at least half of them have a value.

    Where a seed was not measured its curve is interpolated; after it stopped early, it has no value.
    """
    if not courses:
        nothing = np.zeros(0)
        return Spread(nothing, nothing, nothing, nothing, np.zeros(0, dtype=int))
    times = np.unique(np.concatenate([course.times for course in courses]))
    table = np.array([_at(times, course, worst) for course in courses])  # (S, T)
    counted = (~np.isnan(table)).sum(axis=0)
    kept = counted >= max(len(courses) / 2, 1)
    median = np.nanmedian(table[:, kept], axis=0) if kept.any() else np.zeros(0)
    whole = table[np.array([not course.broken for course in courses])][:, kept]
    low = np.min(whole, axis=0, where=~np.isnan(whole), initial=np.inf)
    high = np.max(whole, axis=0, where=~np.isnan(whole), initial=-np.inf)
    none = low > high
    return Spread(times[kept], median, np.where(none, np.nan, low), np.where(none, np.nan, high), counted[kept])


def _at(times: FloatArray, course: Course, worst: float) -> FloatArray:
    """(T,) the curve at these times; a value that is not finite is the worst, as is what a diverged run has no more."""
    if not len(course.times):
        return np.full(len(times), worst if course.broken else np.nan)
    values = np.interp(times, course.times, course.values, left=np.nan, right=worst if course.broken else np.nan)
    inside = (times >= course.times[0]) & (times <= course.times[-1])
    return np.where(inside & ~np.isfinite(values), worst, values)


def courses_of(study: Study) -> dict[str, dict[int, Curves]]:
    """The curves of every run that has a loss, on one clock: epochs where all runs have them, else steps."""
    every: dict[str, dict[int, Curves]] = {variant: {} for variant in study.variants}
    for variant, seed, run in study.each_run():
        try:
            every[variant][seed] = Curves.of(run)
        except NoData:
            continue
    units = {curves.clock.unit for by_seed in every.values() for curves in by_seed.values()}
    if units == {"epoch", "step"}:
        steps = Clock("step", np.zeros(0, dtype=np.int64))
        every = {v: {seed: replace(c, clock=steps) for seed, c in by_seed.items()} for v, by_seed in every.items()}
    return every
