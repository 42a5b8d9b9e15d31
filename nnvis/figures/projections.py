"""What the layers of a network make of its rows: small multiples through depth.

projections(projected)        # rows on the principal components of each layer's activations, by class or target
bent_space(projected)         # the plane of two inputs and a grid over it, as each hidden layer bends it

`nnvis.lessons.projecting` computes the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from nnvis.figures.classes import class_key, key_lines, scatter_classes
from nnvis.figures.labels import arrange
from nnvis.figures.style import FAINT, INK, drawn, explain, sheet
from nnvis.figures.words import clipped, percent
from nnvis.record.vocabulary import FloatArray, IntArray

INPUTS = "inputs"  # the name of the panel of what goes in
COLUMNS = 4
_PANEL = 1.75  # inches


@dataclass(frozen=True)
class Panel:
    """What one layer makes of the rows, in two dimensions."""

    name: str
    units: int
    names: tuple[str, str]  # of the axes
    shares: tuple[float, float] | None  # of the variance, on principal components; None where there are two units
    points: FloatArray  # (N, 2)
    score: float  # how separable the classes are, or how well a target can be read from it; NaN where unknown
    lines: FloatArray | None  # (L, P, 2): a grid of the input plane; the first half across, then upwards

    @property
    def everything(self) -> FloatArray:
        """(…, 2): the points, and those of the lines."""
        return self.points if self.lines is None else np.concatenate([self.points, self.lines.reshape(-1, 2)])

    def turned_as(self, other: Panel) -> Panel:
        """With each component's sign as that of the one before it, as far as the rows agree: a sign means nothing."""
        signs = np.ones(2)
        with np.errstate(invalid="ignore"):
            signs[
                ((self.points - self.points.mean(axis=0)) * (other.points - other.points.mean(axis=0))).sum(0) < 0
            ] = -1
        return replace(self, points=self.points * signs, lines=None if self.lines is None else self.lines * signs)


@dataclass(frozen=True)
class Projections:
    """The layers of a network, the inputs first where they are numbers."""

    name: str
    trained: bool
    panels: tuple[Panel, ...]
    targets: FloatArray | IntArray  # (N,): class numbers, or values
    classes: tuple[str, ...]  # () for regression
    total: int  # layers that there are
    held_out: int  # rows by which scores are measured
    where: str  # what split they are from
    reads: str  # how a vector is made of sequences and images: sentences, or ""


@drawn
def projections(projected: Projections) -> Figure:
    """Each dot is a row, by what a layer puts out for it; the colour is its class, or its target.

    A network that learns pulls the classes apart from layer to layer. Where they lie on each other in the last panel
    it cannot tell them apart; where they come apart in the first, the layers after it have little to do. All rows on
    one spot: what told them apart is lost there.
    """
    return _multiples(
        projected,
        f"Each of {len(projected.targets):,} dots is a training row, on the first two principal components of what the "
        f"layer puts out for the rows (layers of one or two units: as they are). {projected.reads}",
    )


@drawn
def bent_space(projected: Projections) -> Figure:
    """The plane of the two inputs and a grid over it, as the hidden layers bend it; dots are rows of training.

    The last layer can only cut with a straight line. So the layers before it bend and fold the plane until the classes
    lie on two sides of one. A grid folded onto a line: the layer has lost a dimension.
    """
    return _multiples(
        projected,
        "A grid of straight lines over the plane of inputs, and training rows, as each hidden layer bends them; "
        "layers of two units as they are, wider ones on the first two principal components of the rows. ",
    )


def _multiples(projected: Projections, about: str) -> Figure:
    n = len(projected.panels)
    columns = min(n, COLUMNS)
    tall = math.ceil(n / columns)
    key = 0.14 * key_lines(projected.classes) if projected.classes else 0.0
    fig = sheet(height=(_PANEL + 0.3) * tall + 2 * key)
    explain(fig, _message(projected), about + _about(projected))
    grid = fig.add_gridspec(tall + bool(key), columns, height_ratios=[1.0] * tall + [key] * bool(key))
    axes = [fig.add_subplot(grid[divmod(i, columns)]) for i in range(n)]
    norm = _norm(projected.targets)
    for ax, panel in zip(axes, projected.panels, strict=True):
        _draw(ax, panel, projected, norm)
    if projected.classes:
        class_key(fig.add_subplot(grid[-1, :]), projected.classes)
    else:
        bar = fig.colorbar(ScalarMappable(norm, "viridis"), ax=axes, pad=0.02, aspect=30)
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        bar.set_label("target")
    arrange(fig)
    for ax, panel in zip(axes, projected.panels, strict=True):
        _look_at(ax, panel)
    return fig


