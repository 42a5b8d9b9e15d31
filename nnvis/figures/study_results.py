"""What came out of a study: every variant's metric, time and size, and what each setting does to the metric.

summary(study)                   # sorted, every seed a dot
parallel_coordinates(study)      # for grids with more than two axes
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nnvis.comparison import Outcome, gap_in_words, higher_is_better
from nnvis.figures.facts import wants_log
from nnvis.figures.labels import EndLabel, arrange
from nnvis.figures.results import INTERVAL_WORDS, Results, metric_name
from nnvis.figures.scales import linear_limits, log_limits, log_ticks, tick_words
from nnvis.figures.style import FAINT, INK, SICK, explain, sheet
from nnvis.figures.variants import NothingToDraw, StudyFigure, about_seeds, drawn_study, looks
from nnvis.figures.varied import naming, setting_words, short_key, varied
from nnvis.figures.words import clipped, count, number
from nnvis.record.study import Study

# ---------------------------------------------------------------- summary

_COLUMNS = (("mean", 0.02), ("seeds", 0.44), ("time", 0.76), ("size", 0.9))  # and where each starts


@drawn_study
def summary(study: Study) -> StudyFigure:
    """The metric that decides, a row a variant, the best at the top: a dot a seed, the mean with its interval.

    Dots that lie apart are a fact about the seed, not about the variant; intervals that lie apart are one about the
    variants. At the side: how many seeds finished and how many diverged, the time of a run, the number of parameters.
    Raises NothingToDraw where no run has ended with a result.
    """
    results = Results.of(study)
    if not results.metric:
        raise NothingToDraw(f"{study.name}: no run has ended with a result{results.lost}")
    order = results.order
    row = 0.3 if len(order) <= 12 else 0.21
    fig = sheet(height=0.75 + row * len(order))
    names, note = naming(study, 26)
    explain(fig, _summary_title(results), _summary_caption(study, results, note))
    ax, side = fig.subplots(1, 2, sharey=True, width_ratios=[1, 1.3])
    look, rows = looks(study), []
    for y, variant in enumerate(order):
        outcome, mean = results[variant], results.mean(variant)
        values = outcome.values.get(results.metric, {})
        colour, marker = look[variant].colour, look[variant].marker
        dots: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 3, "markeredgewidth": 0}
        ax.plot(list(values.values()), [y + 0.27] * len(values), color=colour, **dots, alpha=0.8, label="_seeds")
        if values:
            if mean.judged:
                ax.plot([mean.low, mean.high], [y, y], color=colour, linewidth=2, label="_interval")
            ax.plot([mean.mean], [y], marker=marker, markersize=6, markeredgecolor="white", color=colour, label=variant)
        _write_row(side, y, outcome, results.say(variant))
        cost = (_mean(outcome, "seconds"), _mean(outcome, "parameters"))
        rows += [(variant, results.metric, str(seed), v, None, None, *cost) for seed, v in values.items()]
        rows.append((variant, results.metric, "mean", mean.mean, mean.low, mean.high, *cost))
    _fit_values(ax, results, rows)
    ax.set_ylim(len(order) - 0.4, -0.6)
    ax.set_yticks(range(len(order)), [names[variant] for variant in order])
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    ax.set_xlabel(metric_name(results.metric))
    side.axis("off")
    for name, x in _COLUMNS:
        side.text(x, 1.0, name, transform=side.transAxes, va="bottom", fontsize=8, color="#777777")
    columns = ("variant", "metric", "seed", "value", "low", "high", "seconds", "parameters")
    return StudyFigure(arrange(fig), columns, rows)


def _write_row(side: Axes, y: float, outcome: Outcome, value: str) -> None:
    finished, all_seeds = len(outcome.finished), len(outcome.seen) + len(outcome.missing)
    seeds = f"{finished} of {all_seeds}" if finished < all_seeds else f"{finished}"
    if outcome.diverged:
        seeds += f", {len(outcome.diverged)} div."
    seconds, parameters = _mean(outcome, "seconds"), _mean(outcome, "parameters")
    told = {
        "mean": (value, INK if outcome.finished else FAINT),
        "seeds": (seeds, SICK if outcome.diverged else INK),
        "time": (duration(seconds) if math.isfinite(seconds) else "–", INK),
        "size": (count(round(parameters)) if math.isfinite(parameters) else "–", INK),
    }
    for name, x in _COLUMNS:
        words, colour = told[name]
        side.text(x, y, words, transform=side.get_yaxis_transform(), va="center", fontsize=8, color=colour)


def _mean(outcome: Outcome, metric: str) -> float:
    return outcome.mean(metric)


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3.4 min`, `2.1 h`."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{number(seconds / size, 2)} {unit}"
    return f"{number(seconds, 2)} s"


def _fit_values(ax: Axes, results: Results, rows: Sequence[tuple[Any, ...]]) -> None:
    values = np.array([v for row in rows for v in row[3:6] if v is not None])
    values = values[np.isfinite(values)]
    if not results.metric.startswith("accuracy") and wants_log(values):
        low, high = log_limits(values)
        ax.set_xscale("log")
        ax.set_xlim(10 ** (low - 0.04 * (high - low)), 10 ** (high + 0.04 * (high - low)))
        ticks = log_ticks(low, high, most=6)
        ax.set_xticks(ticks, tick_words(ticks))
        ax.set_xticks([], minor=True)
        return
    ax.set_xlim(*linear_limits(values, least=0.02 if results.metric.startswith("accuracy") else 1e-9))
    ax.xaxis.set_major_locator(MaxNLocator(nbins=5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: results.words(value)))


def _summary_title(results: Results) -> str:
    """The best, and how far it is ahead of the next one."""
    best, pair = results.ranked[0], results.next_best
    value = results.mean(best).mean
    sign = 1 if higher_is_better(results.metric) else -1
    better = any(sign * results.mean(variant).mean > sign * value for variant in results.ranked)
    least = ", of those that diverge least," if better else ""
    text = f"{best} comes first{least} with {results.words(value)} {metric_name(results.metric)}"
    if pair is None:
        return text + results.lost
    if not pair.shown:
        return f"{text}; no difference from {pair.other} is shown"
    ahead = pair.difference if higher_is_better(results.metric) else pair.difference.reversed
    words = gap_in_words(ahead, results.metric)
    return f"{text}, {words} {'better' if pair.ahead else 'worse'} than {pair.other}"


def _summary_caption(study: Study, results: Results, note: str) -> str:
    judged = any(results.mean(variant).judged for variant in results.ranked)
    bars = f"Small dots: seeds; large marks: their mean{f' (bar, and {INTERVAL_WORDS})' if judged else ''}"
    broken = any(results[variant].diverged for variant in results.order)
    after = "; one that diverges (div.) in more of its seeds comes later" if broken else ""
    name = metric_name(results.metric).capitalize()
    return (
        f"{name} of the weights that are kept, the best variant first{after}. {bars}. Time: of a run, on average; "
        f"size: parameters.{note} {_seeds(study)}{results.sentence()}"
    )


def _seeds(study: Study) -> str:
    """How many, of a figure of means."""
    return about_seeds(study, spread="").removeprefix("Median of ")


# ---------------------------------------------------------------- parallel coordinates


@drawn_study
def parallel_coordinates(study: Study) -> StudyFigure:
    """A line a variant through the values of its settings to its metric, coloured by the metric, the best on top.

    Through one value the better variants run higher. Where one value of a setting has the bright lines, that setting
    matters; where all of them have, it does not. Raises NothingToDraw for anything but a grid of three axes or more,
    unless the study names the figure.
    """
    settings = varied(study)
    if len(study.axes) <= 2 and not (settings and "parallel_coordinates" in study.figures):
        what = f"a grid of {len(study.axes)} axes" if study.axes else "no grid"
        raise NothingToDraw(f"{study.name}: {what}; parallel coordinates are for three axes or more")
    results = Results.of(study)
    if not results.metric:
        raise NothingToDraw(f"{study.name}: no run has ended with a result{results.lost}")
    fig = sheet(height=3.4)
    explain(fig, _parallel_title(results, settings), _parallel_caption(study, results))
    ax = fig.subplots()
    places = {key: _places(list(of.values())) for key, of in settings.items()}
    scale = _Scale.of(results)
    colours, x = matplotlib.colormaps["viridis"], np.arange(len(settings) + 1)
    rows = []
    for variant in reversed(results.order):  # the best one last, on top
        value = results.mean(variant).mean
        if good := math.isfinite(value):
            up = scale.up(value)
            look: dict[str, Any] = {"color": colours(0.95 * up), "linewidth": 1.2, "alpha": 0.9}
            if variant == results.ranked[0]:
                look |= {"linewidth": 3, "marker": "o", "markersize": 6}
        else:
            up, look = _BELOW, {"color": SICK, "linewidth": 1.0, "linestyle": (0, (2, 2))}
        path = [
            places[key][repr(of[variant])] + ((up if good else -0.1) - 0.5) * _room(places[key])
            for key, of in settings.items()
        ]
        ax.plot(x, [*path, up], **look, label=variant)
        rows.append((variant, *(of[variant] for of in settings.values()), value, len(results[variant].diverged)))
    _axes_of_settings(ax, settings, places)
    lost = len(results.ranked) < len(results.order)
    ax.set_xlim(-0.35, len(settings) + 0.02)
    ax.set_ylim(-0.2 if lost else -0.12, 1.12)
    columns = ("variant", *settings, results.metric, "diverged")
    return StudyFigure(arrange(fig, {ax: _metric_scale(results, scale, lost)}), columns, rows[::-1])


_BELOW = -0.15  # where a variant without a result ends


@dataclass(frozen=True)
class _Scale:
    """The metric's axis: the best value at 1, the worst at 0; logarithmic for losses of several decades."""

    worst: float
    best: float
    log: bool

    @classmethod
    def of(cls, results: Results) -> _Scale:
        means = np.array([results.mean(variant).mean for variant in results.ranked])
        ends = float(means.min()), float(means.max())
        worst, best = ends if higher_is_better(results.metric) else ends[::-1]
        return cls(worst, best, not higher_is_better(results.metric) and wants_log(means))

    def up(self, value: float) -> float:
        """Where a value lies, in [0, 1]."""
        worst, best, value = (math.log10(v) if self.log else v for v in (self.worst, self.best, value))
        return (value - worst) / (best - worst) if best != worst else 1.0

    @property
    def ticks(self) -> list[float]:
        """Round values within the scale."""
        low, high = sorted((self.worst, self.best))
        if self.log:
            return log_ticks(math.log10(low), math.log10(high), most=6)
        return [t for t in MaxNLocator(nbins=5).tick_values(low, high) if low <= t <= high] if high > low else []


