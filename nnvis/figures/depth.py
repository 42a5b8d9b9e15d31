"""One sample through depth: what each layer puts out, and what is left of the gradient on its way back.

flow_of(stages).factor             # ‖δ_l‖ / ‖δ_(l+1)‖, (L,)
forward_values(stages)             # a figure
gradient_factors(stages)           # a figure
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nnvis.figures.labels import EndLabel, arrange
from nnvis.figures.passes import Stage
from nnvis.figures.reading import NoData
from nnvis.figures.scales import ABSENT, ORDINARY, Strips, value_kinds
from nnvis.figures.style import FAINT, HEALTHY, SICK, SIGNED, VARIANTS, drawn, explain, sheet
from nnvis.figures.words import number, plural
from nnvis.record.vocabulary import FloatArray

UNITS = 16  # of a layer that are drawn
WRITTEN = 4  # layers, at most, of which z is drawn as well, and all numbers are written out


@dataclass(frozen=True)
class Flow:
    """The gradient through the layers that the loss depends on, first to last; δ_l is ∂L/∂z of layer l.

    factor_l = ‖δ_l‖ / ‖δ_(l+1)‖ = slope_l · weights_l, for δ_l = (∂L/∂a_l) · f′(z_l) (Rumelhart et al. 1986):
    slope_l = ‖δ_l‖ / ‖∂L/∂a_l‖ is what the activation leaves, weights_l = ‖∂L/∂a_l‖ / ‖δ_(l+1)‖ what all between z
    of the next layer and a of this one passes back: W, and norms, pooling and skips where there are some.
    """

    layers: tuple[str, ...]  # L names
    norms: FloatArray  # (L,): ‖δ_l‖
    factor: FloatArray  # (L,): NaN for the last, as the next two are
    slope: FloatArray
    weights: FloatArray
    steepest: FloatArray  # (L,): the largest slope of the layer's activation; NaN where unknown
    relative: FloatArray  # (L,): ‖δ_l‖ / ‖δ_L‖
    textbook: FloatArray  # (L,): product of `steepest` from this layer on, the last one left out


def flow_of(stages: Sequence[Stage]) -> Flow:
    """The norms and factors of the layers that the loss depends on."""
    kept = [(s, s.delta, s.grad_a) for s in stages if s.delta is not None and s.grad_a is not None]
    norms = np.array([norm(delta) for _, delta, _ in kept])
    into = np.array([norm(grad_a) for _, _, grad_a in kept])
    steepest = np.array([np.nan if s.steepest is None else s.steepest for s, _, _ in kept])
    factor, slope, weights = (np.full(len(kept), np.nan) for _ in range(3))
    with np.errstate(divide="ignore", invalid="ignore"):
        factor[:-1] = norms[:-1] / norms[1:]
        slope[:-1] = norms[:-1] / into[:-1]
        weights[:-1] = into[:-1] / norms[1:]
        relative = norms / norms[-1:]
    textbook = np.ones(len(kept))
    textbook[:-1] = np.cumprod(steepest[:-1][::-1])[::-1]
    names = tuple(stage.name for stage, _, _ in kept)
    return Flow(names, norms, factor, slope, weights, steepest, relative, textbook)


def norm(values: FloatArray) -> float:
    """L2, also of numbers whose squares leave float64's range."""
    largest = float(np.abs(values).max(initial=0))
    return largest * float(np.sqrt(((values / largest) ** 2).sum())) if 0 < largest < np.inf else largest


@drawn
def forward_values(stages: Sequence[Stage]) -> Figure:
    """What each layer puts out for one sample: above its size (root mean square of z and a), below unit by unit.

    A network that vanishes forward falls above; one that saturates shows full colours only; dead units stay white.
    """
    columns = _columns(stages)
    sizes = np.array([[norm(v) / math.sqrt(v.size) for v in (stage.z, stage.a)] for stage in stages])  # (L, 2)
    places = [[x for x, column in enumerate(columns) if column.stage == i] for i in range(len(stages))]
    widest = max(column.values.size for column in columns)
    shown = min(widest, UNITS)
    fig = sheet(height=4.4)
    explain(
        fig,
        f"Forward: activations of size {number(sizes[0, 1])} in the first of {plural(len(stages), 'layer')}, "
        f"{number(sizes[-1, 1])} in the last",
        "One sample. Above: root mean square of the weighted sums z and the activations a. Below: "
        + ("inputs, z and a, " if len(stages) <= WRITTEN else "a, ")
        + (f"the first {shown} of up to {widest:,} values" if widest > shown else "every value")
        + "; orange above 0, purple below, white 0, each column by its own largest; "
        "grey: there is no such unit, or no finite number.",
    )
    above, below = fig.subplots(2, 1, height_ratios=[2, 3], sharex=True)
    strips = Strips(above, sizes, np.ones(sizes.shape, dtype=bool), rows=2)
    ends: list[EndLabel] = []
    for k, (label, colour, marker, at) in enumerate((("z", FAINT, "s", 0), ("a", HEALTHY, "o", -1))):
        x, kinds = np.array([place[at] for place in places]), value_kinds(sizes[:, k])
        ordinary = np.where(kinds == ORDINARY, sizes[:, k], np.nan)
        above.plot(x, ordinary, color=colour, marker=marker if len(x) <= 30 else "", label=label)
        strips.mark(x, kinds, colour, row=k)
        if np.isfinite(ordinary).any():
            ends.append(EndLabel(float(ordinary[np.isfinite(ordinary)][-1]), label, colour))
    above.set(ylabel="size (rms)", xlim=(-0.5, len(columns) - 0.5))
    cells = np.full((shown, len(columns)), np.nan)
    for x, column in enumerate(columns):
        values = np.ravel(column.values)
        largest = float(np.abs(values[np.isfinite(values)]).max(initial=0))
        cells[: len(values), x] = np.where(np.isfinite(values), values, np.nan)[:shown] / (largest or 1.0)
        for row, value in enumerate(values[:shown] if len(stages) <= WRITTEN else []):
            ink = "white" if abs(cells[row, x]) > 0.65 else "black"
            below.text(x, row, number(float(value), 2), ha="center", va="center", fontsize=8, color=ink)
    below.imshow(cells, aspect="auto", cmap=SIGNED, vmin=-1, vmax=1, interpolation="nearest")
    below.set(ylabel="unit", facecolor="#E3E3E3")
    below.grid(visible=False)
    below.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    names = [column.name for column in columns]
    return arrange(fig, ends={above: [*ends, *strips.names()]}, names={below: names})


