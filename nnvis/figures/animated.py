"""The panels of a moving picture of training: each draws what stays, and returns what draws one frame.

show = draw_region(ax, region)     # axes, scales and everything that does not move
show(12)                           # frame 12

Numbers are float64; F is the number of frames. `nnvis.lessons.animating` measures them, `nnvis.figures.animation` puts
the panels together. Scales are those of all frames, so that what moves is the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import BoundaryNorm, Normalize
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike

from nnvis.figures.classes import class_ground, margins, output_ground, scatter_classes
from nnvis.figures.facts import wants_log
from nnvis.figures.labels import EndLabel
from nnvis.figures.nodes import NODES, edge_looks, node_heights
from nnvis.figures.scales import ORDINARY, Strips, linear_limits, log_axis, log_limits, value_kinds
from nnvis.figures.style import FAINT, HEALTHY, INK, SICK, SIGNED, TRAIN, VALIDATION
from nnvis.figures.words import number, percent, shorten
from nnvis.record.vocabulary import FloatArray, IntArray, Series

Show = Callable[[int], None]
COLUMNS = 5  # of nodes, before the middle ones are left out
TILES = 6  # of weights, before the middle ones are left out
_LEVELS = 15  # of the landscape
_SPOT = 0.05  # of an axis: within so little the names of classes would cover each other


# ---------------------------------------------------------------- what the network does


@dataclass(frozen=True)
class Region:
    """What the network says over the plane of its two inputs."""

    x: FloatArray  # (G,)
    y: FloatArray  # (H,)
    values: FloatArray  # (F, K, H, G): probabilities of K classes; or K = 1, an output of regression
    points: FloatArray  # (N, 2): rows of the training split
    targets: FloatArray  # (N,): class numbers, or values
    names: tuple[str, str]  # of the inputs
    classes: tuple[str, ...]  # () for regression


@dataclass(frozen=True)
class Cloud:
    """Rows by what the last hidden layer makes of them, on the plane of their first principal components."""

    points: FloatArray  # (F, N, 2)
    targets: IntArray  # (N,): class numbers
    classes: tuple[str, ...]
    layer: str
    explained: FloatArray  # (2,): shares of the variance in the last frame, whose components these are


@dataclass(frozen=True)
class Fit:
    """Predictions against targets, in the units that training sees."""

    targets: FloatArray  # (N,)
    predictions: FloatArray  # (F, N)


View = Region | Cloud | Fit


def draw_view(ax: Axes, view: View) -> Show:
    """What the network does with its data."""
    match view:
        case Region():
            return draw_region(ax, view)
        case Cloud():
            return draw_cloud(ax, view)
        case Fit():
            return draw_fit(ax, view)


def draw_region(ax: Axes, region: Region) -> Show:
    """Ground: the class that the network says, stronger where it is surer, with the border; grey: no number."""
    ax.set(title="decision region" if region.classes else "output", xlabel=region.names[0], ylabel=region.names[1])
    ax.grid(visible=False)
    step = np.array([region.x[1] - region.x[0], region.y[1] - region.y[0]]) / 2
    extent = (region.x[0] - step[0], region.x[-1] + step[0], region.y[0] - step[1], region.y[-1] + step[1])
    low, high = float(region.targets.min()), float(region.targets.max())
    norm = Normalize(low, high if high > low else low + 1)
    ground = np.zeros((len(region.y), len(region.x), 3))
    image = ax.imshow(ground, extent=extent, origin="lower", aspect="auto", interpolation="bilinear", zorder=0)
    if region.classes:
        scatter_classes(ax, region.points, region.targets, len(region.classes))
    else:
        look = {"s": 9, "edgecolors": "white", "linewidths": 0.4, "zorder": 3}
        ax.scatter(*region.points.T, c=matplotlib.colormaps["viridis"](norm(region.targets)), **look)
    ax.set(xlim=(region.x[0], region.x[-1]), ylim=(region.y[0], region.y[-1]))
    borders: list[Artist] = []

    def show(i: int) -> None:
        values = region.values[i]
        image.set_data(class_ground(values) if region.classes else output_ground(values[0], norm))
        _clear(borders)
        for margin in margins(values) if region.classes else []:
            if np.isfinite(margin).all() and margin.min() < 0 < margin.max():
                look = {"levels": [0.0], "colors": [INK], "linewidths": 1.0, "linestyles": "solid"}
                borders.append(ax.contour(region.x, region.y, margin, **look))

    return show


def draw_cloud(ax: Axes, cloud: Cloud) -> Show:
    """The rows by class; the names stand in the middle of their class, where there is room for them."""
    finite = cloud.points[np.isfinite(cloud.points).all(axis=(1, 2))]
    flat = finite.reshape(-1, 2) if len(finite) else np.zeros((1, 2))
    first, second = (percent(share) for share in cloud.explained)
    ax.set(
        title=f"what {shorten([cloud.layer], 16)[0]} gets, by class",
        xlabel=f"PC 1 ({first} of the variance)",
        ylabel=f"PC 2 ({second})",
        xlim=linear_limits(flat[:, 0], 1e-12),
        ylim=linear_limits(flat[:, 1], 1e-12),
    )
    ax.grid(visible=False)
    drawn = scatter_classes(ax, np.zeros((len(cloud.targets), 2)), cloud.targets, len(cloud.classes))
    paper = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.6}
    names = [
        ax.text(0, 0, name, ha="center", va="center", fontsize=8, weight="bold", color=INK, bbox=paper, zorder=4)
        for name in shorten(cloud.classes, 10)
    ]
    _keep_out_of_layout(names)
    missing = _note(ax)
    sides, middle = np.array([np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())]), float(np.mean(ax.get_ylim()))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(4))
        axis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 2)))

    def show(i: int) -> None:
        usable = bool(np.isfinite(cloud.points[i]).all())
        alike = usable and bool((np.ptp(cloud.points[i], axis=0) < _SPOT * sides).all())
        missing.set_text("all rows on one spot" if alike else "" if usable else "no finite numbers")
        missing.set_y(0.12 if usable and np.median(cloud.points[i][:, 1]) > middle else 0.97)
        written: list[FloatArray] = []  # (4,): x, y, x, y of names, in pixels
        for k, (rows, name) in enumerate(zip(drawn, names, strict=True)):
            here = cloud.points[i][cloud.targets == k]
            for artist in (rows, name):
                artist.set_visible(usable and len(here) > 0)  # what is not visible has no size
            if usable and len(here):
                rows.set_offsets(here)  # type: ignore[attr-defined]
                name.set_position(tuple(np.median(here, axis=0)))
                box = np.array(name.get_window_extent().extents)
                apart = all((box[:2] > other[2:]).any() or (box[2:] < other[:2]).any() for other in written)
                name.set_visible(apart and not alike)
                written += [box] * apart

    return show


def draw_fit(ax: Axes, fit: Fit) -> Show:
    """Each row a dot; on the line the prediction is right."""
    finite = fit.predictions[np.isfinite(fit.predictions)]
    low, high = linear_limits(np.concatenate([fit.targets, finite]), 1e-12)
    ax.set(title="predictions", xlabel="target", ylabel="prediction", xlim=(low, high), ylim=(low, high))
    ax.plot([low, high], [low, high], color=INK, linewidth=0.9, linestyle=(0, (4, 2)), label="_right")
    (dots,) = ax.plot([], [], linestyle="none", marker="o", markersize=3, color=HEALTHY, alpha=0.6, label="rows")
    missing = _note(ax)

    def show(i: int) -> None:
        usable = np.isfinite(fit.predictions[i])
        dots.set_data(fit.targets[usable], fit.predictions[i][usable])
        missing.set_text("" if usable.all() else f"{(~usable).sum():,} rows: no finite number")

    return show


# ---------------------------------------------------------------- weights and gradients


@dataclass(frozen=True)
class Weights:
    """A layer's weights over time, with their gradients: the first rows and columns of them."""

    name: str
    shape: tuple[int, ...]  # of all of its weights; (out, in) of a Linear layer
    weights: FloatArray  # (F, R, C)
    gradients: FloatArray  # (F, R, C): ∂L/∂w; 0 where the loss does not depend on it


