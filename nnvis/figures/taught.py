"""What only the lessons draw: small pictures of one idea each.

neuron_planes({"by hand": neuron})          # what neurons answer over the plane of their two inputs
panels("Deeper is smaller", "Caption.", [Panel("one seed", "layer", "‖δ‖", [Curve(x, y, "measured")], log_y=True)])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.special import expit

from nnvis.figures.labels import EndLabel, arrange
from nnvis.figures.passes import Neuron
from nnvis.figures.scales import log_axis, log_ticks
from nnvis.figures.style import DASHES, HEALTHY, MARKERS, SICK, VARIANTS, drawn, explain, sheet
from nnvis.figures.words import number
from nnvis.record.vocabulary import FloatArray

_PALETTE = (HEALTHY, SICK, *VARIANTS)
_FEW = 24  # points of a curve that get a marker each


@dataclass(frozen=True)
class Curve:
    """One line of a panel; what is not finite leaves a gap."""

    x: FloatArray  # (N,)
    y: FloatArray  # (N,)
    label: str  # written at its end; "" for none
    colour: str = ""  # by its place in the panel
    dash: str | tuple = ""  # by its place in the panel


@dataclass(frozen=True)
class Panel:
    """Lines in one pair of axes."""

    title: str
    xlabel: str
    ylabel: str
    curves: Sequence[Curve]
    log_x: bool = False
    log_y: bool = False


@drawn
def panels(title: str, caption: str, shown: Sequence[Panel], *, height: float = 2.6, share_y: bool = True) -> Figure:
    """Panels side by side, each line with its label at its end; with `share_y` they have one scale.

    A logarithmic one shows what is above 0; panels with one each are not to share it.
    """
    fig = sheet(height=height)
    explain(fig, title, caption)
    axes = list(fig.subplots(1, len(shown), sharey=share_y, squeeze=False).flat)
    ends = {ax: _lines(ax, panel) for ax, panel in zip(axes, shown, strict=True)}
    return arrange(fig, ends=ends)


def _lines(ax: Axes, panel: Panel) -> list[EndLabel]:
    ends: list[EndLabel] = []
    for i, curve in enumerate(panel.curves):
        colour = curve.colour or _PALETTE[i % len(_PALETTE)]
        marker = MARKERS[i % len(MARKERS)] if len(curve.x) <= _FEW else ""
        dash = curve.dash or ("solid" if i == 0 else DASHES[(i - 1) % len(DASHES)])
        y = np.where(np.isfinite(curve.y), curve.y, np.nan)
        ax.plot(curve.x, y, color=colour, linestyle=dash, marker=marker, label=curve.label or "_line")
        if curve.label and np.isfinite(y).any():
            ends.append(EndLabel(float(y[np.isfinite(y)][-1]), curve.label, colour))
    x = np.unique(np.concatenate([curve.x for curve in panel.curves] or [np.zeros(0)]))
    if panel.log_x:
        ax.set_xscale("log")
        ticks = x.tolist() if len(x) <= 10 else log_ticks(*np.log10(x[[0, -1]]))
        ax.set_xticks(ticks, [number(tick) for tick in ticks])
        ax.minorticks_off()
    else:
        ax.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=bool((x == np.round(x)).all())))
    y = np.concatenate([curve.y for curve in panel.curves] or [np.zeros(0)])
    y = y[np.isfinite(y) & (y > 0)]
    if panel.log_y and y.size:
        log_axis(ax, *np.log10([y.min(), y.max()]))
    ax.set(xlabel=panel.xlabel, ylabel=panel.ylabel, title=panel.title)
    return ends


@drawn
def neuron_planes(neurons: Mapping[str, Neuron], reach: float = 4.0) -> Figure:
    """The activation of sigmoid neurons over the plane of their two inputs: each a slope with one straight border.

    The arrow is the direction of the weights: there the activation rises fastest.
    """
    fig = sheet(height=3.4)
    explain(
        fig,
        "A neuron cuts the plane of its inputs in two: a straight border, and a slope across it",
        "Colour: the activation a for every pair of inputs. Thick line: z = 0; thin lines: z = ±1, ±2, …. Arrow: the "
        "direction of the weights. Point: the row.",
    )
    axes = list(fig.subplots(1, len(neurons), sharey=True, squeeze=False).flat)
    for ax, (title, neuron) in zip(axes, neurons.items(), strict=True):
        _plane(ax, neuron, reach)
        ax.set_title(f"{title}\na = {number(neuron.a)} at the row")
    axes[0].set_ylabel("x₂")
    bar = fig.colorbar(ScalarMappable(Normalize(0, 1), "viridis"), ax=axes, pad=0.02)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    bar.set_label("a")
    return arrange(fig)


def _plane(ax: Axes, neuron: Neuron, reach: float) -> None:
    x = np.linspace(-reach, reach, 161)
    z = neuron.w[0] * x[None, :] + neuron.w[1] * x[:, None] + neuron.b
    ax.pcolormesh(x, x, expit(z), vmin=0, vmax=1, shading="gouraud", rasterized=True)
    steps = np.arange(1, int(np.abs(z).max()) + 1)
    look: dict[str, Any] = {"colors": "white", "linestyles": "solid"}
    ax.contour(x, x, z, levels=np.concatenate([-steps[::-1], steps]), linewidths=0.4, alpha=0.6, **look)
    ax.contour(x, x, z, levels=[0], linewidths=2, **look)
    along, foot = neuron.w / np.linalg.norm(neuron.w), -neuron.b * neuron.w / (neuron.w @ neuron.w)
    arrow = {"arrowstyle": "-|>", "color": "white", "linewidth": 1.6, "shrinkA": 0}
    ax.annotate("", tuple(foot + 1.5 * along), xytext=tuple(foot), arrowprops=arrow)
    ax.plot(*neuron.x, marker="o", color=SICK, markeredgecolor="white", markersize=7, linestyle="none", label="row")
    ax.set(xlabel="x₁", aspect="equal")
    ax.grid(visible=False)
