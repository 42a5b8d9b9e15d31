"""Learning rates: how a study ends at each, and where a run whose rate rises falls fastest and blows up.

learning_rate(study)        # final loss against learning rate
lr_range_test(study)        # loss against learning rate within runs
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from numpy.typing import ArrayLike

from nnvis.comparison import Outcome
from nnvis.figures.facts import running_median
from nnvis.figures.labels import EndLabel, arrange
from nnvis.figures.reading import series
from nnvis.figures.results import Results, metric_name
from nnvis.figures.scales import linear_limits, log_axis, log_limits, log_ticks, tick_words
from nnvis.figures.seeds import Course, Spread, over_seeds
from nnvis.figures.style import INK, SICK, explain, sheet
from nnvis.figures.variants import Look, NothingToDraw, StudyFigure, about_seeds, diverged, drawn_study, looks
from nnvis.figures.varied import setting, setting_words, short_key, varied
from nnvis.figures.words import clipped, number
from nnvis.record.run import Run
from nnvis.record.study import Study
from nnvis.record.vocabulary import FloatArray

LR = "optimizer.lr"
RISE = 10.0  # a range test raises the rate at least so much
BLOWN = 4.0  # times the smallest loss: there a range test ends (Gugger 2018, "How do you find a good learning rate")


# ---------------------------------------------------------------- one rate a run


@dataclass(frozen=True)
class Rate:
    """A variant at its learning rate."""

    lr: float
    variant: str
    values: FloatArray  # final losses of the seeds that finished
    diverged: int
    seeds: int  # those with a result, diverged ones too
    place: int  # of the variant in the comparison's ranking, 0 for the best

    @property
    def mean(self) -> float:
        """Over the seeds that finished; NaN of none."""
        return float(self.values.mean()) if len(self.values) else math.nan

    @property
    def median(self) -> float:
        """Over the seeds, a diverged one being Inf; NaN without any."""
        values = [*self.values, *[math.inf] * self.diverged]
        return float(np.median(values)) if values else math.nan

    @property
    def edges(self) -> tuple[float, float]:
        """The range over the seeds that finished; NaN of none."""
        return (float(self.values.min()), float(self.values.max())) if len(self.values) else (math.nan, math.nan)


@drawn_study
def learning_rate(study: Study) -> StudyFigure:
    """The final loss at each learning rate, a line for each optimizer (or whatever else varies).

    Too low a rate learns too little, too high a one diverges: the best lies in the valley, and a wide valley forgives.
    A cross on the upper edge is a rate at which runs diverged, with how many of how many. Raises NothingToDraw where
    no three variants differ in nothing but the rate (two, if the study names the figure).
    """
    results = Results.of(study)
    each = results.comparison.outcomes
    metric = next((m for m in ("loss/val", "loss/train") if any(o.values.get(m) for o in each.values())), "loss/val")
    order = results.comparison.rankings[metric].order if metric in results.comparison.rankings else ()
    lines = _lines(study, each, metric, order)
    if not lines:
        raise NothingToDraw(f"{study.name}: no three variants differ in nothing but {LR}")
    look = dict(zip(lines, looks(study).values(), strict=False))
    others = [short_key(key) for key in varied(study) if key != LR]
    note = f" Lines: {' · '.join(others)}." if len(others) > 2 else ""
    fig = sheet(height=3.0 + 0.16 * max(len(lines) - 8, 0))
    explain(fig, _rate_title(lines, metric), _rate_caption(study, lines, metric, note) + results.sentence(metric))
    ax = fig.subplots()
    every = [rate for rates in lines.values() for rate in rates]
    broken = [name for name, rates in lines.items() if any(rate.diverged for rate in rates)]
    strip = 0.04 + min(0.075 * len(broken), 0.5)
    heights = {name: 0.965 - i * min(0.075, 0.5 / len(broken)) for i, name in enumerate(broken)}
    losses = np.concatenate([np.append(rate.values, rate.median) for rate in every])
    losses = losses[np.isfinite(losses)]
    if len(losses) and losses.min() <= 0:
        low, high = linear_limits(losses, least=0.1)
        ax.set_ylim(low, high + strip * (high - low))
    else:
        log_axis(ax, *log_limits(losses), above=strip)
    _log_x(ax, [rate.lr for rate in every], "learning rate")
    ax.set_ylabel(f"final {metric_name(metric)}")
    labels = [_draw_rates(ax, name, rates, look[name], heights.get(name, 0.0)) for name, rates in lines.items()]
    rows = [
        (name, r.variant, r.lr, r.median, *r.edges, len(r.values), r.diverged)
        for name, rates in lines.items()
        for r in rates
    ]
    columns = ("line", "variant", "learning_rate", "median", "lowest", "highest", "finished", "diverged")
    return StudyFigure(arrange(fig, {ax: labels}), columns, rows)


def _lines(study: Study, each: dict[str, Outcome], metric: str, order: Sequence[str]) -> dict[str, list[Rate]]:
    """By name of what else varies: the rates in order, of those lines that have three (two, if asked for) or more."""
    least = 2 if "learning_rate" in study.figures else 3  # two points are no valley
    others = {key: of for key, of in varied(study).items() if key != LR}
    lines: dict[str, list[Rate]] = {}
    for variant, outcome in each.items():
        lr = setting(study, variant, LR)
        if isinstance(lr, int | float) and lr > 0 and outcome.seen:
            name = (" · " if len(others) > 2 else ", ").join(
                setting_words(of[variant]) if len(others) > 2 else _said(key, of[variant]) for key, of in others.items()
            )
            values = np.array(list(outcome.values.get(metric, {}).values()))
            place = order.index(variant) if variant in order else len(order)
            rate = Rate(float(lr), variant, values, len(outcome.diverged), len(outcome.seen), place)
            lines.setdefault(name, []).append(rate)
    return {
        name: sorted(rates, key=lambda rate: rate.lr)
        for name, rates in lines.items()
        if len({rate.lr for rate in rates}) >= least
    }


def _said(key: str, value: Any) -> str:
    return value if isinstance(value, str) else f"{short_key(key)} {setting_words(value)}"


def _draw_rates(ax: Axes, name: str, rates: Sequence[Rate], look: Look, height: float) -> EndLabel:
    x, medians = np.array([r.lr for r in rates]), np.array([r.median for r in rates])
    ordinary = np.where(np.isfinite(medians), medians, np.nan)
    low, high = (np.array(edge) for edge in zip(*(r.edges for r in rates), strict=True))
    ax.fill_between(x, low, high, color=look.colour, alpha=0.15, linewidth=0, label="_range")
    ax.plot(x, ordinary, **look.line, label=name or "median")
    best = _best(rates)
    if best:
        ring: dict[str, Any] = {"marker": "o", "markersize": 11, "markerfacecolor": "none", "linestyle": "none"}
        ax.plot([best.lr], [best.median], color=look.colour, **ring, label="_best")
    for rate in rates:
        if rate.diverged:
            mark: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "color": look.colour}
            ax.plot([rate.lr], [height], marker="x", markeredgewidth=1.6, **mark, label="_diverged", clip_on=False)
            ax.annotate(
                f"{rate.diverged}/{rate.seeds}",
                (rate.lr, height),
                xycoords=ax.get_xaxis_transform(),
                xytext=(-5, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=8,
                color=INK,
            )
    finite = ordinary[np.isfinite(ordinary)]
    end = float(finite[-1]) if len(finite) else ax.get_ylim()[1]
    words = f"best {number(best.lr)}" if best else "diverged"
    return EndLabel(end, f"{look.glyph} {clipped(name, 24)}: {words}" if name else f"{look.glyph} {words}", look.colour)


def _best(rates: Sequence[Rate]) -> Rate | None:
    """The one that the comparison ranks first; None where most runs diverge at all of them."""
    known = [rate for rate in rates if math.isfinite(rate.median)]
    return min(known, key=lambda rate: rate.place) if known else None


def _rate_title(lines: dict[str, list[Rate]], metric: str) -> str:
    """The best rate of each line, the best line first; where most runs diverge."""
    found = {name: best for name, rates in lines.items() if (best := _best(rates))}
    if not found:
        return "Every learning rate diverges"
    ranked = sorted(found.items(), key=lambda item: item[1].place)
    (name, best), *others = ranked
    text = f"{name or 'The loss'} is best at learning rate {number(best.lr)}: {metric_name(metric)} {number(best.mean)}"
    for other, rate in others[:2]:
        text += f"; {other} at {number(rate.lr)} ({number(rate.mean)})"
    return text + _limits_words(lines, name)


def _limits_words(lines: dict[str, list[Rate]], name: str) -> str:
    """From which rate on most runs of the line diverge."""
    beyond = [rate for rate in lines[name] if rate.diverged * 2 > rate.seeds]
    if not beyond or len(lines) > 1:
        return ""
    return f"; {beyond[0].diverged} of {beyond[0].seeds} diverge at {number(beyond[0].lr)}"


def _rate_caption(study: Study, lines: dict[str, list[Rate]], metric: str, note: str) -> str:
    shown = [rate.variant for rates in lines.values() for rate in rates]
    broken = any(rate.diverged for rates in lines.values() for rate in rates)
    crosses = (
        " × on the upper edge: so many of the seeds diverged; they count as Inf in the median, not in the range."
        if broken
        else ""
    )
    return (
        f"{metric_name(metric).capitalize()} of the weights that are kept, against {LR}. Ring: the best rate. Left of "
        f"the valley training is too slow, right of it unstable; a wide valley forgives.{note}{crosses} "
        f"{about_seeds(study, shown)}"
    )


def _log_x(ax: Axes, values: ArrayLike, label: str) -> None:
    low, high = log_limits(values)
    edge = 0.04 * (high - low)
    ticks = log_ticks(low, high)
    ax.set_xscale("log")
    ax.set_xlim(10 ** (low - edge), 10 ** (high + edge))
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_major_formatter(FixedFormatter(tick_words(ticks)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(label)


# ---------------------------------------------------------------- a rate that rises within a run


@dataclass(frozen=True)
class RangeTest:
    """A variant's loss against its rising learning rate."""

    variant: str
    curve: Spread  # times: log10 of the rate
    fastest: float  # rate at which the loss falls fastest; NaN where it does not fall
    blown: float  # rate from which the loss is blown up; NaN where it never is