@dataclass(frozen=True)
class _Column:
    """Values of one layer, one above the other."""

    name: str
    values: FloatArray
    stage: int | None  # whose they are; None for the inputs


def _columns(stages: Sequence[Stage]) -> list[_Column]:
    """Of a few layers the inputs, z and a; of many a alone."""
    if len(stages) > WRITTEN:
        return [_Column(stage.name, stage.a, i) for i, stage in enumerate(stages)]
    columns = [_Column("inputs", stages[0].x, None)]
    for i, stage in enumerate(stages):
        columns.append(_Column(f"{stage.name}: z", stage.z, i))
        if stage.activation:
            columns.append(_Column(f"{stage.name}: a", stage.a, i))
    return columns


@drawn
def gradient_factors(stages: Sequence[Stage]) -> Figure:
    """The gradient on its way back through depth, and by which factor each layer changes it.

    Vanishing: the blue line falls to the left, and its factors stay below 1. The orange line is the textbook's bound
    from the slopes alone; where the blue one is far from it, the weights make the difference.
    """
    flow = flow_of(stages)
    n = len(flow.layers)
    if n < 2:
        raise NoData("no gradient passes through two layers or more")
    fig = sheet(height=4.4)
    mean = float(np.exp(np.nanmean(np.log(flow.factor[:-1])))) if (flow.factor[:-1] > 0).all() else float("nan")
    explain(
        fig,
        f"Backward: the first layer gets {number(flow.relative[0])} of the last layer's gradient"
        + (f", ×{number(mean, 2)} a layer" if np.isfinite(mean) else ""),
        "One sample; δ = ∂L/∂z of a layer. Above: its norm over the last layer's, measured, and the textbook's product "
        "of the activations' largest slopes (0.25 for sigmoid), which leaves the weights out. Below: each layer's norm "
        "over the next one's (factor), split into what the slope of its activation leaves and what the next layer's "
        "weights (and norms, pooling, skips) pass back; their product is the factor.",
    )
    above, below = fig.subplots(2, 1, sharex=True)
    lines = [("measured", flow.relative, HEALTHY, "o", "-"), ("slopes at most", flow.textbook, SICK, "s", "--")]
    parts = [
        ("factor", flow.factor, HEALTHY, "o", "-"),
        ("slope", flow.slope, SICK, "s", "--"),
        ("weights", flow.weights, VARIANTS[0], "^", ":"),
    ]
    ends = {above: _log_lines(above, lines), below: _log_lines(below, parts)}
    below.axhline(1, color="#BBBBBB", linewidth=0.8, zorder=0.5, label="_one")
    above.set(ylabel="‖δ‖ / last layer's", xlim=(-0.5, n - 0.5))
    below.set(ylabel="‖δ‖ / next layer's")
    return arrange(fig, ends=ends, names={below: flow.layers})


def _log_lines(ax: Axes, lines: Sequence[tuple[str, FloatArray, str, str, str]]) -> list[EndLabel]:
    """Lines over depth on a log axis, with their labels at the end; what has no logarithm is marked."""
    table = np.stack([values for _, values, *_ in lines])
    strips = Strips(ax, table, ~np.isnan(table), rows=len(lines))
    x, ends = np.arange(table.shape[1]), []
    for row, (label, values, colour, marker, dash) in enumerate(lines):
        kinds = value_kinds(values, ~np.isnan(values))
        ordinary = np.where(kinds == ORDINARY, values, np.nan)
        ax.plot(x, ordinary, color=colour, linestyle=dash, marker=marker if len(x) <= 30 else "", label=label)
        strips.mark(x[kinds != ABSENT], kinds[kinds != ABSENT], colour, row)
        if np.isfinite(ordinary).any():
            ends.append(EndLabel(float(ordinary[np.isfinite(ordinary)][-1]), label, colour))
    return [*ends, *strips.names()]
