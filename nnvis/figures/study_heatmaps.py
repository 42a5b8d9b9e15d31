"""Layer × step heat maps of a study: a panel for each variant, or what sets two of them apart.

quantity_heatmaps("grad_norm")(study)     # the median over the seeds, one colour scale for all
gradient_difference(study)                # the first variant's gradient over the best one's
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from nnvis.comparison import compare
from nnvis.figures.columns import cells, medians, per_column, thinned
from nnvis.figures.heatmap import QUANTITIES, Quantity, colour_bar, colour_scale, name_kinds, paint
from nnvis.figures.labels import arrange
from nnvis.figures.reading import nonlinearities
from nnvis.figures.scales import ABSENT, INF, NAN, ORDINARY, ZERO, log_ticks, tick_words
from nnvis.figures.study_layers import median_table, tables_of, weighted
from nnvis.figures.style import explain, sheet
from nnvis.figures.variants import NothingToDraw, StudyFigure, about_seeds, diverged, drawn_study
from nnvis.figures.varied import naming
from nnvis.figures.words import clipped, listing, number, percent
from nnvis.record.study import Study
from nnvis.record.vocabulary import FloatArray, IntArray, LayerSeries

PANELS = 12  # of more variants, so many are drawn, evenly spread, and the others named
CELL_COLUMNS = ("variant", "layer", "position", "step", "value")
DIFFERENCE_COLUMNS = ("layer", "other_layer", "position", "step", "log10_ratio")
_CHARACTERS = {1: 70, 2: 38, 3: 25}  # of a panel's title, by the panels beside each other
NAME = 24
LEAST = 0.5  # decades to either side: what is alike looks alike
APART = LinearSegmentedColormap.from_list("apart", ["#003A63", "#0072B2", "#F7F7F7", "#F0B03C", "#A65D00"])


def quantity_heatmaps(quantity: str) -> Callable[[Study], StudyFigure]:
    """The figure of one of heatmap.QUANTITIES."""

    @drawn_study
    def heatmaps(study: Study) -> StudyFigure:
        """A quantity of every layer at every measured step, for each variant: input at the top, time to the right.

        One colour scale for all; exact zeros (of magnitudes), NaN and Inf in colours of their own. Raises
        NothingToDraw when no run has it in its record.
        """
        known = QUANTITIES[quantity]
        found = tables_of(study, quantity, nonlinearities if known.nonlinear or known.fraction else weighted)
        shown = [list(found)[i] for i in np.linspace(0, len(found) - 1, min(len(found), PANELS)).round().astype(int)]
        tables = {variant: median_table(found[variant]) for variant in shown}
        columns = _columns(len(tables))
        rows = math.ceil(len(tables) / columns)
        fig = sheet(height=rows * (1.75 if rows < 3 else 1.35) + 0.5)
        panels = fig.subplots(rows, columns, sharex=True, squeeze=False)
        called, note = naming(study, _CHARACTERS[columns])
        explain(fig, _title(tables, known, called), _caption(study, tables, found, known, called) + note)
        cells_of = {variant: _cells(table, known) for variant, table in tables.items()}
        norm = colour_scale(np.concatenate([v[k == ORDINARY] for _, v, k in cells_of.values()]), known.fraction)
        used: list[Axes] = panels.ravel()[: len(tables)].tolist()
        drawn: list[tuple[Any, ...]] = []
        for ax in panels.ravel()[len(tables) :]:
            ax.remove()
        for i, (ax, (variant, (steps, values, kinds))) in enumerate(zip(used, cells_of.items(), strict=True)):
            paint(ax, steps, values, kinds, norm)
            ended = _ended(study, variant)
            ax.set_title(clipped(called[variant], _CHARACTERS[columns] - len(ended)) + ended)
            _number_layers(ax, len(tables[variant].layers))
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4 if columns > 2 else 6))
            ax.tick_params(labelbottom=i + columns >= len(tables))
            if i + columns >= len(tables):
                ax.set_xlabel("step")
            if i % columns == 0:
                ax.set_ylabel("layer")
            drawn += _rows(variant, tables[variant], steps, values, kinds)
        last = max(int(table.steps[-1]) for table in tables.values())
        used[0].set_xlim(0, max(max(float(cells(s)[0][-1]) for s, _, _ in cells_of.values()), last))
        for ax, (variant, table) in zip(used, tables.items(), strict=True):
            if table.steps[-1] < last / 50:  # too narrow to be seen
                why = "diverged" if _ended(study, variant) else "ended"
                ax.text(0.5, 0.5, f"{why} at step {table.steps[-1] + 1:,}", transform=ax.transAxes, ha="center")
        colour_bar(fig, ScalarMappable(norm), norm, known.noun, used)
        name_kinds(
            used[0], np.concatenate([kinds.ravel() for _, _, kinds in cells_of.values()]), above=18
        )  # over its title
        return StudyFigure(arrange(fig), CELL_COLUMNS, drawn)

    return heatmaps


def _columns(panels: int) -> int:
    return panels if panels <= 3 else 2 if panels == 4 else 3


def _cells(table: LayerSeries, known: Quantity) -> tuple[IntArray, FloatArray, IntArray]:
    """Steps, values and kinds of the columns; a share of exactly 0 is a value like any other."""
    steps, values, kinds = thinned(table)
    return steps, values, np.where(kinds == ZERO, ORDINARY, kinds) if known.fraction else kinds


def _number_layers(ax: Axes, layers: int) -> None:
    """Numbers from 1, at the top, of at most six layers."""
    every = max(1, math.ceil(layers / 5))
    places = list(range(0, layers, every))
    ax.yaxis.set_major_locator(FixedLocator(places))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: str(round(y) + 1)))


def _ended(study: Study, variant: str) -> str:
    runs = study.runs[variant].values()
    broken = sum(map(diverged, runs))
    return f", {broken}/{len(runs)} diverged" if broken else ""


def _rows(
    variant: str, table: LayerSeries, steps: IntArray, values: FloatArray, kinds: IntArray
) -> list[tuple[Any, ...]]:
    """The rows of CELL_COLUMNS; NaN and Inf as such."""
    shown = np.where(kinds == NAN, np.nan, np.where(kinds == INF, np.inf, values))
    return [
        (variant, layer, j + 1, step, value)
        for j, (layer, column) in enumerate(zip(table.layers, shown.T.tolist(), strict=True))
        for step, value in zip(steps.tolist(), column, strict=True)
    ]


def _title(tables: Mapping[str, LayerSeries], known: Quantity, called: Mapping[str, str]) -> str:
    noun = known.noun[0].upper() + known.noun[1:]
    if known.fraction:
        worst = {variant: _worst_share(table) for variant, table in tables.items()}
        high, low = max(worst, key=worst.__getitem__), min(worst, key=worst.__getitem__)
        if worst[high] == 0:
            return f"{noun}: none at the end, in any layer of any variant"
        most = f"{noun}, worst layer at the end: {percent(worst[high])} in {called[high]}"
        return most if low == high else f"{most}, {percent(worst[low])} in {called[low]}"
    factors = {variant: _between_layers(table) for variant, table in tables.items()}
    told = {variant: factor for variant, factor in factors.items() if math.isfinite(factor)}
    if dead := [variant for variant, factor in factors.items() if math.isinf(factor)]:
        return f"{noun}: exactly 0 in layers of {called[dead[0]]} at half of the measured steps or more"
    if not told:
        return f"{noun} of every layer at every measured step"
    high, low = max(told, key=told.__getitem__), min(told, key=told.__getitem__)
    if told[high] < 3:
        return f"{noun} is even over the layers: they differ {number(told[high], 2)}-fold at most ({called[high]})"
    most = f"{noun} differs {number(told[high], 2)}-fold between the layers of {called[high]}"
    return most if low == high else f"{most}, {number(told[low], 2)}-fold in {called[low]}"


def _worst_share(table: LayerSeries) -> float:
    """The largest of the layers' last shares; 0 without any."""
    ends = [v[p][-1] for v, p in zip(table.values.T, table.present.T, strict=True) if p.any()]
    return float(np.nanmax(ends)) if np.isfinite(ends).any() else 0.0


