"""Gradient flow: how much of the loss's gradient reaches each layer.

gradient_flow(run)                 # one run: its first, middle and last measured step
gradient_flow(sigmoid, relu)       # several: a panel each, on shared axes
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnvis.figures.facts import clipped_share, factor_per_layer, first_to_last, growth
from nnvis.figures.labels import EndLabel, arrange
from nnvis.figures.reading import about, layer_table, names
from nnvis.figures.scales import ORDINARY, Strips, value_kinds
from nnvis.figures.style import DASHES, GLYPHS, HEALTHY, MARKERS, SICK, drawn, explain, shades, sheet
from nnvis.figures.words import number, percent, plural, shorten
from nnvis.record.run import Run
from nnvis.record.vocabulary import LayerSeries

VANISHED, EXPLODED = 1e-3, 1e3


@drawn
def gradient_flow(*runs: Run) -> Figure:
    """The norm of the gradient that reaches each layer's parameters, first, middle and last measured step.

    Level lines are healthy: every layer learns. Vanishing looks like a line that falls towards the first layer,
    at the left, since the gradient arrives from the loss, at the right; exploding like one that rises to the left.
    Raises NoData when a run has no gradients in its record.
    """
    tables = [layer_table(run, "grad_norm") for run in runs]
    columns = min(len(runs), 2)
    rows = math.ceil(len(runs) / columns)
    longest = max(len(label) for table in tables for label in shorten(table.layers))
    fig = sheet(height=rows * (2.7 + 0.04 * longest))
    panels = fig.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for ax in panels[len(runs) :]:
        ax.remove()
    explain(fig, _title(runs, tables), _caption(runs, tables))
    everything = np.concatenate([t.values.ravel() for t in tables])
    known = np.concatenate([t.present.ravel() for t in tables])
    ends, most = {}, most_lines(tables)
    for i, (ax, name, table) in enumerate(zip(panels, names(*runs), tables, strict=False)):
        ends[ax] = gradient_panel(ax, table, Strips(ax, everything, known, rows=most), _colour(table))
        ax.set_xlabel("layer, input → output")
        if i % columns == 0:
            ax.set_ylabel("gradient norm")
        if len(runs) > 1:
            ax.set_title(f"{name}\n{ratio_words(table)}", color=_colour(table))
    return arrange(fig, ends, names={ax: table.layers for ax, table in zip(panels, tables, strict=False)})


def _shown(table: LayerSeries) -> list[int]:
    """Rows of the first, middle and last measured step, and of the last with a finite value."""
    last = len(table.steps) - 1
    finite = np.flatnonzero(np.isfinite(table.values).any(axis=1))
    return sorted({0, last // 2, last, *finite[-1:].tolist()})


def most_lines(tables: Iterable[LayerSeries]) -> int:
    """How many lines the fullest panel has: `Strips` keeps rows for them."""
    return max(len(_shown(table)) for table in tables)


def gradient_panel(ax: Axes, table: LayerSeries, strips: Strips, colour: str) -> list[EndLabel]:
    """Draws a run's lines in shades of a colour; returns what to write at their ends."""
    x = np.arange(len(table.layers))
    kinds = value_kinds(table.values, table.present)
    ordinary = np.where(kinds == ORDINARY, table.values, np.nan)
    if len(table.steps) > 1:
        known = np.isfinite(ordinary)
        low = np.min(ordinary, axis=0, where=known, initial=np.inf)
        high = np.max(ordinary, axis=0, where=known, initial=0)
        low[~known.any(axis=0)] = np.nan  # leaves the band open where nothing was measured
        ax.fill_between(x, low, high, color="#000000", alpha=0.08, linewidth=0, label="_all steps")
    rows, labels = _shown(table), []
    for row, (t, shade) in enumerate(zip(rows, shades(colour, len(rows)), strict=True)):
        when = f"step {table.steps[t]:,}"
        marker = MARKERS[row] if len(x) <= 40 else "none"
        ax.plot(x, ordinary[t], color=shade, marker=marker, linestyle=DASHES[-len(rows) :][row], label=when)
        strips.mark(x, kinds[t], shade, row, f"{table.steps[t]:,}")
        finite = ordinary[t][np.isfinite(ordinary[t])]
        if len(finite):
            labels.append(EndLabel(finite[-1], f"{GLYPHS[row]} {when}", shade))
    ax.set_xlim(-0.5, len(x) - 0.5)
    return labels + strips.names()


def ratio_words(table: LayerSeries) -> str:
    """The panel's numbers, at the first measured step."""
    factor = factor_per_layer(np.where(table.present[0], table.values[0], np.nan))
    pace = f"  (×{number(factor, 2)} a layer)" if math.isfinite(factor) else ""
    return f"first : last layer = {number(ratio_at_start(table), 2)}{pace}"


