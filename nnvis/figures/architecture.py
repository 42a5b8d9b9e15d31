"""The network as a drawing: blocks in order, with kinds, shapes and numbers of parameters.

network(run)
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nnvis.figures.facts import repeats
from nnvis.figures.labels import arrange
from nnvis.figures.reading import NoData, coverage
from nnvis.figures.style import INK, WIDTH, drawn, explain, sheet
from nnvis.figures.words import count, percent, plural, shorten
from nnvis.record.run import Run
from nnvis.record.vocabulary import LayerInfo

ROWS = 24  # in a column, before a second one begins
MOST = 120  # lines that are drawn; of more, the middle ones are summed up
PITCH = 0.21  # inches from line to line
BLOCK = 0.85  # inches, the widest block
CHARACTER = 0.07  # inches, one of a name
GREY, BLUE, ORANGE = "#E3E3E3", "#A9CFE8", "#F7CDA0"


@dataclass(frozen=True)
class Line:
    """A line of the drawing: a layer, or words in place of some."""

    layer: LayerInfo | None
    words: str = ""
    group: int = 0  # number of the pattern it belongs to
    times: int = 1  # how often the pattern runs


@drawn
def network(run: Run) -> Figure:
    """Every layer in the order in which it ran: name, output shape, kind, parameters.

    The wider a block, the more numbers leave the layer (log scale). What repeats is drawn once, with how often.
    Raises NoData.
    """
    if not run.network:
        raise NoData(f"{run.name}: no network in the record")
    lines = fold(run.network)
    columns = 1 if len(lines) <= ROWS else 2
    length = math.ceil(len(lines) / columns)
    fig = sheet(height=0.3 + PITCH * length)
    explain(fig, _title(run.network), _caption(run, lines))
    largest = max(_size(layer) for layer in run.network)
    for k, ax in enumerate(fig.subplots(1, columns, squeeze=False)[0]):
        ax.set(xlim=(0, WIDTH / columns - 0.15), ylim=(length - 0.5, -0.5))
        ax.axis("off")
        _column(ax, lines[k * length : (k + 1) * length], largest, limit=26 if columns == 1 else 14)
    return arrange(fig)


def fold(layers: Sequence[LayerInfo], most: int = MOST) -> list[Line]:
    """What to draw: repeated patterns once, and no more than `most` lines."""
    signatures = [
        (re.sub(r"\d+", "", layer.name), layer.kind, layer.output_shape, layer.parameters, layer.trainable)
        for layer in layers
    ]
    lines = [
        Line(layers[i], group=group, times=times)
        for group, (start, period, times) in enumerate(repeats(signatures))
        for i in range(start, start + period)
    ]
    if len(lines) > most:
        middle = slice(most // 2, len(lines) - most // 2)
        left_out = [(line.layer, line.times) for line in lines[middle] if line.layer]
        parameters = count(sum(layer.parameters * times for layer, times in left_out))
        words = f"… {sum(times for _, times in left_out):,} more layers, {parameters} parameters …"
        lines[middle] = [Line(None, words, group=-1)]
    return lines


def _column(ax: Axes, lines: Sequence[Line], largest: int, limit: int) -> None:
    """Draws lines top to bottom; x in inches, y in lines, names of at most `limit` characters."""
    name = limit * CHARACTER  # inches
    left = max((ax.get_xlim()[1] - (name + BLOCK + 1.7)) / 2, 0)  # a single column stands in the middle
    centre, words, bracket = left + name + 0.06 + BLOCK / 2, left + name + BLOCK + 0.12, left + name + BLOCK + 1.36
    labels = iter(shorten([line.layer.name for line in lines if line.layer], limit))
    for y, line in enumerate(lines):
        if y:
            ax.plot([centre, centre], [y - 0.66, y - 0.34], color="#AAAAAA", linewidth=1, zorder=0.5, label="_flow")
        if line.layer is None:
            _write(ax, centre, y, line.words, "center", INK)
            continue
        _write(ax, left + name, y, next(labels), "right", INK)
        _write(ax, centre, y, _shape(line.layer), "center", "black")
        _write(ax, words, y, _words(line.layer), "left", "#666666")
        _block(ax, centre, y, line.layer, math.log2(1 + _size(line.layer)) / math.log2(1 + largest))
    for (_, times), members in groupby(enumerate(lines), key=lambda pair: (pair[1].group, pair[1].times)):
        ys = [y for y, _ in members]
        if times > 1:
            ax.plot([bracket, bracket], [ys[0] - 0.34, ys[-1] + 0.34], color=INK, linewidth=1, label="_repeat")
            _write(ax, bracket + 0.05, (ys[0] + ys[-1]) / 2, f"×{times}", "left", INK)


def _write(ax: Axes, x: float, y: float, words: str, side: Literal["left", "center", "right"], colour: str) -> None:
    ax.text(x, y, words, ha=side, va="center", fontsize=8, color=colour).set_in_layout(False)


def _block(ax: Axes, centre: float, y: float, layer: LayerInfo, share: float) -> None:
    """A block of `share` of the full width; frozen layers are dashed."""
    width = max(share, 0.15) * BLOCK
    block = Rectangle((centre - width / 2, y - 0.34), width, 0.68, facecolor=_colour(layer), linewidth=0)
    if layer.trainable < layer.parameters:
        block.set(edgecolor=INK, linestyle="--", linewidth=0.8)
    ax.add_patch(block).set_label(f"_{layer.name}")


def _size(layer: LayerInfo) -> int:
    """Numbers that leave the layer for one row of the batch."""
    return math.prod(layer.output_shape) if layer.output_shape else 1


def _shape(layer: LayerInfo) -> str:
    return "?" if layer.output_shape is None else "×".join(map(str, layer.output_shape)) or "1"


def _words(layer: LayerInfo) -> str:
    kind = layer.kind if len(layer.kind) <= 11 else layer.kind[:10] + "…"
    return f"{kind} {count(layer.parameters)}" if layer.parameters else kind


def _colour(layer: LayerInfo) -> str:
    return BLUE if layer.parameters else ORANGE if layer.group == "nonlinearity" else GREY


def _title(layers: Sequence[LayerInfo]) -> str:
    total = sum(layer.parameters for layer in layers)
    if not total:
        return f"{plural(len(layers), 'layer')} without parameters"
    largest = max(layers, key=lambda layer: layer.parameters)
    frozen = total - sum(layer.trainable for layer in layers)
    words = f"{count(total)} parameters in {plural(len(layers), 'layer')}" + (
        f", {count(frozen)} frozen" if frozen else ""
    )
    name = shorten([layer.name for layer in layers])[layers.index(largest)]
    return words if len(layers) == 1 else f"{words}; the largest, {name}, holds {percent(largest.parameters / total)}"


def _caption(run: Run, lines: Sequence[Line]) -> str:
    folded = " ×n: so many alike in a row, the first one named." if any(line.times > 1 for line in lines) else ""
    frozen = " Dashed: frozen." if any(layer.trainable < layer.parameters for layer in run.network) else ""
    return (
        f"{run.name}. In the order in which they ran: name, output shape without the batch (wider: more numbers), "
        f"kind, parameters. Blue: has parameters; orange: nonlinearity; grey: other.{frozen}{folded}{coverage(run)}"
    )
