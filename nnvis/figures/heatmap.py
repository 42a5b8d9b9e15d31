"""Layer × step heat maps: where and when it happens.

layer_heatmap(run, "grad_norm")        # magnitudes: log10 colour; 0, NaN, Inf and gaps in colours of their own
layer_heatmap(run, "dead_fraction")    # shares: 0 to 100%
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

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
    tick_words,
    value_kinds,
)
from nnvis.figures.style import drawn, explain, sheet
from nnvis.figures.words import number, percent, plural, shorten
from nnvis.record.run import Run
from nnvis.record.vocabulary import BoolArray, FloatArray, IntArray, LayerSeries

HATCHES = {ZERO: None, NAN: "xxxx", INF: "////", ABSENT: "...."}  # told apart in grey as well
COLUMNS = 300  # more measured steps than these share a column


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
        True,
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
    steps, values, kinds = thinned(table, zero_is_ordinary=known.fraction)
    fig = sheet(height=0.9 + min(max(0.19 * len(table.layers), 1.3), 5.2))
    explain(fig, _title(table, known), _caption(run, table, known))
    ax = fig.subplots()
    _paint(ax, steps, values, kinds, known)
    ax.set_xlabel(step_label(run))
    ax.set_ylabel("layer, input at the top")
    ax.grid(False)
    return arrange(fig, names={ax: table.layers}, axis="y")


def thinned(table: LayerSeries, zero_is_ordinary: bool) -> tuple[IntArray, FloatArray, IntArray]:
    """(C,) steps, (C, L) values and kinds in at most COLUMNS columns.

    A column of several measured steps holds their median, unless one of them is NaN or Inf: that is never lost.
    """
    size = math.ceil(len(table.steps) / COLUMNS)
    starts = range(0, len(table.steps), size)
    kinds = value_kinds(table.values, table.present)
    if size > 1:
        blocks = [slice(start, start + size) for start in starts]
        values = np.array([_medians(table.values[b], table.present[b]) for b in blocks])
        worst = [[(kinds[b] == kind).any(axis=0) for b in blocks] for kind in (INF, NAN)]
        kinds = value_kinds(values, np.array([table.present[b].any(axis=0) for b in blocks]))
        for kind, hit in zip((INF, NAN), worst, strict=True):
            kinds[np.array(hit)] = kind
    else:
        values = table.values
    if zero_is_ordinary:
        kinds = np.where(kinds == ZERO, ORDINARY, kinds)
    return table.steps[::size], values, kinds


def _medians(values: FloatArray, present: BoolArray) -> FloatArray:
    """(L,) medians of what is present and finite, NaN elsewhere."""
    usable = present & np.isfinite(values)
    return np.array([np.median(v[u]) if u.any() else np.nan for v, u in zip(values.T, usable.T, strict=True)])


def cells(steps: IntArray) -> tuple[FloatArray, IntArray]:
    """(C + 1,) edges on the step axis and (C,) which measured step fills a cell, -1 for a gap.

    A measurement fills the time until the next one. Where that is over four times as long as it is on either
    side, it fills as much as its neighbours do, and the rest stays empty.
    """
    lengths = np.diff(steps).astype(float)
    usual = np.array([max(lengths[max(i - 1, 0) : i], default=0) for i in range(len(lengths) + 1)])
    following = np.array([*(lengths[i + 1] if i + 1 < len(lengths) else 0 for i in range(len(lengths))), 0])
    usual = np.maximum(usual, following)
    edges, filling = [float(steps[0])], []
    for i, step in enumerate(steps):
        last = i == len(lengths)
        length = (usual[i] or 1.0) if last else lengths[i]
        short = min(length, usual[i]) if not last and usual[i] and length > 4 * usual[i] else length
        edges.append(step + short)
        filling.append(i)
        if short < length:
            edges.append(step + length)
            filling.append(-1)
    return np.array(edges), np.array(filling)


def _paint(ax: Axes, steps: IntArray, values: FloatArray, kinds: IntArray, known: Quantity) -> None:
    edges, filling = cells(steps)
    gap = (filling < 0)[:, None]
    ys = np.arange(values.shape[1] + 1) - 0.5
    ordinary = np.ma.masked_where(gap | (kinds[filling] != ORDINARY), values[filling])
    low, high = log_limits(values[kinds == ORDINARY])
    norm = Normalize(0, 1) if known.fraction else LogNorm(10.0**low, 10.0**high)
    mesh = ax.pcolormesh(edges, ys, ordinary.T, norm=norm, rasterized=True, label="_values")
    looks = {
        kind: {"facecolor": COLOURS[kind], "hatch": HATCHES[kind], "edgecolor": "white", "linewidth": 0}
        for kind in COLOURS
    }
    for kind, look in looks.items():
        for layer in np.flatnonzero((kinds == kind).any(axis=0)):
            bars = _stretches(edges, (kinds[filling, layer] == kind) & (filling >= 0))
            ax.broken_barh(bars, (layer - 0.5, 1), label=f"_{NAMES[kind]}", **look)
    ax.invert_yaxis()
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}"))
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.02, aspect=30)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    if known.fraction:
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
    else:
        ticks = log_ticks(low, high, most=6)
        bar.set_ticks(ticks, labels=tick_words(ticks))
        bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.set_title(known.noun, loc="right")
    named = [kind for kind in COLOURS if (kinds == kind).any()]
    if named:
        patches = [Patch(label=NAMES[kind], **looks[kind]) for kind in named]
        ax.legend(handles=patches, loc="lower left", bbox_to_anchor=(0, 1.01), ncols=4)


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
    usual = _medians(table.values, table.present)
    low, high = int(np.nanargmin(usual)), int(np.nanargmax(usual))
    ends = f"{number(usual[low], 2)} in {labels[low]}, {number(usual[high], 2)} in {labels[high]}"
    if usual[low] == 0:
        return f"{noun}: exactly 0 in {(usual == 0).sum()} of {layers} at half of the measured steps or more"
    if usual[high] / usual[low] > 10:
        return f"{noun} differs {number(usual[high] / usual[low], 2)}-fold between layers: {ends}"
    return f"{noun} is even over the layers: {ends}"


def _caption(run: Run, table: LayerSeries, known: Quantity) -> str:
    together = math.ceil(len(table.steps) / COLUMNS)
    columns = f"A column is the median of {together} measured steps (NaN and Inf always show). " if together > 1 else ""
    columns += "White: no measurement. " if (cells(table.steps[::together])[1] < 0).any() else ""
    scale = "" if known.fraction else "Colour by log10, over the whole range of the data. "
    return f"{run.name}, every layer at every measured step. {scale}{columns}{known.conclude} {about(run)}"