def ratio_at_start(table: LayerSeries) -> float:
    """The first layer's gradient over the last layer's, of the layers that have one, at the first measured step."""
    return _ratio(table, 0)


def _ratio(table: LayerSeries, row: int) -> float:
    return first_to_last(table.values[row][table.present[row]])


def _worst(table: LayerSeries) -> int:
    """The first of the shown rows whose ratio is the furthest from 1, give or take a decade."""
    with np.errstate(divide="ignore"):
        decades = np.abs(np.nan_to_num(np.log10([_ratio(table, row) for row in _shown(table)])))
    return _shown(table)[int(np.argmax(decades >= decades.max() - 1))]


def _nonfinite(table: LayerSeries) -> tuple[int, int] | None:
    """(row, layers) of the first measured step with NaN or Inf."""
    bad = table.present & ~np.isfinite(table.values)
    rows = np.flatnonzero(bad.any(axis=1))
    return (int(rows[0]), int(bad[rows[0]].sum())) if len(rows) else None


def _starved(table: LayerSeries) -> tuple[int, int] | None:
    """(row, layers) of the first shown step at which layers get exactly no gradient."""
    zeros = {row: int((table.values[row] == 0).sum()) for row in _shown(table)}
    return next(((row, layers) for row, layers in zeros.items() if layers), None)


def is_sick(table: LayerSeries) -> bool:
    """Whether a `grad_norm` table shows vanishing, exploding or non-finite gradients."""
    ratio = _ratio(table, _worst(table))
    uneven = not (math.isnan(ratio) or VANISHED < ratio < EXPLODED)
    return uneven or growth(table.values) > EXPLODED or bool(_starved(table) or _nonfinite(table))


def _colour(table: LayerSeries) -> str:
    return SICK if is_sick(table) else HEALTHY


def _title(runs: tuple[Run, ...], tables: list[LayerSeries]) -> str:
    if len(runs) > 1:
        ratios = sorted(zip((ratio_at_start(t) for t in tables), names(*runs), strict=True), key=lambda pair: pair[0])
        (low, sick), (high, healthy) = ratios[0], ratios[-1]
        return f"{sick}: the first layer gets {_of_last(low)} gradient at the start; {healthy}: {number(high, 2)}"
    table = tables[0]
    many = plural(len(table.layers), "layer")
    if broken := _nonfinite(table):
        row, layers = broken
        return f"NaN or Inf gradients in {layers} of {many} at step {table.steps[row]:,}"
    if starved := _starved(table):
        row, layers = starved
        return f"No gradient at all (exactly 0) reaches {layers} of {many} at step {table.steps[row]:,}"
    row = _worst(table)
    ratio, when = _ratio(table, row), f"at step {table.steps[row]:,}"
    if VANISHED < ratio < EXPLODED < growth(table.values):
        return (
            f"Exploding gradients: {number(growth(table.values), 1)} times the first norm by step {table.steps[-1]:,}"
        )
    if math.isnan(ratio):
        return f"The gradient's norm is {number(table.values[0][0])} {when}"
    if ratio < VANISHED:
        return f"Vanishing gradients: the first layer gets {_of_last(ratio)} {when}"
    if ratio > EXPLODED:
        return f"Exploding gradients: the first layer gets {_of_last(ratio)} {when}"
    every = "every layer" if table.present[row].all() else "every measured layer"
    return f"Gradient reaches {every}: the first gets {_of_last(ratio)} {when}"


def _of_last(ratio: float) -> str:
    return f"{number(ratio, 2)} {'of' if ratio < 1 else 'times'} the last layer's"


def _caption(runs: tuple[Run, ...], tables: list[LayerSeries]) -> str:
    steps = " Lines: first, middle, last measured step; grey: the range over all of them."
    factor = factor_per_layer(np.where(tables[0].present[0], tables[0].values[0], np.nan))
    pace = (
        f"Here a layer passes back ×{number(factor, 2)}, on average at the first step. "
        if len(runs) == 1 and math.isfinite(factor)
        else ""
    )
    return (
        "L2 norm of the gradient of each layer's own parameters, before clipping. The gradient arrives from the right."
        f"{steps} Level lines are healthy; a fall to the left starves the first layers, a rise blows them up. "
        f"{pace}{_clipping(runs[0]) if len(runs) == 1 else ''}{about(*runs)}"
    )


def _clipping(run: Run) -> str:
    """How often and how much gradients were clipped before the update, where the record says so."""
    if "clip_factor" not in run.scalars:
        return ""
    factors = run.scalars["clip_factor"].values
    share = clipped_share(factors)
    if not share > 0:
        return "Clipping changed nothing. " if share == 0 else ""
    typical = number(float(np.median(factors[factors < 1 - 1e-4])), 2)
    return f"Clipping shortened it in {percent(share)} of the measured steps, to ×{typical} in the median. "