def _places(values: Sequence[Any]) -> dict[str, float]:
    """By repr of a value: its height in [0, 1]; numbers in order, evenly, others in the study's order."""
    distinct = list({repr(value): value for value in values}.items())
    if all(isinstance(value, int | float) and not isinstance(value, bool) for _, value in distinct):
        distinct.sort(key=lambda item: item[1])
    return {name: i / max(len(distinct) - 1, 1) for i, (name, _) in enumerate(distinct)}


def _axes_of_settings(ax: Axes, settings: dict[str, dict[str, Any]], places: dict[str, dict[str, float]]) -> None:
    names = [short_key(key) for key in settings]
    names = [key if names.count(name) > 1 else name for key, name in zip(settings, names, strict=True)]
    ax.set_xticks(range(len(settings) + 1), [*names, ""])
    ax.xaxis.tick_top()
    ax.tick_params(axis="x", length=0, labelsize=9)
    ax.set_yticks([])
    ax.grid(visible=False)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    for x, (key, of) in enumerate(settings.items()):
        ax.axvline(x, color="#888888", linewidth=0.8, label="_axis")
        values = {repr(value): value for value in of.values()}
        every = math.ceil(len(values) / 12)
        for i, (name, value) in enumerate(sorted(values.items(), key=lambda item: places[key][item[0]])):
            if i % every == 0:
                words = clipped(setting_words(value), 12)
                box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
                ax.text(x - 0.03, places[key][name], words, ha="right", va="center", fontsize=8, color=INK, bbox=box)
    ax.axvline(len(settings), color="#888888", linewidth=0.8, label="_axis")