def draw_network(ax: Axes, layers: Sequence[Weights], *, chain: bool, gradients: bool) -> Show:
    """Weights, or their gradients: orange above 0, purple below; as edges of a `chain` of Linear layers, else as cells.

    Weights go by the largest of their layer, so that each layer's change is seen; gradients by powers of ten below the
    largest of all, so that layers which get less of it are seen to.
    """
    ax.set_title("gradients ∂L/∂w" if gradients else "weights w")
    ax.axis("off")
    kept = kept_of(len(layers), (COLUMNS - 1) if chain else TILES)
    values = [layers[i].gradients if gradients else layers[i].weights for i in kept]
    sizes = [np.abs(one[np.isfinite(one) & (one != 0)]) for one in values]
    tops = [float(size.max(initial=0)) for size in sizes]
    decades = 0.0
    if gradients and max(tops) > 0:
        tops = [max(tops)] * len(tops)
        decades = max(-float(np.log10(np.quantile(np.concatenate(sizes), 0.05) / tops[0])), 1.0)
    shown = [layers[i] for i in kept]
    return (_draw_edges if chain else _draw_cells)(ax, shown, values, tops, decades, len(layers) - len(kept))


def kept_of(n: int, most: int) -> list[int]:
    """Which of `n` layers are drawn: all, or the first and the last ones."""
    half = most // 2
    return list(range(n)) if n <= most else [*range(half), *range(n - (most - half), n)]


