"""A network of two inputs over the plane of them.

decision_regions(plane)       # what it says, with the rows of each split over it; for regression the output's surface
regions_compared("Tanh bends it", "One of three seeds.", {"no activation": plane, "tanh": other})
neuron_maps(neurons)          # what each neuron of each layer puts out

`nnvis.lessons.planes` computes the numbers. Places are in the units of the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nnvis.figures.classes import BANDS, class_ground, class_key, key_lines, margins, scatter_classes
from nnvis.figures.labels import arrange
from nnvis.figures.style import BROKEN, INK, SIGNED, drawn, explain, sheet
from nnvis.figures.words import clipped, listing, number, percent, plural
from nnvis.record.vocabulary import BoolArray, FloatArray, IntArray

_GROUND = "Ground: the class that the network says, the stronger the surer, with the border between classes."
_MANY = 0.15  # share of wrong rows that can be ringed
_RING = Line2D(
    [], [], marker="o", markersize=7, markerfacecolor="none", markeredgecolor="black", linestyle="none", label="wrong"
)


@dataclass(frozen=True)
class Rows:
    """Some rows of a split, and how well all of them fare."""

    name: str  # "training", "validation"
    total: int
    points: FloatArray  # (N, 2)
    targets: FloatArray  # (N,): class numbers, or values
    wrong: BoolArray  # (N,): classes that the network says wrong
    loss: float  # the mean over all rows of the split, in the units that training sees
    accuracy: float | None  # of all rows, in [0, 1]; None for regression


@dataclass(frozen=True)
class Plane:
    """What a network says over the plane of its two inputs."""

    name: str
    trained: bool
    loss: str  # its kind
    x: FloatArray  # (G,)
    y: FloatArray  # (H,)
    values: FloatArray  # (K, H, G): probabilities of K classes; or K = 1, an output of regression
    names: tuple[str, str]  # of the inputs
    classes: tuple[str, ...]  # () for regression
    rows: tuple[Rows, ...]


@dataclass(frozen=True)
class Response:
    """What the neurons of a layer put out over the plane."""

    layer: str
    units: int
    flat: int  # neurons that put out the same everywhere
    straight: float  # in [0, 1]: the share of their variance over the plane that planes through them explain; or NaN
    drawn: IntArray  # (U,): which neurons are drawn
    x: FloatArray  # (G,)
    y: FloatArray  # (H,)
    values: FloatArray  # (U, H, G); neurons with NaN or Inf come first

    @property
    def broken(self) -> bool:
        """Whether a neuron puts out NaN or Inf somewhere."""
        return not np.isfinite(self.values).all()


@dataclass(frozen=True)
class Neurons:
    """The layers of a network over the plane of its two inputs."""

    name: str
    trained: bool
    total: int  # layers that there are
    names: tuple[str, str]  # of the inputs
    layers: tuple[Response, ...]


@drawn
def decision_regions(plane: Plane) -> Figure:
    """The ground is what the network says, the dots are rows as they are labelled: left of training, right held out.

    A dot on ground of another colour is told wrong (ringed). A border that winds around single rows of training, where
    the rows at the right do not follow: overfitting. Pale ground: the network is not sure. For regression a dot should
    have the colour of its ground.
    """
    fig = sheet(height=3.3 if len(plane.rows) > 1 else 3.6)
    explain(fig, _message(plane), _about(plane))
    ringed, norm = _ringed(plane), _norm(plane)
    axes = _panels(fig, plane, len(plane.rows), ringed)
    for ax, rows in zip(axes, plane.rows, strict=True):
        _ground(ax, plane, norm)
        _dots(ax, plane, rows, norm, ringed)
        shown = "" if len(rows.points) == rows.total else f", {len(rows.points):,} drawn"
        ax.set_title(f"{rows.total:,} rows for {rows.name}{shown}")
    if not plane.classes:
        bar = fig.colorbar(ScalarMappable(norm, "viridis"), ax=axes, pad=0.02, aspect=30)
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        bar.set_label("output, and target of the rows")
    return arrange(fig)


@drawn
def regions_compared(title: str, about: str, shown: Mapping[str, Plane]) -> Figure:
    """What networks say of the same rows, training's, side by side: the ground, and dots as they are labelled."""
    fig = sheet(height=2.6)
    explain(fig, title, f"{_GROUND} Dots: the training rows as they are labelled. {about}")
    planes = list(shown.values())
    for ax, (name, plane) in zip(_panels(fig, planes[0], len(planes)), shown.items(), strict=True):
        norm = _norm(plane)
        _ground(ax, plane, norm)
        _dots(ax, plane, plane.rows[0], norm)
        ax.set_title(name)
    return arrange(fig)


