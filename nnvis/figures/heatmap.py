"""Layer × step heat maps: where and when it happens.

layer_heatmap(run, "grad_norm")        # magnitudes: log10 colour; 0, NaN, Inf and gaps in colours of their own
layer_heatmap(run, "dead_fraction")    # shares: 0 to 100%
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from nnvis.figures.columns import cells, medians, per_column, thinned
from nnvis.figures.facts import growth
from nnvis.figures.labels import arrange
from nnvis.figures.reading import about, layer_table, nonlinearities, step_label
from nnvis.figures.scales import (
    ABSENT,
    COLOURS,
    INF,
    NAMES,
    NAN,
    ORDINARY,
    ZERO,
    log_limits,
    log_ticks,
    ten_to,
    tick_words,
)
from nnvis.figures.style import drawn, explain, sheet
from nnvis.figures.words import number, percent, plural, shorten
from nnvis.record.run import Run
from nnvis.record.vocabulary import BoolArray, FloatArray, IntArray, LayerSeries

HATCHES = {ZERO: None, NAN: "xxxx", INF: "////", ABSENT: "...."}  # told apart in grey as well
_LOOKS: dict[int, dict[str, Any]] = {
    kind: {"facecolor": COLOURS[kind], "hatch": HATCHES[kind], "edgecolor": "white", "linewidth": 0} for kind in COLOURS
}


@dataclass(frozen=True)
class Quantity:
    """How a quantity is named and read."""

    noun: str
    conclude: str
    fraction: bool = False  # in [0, 1]; 0 is a value like any other
    alarm: float = 0.5  # share that the title counts
    nonlinear: bool = False  # compare like with like: nonlinearities only, where there are several


QUANTITIES = {
    "grad_norm": Quantity(
        "gradient norm",
        "Even colour down the layers is healthy; dark at the top means that the first layers are starved.",
    ),
    "activation_std": Quantity(
        "activation std",
        "Even colour down the layers is healthy; a fade to dark means that the signal dies on its way forward.",
        nonlinear=True,
    ),
    "dead_fraction": Quantity(
        "dead units", "Bright layers have units that are 0 for every input: they cannot learn any more.", fraction=True
    ),
    "saturated_fraction": Quantity(
        "saturated outputs",
        "Bright layers sit at the flat ends of their nonlinearity, which lets no gradient by.",
        fraction=True,
    ),
    "zero_fraction": Quantity(
        "outputs that are 0",
        "Half is usual after ReLU; bright layers let little of the signal by.",
        fraction=True,
        alarm=0.9,
    ),
}


@drawn
def layer_heatmap(run: Run, quantity: str) -> Figure:
    """A quantity of every layer at every measured step: input at the top, time to the right.

    Magnitudes are coloured by log10 over the whole range of the data, shares from 0 to 100%; exact zeros (of
    magnitudes), NaN, Inf and values that were not measured have colours of their own. Raises NoData.
    """
    table, known = layer_table(run, quantity), QUANTITIES[quantity]
    if known.nonlinear:
        table = nonlinearities(run, table)
    steps, values, kinds = thinned(table)
    if known.fraction:
        kinds[kinds == ZERO] = ORDINARY
    fig = sheet(height=0.9 + min(max(0.19 * len(table.layers), 1.3), 5.2))
    explain(fig, _title(table, known), _caption(run, table, known))
    ax = fig.subplots()
    norm = colour_scale(values[kinds == ORDINARY], known.fraction)
    mesh = paint(ax, steps, values, kinds, norm)
    colour_bar(fig, mesh, norm, known.noun, ax)
    name_kinds(ax, kinds)
    ax.set_xlabel(step_label(run))
    ax.set_ylabel("layer, input at the top")
    return arrange(fig, names={ax: table.layers}, axis="y")


def colour_scale(values: FloatArray, fraction: bool) -> Normalize:
    """Of shares 0 to 1, of magnitudes log10 over the whole range."""
    low, high = log_limits(values)
    return Normalize(0, 1) if fraction else LogNorm(ten_to(low), ten_to(high))


def paint(
    ax: Axes, steps: IntArray, values: FloatArray, kinds: IntArray, norm: Normalize, cmap: str | Colormap = "viridis"
) -> QuadMesh:
    """Fills the axes with a (T, L) table, input at the top; what is not ORDINARY in a colour of its own."""
    edges, filling = cells(steps)
    gap = (filling < 0)[:, None]
    ys = np.arange(values.shape[1] + 1) - 0.5
    ordinary = np.ma.masked_where(gap | (kinds[filling] != ORDINARY), values[filling])
    mesh = ax.pcolormesh(edges, ys, ordinary.T, norm=norm, cmap=cmap, rasterized=True, label="_values")
    for kind, look in _LOOKS.items():
        for layer in np.flatnonzero((kinds == kind).any(axis=0)):
            bars = _stretches(edges, (kinds[filling, layer] == kind) & (filling >= 0))
            ax.broken_barh(bars, (layer - 0.5, 1), label=f"_{NAMES[kind]}", **look)
    ax.invert_yaxis()
    ax.grid(False)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}"))
    return mesh


def colour_bar(fig: Figure, mesh: ScalarMappable, norm: Normalize, noun: str, axes: Axes | Sequence[Axes]) -> None:
    """The scale beside the axes: powers of ten, or percent."""
    bar = fig.colorbar(mesh, ax=axes, pad=0.02, aspect=30)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    if isinstance(norm, LogNorm):
        ticks = log_ticks(math.log10(norm.vmin or 1), math.log10(norm.vmax or 1), most=6)  # both are set
        bar.set_ticks(ticks, labels=tick_words(ticks))
        bar.ax.yaxis.set_minor_locator(NullLocator())
    else:
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
    if isinstance(axes, Axes):
        bar.ax.set_title(noun, loc="right")
    else:  # no room above: the panels have titles
        bar.set_label(noun)


def name_kinds(ax: Axes, kinds: IntArray, above: float = 1.0) -> None:
    """The key of the colours for what is no ordinary number, where there is any, `above` the axes (points)."""
    if named := [kind for kind in COLOURS if (kinds == kind).any()]:
        patches = [Patch(label=NAMES[kind], **_LOOKS[kind]) for kind in named]
        place = ax.transAxes + ScaledTranslation(0, above / 72, ax.figure.dpi_scale_trans)
        ax.legend(handles=patches, loc="lower left", bbox_to_anchor=(0, 1), bbox_transform=place, ncols=4)


def _stretches(edges: FloatArray, filled: BoolArray) -> list[tuple[float, float]]:
    """(start, length) of the runs of `filled` (C,) cells between `edges` (C + 1,)."""
    turns = np.flatnonzero(np.diff(np.concatenate([[0], filled.astype(int), [0]])))
    starts, ends = edges[turns[::2]], edges[turns[1::2]]
    return list(zip(starts.tolist(), (ends - starts).tolist(), strict=True))


def _title(table: LayerSeries, known: Quantity) -> str:
    labels, layers = shorten(table.layers), plural(len(table.layers), "layer")
    noun = known.noun[0].upper() + known.noun[1:]
    bad = table.present & ~np.isfinite(table.values)
    if bad.any():
        row = int(np.argmax(bad.any(axis=1)))
        return f"{noun}: NaN or Inf at step {table.steps[row]:,} in {bad[row].sum()} of {layers}"
    if known.fraction:
        final = np.array(
            [v[p][-1] if p.any() else np.nan for v, p in zip(table.values.T, table.present.T, strict=True)]
        )
        worst = int(np.nanargmax(final))
        alarming = int((final > known.alarm).sum())
        if final[worst] == 0:
            return f"{noun}: none at the end in any of {layers}"
        if alarming > 1:
            most = f"{labels[worst]}: {percent(final[worst])}"
            return f"{noun}: over {percent(known.alarm)} at the end in {alarming} of {layers} ({most})"
        return f"{noun}: {percent(final[worst])} at most at the end ({labels[worst]}, of {layers})"
    grown = growth(table.values)
    if grown > 1e3:
        return f"{noun} grows {number(grown, 1)}-fold from step {table.steps[0]:,} to step {table.steps[-1]:,}"
    usual = medians(table.values, table.present)
    low, high = int(np.nanargmin(usual)), int(np.nanargmax(usual))
    ends = f"{number(usual[low], 2)} in {labels[low]}, {number(usual[high], 2)} in {labels[high]}"
    if usual[low] == 0:
        return f"{noun}: exactly 0 in {(usual == 0).sum()} of {layers} at half of the measured steps or more"
    if usual[high] / usual[low] > 10:
        return f"{noun} differs {number(usual[high] / usual[low], 2)}-fold between layers: {ends}"
    return f"{noun} is even over the layers: {ends}"


def _caption(run: Run, table: LayerSeries, known: Quantity) -> str:
    together = per_column(table.steps)
    columns = f"A column is the median of {together} measured steps (NaN and Inf always show). " if together > 1 else ""
    columns += "White: no measurement. " if (cells(table.steps[::together])[1] < 0).any() else ""
    scale = "" if known.fraction else "Colour by log10, over the whole range of the data. "
    return f"{run.name}, every layer at every measured step. {scale}{columns}{known.conclude} {about(run)}"