def _draw_edges(
    ax: Axes,
    layers: Sequence[Weights],
    values: Sequence[FloatArray],
    tops: Sequence[float],
    decades: float,
    left_out: int,
) -> Show:
    gap = len(layers) // 2 + 1 if left_out else 0  # the column behind the layers that are left out: no edges lead there
    columns = [("inputs", layers[0].shape[1]), *((layer.name, layer.shape[0]) for layer in layers)]
    lower = 1.9 * (len(columns) > COLUMNS - 1)  # every other name, where they would touch
    ax.set(xlim=(-0.4, len(columns) - 0.6), ylim=(-1.6 - lower, NODES + 0.6))
    names = shorten([name for name, _ in columns], 10)
    for x, ((_, size), name) in enumerate(zip(columns, names, strict=True)):
        heights = node_heights(size)
        ax.scatter(np.full(len(heights), x), heights, s=26, color="white", edgecolors=INK, linewidths=0.7, zorder=3)
        ax.text(
            x, -0.1 - lower * (x % 2), f"{name}\n{size:,}", ha="center", va="top", fontsize=8, color=INK
        ).set_in_layout(False)
    if gap:
        ax.text(gap - 0.5, NODES / 2 + 0.5, "…", ha="center", va="center", fontsize=12).set_in_layout(False)
    lines: list[tuple[LineCollection, FloatArray, float]] = []
    for x, (one, top) in enumerate(zip(values, tops, strict=True), 1):
        if x != gap:
            before, after = node_heights(columns[x - 1][1]), node_heights(columns[x][1])
            segments = [np.array([(x - 1, before[k]), (x, after[j])]) for j, k in np.ndindex(one.shape[1:])]
            collection = LineCollection(segments, zorder=1)
            ax.add_collection(collection, autolim=False)
            lines.append((collection, one.reshape(len(one), -1), top))

    def show(i: int) -> None:
        for collection, one, top in lines:
            widths, colours = edge_looks(one[i], top, decades)
            collection.set(linewidths=widths, colors=colours)

    return show