@drawn
def neuron_maps(neurons: Neurons) -> Figure:
    """One row a layer, one map a neuron: orange where it puts out more than 0, purple where less, white at 0.

    In the first layer a neuron is a straight edge, however it is turned; deeper ones put edges together. A map in one
    colour: the neuron says the same of every row, and helps to tell none apart.
    """
    layers = neurons.layers
    columns = max(8, *(len(layer.drawn) for layer in layers))
    fig = sheet(height=0.35 + 0.86 * len(layers))
    explain(fig, _bent(neurons), _about_neurons(neurons))
    grid = fig.subplots(len(layers), columns, squeeze=False)
    for axes, layer in zip(grid, layers, strict=True):
        top = float(np.abs(layer.values[np.isfinite(layer.values)]).max(initial=0)) or 1.0
        for ax, unit, values in zip(axes, layer.drawn, layer.values, strict=False):
            ax.set_facecolor(BROKEN)
            extent = (layer.x[0], layer.x[-1], layer.y[0], layer.y[-1])
            shown = np.ma.masked_invalid(values)
            ax.imshow(shown, extent=extent, origin="lower", aspect="auto", cmap=SIGNED, vmin=-top, vmax=top)
            ax.set(xticks=[], yticks=[])
            ax.set_title(f"{unit}", pad=2, fontsize=8, fontweight="normal", color="#666666")
            ax.grid(visible=False)
        for ax in axes[len(layer.drawn) :]:
            ax.axis("off")
        more = f"{len(layer.drawn)} of {layer.units:,}" if len(layer.drawn) < layer.units else f"all {layer.units}"
        name, _, activation = layer.layer.partition(", ")
        scale = f"±{number(top, 2)}" if np.isfinite(layer.values).any() else "NaN or Inf"
        words = f"{clipped(name, 16)}\n{activation + ', ' * bool(activation)}{more}\n{scale}"
        axes[0].set_ylabel(words, rotation=0, ha="right", va="center", fontsize=8, color=INK)
    return arrange(fig)


# ---------------------------------------------------------------- decision regions


def _panels(fig: Figure, plane: Plane, count: int, ringed: bool = False) -> list[Axes]:
    """So many pairs of axes of one plane side by side; of classes, with the key to them and to their certainty."""
    heights = [1, 0.07 * key_lines(plane.classes, more=1)] if plane.classes else [1]
    grid = fig.add_gridspec(len(heights), count, height_ratios=heights)
    axes = [fig.add_subplot(grid[0, 0])]
    axes += [fig.add_subplot(grid[0, i], sharex=axes[0], sharey=axes[0]) for i in range(1, count)]
    for ax in axes:
        ax.set(xlabel=plane.names[0], xlim=plane.x[[0, -1]], ylim=plane.y[[0, -1]])
        ax.tick_params(labelleft=ax is axes[0])
    axes[0].set_ylabel(plane.names[1])
    if plane.classes:
        _certainty(fig, axes, len(plane.classes))
        class_key(fig.add_subplot(grid[1, :]), plane.classes, [_RING] * ringed)
    return axes


def _ground(ax: Axes, plane: Plane, norm: Normalize) -> None:
    values = plane.values
    step = np.array([plane.x[1] - plane.x[0], plane.y[1] - plane.y[0]]) / 2
    extent = (plane.x[0] - step[0], plane.x[-1] + step[0], plane.y[0] - step[1], plane.y[-1] + step[1])
    ground = class_ground(values) if plane.classes else np.ma.masked_invalid(values[0])
    look = {"extent": extent, "origin": "lower", "aspect": "auto", "interpolation": "nearest", "zorder": 0}
    ax.imshow(ground, cmap="viridis", norm=None if plane.classes else norm, **look)
    ax.set_facecolor(BROKEN)
    ax.grid(visible=False)
    line = {"colors": [INK], "linewidths": 1.1, "linestyles": "solid"}
    for margin in margins(values) if plane.classes else []:
        if np.isfinite(margin).all() and margin.min() < 0 < margin.max():
            ax.contour(plane.x, plane.y, margin, levels=[0.0], **line)
    if not plane.classes and np.isfinite(values).all() and np.ptp(values) > 0:
        line = {"colors": ["white"], "linewidths": 0.7, "alpha": 0.8, "linestyles": "solid"}
        ax.contour(plane.x, plane.y, values[0], levels=MaxNLocator(8).tick_values(values.min(), values.max()), **line)


def _dots(ax: Axes, plane: Plane, rows: Rows, norm: Normalize, ringed: bool = False) -> None:
    if plane.classes:
        scatter_classes(ax, rows.points, rows.targets, len(plane.classes))
        if ringed:
            look = {"s": 38, "facecolors": "none", "edgecolors": "black", "linewidths": 0.9, "zorder": 4}
            ax.scatter(*rows.points[rows.wrong].T, label="wrong", **look)
    else:
        look = {"s": 11, "edgecolors": "white", "linewidths": 0.4, "zorder": 3}
        ax.scatter(*rows.points.T, c=rows.targets, cmap="viridis", norm=norm, label="rows", **look)