@drawn_study
def lr_range_test(study: Study) -> StudyFigure:
    """The training loss against the learning rate, within runs whose rate rises all the time (Smith 2017).

    From left to right: nothing moves, the loss falls, it is unstable, it blows up. Where it falls fastest (▽) is a
    safe rate; a schedule's largest rate lies between that and the one at which it blows up (×). Raises NothingToDraw
    where no rate rises.
    """
    tests = [t for variant in study.variants if (t := _range_test(variant, list(study.runs[variant].values())))]
    if not tests:
        raise NothingToDraw(f"{study.name}: no run whose learning rate rises tenfold, so no range test")
    look = looks(study)
    fig = sheet(height=3.0 + 0.2 * max(len(tests) - 6, 0))
    caption = (
        "Training loss (running median) against the learning rate, which rises within each run. ▽: the loss falls "
        "fastest, a safe rate; ×: it is four times its smallest value and half its first one, or NaN. A schedule's "
        f"largest rate lies between the two. {about_seeds(study, [test.variant for test in tests])}"
    )
    explain(fig, _range_title(tests), caption)
    ax = fig.subplots()
    losses = np.concatenate([t.curve.median[np.isfinite(t.curve.median)] for t in tests])
    start = max(float(t.curve.median[0]) for t in tests)
    losses = losses[losses <= 1.5 * start]  # what blows up leaves at the top
    _log_x(ax, 10 ** np.concatenate([t.curve.times for t in tests]), "learning rate, rising while training")
    ax.set_ylim(*linear_limits(losses, least=0.1))
    ax.set_ylabel("training loss")
    labels = [_draw_range(ax, test, look[test.variant]) for test in tests]
    rows = [
        (t.variant, float(10**x), float(y), float(low), float(high), int(n))
        for t in tests
        for x, y, low, high, n in zip(
            t.curve.times, t.curve.median, t.curve.low, t.curve.high, t.curve.seeds, strict=True
        )
    ]
    columns = ("variant", "learning_rate", "median", "lowest", "highest", "seeds")
    return StudyFigure(arrange(fig, {ax: labels}), columns, rows)


