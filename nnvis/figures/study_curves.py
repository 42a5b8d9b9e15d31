"""The course of a study's training: the learning curves of all variants, and where each overfits.

learning_curves(study).figure.savefig("learning_curves.png")
overfitting(study).rows             # exactly what is drawn
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nnvis.figures.course import Curves
from nnvis.figures.curves import loss_and_accuracy
from nnvis.figures.facts import wants_log
from nnvis.figures.labels import EndLabel, arrange
from nnvis.figures.outcomes import Outcomes
from nnvis.figures.scales import linear_limits, log_axis, log_limits
from nnvis.figures.seeds import Course, Spread, courses_of, over_seeds
from nnvis.figures.style import FAINT, INK, SICK, TRAIN, VALIDATION, explain, sheet
from nnvis.figures.variants import Look, NothingToDraw, StudyFigure, about_seeds, drawn_study, looks
from nnvis.figures.words import clipped, number, percent
from nnvis.record.study import Study
from nnvis.record.vocabulary import FloatArray

TOGETHER = 6  # more variants than these get a panel each
CURVES = ("loss/train", "loss/val", "accuracy/train", "accuracy/val")
_DASHED: dict[str, Any] = {"linestyle": (0, (4, 1.5))}
_WORDS = {"loss": number, "accuracy": percent}


@dataclass(frozen=True)
class Courses:
    """A variant's curves over its seeds."""

    variant: str
    seeds: dict[int, Curves]
    curves: dict[str, Spread]  # by name of CURVES: those that there are
    broken: dict[int, float]  # seed -> time at which its run diverged

    @classmethod
    def of(cls, variant: str, seeds: dict[int, Curves]) -> Courses:
        each: dict[str, list[Course]] = {curve: [] for curve in CURVES}
        for curves in seeds.values():
            for curve, s in zip(CURVES, (curves.train, curves.val, curves.accuracy, curves.accuracy_val), strict=True):
                if len(s.steps) or curves.broken:
                    each[curve].append(Course(curves.clock.at(s.steps), s.values, bool(curves.broken)))
        worst = {"loss": np.inf, "accuracy": -np.inf}
        spreads = {curve: over_seeds(those, worst[curve.split("/")[0]]) for curve, those in each.items()}
        known = {curve: s for curve, s in spreads.items() if np.isfinite([*s.median, *s.low, *s.high]).any()}
        broken = {
            seed: curves.clock.at(np.array([curves.broken[0]])).item()
            for seed, curves in seeds.items()
            if curves.broken
        }
        return cls(variant, seeds, known, broken)

    @property
    def diverged(self) -> str:
        """`2 of 5 diverged`, or nothing."""
        return f"{len(self.broken)} of {len(self.seeds)} diverged" if self.broken else ""


@drawn_study
def learning_curves(study: Study) -> StudyFigure:
    """Loss (and accuracy) of all variants while training: the training split solid, the validation split dashed.

    Who stays level does not learn; a dashed line that leaves its solid one behind shows overfitting. A diverged run
    ends at a cross on the upper edge. More than six variants have a panel each, with the best one's validation loss
    in grey for comparison. Raises NothingToDraw.
    """
    every = _read(study)
    together = len(every) <= TOGETHER
    outcomes = Outcomes.of(study)
    shown = CURVES if together else CURVES[:2]
    fig = _together(study, every, outcomes) if together else _apart(study, every, outcomes)
    unit = _unit(every)
    rows = [
        (v.variant, curve, *point)
        for v in every
        for curve in shown
        if curve in v.curves
        for point in _points(v.curves[curve])
    ]
    return StudyFigure(fig, ("variant", "curve", unit, "median", "lowest", "highest", "seeds"), rows)


def _read(study: Study) -> list[Courses]:
    every = [Courses.of(variant, seeds) for variant, seeds in courses_of(study).items() if seeds]
    if not any(v.curves for v in every):
        raise NothingToDraw(f"{study.name}: no run with a loss in its record")
    return every


