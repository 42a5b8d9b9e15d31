"""Update ratio: how far a step moves each layer's weights.

update_ratio(run)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nnvis.figures.columns import medians, per_column, thinned
from nnvis.figures.labels import EndLabel, arrange
from nnvis.figures.reading import about, layer_table, step_label
from nnvis.figures.scales import ORDINARY, Strips
from nnvis.figures.style import INK, by_depth, depth_map, drawn, explain, sheet
from nnvis.figures.words import number, plural, shorten
from nnvis.record.run import Run
from nnvis.record.vocabulary import FloatArray, IntArray, LayerSeries

GUIDE = 1e-3  # Karpathy, "A Recipe for Training Neural Networks" and CS231n: updates of about 1e-3 of the weights
SLOW, FAST = 1e-5, 1e-1  # two decades to either side
LABELLED = 8  # layers that are named at their lines; more get a colour bar


@drawn
def update_ratio(run: Run) -> Figure:
    """The size of each step's change over the size of the weights, layer by layer.

    Around 1e-3 is a usual pace. A layer far below it hardly learns; one far above it overwrites itself.
    Raises NoData when the record has no updates.
    """
    table = layer_table(run, "update_ratio")
    layers = len(table.layers)
    fig = sheet(height=3.1)
    explain(fig, _title(table), _caption(run, table))
    ax = fig.subplots()
    strips = Strips(ax, np.append(table.values, GUIDE), np.append(table.present, True))
    steps, values, kinds = thinned(table)
    curves = np.where(kinds == ORDINARY, values, np.nan)
    look: dict[str, Any] = {"linewidth": 1.7 if layers <= LABELLED else 1, "marker": "o" if len(steps) == 1 else "none"}
    labels = []
    for i, (name, colour) in enumerate(zip(shorten(table.layers), by_depth(layers), strict=True)):
        ax.plot(steps, curves[:, i], color=colour, label=name, **look)
        strips.mark(steps, kinds[:, i], colour)
        if layers <= LABELLED:
            labels += _end(name, steps, curves[:, i], colour)
    ax.axhline(GUIDE, color=INK, linewidth=1, linestyle=(0, (5, 2)), label="_guide")
    labels += [EndLabel(GUIDE, "10⁻³: usual pace", INK), *strips.names()]
    _time_axis(ax, table, step_label(run))
    if layers > LABELLED:
        _depth_bar(fig, ax, table)
    return arrange(fig, {ax: labels})


def _end(name: str, steps: IntArray, curve: FloatArray, colour: Any) -> list[EndLabel]:
    """The layer's name at its line's end; with the step if that came early."""
    finite = np.flatnonzero(np.isfinite(curve))
    if not len(finite):
        return []
    early = finite[-1] < len(curve) - 1
    until = f" (to step {steps[finite[-1]]:,})" if early else ""
    return [EndLabel(float(curve[finite[-1]]), name + until, colour)]


def _time_axis(ax: Axes, table: LayerSeries, label: str) -> None:
    ax.set_xlabel(label)
    ax.set_ylabel("update / weights")
    first, last = table.steps[0], max(table.steps[-1], table.steps[0] + 1)
    ax.set_xlim(first - 0.01 * (last - first), last + 0.01 * (last - first))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}"))


def _depth_bar(fig: Figure, ax: Axes, table: LayerSeries) -> None:
    """Which colour is which layer, input at the top."""
    last = len(table.layers) - 1
    bar = fig.colorbar(ScalarMappable(Normalize(0, last), depth_map()), ax=ax, pad=0.02, aspect=30)
    shown = [0, last // 2, last]
    bar.set_ticks(shown, labels=[shorten(table.layers, limit=14)[i] for i in shown])
    bar.ax.invert_yaxis()
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    bar.ax.set_title("layer", loc="left")


def _title(table: LayerSeries) -> str:
    """The pace of the slowest or fastest layer, where it is far from the guide; else of all."""
    names = shorten(table.layers)
    bad = table.present & ~np.isfinite(table.values)
    if bad.any():
        row = int(np.argmax(bad.any(axis=1)))
        return f"Updates turn NaN or Inf at step {table.steps[row]:,} in {plural(int(bad[row].sum()), 'layer')}"
    pace = medians(table.values, table.present)
    slow, fast = int(np.nanargmin(pace)), int(np.nanargmax(pace))
    hardly, many = int((pace < SLOW).sum()), plural(len(names), "layer")
    if pace[slow] == 0:
        return f"{(pace == 0).sum()} of {many} do not move at all at half of the measured steps or more"
    if hardly:
        return f"{hardly} of {many} hardly move: a step changes {names[slow]} by {_of_weights(pace[slow])}"
    if pace[fast] > FAST:
        return f"Too fast: a step changes {names[fast]} by {_of_weights(pace[fast])}"
    if slow == fast:
        return f"A step changes {names[slow]} by {_of_weights(pace[slow])}"
    return f"Every layer moves: a step changes it by {number(pace[slow], 1)} to {number(pace[fast], 1)} of its weights"


def _of_weights(ratio: float) -> str:
    return f"{number(ratio, 2)} of its weights" if ratio < 1 else f"{number(ratio, 2)} times its weights"


def _caption(run: Run, table: LayerSeries) -> str:
    together = per_column(table.steps)
    lines = f"medians of {together} measured steps each" if together > 1 else "every measured step"
    return (
        f"{run.name}. L2 norm of a step's change of a layer's parameters over the norm of the parameters; {lines}. "
        f"Far below 10⁻³ a layer hardly learns, far above it overwrites itself. {about(run)}"
    )