def _between_layers(table: LayerSeries) -> float:
    """The largest over the smallest of the layers' medians over time; Inf where one is 0, NaN without any."""
    usual = medians(table.values, table.present)
    usual = usual[np.isfinite(usual)]
    if not len(usual) or usual.max() == 0:
        return math.nan
    return float(usual.max() / usual.min()) if usual.min() > 0 else math.inf


def _caption(
    study: Study, tables: Mapping[str, LayerSeries], found: Collection[str], known: Quantity, called: Mapping[str, str]
) -> str:
    together = max(per_column(table.steps) for table in tables.values())
    columns = f"A column is the median of up to {together} measured steps. " if together > 1 else ""
    layers = "Nonlinearities" if known.nonlinear or known.fraction else "Layers with weights"
    scale = "The same colours in all panels" + ("" if known.fraction else ", by log10")
    unmeasured = [variant for variant in study.variants if variant not in found]
    without = f" Not measured in: {listing((called[v] for v in unmeasured), most=6)}." if unmeasured else ""
    without += (
        f" No room for: {listing(hidden, most=6)}." if (hidden := [called[v] for v in found if v not in tables]) else ""
    )
    return (
        f"{layers}, numbered from the input, at the top; white: nothing measured. {scale}. {columns}{known.conclude} "
        f"{about_seeds(study, tuple(tables), '', rest=False)}{without}"
    )