def _room(places: dict[str, float]) -> float:
    """How far the lines through one value spread, so that the good ones can be told from the bad ones."""
    return min(0.6 / max(len(places) - 1, 1), 0.2)


def _metric_scale(results: Results, scale: _Scale, lost: bool) -> list[EndLabel]:
    """The metric's values along the last axis, the best one in words."""
    ticks = [(scale.up(tick), tick) for tick in scale.ticks]
    labels = [EndLabel(up, results.words(tick), FAINT) for up, tick in ticks if up < 0.92]
    labels.append(EndLabel(1.0, f"best: {results.words(scale.best)}", INK))
    return labels + ([EndLabel(_BELOW, "no result", SICK)] if lost else [])


def _parallel_title(results: Results, settings: dict[str, dict[str, Any]]) -> str:
    best = results.ranked[0]
    told = ", ".join(f"{short_key(key)} {setting_words(of[best])}" for key, of in settings.items())
    return f"Best {metric_name(results.metric)}, {results.words(results.mean(best).mean)}: {told}"


def _parallel_caption(study: Study, results: Results) -> str:
    broken = any(variant not in results.ranked for variant in results.order)
    red = " Red, dotted: no run finished." if broken else ""
    return (
        f"A line a variant, through its settings to its {metric_name(results.metric)} (right, mean over the seeds); "
        "yellow: best, violet: worst; thick: the first. Through one value the better ones run higher: a setting "
        f"matters where one of its values has the bright lines.{red} {_seeds(study)}{results.sentence()}"
    )
