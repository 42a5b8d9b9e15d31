"""A curve over the seeds: median and range, with diverged runs counted as the worst there can be.

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
    median: FloatArray  # (T,)
    low: FloatArray  # (T,)
    high: FloatArray  # (T,)
    seeds: IntArray  # (T,) how many seeds have a value there

    @property
    def last(self) -> float:
        """The median at the end; NaN of nothing."""
        return float(self.median[-1]) if len(self.median) else float("nan")


def over_seeds(courses: Sequence[Course], worst: float = np.inf) -> Spread:
    """Median, lowest and highest of the seeds' curves, at every time at which at least half of them have a value.

    Where a seed was not measured its curve is interpolated; after it stopped early, it has no value.
    """
    times = np.unique(np.concatenate([course.times for course in courses] or [np.zeros(0)]))
    table = np.array([_at(times, course, worst) for course in courses]).reshape(len(courses), len(times))  # (S, T)
    counted = (~np.isnan(table)).sum(axis=0)
    kept = (counted > 0) & (counted >= len(courses) / 2)
    table = table[:, kept]
    if not table.size:
        return Spread(times[kept], *(np.zeros(0) for _ in range(3)), counted[kept])
    median, low, high = np.nanmedian(table, axis=0), np.nanmin(table, axis=0), np.nanmax(table, axis=0)
    return Spread(times[kept], median, low, high, counted[kept])


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
