"""What a network is made of, as curves: activation functions and losses, each with its derivative.

activation_functions()             # a figure: eight of them
loss_functions()                   # a figure: five of them
ACTIVATIONS["sigmoid"].slope(z)    # (N,) -> (N,)

Formulas: Glorot & Bengio 2010 (sigmoid, tanh), Nair & Hinton 2010 (ReLU), Maas et al. 2013 (leaky ReLU), Clevert et al.
2016 (ELU), Hendrycks & Gimpel 2016 (GELU), Elfwing et al. 2018 (SiLU), Dugas et al. 2001 (softplus), Huber 1964.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from scipy.special import erf, expit

from nnvis.figures.labels import arrange
from nnvis.figures.style import HEALTHY, INK, SICK, drawn, explain, sheet
from nnvis.figures.words import number
from nnvis.record.vocabulary import BoolArray, FloatArray

Function = Callable[[FloatArray], FloatArray]
FLAT = 0.05  # of the largest slope: less than that is called saturated


@dataclass(frozen=True)
class Activation:
    """An activation a = f(z) with its derivative; both work element by element."""

    value: Function
    slope: Function
    bounds: str  # the range, as people write it


@dataclass(frozen=True)
class LossCurve:
    """A loss of one output as a function of that output, and its derivative."""

    value: Function
    slope: Function
    axis: str  # what the output is called
    note: str


def _gaussian(z: FloatArray) -> FloatArray:
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def _normal(z: FloatArray) -> FloatArray:
    return (1 + erf(z / np.sqrt(2))) / 2


ACTIVATIONS: dict[str, Activation] = {
    "sigmoid": Activation(expit, lambda z: expit(z) * expit(-z), "(0, 1)"),
    "tanh": Activation(np.tanh, lambda z: 1 - np.tanh(z) ** 2, "(−1, 1)"),
    "ReLU": Activation(lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float), "[0, ∞)"),
    "leaky ReLU": Activation(lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1, 0.01), "(−∞, ∞)"),
    "ELU": Activation(
        lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
        lambda z: np.where(z > 0, 1, np.exp(np.minimum(z, 0))),
        "(−1, ∞)",
    ),
    "GELU": Activation(lambda z: z * _normal(z), lambda z: _normal(z) + z * _gaussian(z), "[−0.17, ∞)"),
    "SiLU": Activation(lambda z: z * expit(z), lambda z: expit(z) * (1 + z * expit(-z)), "[−0.28, ∞)"),
    "softplus": Activation(lambda z: np.logaddexp(0, z), expit, "(0, ∞)"),
}
"""By name, with torch's default arguments."""

LOSSES: dict[str, LossCurve] = {
    "squared error": LossCurve(lambda e: e**2, lambda e: 2 * e, "output − target", "the further, the harder the pull"),
    "absolute error": LossCurve(np.abs, np.sign, "output − target", "the same pull however far"),
    "Huber": LossCurve(
        lambda e: np.where(np.abs(e) <= 1, e**2 / 2, np.abs(e) - 0.5),
        lambda e: np.clip(e, -1, 1),
        "output − target",
        "delta = 1: square, then line",
    ),
    "binary cross entropy": LossCurve(
        lambda x: np.logaddexp(0, -x), lambda x: -expit(-x), "logit, target 1", "gradient p − 1"
    ),
    "cross entropy": LossCurve(
        lambda x: np.logaddexp(x, np.log(9.0)) - x,
        lambda x: -1 / (1 + np.exp(x) / 9),
        "target's logit (9 others: 0)",
        "gradient p − 1; log 10 at 0",
    ),
}
"""By name, of one row; torch's losses are the mean of these over rows (and targets)."""


@drawn
def activation_functions() -> Figure:
    """Eight activations (blue) with their derivatives (orange, dashed), ranges, and grey where they saturate.

    Where the orange line is near 0 a layer passes no gradient on. Sigmoid's never exceeds 1/4.
    """
    fig = sheet(height=4.6)
    z = np.linspace(-5, 5, 2001)
    title = "An activation passes on its slope: sigmoid's is at most 1/4, ReLU's is 1 or 0"
    explain(
        fig,
        title,
        "Blue: a = f(z); orange, dashed: its derivative. Grey: saturated, the slope is below 5% of its largest. "
        "A layer multiplies the gradient by this slope, so twenty sigmoids leave at most (1/4)²⁰ ≈ 10⁻¹² of it.",
    )
    for ax, (name, f) in zip(fig.subplots(2, 4, sharex=True, sharey=True).flat, ACTIVATIONS.items(), strict=True):
        slope = f.slope(z)
        most = float(np.abs(f.slope(np.linspace(-40, 40, 8001))).max())
        flat = _tails(np.abs(slope) < FLAT * most)
        ax.fill_between(z, 0, 1, where=flat, transform=ax.get_xaxis_transform(), color="#E3E3E3", linewidth=0, zorder=0)
        ax.axhline(0, color="#BBBBBB", linewidth=0.8, zorder=0.5, label="_zero")
        ax.plot(z, f.value(z), color=HEALTHY, label="a")
        ax.plot(z, slope, color=SICK, linestyle="--", label="slope")
        ax.set_title(name)
        ax.text(
            0.04,
            0.96,
            f"range {f.bounds}\nslope ≤ {number(most)}",
            transform=ax.transAxes,
            va="top",
            fontsize=8,
            color=INK,
        )
        ax.set(xlim=(-5, 5), ylim=(-1.3, 4.2), xticks=[-4, -2, 0, 2, 4])
    for ax in fig.axes[4:]:
        ax.set_xlabel("z")
    return arrange(fig)


@drawn
def loss_functions() -> Figure:
    """Five losses (blue) with their gradients (orange, dashed) as functions of one output.

    The orange line is what the backward pass starts with.
    """
    fig = sheet(height=4.6)
    explain(
        fig,
        "The loss decides how hard a wrong output is pulled: squared error without limit, the others at most by 1",
        "Blue: the loss of one row; orange, dashed: its derivative with respect to the output, where the backward pass "
        "starts. Below 0 it pushes the output up, above 0 down. p is the probability that sigmoid or softmax makes of "
        "the logits. torch takes the mean over rows.",
    )
    axes = list(fig.subplots(2, 3, sharey=True).flat)
    axes[-1].remove()
    x = np.linspace(-4, 4, 1601)
    for ax, (name, loss) in zip(axes, LOSSES.items(), strict=False):
        ax.axhline(0, color="#BBBBBB", linewidth=0.8, zorder=0.5, label="_zero")
        ax.plot(x, loss.value(x), color=HEALTHY, label="loss")
        ax.plot(x, loss.slope(x), color=SICK, linestyle="--", label="gradient")
        ax.set_title(f"{name}\n{loss.note}")
        ax.set(xlim=(-4, 4), ylim=(-4.2, 6.5), xlabel=loss.axis)
    return arrange(fig)


def _tails(mask: BoolArray) -> BoolArray:
    """Of the places of a mask those that reach to one of its ends without a gap."""
    return np.logical_and.accumulate(mask) | np.logical_and.accumulate(mask[::-1])[::-1]
