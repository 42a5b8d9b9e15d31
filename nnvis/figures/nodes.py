"""The network as nodes and edges, or as blocks; the forward pass on the left, the backward pass on the right.

network_nodes(inputs, stages)           # a plain chain of Linear layers
network_blocks(blocks, skips)           # any other: convolutions, recurrent layers, skip connections
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from nnvis.figures.architecture import BLUE, GREY, ORANGE
from nnvis.figures.depth import norm
from nnvis.figures.labels import arrange
from nnvis.figures.passes import Block, Stage
from nnvis.figures.reading import NoData
from nnvis.figures.scales import log_ticks, tick_words
from nnvis.figures.style import HEALTHY, INK, SICK, SIGNED, drawn, explain, sheet
from nnvis.figures.words import count, number, plural, shorten
from nnvis.record.vocabulary import FloatArray

NODES = 8  # of a layer that are drawn
COLUMNS = 6  # of nodes, before the middle ones are left out
BLOCKS = 26  # that are drawn
WRITTEN = 4  # columns, at most, whose nodes have their numbers beside them
_WIDEST = 2.2  # points, of an edge


@dataclass(frozen=True)
class _Column:
    """Nodes above each other."""

    name: str
    size: int  # how many there are
    values: FloatArray  # (size,): what colours and numbers tell
    weights: FloatArray | None  # (size, size of the column before)
    strength: float  # L2 of all those weights


@drawn
def network_nodes(inputs: FloatArray, stages: Sequence[Stage]) -> Figure:
    """Left the forward pass: nodes are activations, edges weights. Right the backward pass: ∂L/∂a and ∂L/∂w.

    Orange is above 0, purple below. On the right thickness goes by powers of ten, so that a gradient that vanishes
    towards the input thins out and is still seen. Raises NoData where a layer is no Linear one.
    """
    if not stages or any(stage.weight is None for stage in stages):
        raise NoData("the network is no chain of Linear layers")
    forward = [_Column("inputs", inputs.size, np.ravel(inputs), None, 0.0)]
    backward = [_Column("inputs", inputs.size, np.full(inputs.size, np.nan), None, 0.0)]
    for stage in stages:
        assert stage.weight is not None
        gradient = np.zeros_like(stage.weight) if stage.weight_gradient is None else stage.weight_gradient
        grad_a = np.zeros_like(stage.a) if stage.grad_a is None else stage.grad_a
        size = stage.z.size
        forward.append(_Column(stage.name, size, np.ravel(stage.a), stage.weight, norm(stage.weight)))
        backward.append(_Column(stage.name, size, np.ravel(grad_a), gradient, norm(gradient)))
    n, widest = len(forward), max(column.size for column in forward)
    kept = list(range(n)) if n <= COLUMNS else [*range(COLUMNS // 2), *range(n - COLUMNS // 2, n)]
    first, last = backward[1].strength, backward[-1].strength
    fig = sheet(height=3.4)
    explain(
        fig,
        f"The weights carry the sample forward, the gradient comes back: ‖∂L/∂W‖ is {number(last)} in the last "
        f"layer, {number(first)} in the first",
        "Left: nodes are activations a, edges weights. Right: nodes are ∂L/∂a, edges ∂L/∂w, their thickness by powers "
        "of ten. Orange: above 0, purple: below; paler: nearer 0, no line: exactly 0. Below the names: how many units, "
        "and the norm of a layer's weights, or of their gradient." + _left_out(n, len(kept), widest),
    )
    for ax, columns, title in zip(fig.subplots(1, 2), (forward, backward), ("forward", "backward"), strict=True):
        ax.set(xlim=(-0.5, len(kept) - 0.5), ylim=(-1.9, NODES + 0.6), title=title)
        ax.axis("off")
        _draw_columns(ax, columns, kept, by_decades=columns is backward)
    return arrange(fig)


@drawn
def network_blocks(blocks: Sequence[Block], skips: Sequence[tuple[int, int]] = ()) -> Figure:
    """Every layer as a block in the order in which it ran: shape of what it puts out; how large that is; its gradient.

    `skips` are (first, last) blocks that a skip connection goes around.
    """
    if not blocks:
        raise NoData("no layer ran")
    n, half = len(blocks), BLOCKS // 2
    kept = list(range(n)) if n <= BLOCKS else [*range(half), *range(n - half, n)]
    rows = {i: y + (y >= half and n > BLOCKS) for y, i in enumerate(kept)}  # a free row where some are left out
    height = max(rows.values()) + 1
    gradients = np.array([np.nan if blocks[i].gradient_rms is None else blocks[i].gradient_rms for i in kept])
    known = gradients[~np.isnan(gradients)]
    fig = sheet(height=max(0.5 + 0.21 * height, 1.2))
    told = f": {number(known[-1])} at the end, {number(known[0])} at the start" if len(known) else ""
    explain(
        fig,
        f"{plural(n, 'layer')} forward, and the gradient back{told}",
        "In the order in which they ran. Blue: has parameters; orange: nonlinearity; grey: other; the number is the "
        "shape that leaves, without the batch. Middle: its root mean square; right: that of ∂L/∂output; powers of ten."
        + (" Arcs: skip connections." if skips else "")
        + (f" {n - len(kept)} of {n} layers, in the middle, are not drawn." if n > len(kept) else ""),
    )
    drawing, forward, backward = fig.subplots(1, 3, width_ratios=[3.3, 1, 1])
    drawing.set(xlim=(0, 4.3), ylim=(height - 0.5, -0.5), title="network")
    drawing.axis("off")
    names = shorten([blocks[i].name for i in kept], 20)
    for (i, y), name in zip(rows.items(), names, strict=True):
        _block(drawing, y, blocks[i], name)
    if n > len(kept):
        drawing.text(2.4, half, f"… {n - len(kept)} more …", ha="center", va="center", fontsize=8).set_in_layout(False)
    for first, last in skips:
        if first in rows and last in rows and (rows[first] < half) == (rows[last] < half or n <= BLOCKS):
            _arc(drawing, rows[first] - 0.5, rows[last] + 0.5)
    sizes = np.array([blocks[i].rms for i in kept])
    for ax, values, colour, title in (
        (forward, sizes, HEALTHY, "size, forward"),
        (backward, gradients, SICK, "gradient"),
    ):
        _dots(ax, np.array(list(rows.values())), values, colour)
        ax.set(ylim=(height - 0.5, -0.5), title=title)
    return arrange(fig)


def _draw_columns(ax: Axes, columns: Sequence[_Column], kept: Sequence[int], *, by_decades: bool) -> None:
    """Nodes and edges; x in columns, y in nodes."""
    drawn = [columns[i] for i in kept]
    edges = [c.weights[:NODES, :NODES] for i, c in zip(kept, drawn, strict=True) if c.weights is not None]
    largest = max((float(np.abs(w[np.isfinite(w)]).max(initial=0)) for w in edges), default=0.0)
    sizes = np.abs(np.concatenate([w.ravel() for w in edges])) / (largest or 1.0)
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    decades = max(-float(np.log10(np.quantile(sizes, 0.05))), 1.0) if by_decades and len(sizes) else 0.0
    colours = matplotlib.colormaps[SIGNED]
    for x, (i, column) in enumerate(zip(kept, drawn, strict=True)):
        heights = node_heights(column.size)
        gap = x > 0 and kept[x - 1] != i - 1
        if gap:
            ax.text(x - 0.5, NODES / 2, "…", ha="center", va="center", fontsize=12)
        if column.weights is not None and not gap:
            _edges(ax, x, node_heights(drawn[x - 1].size), heights, column.weights[:NODES, :NODES], largest, decades)
        shown = column.values[: len(heights)]
        top = float(np.abs(shown[np.isfinite(shown)]).max(initial=0)) or 1.0
        shades = [colours(0.5 + 0.5 * v / top) if np.isfinite(v) else (1, 1, 1, 1) for v in shown]
        ax.scatter(np.full(len(heights), x), heights, s=70, c=shades, edgecolors=INK, linewidths=0.7, zorder=3)
        if len(drawn) <= WRITTEN:
            for y, value in zip(heights, shown, strict=True):
                if np.isfinite(value):
                    ax.text(x, y - 0.42, number(float(value), 2), ha="center", va="center", fontsize=8).set_in_layout(
                        False
                    )
        words = [shorten([c.name for c in drawn], 9)[x], f"{column.size:,}"]
        words += [number(column.strength, 2)] if column.weights is not None else []
        ax.text(x, -0.25, "\n".join(words), ha="center", va="top", fontsize=8, color=INK).set_in_layout(False)


def _number(ax: Axes, x: int, y: float, value: float) -> None:
    """A node's number, under it, legible on top of edges."""
    paper = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.3}
    text = ax.text(x, y - 0.44, number(value, 2), ha="center", va="center", fontsize=8, bbox=paper, zorder=2.5)
    text.set_in_layout(False)