def _draw(ax: Axes, panel: Panel, projected: Projections, norm: Normalize) -> None:
    ax.set_title(f"{clipped(panel.name, 14)} ({panel.units:,})\n{_told(panel.score, projected)}")
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
    labels = panel.names
    if panel.shares:
        labels = tuple(f"{name}: {percent(share)}" for name, share in zip(panel.names, panel.shares, strict=True))
    ax.set(xlabel=labels[0], ylabel=labels[1])
    ax.xaxis.label.set_fontsize(8)
    ax.yaxis.label.set_fontsize(8)
    usable = bool(np.isfinite(panel.points).all())
    if not usable or not np.ptp(panel.points, axis=0).any():
        words = "all rows on one spot" if usable else "no finite numbers"
        ax.text(0.5, 0.9, words, transform=ax.transAxes, ha="center", va="top", fontsize=8, color=INK)
    if not usable:
        return
    if panel.lines is not None:
        half = len(panel.lines) // 2
        for lines, colour in ((panel.lines[:half], "#555555"), (panel.lines[half:], FAINT)):
            ax.add_collection(LineCollection(list(lines), colors=colour, linewidths=0.6, zorder=1), autolim=False)
    if projected.classes:
        scatter_classes(ax, panel.points, projected.targets, len(projected.classes))
    else:
        look = {"s": 9, "edgecolors": "white", "linewidths": 0.3, "zorder": 3}
        ax.scatter(*panel.points.T, c=projected.targets, cmap="viridis", norm=norm, label="rows", **look)


def _look_at(ax: Axes, panel: Panel) -> None:
    """All of a panel, with one scale on both axes where they are of one layer: for axes that have their place."""
    points = panel.everything
    if not np.isfinite(points).all():
        return
    extent, box = np.ptp(points, axis=0), ax.get_window_extent()
    if panel.name != INPUTS:
        extent = max(float(extent[0]) / box.width, float(extent[1]) / box.height) * np.array([box.width, box.height])
    reach = 0.54 * np.where(extent > 0, extent, 1.0)
    middle = (points.max(axis=0) + points.min(axis=0)) / 2
    (left, low), (right, high) = middle - reach, middle + reach
    ax.set(xlim=(left, right), ylim=(low, high))


def _told(score: float, projected: Projections) -> str:
    """A score as it is written."""
    if math.isnan(score):
        return "?"
    return percent(score) if projected.classes else f"R² {round(score, 2) + 0.0:.2f}".replace("-", "−")


def _message(projected: Projections) -> str:
    known = [panel for panel in projected.panels if not math.isnan(panel.score)]
    state = "" if projected.trained else ", untrained"
    if not known:
        return f"{projected.name}{state}: no layer puts out finite numbers"
    shown = [known[0], known[-1]] if len(known) > 1 else known
    each = [f"{_told(panel.score, projected)} in {panel.name}" for panel in shown]
    what = "tells the classes apart" if projected.classes else "reads the target"
    return f"{projected.name}{state}: a linear readout {what}: {', '.join(each)}"


def _about(projected: Projections) -> str:
    rows = f"{projected.held_out:,} {projected.where} rows"
    score = (
        f"share of {rows} that a linear readout gets right"
        if projected.classes
        else f"R² of a linear readout on {rows}"
    )
    shares = any(panel.shares for panel in projected.panels)
    layers = len([panel for panel in projected.panels if panel.name != INPUTS])
    return (
        f"Under the names: {score} (ridge regression on all units, fitted to training rows)."
        + (" On the axes: shares of the variance; both have one scale." if shares else "")
        + (f" {layers} of {projected.total} layers are drawn, evenly spaced." if layers < projected.total else "")
    )


def _norm(targets: Sequence[float] | FloatArray | IntArray) -> Normalize:
    low, high = float(np.min(targets)), float(np.max(targets))
    return Normalize(low, high) if low < high else Normalize(low - 0.5, low + 0.5)
