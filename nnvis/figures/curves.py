"""Learning curves: did it learn, when was it best, does it overfit?

learning_curves(run)                  # training and validation, best epoch, onset of overfitting, the gap
learning_curves_compared(a, b)        # several runs on shared axes
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nnvis.figures.course import Curves, last_finite, verdict
from nnvis.figures.facts import best, wants_log
from nnvis.figures.labels import EndLabel, arrange
from nnvis.figures.reading import Clock, about, chance_accuracy, names
from nnvis.figures.scales import linear_limits, log_axis, log_limits
from nnvis.figures.style import HEALTHY, INK, MARKERS, SICK, TRAIN, VALIDATION, VARIANTS, drawn, explain, sheet
from nnvis.figures.words import number, percent
from nnvis.record.run import Run

DASHED: dict[str, Any] = {"linestyle": (0, (4, 1.5))}
DOTTED: dict[str, Any] = {"marker": "o", "markersize": 3}


@drawn
def learning_curves(run: Run) -> Figure:
    """Loss (and accuracy) while training, on the training split and on the validation split.

    Healthy: both fall and level off together. Overfitting: validation turns and rises while training goes on
    falling; the gap between them is shaded. Not learning: both stay where they started. Raises NoData.
    """
    curves = Curves.of(run)
    fig, panels = loss_and_accuracy(curves.has_accuracy, curves.clock)
    explain(fig, verdict(curves), _caption(run, curves))
    ends = {panels[0]: _loss(panels[0], curves)}
    if curves.has_accuracy:
        ends[panels[1]] = _accuracy(panels[1], curves, chance_accuracy(run))
    _fit([curves], panels, batches=True)
    for ax in panels:
        _mark_events(ax, curves, named=ax is panels[0])
    return arrange(fig, ends)


@drawn
def learning_curves_compared(*runs: Run) -> Figure:
    """The learning curves of several runs on shared axes: validation solid, training dashed. Raises NoData."""
    every = [Curves.of(run) for run in runs]
    same_epochs = len({tuple(curves.clock.ends[:1]) for curves in every}) == 1
    clock = every[0].clock if same_epochs else Clock("step", every[0].clock.ends[:0])
    every = [replace(curves, clock=clock) for curves in every]
    both = all(curves.has_accuracy for curves in every)
    fig, panels = loss_and_accuracy(both, clock)
    conclude = "Who stays level does not learn; a dashed line that leaves its solid one behind shows overfitting."
    explain(fig, _comparison(runs, every), f"Solid: validation; dashed: training. {conclude} {about(*runs)}")
    ends: dict[Axes, list[EndLabel]] = {ax: [] for ax in panels}
    for name, curves, colour, marker in zip(names(*runs), every, _colours(every), cycle(MARKERS), strict=False):
        pairs = [(curves.train, curves.val, number), (curves.accuracy, curves.accuracy_val, percent)]
        for ax, (train, val, words) in zip(panels, pairs, strict=False):
            shown = val if len(val.steps) else train
            ax.plot(clock.at(train.steps), train.values, color=colour, **DASHED, label=f"{name} train")
            ax.plot(clock.at(val.steps), val.values, color=colour, marker=marker, markersize=3, label=name)
            ends[ax].append(EndLabel(last_finite(shown), f"{name}\n{words(last_finite(shown))}", colour))
    _fit(every, panels, batches=False)
    return arrange(fig, ends)


def loss_and_accuracy(both: bool, clock: Clock) -> tuple[Figure, list[Axes]]:
    """A sheet with a panel for the loss and, where there is one, for the accuracy."""
    ratios = [3, 2] if both else [3]
    fig = sheet(height=0.9 + sum(ratios) * 0.65)
    panels = list(fig.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0])
    for ax, name in zip(panels, ("loss", "accuracy"), strict=False):
        ax.set_ylabel(name)
    panels[-1].set_xlabel(clock.label)
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    panels[-1].xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}"))
    return fig, panels


def _fit(every: Sequence[Curves], panels: Sequence[Axes], *, batches: bool) -> None:
    """Axes from the data, never so narrow that noise looks like a course."""
    losses = np.concatenate([curves.losses(batches=batches) for curves in every])
    if wants_log(losses):
        log_axis(panels[0], *log_limits(losses))
    elif len(losses):
        panels[0].set_ylim(*linear_limits(losses, least=0.25 * np.abs(losses).max()))
    if len(panels) > 1:
        shares = np.concatenate([s.values for c in every for s in (c.accuracy, c.accuracy_val)])
        panels[1].set_ylim(*linear_limits(shares[np.isfinite(shares)], least=0.2))
        panels[1].yaxis.set_major_locator(MaxNLocator(nbins=4))
        panels[1].yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
    last = max(curves.clock.at(curves.last_step).item() for curves in every)
    panels[0].set_xlim(-0.01 * last, 1.01 * last)


def _loss(ax: Axes, curves: Curves) -> list[EndLabel]:
    at, train, val = curves.clock.at, curves.train, curves.val
    ax.plot(at(curves.batches.steps), curves.batches.values, color=TRAIN, alpha=0.4, linewidth=0.8, label="_batches")
    ax.plot(at(train.steps), train.values, color=TRAIN, **DASHED, label="train")
    labels = [EndLabel(last_finite(train), f"train {number(last_finite(train))}", TRAIN)]
    if len(val.steps):
        ax.plot(at(val.steps), val.values, color=VALIDATION, marker="o", markersize=3, label="validation")
        ax.fill_between(
            at(val.steps), curves.train_at_val, val.values, color=VALIDATION, alpha=0.12, linewidth=0, label="_gap"
        )
        labels.append(EndLabel(last_finite(val), f"validation {number(last_finite(val))}", VALIDATION))
    return labels + _guessing(ax, curves, curves.chance, number)


def _accuracy(ax: Axes, curves: Curves, chance: float | None) -> list[EndLabel]:
    labels = []
    looks = {"train": (curves.accuracy, TRAIN, DASHED), "validation": (curves.accuracy_val, VALIDATION, DOTTED)}
    for name, (s, colour, look) in looks.items():
        if len(s.steps):
            ax.plot(curves.clock.at(s.steps), s.values, color=colour, label=name, **look)
            labels.append(EndLabel(last_finite(s), f"{name} {percent(last_finite(s))}", colour))
    return labels + _guessing(ax, curves, chance, percent)


def _guessing(ax: Axes, curves: Curves, chance: float | None, words: Callable[[float], str]) -> list[EndLabel]:
    """What guessing gets, for a run that gets no more."""
    if not curves.stuck or chance is None:
        return []
    ax.axhline(chance, color=INK, linewidth=0.8, linestyle=":", label="_guessing")
    return [EndLabel(chance, f"guessing {words(chance)}", INK)]


def _mark_events(ax: Axes, curves: Curves, named: bool) -> None:
    """The best epoch, the onset of overfitting, or the first NaN: a line through the panels, named at the top."""
    if curves.broken:
        step, what = curves.broken
        time, words, colour = curves.clock.at(np.array([step])).item(), f"{what} at step {step:,}", SICK
    elif curves.best is not None and not curves.stuck and len(curves.val.steps) > 1:
        time = float(curves.clock.at(curves.val.steps)[curves.best])
        words, colour = f"best: {curves.clock.say(time)}", VALIDATION
        if curves.onset is not None:
            words, colour = f"{words}, then overfitting", SICK
            ax.axvspan(time, ax.get_xlim()[1], color=SICK, alpha=0.08, linewidth=0, label="_overfitting")
    else:
        return
    ax.axvline(time, color=colour, linewidth=1, linestyle=(0, (2, 2)), label="_event")
    if named:
        side = "right" if time > np.mean(ax.get_xlim()) else "left"
        ax.text(time, 1.02, words, transform=ax.get_xaxis_transform(), ha=side, color=colour)


def _colours(every: Sequence[Curves]) -> list[str]:
    """The two fixed colours where some runs learned and some did not, else one for each variant."""
    sick = [curves.stuck or curves.broken is not None for curves in every]
    if len(every) == 2 and any(sick) and not all(sick):
        return [SICK if bad else HEALTHY for bad in sick]
    return [VARIANTS[i % len(VARIANTS)] for i in range(len(every))]


def _comparison(runs: Sequence[Run], every: Sequence[Curves]) -> str:
    """Who got how far, the best first: by accuracy, else by validation loss, else by training loss."""
    if all(len(curves.accuracy_val.steps) for curves in every):
        what, words, largest, curve = "validation accuracy", percent, True, [c.accuracy_val for c in every]
    elif all(len(curves.val.steps) for curves in every):
        what, words, largest, curve = "validation loss", number, False, [c.val for c in every]
    else:
        what, words, largest, curve = "training loss", number, False, [c.train for c in every]
    scores = [s.values[i] if (i := best(s.values, largest=largest)) is not None else np.nan for s in curve]
    ranked = sorted(zip(scores, names(*runs), strict=True), key=lambda pair: -pair[0] if largest else pair[0])
    (top, winner), *others = ranked
    return ", ".join([f"{winner} reaches {words(top)} {what}", *(f"{name} {words(score)}" for score, name in others)])


def _caption(run: Run, curves: Curves) -> str:
    window = len(curves.batches.steps) // 20
    batches = f"running median over {window} batches" if window > 1 else "single batches"
    per = "mean over each epoch's batches" if curves.clock.unit == "epoch" else batches
    thin = "; thin: single batches" if len(curves.batches.steps) else ""
    shaded = "Shaded between the curves: the generalization gap. " if len(curves.val.steps) else ""
    red = (
        "Red ground: after the best validation loss, while the training loss falls on. "
        if curves.onset is not None
        else ""
    )
    return f"{run.name}. Training loss: {per}{thin}. {shaded}{red}{about(run)}"