def _draw_cells(
    ax: Axes,
    layers: Sequence[Weights],
    values: Sequence[FloatArray],
    tops: Sequence[float],
    decades: float,
    left_out: int,
) -> Show:
    wide = 2 if len(layers) in (2, 4) else min(len(layers), 3)
    tall = math.ceil(len(layers) / wide)
    names = shorten([each.name for each in layers], 13)
    above = 0.19 * tall  # of a row, for the words
    images: list[tuple[AxesImage, FloatArray, float]] = []
    for at, (layer, one, top, name) in enumerate(zip(layers, values, tops, names, strict=True)):
        row, column = divmod(at, wide)
        rows, columns = one.shape[1:]
        width, height = 0.85 * columns / NODES, (1 - above) * rows / NODES
        look = {"cmap": SIGNED, "vmin": -1, "vmax": 1, "interpolation": "nearest", "aspect": "auto"}
        extent = (column, column + width, row + height, row)
        images.append((ax.imshow(np.zeros((rows, columns)), extent=extent, **look), one, top))
        ax.add_patch(Rectangle((column, row), width, height, fill=False, edgecolor=FAINT, linewidth=0.6))
        more = "… " if left_out and at == len(layers) // 2 else ""
        words = f"{more}{name}\n{'×'.join(map(str, layer.shape))}"
        ax.text(column, row - 0.03, words, va="bottom", fontsize=8, color=INK).set_in_layout(False)
    ax.set(xlim=(-0.05, wide - 0.1), ylim=(tall - 0.9 * above, -above))

    def show(i: int) -> None:
        for image, one, top in images:
            image.set_data(cell_shades(one[i], top, decades))

    return show


