"""One neuron and one of its weights: the sum that it computes, and the chain rule back through it.

neuron_sum(neuron)                 # a figure: wᵢ·xᵢ, b, z and a = f(z)
weight_chain(weight)               # a figure: ∂L/∂w in three factors, and one update
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.ticker import MaxNLocator

from nnvis.figures.labels import arrange
from nnvis.figures.passes import Neuron, WeightFactors
from nnvis.figures.style import FAINT, HEALTHY, INK, SICK, drawn, explain, sheet
from nnvis.figures.words import number

TERMS = 8  # bars of single terms


@drawn
def neuron_sum(neuron: Neuron) -> Figure:
    """Left, bar by bar, how the products wᵢ·xᵢ and the bias add up to z; right, what the activation makes of z.

    The slope of the line at the point is what the backward pass multiplies by.
    """
    labels, terms = _terms(neuron)
    f = neuron.activation.lower() if neuron.activation else ""
    fig = sheet(height=max(0.6 + 0.24 * len(terms), 1.8))
    result = f"a = {f}(z) = {number(neuron.a)}" if f else "which is passed on as it is"
    explain(
        fig,
        f"{neuron.layer}, unit {neuron.index}: the weighted sum is z = {number(neuron.z)}, {result}",
        f"Bars: the {_how_many(neuron)}products of weight and input, and the bias b, each bar starting where the one "
        "above it ends; blue adds, orange takes away. "
        + ("Right: the activation, the point is this neuron; dotted: its slope there." if f else ""),
    )
    if f:
        ax, right = fig.subplots(1, 2, width_ratios=[3, 2])
        _activation(right, neuron)
    else:
        ax = fig.subplots()
    ax.use_sticky_edges = False  # room at the ends of the bars
    ends = np.cumsum(terms)
    starts = ends - terms
    rows = np.arange(len(terms))
    ax.barh(rows, terms, left=starts, height=0.6, color=[HEALTHY if term >= 0 else SICK for term in terms])
    ax.barh([len(terms)], [neuron.z], height=0.6, color=INK)
    ax.vlines(ends, rows, rows + 1, color=FAINT, linewidth=0.8, zorder=0.5, label="_steps")
    ax.axvline(0, color="#BBBBBB", linewidth=0.8, zorder=0.5, label="_zero")
    words = [f"{label} = {number(term)}" for label, term in zip(labels, terms, strict=True)]
    ax.set_yticks(np.arange(len(terms) + 1), [*words, f"z = {number(neuron.z)}"])
    ax.set_ylim(len(terms) + 0.5, -0.5)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.grid(axis="x")
    ax.grid(visible=False, axis="y")
    return arrange(fig)


@drawn
def weight_chain(weight: WeightFactors) -> Figure:
    """Forward above (blue), backward below (orange): the three factors whose product is ∂L/∂w, and what w becomes."""
    fig = sheet(height=2.0)
    used = len(weight.x)
    at = int(np.argmax(np.abs(weight.grad_a * weight.slope * weight.x)))
    explain(
        fig,
        f"∂L/∂w = {number(weight.product)} for W[{weight.row},{weight.col}] of {weight.layer}: "
        f"one step turns {number(weight.w, 4)} into {number(weight.after, 4)}",
        (
            f"The weight is used {used} times; drawn is the use that counts most, and ∂L/∂w is the sum over all. "
            if used > 1
            else ""
        )
        + f"Autograd: {number(weight.autograd, 6)}. Finite difference: {number(weight.difference, 6)}. Update: "
        f"w − lr·∂L/∂w with lr = {number(weight.lr)}. L goes from {number(weight.loss, 6)} to "
        f"{number(weight.loss_alone, 6)} when this weight alone moves, to {number(weight.loss_all, 6)} when "
        "all do.",
    )
    ax = fig.subplots()
    ax.set(xlim=(0, 7.2), ylim=(0, 2.0))
    ax.axis("off")
    x, z, a = (float(each[at]) for each in (weight.x, weight.z, weight.a))
    f = weight.activation.lower() if weight.activation else "z itself"
    boxes = [
        ("w and x", f"w = {number(weight.w)}\nx = {number(x)}"),
        ("weighted sum", f"z = {number(z)}"),
        (f, f"a = {number(a)}"),
        ("loss", f"L = {number(weight.loss)}"),
    ]
    factors = [("∂z/∂w = x", x), ("∂a/∂z", float(weight.slope[at])), ("∂L/∂a", float(weight.grad_a[at]))]
    centres = np.linspace(0.75, 6.45, 4)
    for centre, (above, inside) in zip(centres, boxes, strict=True):
        style = "round,pad=0.02,rounding_size=0.06"
        ax.add_patch(FancyBboxPatch((centre - 0.55, 1.12), 1.1, 0.5, boxstyle=style, fc="#F3F3F3", ec=INK, lw=0.8))
        _write(ax, centre, 1.37, inside)
        _write(ax, centre, 1.86, above, colour="#666666")
    for k, (name, value) in enumerate(factors):
        left, right = centres[k], centres[k + 1]
        _arrow(ax, (left + 0.6, 1.37), (right - 0.6, 1.37), HEALTHY)
        _arrow(ax, (right - 0.1, 1.05), (left + 0.1, 1.05), SICK, bend=-0.22)
        _write(ax, (left + right) / 2, 0.56, f"{name}\n= {number(value, 4)}")
    term = float(weight.grad_a[at] * weight.slope[at] * weight.x[at])
    product = " · ".join(number(value, 4) for _, value in reversed(factors))
    _write(ax, 3.6, 0.1, f"∂L/∂a · ∂a/∂z · ∂z/∂w = {product} = {number(term, 4)}")
    return arrange(fig)


def _terms(neuron: Neuron) -> tuple[list[str], np.ndarray]:
    """Names and sizes of the bars: all products, or the largest and the rest; then the bias."""
    terms, k = neuron.terms, neuron.index
    if len(terms) <= TERMS:
        order, rest = np.arange(len(terms)), []
    else:
        order = np.argsort(-abs(terms), kind="stable")[:TERMS]
        rest = [(f"{len(terms) - TERMS:,} others", float(np.delete(terms, order).sum()))]
    bars = [(f"W[{k},{i}]·x[{i}]", float(terms[i])) for i in order] + rest + [(f"b[{k}]", neuron.b)]
    return [name for name, _ in bars], np.array([value for _, value in bars])


def _how_many(neuron: Neuron) -> str:
    return f"{TERMS} largest of {len(neuron.x):,} " if len(neuron.x) > TERMS else f"{len(neuron.x)} "


def _activation(ax: Axes, neuron: Neuron) -> None:
    z, a = neuron.curve
    ax.plot(z, a, color=HEALTHY, label="f")
    reach = (z[-1] - z[0]) / 6
    near = slice(max(int(np.searchsorted(z, neuron.z)) - 1, 0), None)
    slope = float((a[near][1] - a[near][0]) / (z[near][1] - z[near][0]))
    ends = np.array([-reach, reach])
    ax.plot(neuron.z + ends, neuron.a + slope * ends, color=INK, linestyle=":", label="slope")
    ax.plot([neuron.z], [neuron.a], marker="o", markersize=7, color=SICK, linestyle="none", label="point")
    ax.set(xlabel="z", title=f"a = {neuron.activation.lower()}(z)")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.yaxis.set_major_locator(MaxNLocator(5))


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, bend: float = 0.0) -> None:
    curve = f"arc3,rad={bend}"
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, color=colour, connectionstyle=curve))


def _write(
    ax: Axes, x: float, y: float, text: str, side: Literal["left", "center", "right"] = "center", colour: str = INK
) -> None:
    ax.text(x, y, text, ha=side, va="center", fontsize=8, color=colour).set_in_layout(False)