def _edges(
    ax: Axes, x: int, before: FloatArray, after: FloatArray, weights: FloatArray, largest: float, decades: float
) -> None:
    """Lines from the column at x − 1; weights (after, before). Over so many `decades` they thin out, else evenly."""
    segments = [[(x - 1, before[k]), (x, after[j])] for j, k in np.ndindex(weights.shape)]
    widths, colours = edge_looks(weights.ravel(), largest, decades)
    order = np.argsort(widths)  # the strongest on top
    lines = LineCollection([segments[i] for i in order], linewidths=widths[order], colors=colours[order], zorder=1)
    ax.add_collection(lines, autolim=False)


def edge_looks(values: FloatArray, largest: float, decades: float) -> tuple[FloatArray, FloatArray]:
    """How thick edges (E,) are, in points, and their colours (E, 4): evenly up to `largest`, or over `decades`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.abs(values) / largest if largest else np.zeros_like(values)
        if decades:
            share = np.clip(1 + np.log10(share) / decades, 0, 1)
    share = np.where(np.isfinite(share), np.minimum(share, 1), 1)
    colours = matplotlib.colormaps[SIGNED](0.5 + 0.5 * np.sign(values) * (0.35 + 0.65 * share))
    return 0.15 + (_WIDEST - 0.15) * share, colours


def node_heights(size: int) -> FloatArray:
    """Where the nodes of a column stand: in the middle, the first on top."""
    shown = min(size, NODES)
    return NODES / 2 + 0.5 + (shown - 1) / 2 - np.arange(shown, dtype=float)


def _left_out(columns: int, kept: int, widest: int) -> str:
    words = f" Of each layer the first {NODES} nodes are drawn, the sizes stand below." if widest > NODES else ""
    return words + (
        f" {columns - kept} of {columns - 1} layers, in the middle, are not drawn." if columns > kept else ""
    )


def _block(ax: Axes, y: float, block: Block, name: str) -> None:
    face = BLUE if block.parameters else ORANGE if block.activates else GREY
    ax.add_patch(Rectangle((1.85, y - 0.34), 1.1, 0.68, facecolor=face, linewidth=0))
    kind = block.kind if len(block.kind) <= 11 else block.kind[:10] + "…"
    texts = [
        (1.8, "right", name),
        (2.4, "center", "×".join(map(str, block.outputs)) or "1"),
        (3.0, "left", kind + (f" {count(block.parameters)}" if block.parameters else "")),
    ]
    for x, side, text in texts:
        ax.text(x, y, text, ha=side, va="center", fontsize=8, color=INK).set_in_layout(False)
    if y:
        ax.plot([2.4, 2.4], [y - 0.66, y - 0.34], color="#AAAAAA", linewidth=1, zorder=0.5, label="_flow")


def _arc(ax: Axes, top: float, bottom: float) -> None:
    """A skip connection on the left of the names."""
    style = {"arrowstyle": "-|>", "mutation_scale": 7, "color": INK, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0}
    ax.add_patch(FancyArrowPatch((0.3, top), (0.3, bottom), connectionstyle="arc3,rad=0.25", **style))


def _dots(ax: Axes, rows: FloatArray, values: FloatArray, colour: str) -> None:
    """Sizes as dots on a log x axis, what has no logarithm as words."""
    usable = np.isfinite(values) & (values > 0)
    logs = np.log10(values[usable])
    low, high = (float(logs.min()), float(logs.max())) if len(logs) else (-1.0, 0.0)
    spread = max(high - low, 1.0)
    start = low - 0.08 * spread
    ax.hlines(rows[usable], start, logs, color=colour, linewidth=1, alpha=0.5, label="_stem")
    ax.plot(logs, rows[usable], marker="o", color=colour, linestyle="none", label="size")
    for row, value in zip(rows[~usable], values[~usable], strict=True):
        words = "none arrives" if np.isnan(value) else number(float(value))
        ax.text(start + 0.04 * spread, row, words, va="center", fontsize=8, color=INK).set_in_layout(False)
    ax.set_xlim(start, low + 1.12 * spread)
    ticks = log_ticks(start, low + 1.12 * spread, most=4)
    ticks = ticks[:: math.ceil(len(ticks) / 4)] if ticks else []
    ax.set_xticks([math.log10(tick) for tick in ticks], tick_words(ticks))
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x")
