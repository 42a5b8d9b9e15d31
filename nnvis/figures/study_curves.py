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

from nnvis.comparison import Difference
from nnvis.figures.course import Curves
from nnvis.figures.curves import loss_and_accuracy
from nnvis.figures.facts import wants_log
from nnvis.figures.labels import EndLabel, arrange
from nnvis.figures.results import INTERVAL_WORDS, Results, interval, said
from nnvis.figures.scales import linear_limits, log_axis, log_limits
from nnvis.figures.seeds import Course, Spread, courses_of, over_seeds
from nnvis.figures.style import FAINT, INK, SICK, VALIDATION, explain, sheet
from nnvis.figures.variants import Look, NothingToDraw, StudyFigure, about_seeds, drawn_study, looks
from nnvis.figures.varied import naming
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
        known = {curve: s for curve, s in spreads.items() if np.isfinite([*s.median, *s.low]).any()}
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
    results = Results.of(study)
    shown = CURVES if together else CURVES[:2]
    fig = _together(study, every, results) if together else _apart(study, every, results)
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


def _caption(study: Study, every: Sequence[Courses], what: str, verdict: str, seeds: str = "shaded") -> str:
    crosses = (
        " × at the edge: diverged; counts as the worst in the median, and not in the range."
        if _any_broken(every)
        else ""
    )
    return f"{what}{crosses} {about_seeds(study, [v.variant for v in every], seeds)}{verdict}"


def _any_broken(every: Sequence[Courses]) -> bool:
    return any(v.broken for v in every)


def _together(study: Study, every: Sequence[Courses], results: Results) -> Figure:
    """All variants in one panel for the loss, and one for the accuracy."""
    clock = next(curves.clock for v in every for curves in v.seeds.values())
    both = any(curve.startswith("accuracy") for v in every for curve in v.curves)
    fig, panels = loss_and_accuracy(both, clock)
    fig.set_figheight(fig.get_figheight() + 0.25 * max(len(every) - 3, 0))
    panels[-1].set_xlabel(_time_label(every))
    what = (
        "Solid, hollow marks: training; dashed, full marks: validation. Who stays level does not learn; a dashed line "
        "that leaves its solid one "
        "behind shows overfitting."
    )
    explain(fig, results.headline, _caption(study, every, what, results.sentence()))
    ends: dict[Axes, list[EndLabel]] = {}
    for ax, metric in zip(panels, ("loss", "accuracy"), strict=False):
        _fit(ax, metric, every)
        ends[ax] = [_draw_variant(ax, v, metric, looks(study)[v.variant]) for v in every]
    _fit_time(panels, every)
    return arrange(fig, ends)


