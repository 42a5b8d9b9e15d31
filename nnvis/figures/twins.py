"""A sick run beside its fixed twin: how much gradient each layer gets, and what came of it.

twin(sick, fixed, change="model.activation=relu")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nnvis.figures.course import Curves, last_finite
from nnvis.figures.facts import wants_log
from nnvis.figures.gradients import EXPLODED, VANISHED, gradient_panel, most_lines, ratio_at_start, ratio_words
from nnvis.figures.labels import EndLabel, arrange
from nnvis.figures.reading import Clock, about, layer_table
from nnvis.figures.scales import Strips, linear_limits, log_axis, log_limits
from nnvis.figures.style import HEALTHY, SICK, TRAIN, drawn, explain, sheet
from nnvis.figures.words import clipped, listing, number, percent, shorten
from nnvis.record.run import Run
from nnvis.record.vocabulary import LayerSeries

_DASHED = (0, (4, 1.5))
_LONGEST = 100  # letters of a change in the title


@drawn
def twin(sick: Run, fixed: Run, change: str = "") -> Figure:
    """Left a run that is sick, right the same one with a remedy, on shared axes; above each, what was found in it.

    Top: the norm of the gradient that reaches each layer's parameters, at the first, middle and last measured step;
    level is healthy. Bottom: the losses. The twins have one seed, and see the same rows in the same order. `change` is
    what differs, for the title. Raises NoData where a run has no gradients or no loss in its record.
    """
    runs, colours = (sick, fixed), (SICK, HEALTHY)
    tables = [layer_table(run, "grad_norm") for run in runs]
    every = _on_one_clock([Curves.of(run) for run in runs])
    longest = max(len(label) for table in tables for label in shorten(table.layers))
    fig = sheet(height=5.2 + 0.04 * longest)
    panels = fig.subplots(2, 2, sharey="row", height_ratios=[6, 5])
    explain(fig, _title(every, tables, change), _caption(runs))
    everything = np.concatenate([table.values.ravel() for table in tables])
    known = np.concatenate([table.present.ravel() for table in tables])
    ends: dict[Axes, list[EndLabel]] = {}
    for (above, below), run, table, curves, colour, name in zip(
        panels.T, runs, tables, every, colours, ("as it was", "fixed"), strict=True
    ):
        strips = Strips(above, everything, known, rows=most_lines(tables))
        ends[above] = gradient_panel(above, table, strips, colour)
        above.set_title(f"{name}: {_found(run)}\n{ratio_words(table)}", color=colour)
        above.set_xlabel("layer, input → output")
        ends[below] = _losses(below, curves, colour)
        below.set_title(_result(curves), color=colour)
        below.set_xlabel(every[0].clock.label)
    panels[0, 0].set_ylabel("gradient norm")
    panels[1, 0].set_ylabel("loss")
    _fit(every, panels[1])
    return arrange(fig, ends, names=dict(zip(panels[0], (table.layers for table in tables), strict=True)))


def _on_one_clock(every: Sequence[Curves]) -> list[Curves]:
    """Epochs where they are the same ones, else steps: a run that broke at once has none."""
    same = len({tuple(curves.clock.ends[:1]) for curves in every}) == 1
    clock = every[0].clock if same else Clock("step", every[0].clock.ends[:0])
    return [replace(curves, clock=clock) for curves in every]


def _losses(ax: Axes, curves: Curves, colour: str) -> list[EndLabel]:
    at, train, val = curves.clock.at, curves.train, curves.val
    ax.plot(at(train.steps), train.values, color=TRAIN, linestyle=_DASHED, label="train")
    ax.plot(at(val.steps), val.values, color=colour, marker="o", markersize=3, label="validation")
    if curves.broken:
        step, what = curves.broken
        time = curves.clock.at(np.array([step])).item()
        ax.axvline(time, color=colour, linewidth=1, linestyle=(0, (2, 2)), label="_event")
        ax.text(time, 0.92, f"  {what} at step {step:,}", transform=ax.get_xaxis_transform(), color=colour, va="center")
    if curves.broken:
        return []  # its line ends long before the axes do
    labels = [(last_finite(train), "train", TRAIN), (last_finite(val), "validation", colour)]
    return [EndLabel(value, f"{name}\n{number(value)}", shade) for value, name, shade in labels if np.isfinite(value)]


def _fit(every: Sequence[Curves], panels: Sequence[Axes]) -> None:
    """The same limits for both, from both."""
    losses = np.concatenate([curves.losses(batches=False) for curves in every])
    last = max(curves.clock.at(curves.last_step).item() for curves in every)
    for ax in panels:
        if wants_log(losses):
            log_axis(ax, *log_limits(losses))
        elif len(losses):
            ax.set_ylim(*linear_limits(losses, least=0.25 * np.abs(losses).max()))
        ax.set_xlim(-0.01 * last, 1.01 * last)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}"))


def _found(run: Run) -> str:
    """`vanishing_gradients, not_learning`: what is an error, else a warning."""
    by_severity = [
        [*dict.fromkeys(f.symptom for f in run.findings if f.severity == severity)] for severity in ("error", "warning")
    ]
    errors, warnings = (listing(symptoms, 2) for symptoms in by_severity)
    return errors or (f"only a warning, {warnings}" if warnings else "nothing found")


def _result(curves: Curves) -> str:
    """`validation accuracy 96.1%`, or the loss."""
    if curves.broken and not np.isfinite(last_finite(curves.val)):
        return "diverged"
    if len(curves.accuracy_val.steps):
        return f"validation accuracy {percent(last_finite(curves.accuracy_val))}"
    return f"validation loss {number(last_finite(curves.val))}"


def _title(every: Sequence[Curves], tables: Sequence[LayerSeries], change: str) -> str:
    """What changed, and the numbers before and after."""
    before, after = every
    ratios = [ratio_at_start(table) for table in tables]
    uneven = not VANISHED < ratios[0] < EXPLODED
    flow = f"; the first layer's gradient over the last one's from {number(ratios[0], 2)} to {number(ratios[1], 2)}"
    if before.broken and not np.isfinite(last_finite(before.val)):
        came = f"in place of diverging at step {before.broken[0]:,}, {_result(after)}"
    elif len(before.accuracy_val.steps):
        came = f"validation accuracy from {percent(last_finite(before.accuracy_val))} to "
        came += percent(last_finite(after.accuracy_val))
    else:
        came = f"validation loss from {number(last_finite(before.val))} to {number(last_finite(after.val))}"
    changed = f"{clipped(change, _LONGEST)}: " if change else ""
    return f"{changed}{came}{flow if uneven else ''}"


def _caption(runs: Sequence[Run]) -> str:
    return (
        "Top: gradient norm at the first, middle and last measured step; grey: the range over all of them. A line that "
        "falls to the left starves the first layers; level is healthy. Bottom: solid is validation, dashed training. "
        f"Same seed, same rows in the same order. {about(*runs)}"
    )