def _points(spread: Spread) -> Iterable[tuple[float, ...]]:
    table = (spread.times, spread.median, spread.low, spread.high)
    return zip(*(column.tolist() for column in table), spread.seeds.tolist(), strict=True)


def _unit(every: Sequence[Courses]) -> str:
    return next(curves.clock.unit for v in every for curves in v.seeds.values())


def _time_label(every: Sequence[Courses]) -> str:
    """`epoch (23 steps each)` where that is so for all."""
    labels = {curves.clock.label for v in every for curves in v.seeds.values()}
    return labels.pop() if len(labels) == 1 else _unit(every)


def _caption(study: Study, every: Sequence[Courses], what: str) -> str:
    crosses = " × at the edge: diverged there, and counted as the worst from there on." if _any_broken(every) else ""
    return f"{what}{crosses} {about_seeds(study, [v.variant for v in every])} {Outcomes.of(study).sentence}".rstrip()


def _any_broken(every: Sequence[Courses]) -> bool:
    return any(v.broken for v in every)


def _together(study: Study, every: Sequence[Courses], outcomes: Outcomes) -> Figure:
    """All variants in one panel for the loss, and one for the accuracy."""
    clock = next(curves.clock for v in every for curves in v.seeds.values())
    both = any(curve.startswith("accuracy") for v in every for curve in v.curves)
    fig, panels = loss_and_accuracy(both, clock)
    fig.set_figheight(fig.get_figheight() + 0.25 * max(len(every) - 3, 0))
    panels[-1].set_xlabel(_time_label(every))
    conclude = "Who stays level does not learn; a dashed line that leaves its solid one behind shows overfitting."
    explain(fig, outcomes.headline, _caption(study, every, f"Solid: training; dashed: validation. {conclude}"))
    ends: dict[Axes, list[EndLabel]] = {}
    for ax, metric in zip(panels, ("loss", "accuracy"), strict=False):
        _fit(ax, metric, every)
        ends[ax] = [_draw_variant(ax, v, metric, looks(study)[v.variant]) for v in every]
    _fit_time(panels, every)
    return arrange(fig, ends)


def _draw_variant(ax: Axes, v: Courses, metric: str, look: Look) -> EndLabel:
    """Its two lines and their ranges; returns what to write at the end of the validation curve, or of the other."""
    train, val = v.curves.get(f"{metric}/train"), v.curves.get(f"{metric}/val")
    if train:
        _band(ax, train, look.colour)
        ax.plot(train.times, _finite(train.median), color=look.colour, label=f"{v.variant} train")
    if val:
        _band(ax, val, look.colour)
        every = max(1, len(val.times) // 8)
        marks = {"marker": look.marker, "markersize": 3.5, "markevery": every}
        ax.plot(val.times, _finite(val.median), color=look.colour, **_DASHED, **marks, label=f"{v.variant} val")
    _mark_broken(ax, v, look.colour, metric)
    last = (val or train or Spread(*[np.zeros(0)] * 4, np.zeros(0, int))).last
    name = f"{look.glyph} {clipped(v.variant, 22)}"
    if math.isfinite(last):
        return EndLabel(last, f"{name} {_WORDS[metric](last)}", look.colour)
    edge = ax.get_ylim()[1 if metric == "loss" else 0]
    return EndLabel(edge, f"{name}\n{v.diverged}" if v.broken else f"{name}: none", look.colour)


def _band(ax: Axes, spread: Spread, colour: Any, alpha: float = 0.15) -> None:
    """The range over the seeds, up to the edge where a seed diverged."""
    bottom, top = ax.get_ylim()
    low, high = np.clip(spread.low, bottom, top), np.clip(spread.high, bottom, top)
    if spread.seeds.max(initial=0) > 1:
        ax.fill_between(spread.times, low, high, color=colour, alpha=alpha, linewidth=0, label="_range")


def _finite(values: FloatArray) -> FloatArray:
    return np.where(np.isfinite(values), values, np.nan)


def _mark_broken(ax: Axes, v: Courses, colour: Any, metric: str = "loss") -> None:
    """A cross on the edge where a run diverged."""
    times = list(v.broken.values())
    height = 0.97 if metric == "loss" else 0.03
    look: dict[str, Any] = {"linestyle": "none", "marker": "x", "markeredgewidth": 1.6, "color": colour}
    if times:
        ax.plot(times, [height] * len(times), transform=ax.get_xaxis_transform(), **look, label="_diverged")


def _fit(ax: Axes, metric: str, every: Sequence[Courses]) -> None:
    """The y axis from the data. What blows up is followed for a decade above all the rest, and leaves at the top."""
    whole, blown = [np.zeros(0)], [np.zeros(0)]
    for v in every:
        for curve, s in v.curves.items():
            if curve.startswith(metric):
                values = np.concatenate([s.median, s.low, s.high])
                (blown if v.broken else whole).append(values[np.isfinite(values)])
    values, blown = np.concatenate(whole), np.concatenate(blown)
    values = np.concatenate([values, blown[blown <= 10 * values.max()] if len(values) else blown])
    if metric == "accuracy":
        ax.set_ylim(*linear_limits(values, least=0.2))
        ax.yaxis.set_major_locator(MaxNLocator(nbins=4))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
    elif wants_log(values):
        log_axis(ax, *log_limits(values), above=0.06)
    else:
        ax.set_ylim(*linear_limits(values, least=0.25 * float(np.abs(values).max(initial=0))))


def _fit_time(panels: Iterable[Axes], every: Sequence[Courses]) -> None:
    last = max(curves.clock.at(curves.last_step).item() for v in every for curves in v.seeds.values())
    for ax in panels:
        ax.set_xlim(-0.01 * last, 1.01 * last)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}"))