@drawn_study
def gradient_difference(study: Study) -> StudyFigure:
    """By how many decades the gradient norm of one variant differs from another's: layer × step, median over seeds.

    The first variant over the best one by the study's verdict (over the second, where the first is the best), of
    those whose layers line up with it. Raises NothingToDraw where there are none.
    """
    tables = {variant: median_table(found) for variant, found in tables_of(study, "grad_norm", weighted).items()}
    first, other = _two(study, tables)
    a, b = tables[first], tables[other]
    steps, values, kinds = _log_ratio(a, b)
    reach = max(LEAST, float(np.abs(values[kinds == ORDINARY]).max(initial=0)))
    norm = Normalize(-reach, reach)
    fig = sheet(height=0.9 + min(max(0.19 * len(a.layers), 1.5), 5.2))
    ax = fig.subplots()
    called, note = naming(study, NAME)
    title = _difference_title(values, kinds, called[first], called[other])
    explain(fig, title, _difference_caption(study, first, other, called) + note)
    mesh = paint(ax, steps, values, kinds, norm, APART)
    bar = fig.colorbar(mesh, ax=ax, pad=0.02, aspect=30)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    ticks = log_ticks(-reach, reach, most=7)
    bar.set_ticks([math.log10(tick) for tick in ticks], labels=tick_words(ticks))
    bar.ax.set_title(f"{called[first]} : {called[other]}", loc="right")
    name_kinds(ax, kinds)
    ax.set_xlabel("step (optimizer updates completed)")
    ax.set_ylabel("layer, input at the top")
    names = a.layers if a.layers == b.layers else [str(i + 1) for i in range(len(a.layers))]
    drawn = [
        (a.layers[j], b.layers[j], j + 1, step, value)
        for j, column in enumerate(np.where(kinds == ORDINARY, values, np.nan).T.tolist())
        for step, value in zip(steps.tolist(), column, strict=True)
    ]
    return StudyFigure(arrange(fig, names={ax: names}, axis="y"), DIFFERENCE_COLUMNS, drawn)


def _two(study: Study, tables: Mapping[str, LayerSeries]) -> tuple[str, str]:
    """The first variant, and the best of those that line up with it."""
    first, *others = tables
    ranking = next(iter(compare(study).rankings.values()), None)
    order = [*(ranking.order if ranking else ()), *others]
    for other in dict.fromkeys(name for name in order if name in others):
        alike = len(tables[other].layers) == len(tables[first].layers)
        if alike and np.isin(tables[first].steps, tables[other].steps).any():
            return first, other
    raise NothingToDraw(f"{study.path}: no other variant has as many layers with weights as {first}, at the same steps")


def _log_ratio(a: LayerSeries, b: LayerSeries) -> tuple[IntArray, FloatArray, IntArray]:
    """Columns of the steps both have, log10 of a / b (NaN where it is none), and kinds: what either is, if special."""
    common = np.intersect1d(a.steps, b.steps)
    steps, above, kinds_above = thinned(_at(a, common))
    _, below, kinds_below = thinned(_at(b, common))
    kinds = np.full(above.shape, ORDINARY)
    for kind in (ZERO, INF, NAN, ABSENT):
        kinds[(kinds_above == kind) | (kinds_below == kind)] = kind
    values = np.full(above.shape, np.nan)
    known = kinds == ORDINARY
    values[known] = np.log10(above[known]) - np.log10(below[known])
    return steps, values, kinds


def _at(table: LayerSeries, steps: IntArray) -> LayerSeries:
    """The rows of these steps, all of them measured."""
    rows = np.searchsorted(table.steps, steps)
    return LayerSeries(steps, table.layers, table.values[rows], table.present[rows], table.reason_codes[rows])


def _difference_title(values: FloatArray, kinds: IntArray, first: str, other: str) -> str:
    """The layer that differs most, by its median over time."""
    known = np.where(kinds == ORDINARY, values, np.nan)
    usual = medians(known, np.isfinite(known))
    if not np.isfinite(usual).any():
        return f"Gradient norm of {first} over {other}: at no step are both ordinary numbers"
    layer = int(np.nanargmax(np.abs(usual)))
    factor = 10.0 ** float(usual[layer])
    if abs(usual[layer]) < LEAST:
        return f"{first} and {other} have gradients alike: {number(factor, 2)}-fold where they differ most"
    return (
        f"{first}: layer {layer + 1} gets {number(factor, 2)} {'of' if factor < 1 else 'times'} its gradient in {other}"
    )


def _difference_caption(study: Study, first: str, other: str, called: Mapping[str, str]) -> str:
    name = called[first]
    return (
        f"Gradient norm of {name} over that of {called[other]}, layer by layer, at the steps that both measured, by "
        f"log10. Blue: less in {name}; orange: more; white: alike. A band of blue at the top means that {name} starves "
        f"its first layers. {about_seeds(study, (first, other), '', rest=False)}"
    )