def _draw_variant(ax: Axes, v: Courses, metric: str, look: Look) -> EndLabel:
    """Its two lines and their ranges; returns what to write at the end of the validation curve, or of the other."""
    train, val = v.curves.get(f"{metric}/train"), v.curves.get(f"{metric}/val")
    mark: dict[str, Any] = {"color": look.colour, "marker": look.marker, "markersize": 3.5}
    if train:
        every = max(1, len(train.times) // 8)
        hollow = {"markerfacecolor": "white", "markevery": (every // 2, every)}
        _band(ax, train, look.colour)
        ax.plot(train.times, _finite(train.median), **mark, **hollow, label=f"{v.variant} train")
    if val:
        _band(ax, val, look.colour)
        every = max(1, len(val.times) // 8)
        ax.plot(val.times, _finite(val.median), **mark, **_DASHED, markevery=every, label=f"{v.variant} val")
    _mark_broken(ax, v, look.colour, metric)
    shown = val or train
    last = shown.last if shown else math.nan
    name, broken = f"{look.glyph} {clipped(v.variant, 22)}", [v.diverged] * bool(v.broken)
    if math.isfinite(last):
        leaves = float(np.clip(last, *ax.get_ylim()))  # at an edge, where a run blows up
        return EndLabel(leaves, "\n".join([f"{name} {_WORDS[metric](last)}", *broken]), look.colour)
    edge = ax.get_ylim()[1 if metric == "loss" else 0]
    return EndLabel(edge, "\n".join([name, *broken]) if broken else f"{name}: none", look.colour)


def _band(ax: Axes, spread: Spread, colour: Any, alpha: float = 0.15) -> None:
    """The range over the seeds that did not diverge."""
    if spread.seeds.max(initial=0) > 1:
        ax.fill_between(spread.times, spread.low, spread.high, color=colour, alpha=alpha, linewidth=0, label="_range")


def _finite(values: FloatArray) -> FloatArray:
    return np.where(np.isfinite(values), values, np.nan)


def _mark_broken(ax: Axes, v: Courses, colour: Any, metric: str = "loss") -> None:
    """A cross on the edge where a run diverged."""
    times = list(v.broken.values())
    height = 0.96 if metric == "loss" else 0.04
    look: dict[str, Any] = {"linestyle": "none", "marker": "x", "markeredgewidth": 1.6, "color": colour}
    if times:
        ax.plot(
            times, [height] * len(times), transform=ax.get_xaxis_transform(), clip_on=False, **look, label="_diverged"
        )


def _fit(ax: Axes, metric: str, every: Sequence[Courses]) -> None:
    """The y axis from the data. A run that blows up is followed a little above the others, and leaves at the top."""
    whole: list[FloatArray] = [np.zeros(0)]
    blown: list[FloatArray] = [np.zeros(0)]
    for v in every:
        for curve, s in v.curves.items():
            if curve.startswith(metric):
                (blown if v.broken else whole).append(s.median[np.isfinite(s.median)])
                whole += [edge[np.isfinite(edge)] for edge in (s.low, s.high)]
    values, over = np.concatenate(whole), np.concatenate(blown)
    values = np.concatenate([values, over[over <= 2 * values.max()] if len(values) else over])
    if metric == "accuracy":
        ax.set_ylim(*linear_limits(values, least=0.2))
        ax.yaxis.set_major_locator(MaxNLocator(nbins=4))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
    elif wants_log(values):
        log_axis(ax, *log_limits(values), above=0.06)
    else:
        ax.set_ylim(*linear_limits(values, least=0.25 * float(np.abs(values).max(initial=0))))
        ax.yaxis.set_major_locator(MaxNLocator(nbins=6 if len(every) <= 4 else 4))  # whatever room the layout leaves


def _fit_time(panels: Iterable[Axes], every: Sequence[Courses]) -> None:
    last = max(curves.clock.at(curves.last_step).item() for v in every for curves in v.seeds.values())
    for ax in panels:
        ax.set_xlim(-0.01 * last, 1.01 * last)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4 if len(every) > 4 else 8))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}"))


def _panels(count: int, height: float, x: str, y: str) -> tuple[Figure, list[Axes]]:
    """A sheet with a panel for each of `count` variants, all on the same axes, `x` and `y` their names."""
    columns = min(count, 2) if count <= 4 else 3 if count <= 12 else 4
    rows = math.ceil(count / columns)
    fig = sheet(height=0.4 + rows * height)
    panels = list(fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel())
    for i, ax in enumerate(panels):
        if i >= count:
            ax.remove()
            continue
        if i % columns == 0:
            ax.set_ylabel(y)
        if i + columns >= count:  # nothing below it
            ax.xaxis.set_tick_params(labelbottom=True)
            ax.set_xlabel(x)
    return fig, panels[:count]


def _apart(study: Study, every: Sequence[Courses], results: Results) -> Figure:
    """A panel for each variant, with the loss of the best one in grey."""
    fig, panels = _panels(len(every), 1.3, _unit(every), "loss")
    by_name = {v.variant: v for v in every}
    best = next((by_name[name] for name in results.ranked if "loss/val" in by_name[name].curves), None)
    grey = f" Grey: validation loss of {best.variant}, the best one." if best else ""
    names, note = naming(study, _room(len(every)))
    what = f"Loss of each variant on the same axes. Solid: training; dashed: validation.{grey}{note}"
    explain(fig, results.headline, _caption(study, every, what, results.sentence()))
    _fit(panels[0], "loss", every)
    _fit_time(panels, every)
    for ax, v in zip(panels, every, strict=True):
        if best and v is not best:
            ax.plot(best.curves["loss/val"].times, _finite(best.curves["loss/val"].median), color=FAINT, label="_best")
        _both_losses(ax, v)
        words = v.diverged or (results.say(v.variant))
        colour = SICK if v.broken else INK
        ax.set_title(f"{names[v.variant]}\n{words}", color=colour, fontsize=8)
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


@drawn_study
def overfitting(study: Study) -> StudyFigure:
    """Each variant's training and validation loss, with the gap between them shaded, and what it comes to at the end.

    Overfitting: the validation loss (dashed) turns and rises while the training loss (solid) falls on; the ground is
    red from there. The vertical line is at the best epoch, the ticks at its foot at those of the seeds. Raises
    NothingToDraw without a validation loss.
    """
    every = [v for v in _read(study) if "loss/val" in v.curves]
    if not every:
        raise NothingToDraw(f"{study.name}: no validation loss in the record, so no gap to draw")
    fits = {v.variant: Fit.of(v) for v in every}
    fig, panels = _panels(len(every), 1.65 if len(every) > 2 else 2.4, _unit(every), "loss")
    names, note = naming(study, _room(len(every)))
    what = (
        "Loss of each variant on the same axes. Solid: training; dashed: validation; shaded: the gap between them. "
        "Vertical line: the best validation loss, ticks: that of each seed; red ground: it rises by 10% or more "
        f"afterwards in most seeds. Gap: at the end, mean over the seeds"
        f"{f' ({INTERVAL_WORDS})' if any(fit.gap.judged for fit in fits.values()) else ''}.{note}"
    )
    verdict = Results.of(study).sentence("loss/val")
    explain(fig, _overfitting_title(every, fits), _caption(study, every, what, verdict, "thin lines"))
    _fit(panels[0], "loss", every)
    _fit_time(panels, every)
    rows: list[tuple[Any, ...]] = []
    for ax, v in zip(panels, every, strict=True):
        fit = fits[v.variant]
        _draw_gap(ax, v, fit)
        ax.set_title(
            f"{names[v.variant]}\n{_fit_words(v, fit, _unit(every), len(every))}",
            color=SICK if fit.overfits else INK,
            fontsize=8,
        )
        for curve in CURVES[:2]:
            rows += [(v.variant, curve, *point) for point in _points(v.curves[curve])] if curve in v.curves else []
        rows += [(v.variant, f"best of seed {seed}", t, None, None, None, 1) for seed, t in fit.best.items()]
        end = v.curves["loss/val"].times[-1].item()
        rows.append((v.variant, "final gap", end, fit.gap.mean, fit.gap.low, fit.gap.high, len(fit.gaps)))
    return StudyFigure(arrange(fig), ("variant", "curve", _unit(every), "value", "low", "high", "seeds"), rows)


@dataclass(frozen=True)
class Fit:
    """How a variant's runs, those that did not diverge, fit the training rows and the others."""

    gaps: dict[int, float]  # seed -> validation loss less training loss, at the end
    gap: Difference  # their mean, with its interval
    best: dict[int, float]  # seed -> time of the best validation loss
    onsets: dict[int, float]  # seed -> time from which it overfits; only those that do

    @classmethod
    def of(cls, v: Courses) -> Fit:
        whole = {seed: c for seed, c in v.seeds.items() if not c.broken and c.best is not None}
        gaps = {seed: float(c.val.values[-1] - c.train_at_val[-1]) for seed, c in whole.items()}
        times = {seed: c.clock.at(c.val.steps) for seed, c in whole.items()}
        best = {seed: float(times[seed][c.best]) for seed, c in whole.items()}
        onsets = {seed: float(times[seed][c.onset]) for seed, c in whole.items() if c.onset is not None}
        return cls(gaps, interval(gaps), best, onsets)

    @property
    def overfits(self) -> bool:
        """In most of the seeds."""
        return len(self.onsets) * 2 > len(self.best)

    @property
    def turn(self) -> float:
        """The median time of the best validation loss; NaN of none."""
        return float(np.median(list(self.best.values()))) if self.best else math.nan


def _draw_gap(ax: Axes, v: Courses, fit: Fit) -> None:
    colour = SICK if fit.overfits else VALIDATION
    train, val = v.curves.get("loss/train"), v.curves["loss/val"]
    if train:
        under = np.interp(val.times, train.times, train.median)
        ax.fill_between(val.times, under, val.median, color=colour, alpha=0.2, linewidth=0, label="_gap")
    for curve, ink, dash in (("loss/train", INK, {}), ("loss/val", colour, _DASHED)):
        if spread := v.curves.get(curve):
            for edge in (spread.low, spread.high):
                ax.plot(spread.times, edge, color=ink, alpha=0.5, linewidth=0.5, label="_range")
            ax.plot(spread.times, _finite(spread.median), color=ink, **dash, linewidth=1.4, label=curve)
    if math.isfinite(fit.turn):
        ax.axvline(fit.turn, color=colour, linewidth=1, linestyle=(0, (2, 2)), label="_best")
        ax.plot(
            list(fit.best.values()),
            [0.03] * len(fit.best),
            transform=ax.get_xaxis_transform(),
            linestyle="none",
            marker="|",
            color=colour,
            markersize=5,
            label="_best of each seed",
        )
        if fit.overfits:
            ax.axvspan(fit.turn, ax.get_xlim()[1], color=SICK, alpha=0.08, linewidth=0, label="_overfitting")
    _mark_broken(ax, v, SICK)


def _fit_words(v: Courses, fit: Fit, unit: str, count: int) -> str:
    if not fit.gaps:
        return f"{v.diverged}\n"
    share = f"{len(fit.onsets)} of {len(fit.best)}"
    if v.broken:
        last = v.diverged
    elif count > 12:
        last = f"best {number(fit.turn)}, overfits {share.replace(' of ', '/')}"
    elif count > 4:
        last = f"best {unit} {number(fit.turn)}, overfits {share}"
    else:
        last = f"best at {unit} {number(fit.turn)}; overfits in {share} seeds"
    return f"gap {said(fit.gap, 'loss')}\n{last}"


def _overfitting_title(every: Sequence[Courses], fits: dict[str, Fit]) -> str:
    """Who overfits most, and who least."""
    known = sorted((fit.gap.mean, name) for name, fit in fits.items() if fit.gaps)
    if not known:
        return "Every run diverged"
    ill = [name for _, name in known if fits[name].onsets]
    least, most = known[0][1], (ill or [known[-1][1]])[-1]
    fit = fits[most]
    if ill:
        start = number(float(np.median(list(fit.onsets.values()))))
        text = (
            f"{most} overfits from {_unit(every)} {start} in {len(fit.onsets)} of {len(fit.best)} seeds: "
            f"final gap {said(fit.gap, 'loss')}"
        )
    else:
        text = f"No variant overfits; the largest final gap is {said(fit.gap, 'loss')}, of {most}"
    return text if least == most else f"{text}; least: {least} {said(fits[least].gap, 'loss')}"