def rises(lr: FloatArray) -> bool:
    """Whether a learning rate (T,) never falls, still rises in its last quarter, and rises tenfold: a range test.

    (A warm-up stops rising early.)
    """
    return bool(
        len(lr) >= 8
        and lr[0] > 0
        and lr[-1] >= RISE * lr[0]
        and (np.diff(lr) >= 0).all()
        and lr[-1] > lr[-(len(lr) // 4) - 1]
    )


def _range_test(variant: str, runs: Sequence[Run]) -> RangeTest | None:
    courses = []
    for run in runs:
        lr, loss = series(run, "lr"), series(run, "loss/train")
        if rises(lr.values):
            here = np.interp(loss.steps, lr.steps, lr.values)
            rate, first = np.unique(here, return_index=True)
            smooth = running_median(loss.values, len(loss.values) // 20)
            smooth[~np.isfinite(loss.values)] = np.inf
            ended = [np.inf] if diverged(run) else []  # it stays there up to the largest rate of the others
            courses.append((rate, smooth[first], ended))
    if not courses:
        return None
    beyond = 1.001 * max(rate[-1] for rate, _, _ in courses)
    curve = over_seeds(
        [
            Course(np.log10([*rate, *([beyond] * len(ended))]), np.array([*loss, *ended]))
            for rate, loss, ended in courses
        ]
    )
    return RangeTest(variant, curve, *(10.0**x for x in turning_points(curve.times, curve.median)))


def turning_points(x: FloatArray, loss: FloatArray) -> tuple[float, float]:
    """Where the loss (T,) over x (T,), both smooth, falls fastest, and from where on it is blown up; NaN for never.

    Fastest: the steepest chord over a tenth of the points, before the smallest loss. Blown up: after the smallest
    loss, at four times that and at half of the first loss, or not finite.
    """
    lowest = int(np.nanargmin(np.where(np.isfinite(loss), loss, np.nan)))
    half = max(1, len(x) // 20)
    middle = np.arange(half, min(lowest + 1, len(x) - half))
    fastest = math.nan
    if len(middle):
        slope = (loss[middle + half] - loss[middle - half]) / (x[middle + half] - x[middle - half])
        slope = np.where(np.isfinite(slope), slope, np.inf)
        fastest = float(x[middle[np.argmin(slope)]]) if slope.min() < 0 else math.nan
    after = np.arange(lowest, len(x))
    bad = ~(loss[after] < max(BLOWN * loss[lowest], 0.5 * loss[0]))
    return fastest, float(x[after[np.argmax(bad)]]) if bad.any() else math.nan


def _draw_range(ax: Axes, test: RangeTest, look: Look) -> EndLabel:
    curve, colour = test.curve, look.colour
    x = 10**curve.times
    ordinary = np.where(np.isfinite(curve.median), curve.median, np.nan)
    if curve.seeds.max() > 1:
        top = ax.get_ylim()[1]
        ax.fill_between(
            x,
            np.minimum(curve.low, top),
            np.minimum(curve.high, top),
            color=colour,
            alpha=0.2,
            linewidth=0,
            label="_range",
        )
    ax.plot(x, ordinary, color=colour, linestyle=look.dash, label=test.variant)
    if math.isfinite(test.fastest):
        y = float(np.interp(np.log10(test.fastest), curve.times, ordinary))
        ax.plot([test.fastest], [y], marker="v", markersize=8, markeredgecolor="white", color=colour, label="_fastest")
    if math.isfinite(test.blown):
        y = float(ordinary[np.argmin(np.abs(x - test.blown))])
        bottom, top = ax.get_ylim()
        y = min(y, top - 0.03 * (top - bottom)) if math.isfinite(y) else top - 0.03 * (top - bottom)
        ax.plot([test.blown], [y], marker="x", markersize=8, markeredgewidth=2, color=SICK, label="_blown")
    finite = ordinary[np.isfinite(ordinary)]
    words = [f"▽ {number(test.fastest)}"] if math.isfinite(test.fastest) else []
    words += [f"× {number(test.blown)}"] if math.isfinite(test.blown) else []
    return EndLabel(
        min(float(finite[-1]), ax.get_ylim()[1]), f"{clipped(test.variant, 22)}\n{'  '.join(words)}".rstrip(), colour
    )


def _range_title(tests: Sequence[RangeTest]) -> str:
    told = []
    for test in tests:
        falls = (
            f"falls fastest at learning rate {number(test.fastest)}" if math.isfinite(test.fastest) else "never falls"
        )
        blows = f"blows up at {number(test.blown)}" if math.isfinite(test.blown) else "does not blow up"
        told.append((f"{test.variant}: " if len(tests) > 1 else "The loss ") + f"{falls}, {blows}")
    return "; ".join(told[:2]) + (f"; and {len(told) - 2} more" if len(told) > 2 else "")