def _panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """A sheet with a panel for each of `count` variants, all on the same axes; two to five in a row."""
    columns = min(count, 2) if count <= 4 else 3 if count <= 12 else 4
    rows = math.ceil(count / columns)
    fig = sheet(height=0.4 + rows * height)
    panels = list(fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel())
    for i, ax in enumerate(panels):
        if i >= count:
            ax.remove()
        elif i + columns >= count:  # nothing below it
            ax.xaxis.set_tick_params(labelbottom=True)
    return fig, panels[:count]


def _apart(study: Study, every: Sequence[Courses], outcomes: Outcomes) -> Figure:
    """A panel for each variant, with the loss of the best one in grey."""
    fig, panels = _panels(len(every), height=1.25)
    fig.supylabel("loss", fontsize=9, color=INK)
    by_name = {v.variant: v for v in every}
    best = next((by_name[o.variant] for o in outcomes.ranked if "loss/val" in by_name[o.variant].curves), None)
    grey = f" Grey: validation loss of {best.variant}, the best one." if best else ""
    explain(
        fig,
        outcomes.headline,
        _caption(study, every, f"Loss of each variant on the same axes. Solid: training; dashed: validation.{grey}"),
    )
    _fit(panels[0], "loss", every)
    _fit_time(panels, every)
    for ax, v in zip(panels, every, strict=True):
        if best and v is not best:
            ax.plot(best.curves["loss/val"].times, _finite(best.curves["loss/val"].median), color=FAINT, label="_best")
        _both_losses(ax, v)
        words = v.diverged or (outcomes.words(v.variant) if v.variant in outcomes else "")
        colour = SICK if v.broken else INK
        ax.set_title(f"{clipped(v.variant, _room(len(every)))}\n{words}", color=colour, fontsize=8)
    return arrange(fig)


def _room(count: int) -> int:
    """How many characters of a title fit over one of so many panels."""
    return 44 if count <= 4 else 30 if count <= 12 else 21


def _both_losses(ax: Axes, v: Courses) -> None:
    """Training in grey, validation in blue, as in the curves of a single run; where there is no room for names."""
    for curve, colour, dash in (("loss/train", INK, {}), ("loss/val", VALIDATION, _DASHED)):
        if spread := v.curves.get(curve):
            _band(ax, spread, colour)
            ax.plot(spread.times, _finite(spread.median), color=colour, **dash, linewidth=1.4, label=curve)
    _mark_broken(ax, v, SICK)