def _norm(plane: Plane) -> Normalize:
    """The colours of outputs and targets alike: the range of both."""
    values = np.concatenate([plane.values.ravel(), *(rows.targets for rows in plane.rows)])
    values = values[np.isfinite(values)]
    low, high = float(values.min(initial=np.inf)), float(values.max(initial=-np.inf))
    return Normalize(low, high) if low < high else Normalize(low - 0.5, low + 0.5)


def _certainty(fig: Figure, axes: Sequence[Axes], classes: int) -> None:
    """How strong the ground is, by the probability of the likeliest class."""
    edges = (1 + np.linspace(0, 1, BANDS + 1) * (classes - 1)) / classes
    greys = ListedColormap([str(1 - 0.5 * (band + 1) / BANDS) for band in range(BANDS)])
    bar = fig.colorbar(ScalarMappable(BoundaryNorm(edges, BANDS), greys), ax=list(axes), pad=0.02, aspect=30)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    bar.set_ticks(list(edges), labels=[percent(float(edge)) for edge in edges])
    bar.ax.minorticks_off()
    bar.set_label("certainty: likeliest\nclass's probability")


def _ringed(plane: Plane) -> bool:
    """Whether rows that are told wrong have a ring: not where there are so many that rings would hide them."""
    return all(rows.wrong.sum() <= _MANY * len(rows.wrong) for rows in plane.rows)


def _message(plane: Plane) -> str:
    state = "" if plane.trained else ", untrained"
    if plane.classes:
        first, *rest = (
            f"{percent(rows.accuracy or 0)} of {plural(rows.total, f'{rows.name} row')}" for rows in plane.rows
        )
        return f"{plane.name}{state}: {first} right" + "".join(f", {each}" for each in rest)
    told = ", ".join(f"{number(rows.loss)} for {rows.name}" for rows in plane.rows)
    return f"{plane.name}{state}: {plane.loss.replace('_', ' ')} {told}"


def _about(plane: Plane) -> str:
    if plane.classes:
        ring = "; ringed where the network says another class" if _ringed(plane) else ", whatever the network says"
        losses = ", ".join(f"{number(rows.loss)} for {rows.name}" for rows in plane.rows)
        loss, grey = plane.loss.replace("_", " "), " Ground in plain grey: no finite numbers."
        return (
            f"{_GROUND} Dots: the rows as they are labelled{ring}. Mean {loss} {losses}. Axes are in the units of the "
            f"data.{grey * (not np.isfinite(plane.values).all())}"
        )
    return (
        "Ground: what the network puts out, with lines of equal output; dots: rows with their targets, in the same "
        "colours: a dot that differs from its ground is told wrong. Axes and colours are in the units of the data, the "
        "losses in those that training sees."
    )


# ---------------------------------------------------------------- neurons


def _bent(neurons: Neurons) -> str:
    """What planes explain of the first, the middle and the last layer that varies; which layers are broken."""
    known = [layer for layer in neurons.layers if np.isfinite(layer.straight)]
    if len(known) > 3:
        known = [known[0], known[len(known) // 2], known[-1]]
    shares = [f"{percent(layer.straight)} of the variance in {_name(layer)}" for layer in known[:1]]
    shares += [f"{percent(layer.straight)} in {_name(layer)}" for layer in known[1:]]
    broken = [_name(layer) for layer in neurons.layers if layer.broken]
    told = [f"flat planes explain {', '.join(shares)}"] if shares else []
    if broken:
        told.append(f"no finite numbers out of {listing(broken, 2)}")
    state = "" if neurons.trained else ", untrained"
    return f"{neurons.name}{state}: {'; '.join(told) or 'every neuron puts out the same everywhere'}"


def _name(layer: Response) -> str:
    return layer.layer.split(",")[0]


def _about_neurons(neurons: Neurons) -> str:
    first, second = neurons.names
    layers = neurons.layers
    flat = [f"{layer.flat:,} of {layer.units:,} in {_name(layer)}" for layer in layers if layer.flat]
    abridged = any(len(layer.drawn) < layer.units for layer in layers)
    return (
        f"What each neuron puts out after its activation; across: {first}, up: {second}. Orange above 0, purple below, "
        "white 0; a layer has one scale, ± the largest value of those drawn, at the left. Explained: the share of all "
        "neurons' variance over the plane (R² of least squares); 100% is a layer that bends nothing."
        + (" Of wide layers those neurons are drawn that vary most." if abridged else "")
        + (f" {len(layers)} of {neurons.total} layers are drawn, evenly spaced." if len(layers) < neurons.total else "")
        + (f" The same everywhere: {listing(flat, 4)}." if flat else "")
    )