def cell_shades(values: FloatArray, largest: float, decades: float) -> FloatArray:
    """-1 to 1: values by the largest one, or by so many `decades` below it; NaN where there is no finite number."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.abs(values) / largest if largest else np.zeros_like(values)
        if decades:
            share = np.clip(1 + np.log10(share) / decades, 0, 1)
    return np.where(np.isfinite(values), np.sign(values) * share, np.nan)


def draw_profile(ax: Axes, layers: Sequence[str], norms: FloatArray) -> tuple[Show, list[EndLabel]]:
    """L2 norm of the loss's gradient with respect to each layer's parameters, norms (F, L); dashed: the first frame.

    Vanishing: it falls to the left, towards the inputs.
    """
    ax.set_title("gradient norm by layer")
    strips = Strips(ax, norms, np.ones(norms.shape, dtype=bool))
    x = np.arange(len(layers))
    ax.set_xlim(-0.5, len(layers) - 0.5)
    marker = "o" if len(layers) <= 30 else ""
    start = _ordinary(norms[0])
    ax.plot(x, start, color=FAINT, linewidth=1, linestyle=(0, (4, 2)), label="first")
    (line,) = ax.plot([], [], color=HEALTHY, marker=marker, label="now")
    for i in range(len(norms)):  # so that every kind of mark is known, and named
        strips.mark(x, value_kinds(norms[i]), HEALTHY)
    marks: list[Artist] = [mark for mark in ax.lines if str(mark.get_label()).startswith("_")]
    names = strips.names()

    def show(i: int) -> None:
        _clear(marks)
        line.set_data(x, _ordinary(norms[i]))
        before = set(ax.lines)
        strips.mark(x, value_kinds(norms[i]), HEALTHY)
        marks.extend(mark for mark in ax.lines if mark not in before)

    return show, names


def _ordinary(values: FloatArray) -> FloatArray:
    return np.where(value_kinds(values) == ORDINARY, values, np.nan)


# ---------------------------------------------------------------- loss


def draw_losses(
    ax: Axes, steps: IntArray, losses: FloatArray, train: Series, val: Series
) -> tuple[Show, list[EndLabel]]:
    """The frames' own losses (F,) with the dot, and the record's; over the steps, spaced as the frames are."""
    ax.set(title="loss", xlabel="step")
    every = np.concatenate([losses, train.values, val.values])
    last = int(max([*steps, *train.steps, *val.steps]))
    if wants_log(every):
        log_axis(ax, *log_limits(every))
    else:
        ax.set_ylim(*linear_limits(every, least=0.25 * float(np.abs(every[np.isfinite(every)]).max(initial=1e-12))))
        ax.yaxis.set_major_locator(MaxNLocator(5))
    ticks = [0, *(10**e for e in range(len(str(last))))]
    width = max(float(at_step(last)[0]), 0.1)
    ax.set_xlim(-0.02 * width, 1.02 * width)
    ax.set_xticks(at_step(np.array(ticks)), [f"{tick:,}" for tick in ticks])
    now = ax.axvline(0, color=INK, linewidth=0.9, linestyle=(0, (2, 2)), label="_now")
    moving: list[tuple[IntArray, FloatArray, Line2D]] = []
    labels: list[EndLabel] = []
    for name, at, values, colour in (
        ("train", train.steps, train.values, TRAIN),
        ("validation", val.steps, val.values, VALIDATION),
        ("frames", steps, losses, INK),
    ):
        ax.plot(at_step(at), values, color=colour, alpha=0.35, linewidth=1, label=f"_{name}")
        (past,) = ax.plot([], [], color=colour, linewidth=1.7, label=name)
        moving.append((at, values, past))
        finite = values[np.isfinite(values)]
        if len(finite) and name != "frames":
            labels.append(EndLabel(float(finite[-1]), name, colour))
    (dot,) = ax.plot([], [], color=SICK, marker="o", markersize=7, markeredgecolor="white", zorder=4, label="now")

    def show(i: int) -> None:
        now.set_xdata(np.repeat(at_step(steps[i]), 2))
        for at, values, past in moving:
            n = int(np.searchsorted(at, steps[i], side="right"))
            past.set_data(at_step(at[:n]), values[:n])
        dot.set_data(at_step(steps[i]), losses[i : i + 1])

    return show, labels


def at_step(steps: ArrayLike) -> FloatArray:
    """Where steps stand on the axis: log10(1 + step)."""
    return np.atleast_1d(np.log10(1.0 + np.asarray(steps, dtype=float)))


@dataclass(frozen=True)
class Landscape:
    """The loss on the plane of the two directions along which training moved the weights most."""

    x: FloatArray  # (G,)
    y: FloatArray  # (H,)
    losses: FloatArray  # (H, G)
    path: FloatArray  # (F, 2)
    explained: FloatArray  # (2,): shares of the variance of the path


def draw_landscape(ax: Axes, landscape: Landscape) -> Show:
    """Contours of equal loss (dark: low), the way that training took, and where it is."""
    first, second = (percent(share) for share in landscape.explained)
    ax.set(
        xlabel=f"PC 1 ({first} of the way)",
        ylabel=f"PC 2 ({second})",
        xlim=(landscape.x[0], landscape.x[-1]),
        ylim=(landscape.y[0], landscape.y[-1]),
    )
    ax.grid(visible=False)
    losses = np.where(np.isfinite(landscape.losses), landscape.losses, np.nan)
    ax.set_facecolor("#E3E3E3")
    usable = losses[np.isfinite(losses)]
    ax.set_title(
        f"loss landscape, {number(usable.min(), 2)} to {number(usable.max(), 2)}" if len(usable) else "loss landscape"
    )
    if len(usable) and usable.max() > usable.min():
        if wants_log(usable, ratio=10):
            levels = np.geomspace(usable.min(), usable.max(), _LEVELS)
        else:
            levels = np.linspace(usable.min(), usable.max(), _LEVELS)
        levels[-1] *= 1 + 1e-9
        look = {"levels": levels, "norm": BoundaryNorm(levels, 256)}
        ax.contourf(landscape.x, landscape.y, losses, cmap="viridis", **look)
    (path,) = ax.plot([], [], color="white", linewidth=1.6, label="way")
    ax.plot(*landscape.path.T, color="white", linewidth=0.7, alpha=0.6, label="_whole")
    (dot,) = ax.plot([], [], color=SICK, marker="o", markersize=7, markeredgecolor="white", label="now")
    missing = _note(ax)

    def show(i: int) -> None:
        path.set_data(*landscape.path[: i + 1].T)
        dot.set_data(*landscape.path[i : i + 1].T)
        missing.set_text("" if np.isfinite(landscape.path[i]).all() else "no finite numbers")

    return show


# ---------------------------------------------------------------- small things


def _clear(artists: list[Artist]) -> None:
    for artist in artists:
        artist.remove()
    artists.clear()


def _note(ax: Axes) -> Text:
    note = ax.text(0.5, 0.97, "", transform=ax.transAxes, ha="center", va="top", fontsize=8, color=INK, zorder=5)
    note.set_in_layout(False)
    return note


def _keep_out_of_layout(texts: Sequence[Text]) -> None:
    for text in texts:
        text.set_in_layout(False)
