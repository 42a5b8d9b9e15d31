"""The loss landscape in a plane of all weights, as contours and as a surface, with the paths that run through it.

random_landscape(surface, seen)                 # around the weights: how far can they be moved?
training_landscape(surface, trail, seen)        # the plane of training, and the way that it went
descent_rates(surface, descents, seen)          # gradient descent in the plane: too small, good, too large
descent_batches(surface, descents, seen)        # full batch, mini-batch, single sample

All from numbers that `nnvis.lessons` has computed; distances are between weights (L2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d.axes3d import Axes3D

from nnvis.figures.labels import arrange
from nnvis.figures.scales import log_ticks, tick_words
from nnvis.figures.style import INK, drawn, explain, sheet
from nnvis.figures.words import number, percent, plural
from nnvis.record.vocabulary import FloatArray, IntArray

LEVELS = 22
BROKEN = "#D0D0D0"  # where the loss is NaN or Inf
_LOG = 8.0  # the highest finite loss over the lowest, from which on levels are log-spaced


@dataclass(frozen=True)
class Surface:
    """The loss on a grid of a plane."""

    x: FloatArray  # (X,) ascending
    y: FloatArray  # (Y,)
    loss: FloatArray  # (Y, X); NaN and Inf as they came out

    @property
    def finite(self) -> FloatArray:
        """The losses that are finite, in a row."""
        return self.loss[np.isfinite(self.loss)]

    def holds(self, point: FloatArray) -> bool:
        """Whether a point (2,) lies in it."""
        return bool(self.x[0] <= point[0] <= self.x[-1] and self.y[0] <= point[1] <= self.y[-1])

    @property
    def rim(self) -> FloatArray:
        """The losses at the edge of the grid."""
        return np.concatenate([self.loss[0], self.loss[-1], self.loss[1:-1, 0], self.loss[1:-1, -1]])


@dataclass(frozen=True)
class Seen:
    """What a landscape is of."""

    name: str
    trained: bool
    loss: str  # its kind
    rows: int  # on which the loss is the mean
    all_rows: int  # of the training split
    parameters: int
    centre: float  # the loss at the weights that the landscape is of
    statistics: str = ""  # what stands for a batch norm's running statistics, a sentence


@dataclass(frozen=True)
class Trail:
    """Where training went, in its plane."""

    steps: IntArray  # (T,) updates completed
    points: FloatArray  # (T, 2): the nearest point of the plane
    distances: FloatArray  # (T,) of the weights from it
    in_plane: FloatArray  # (T,) the loss of that point
    own: FloatArray  # (T,) the loss of the weights themselves
    explained: tuple[float, float]  # shares of the squared distances from the end

    @property
    def length(self) -> float:
        """From the first to the last weights, as the crow flies."""
        return float(math.hypot(*self.points[0], self.distances[0]))


@dataclass(frozen=True)
class Descent:
    """Gradient descent with two parameters: the coordinates in the plane."""

    label: str  # "batches of 32"
    rate: float
    rows: int  # that an update sees
    points: FloatArray  # (U + 1, 2)
    losses: FloatArray  # (U + 1,) on all rows

    @property
    def updates(self) -> int:
        """How many there were."""
        return len(self.points) - 1


@drawn
def random_landscape(surface: Surface, seen: Seen, seed: int) -> Figure:
    """The weights lie in the middle. One unit moves every filter by its own length, in a random direction.

    A wide bowl: the weights may be changed a good deal. A narrow or a rugged one: a little changes the loss a lot.
    """
    lowest, rim = float(surface.finite.min(initial=math.inf)), surface.rim[np.isfinite(surface.rim)]
    weights = "trained weights" if seen.trained else "untrained weights"
    level = f"loss {number(seen.centre)} at the {weights}"
    if not rim.size:
        title = f"{seen.name}: {level}, and nothing finite at the edge"
    else:
        title = f"{seen.name}: {level}, {number(rim.min())} to {number(rim.max())} at the edge"
    if lowest < seen.centre and number(lowest) != number(seen.centre):
        title += f"; the lowest point here, {number(lowest)}, is not where they are"
    fig = sheet(height=3.3)
    explain(
        fig,
        title,
        f"{_mean(seen)} along two random directions (seed {seed}) of {plural(seen.parameters, 'weight')}: one unit "
        "changes every filter by its own length (Li et al. 2018); biases and the parameters of norms stay. "
        f"{_sentence(seen.statistics)}Drawn like this, two networks may be compared if they share axes and colours; "
        "other directions show another cut.",
    )
    left, right = _pair(fig)
    scale = _Scale(surface)
    _contours(left, surface, scale)
    left.plot(0, 0, marker="+", markersize=10, markeredgewidth=1.6, color="white", linestyle="none", label="weights")
    left.set(xlabel="first random direction", ylabel="second random direction", title="+ the weights")
    left.set_aspect("equal")
    _hill(right, surface, scale)
    scale.bar(fig, [left, right])
    return arrange(fig)


@drawn
def training_landscape(surface: Surface, trail: Trail, seen: Seen) -> Figure:
    """The plane that lies closest to the path of training, through its last weights, and the path seen in it.

    A marker that has another colour than the ground beneath it: the weights were not in the plane there, and their own
    loss is another one. How far the path leaves the plane is said below.
    """
    share = sum(trail.explained)
    out = trail.distances / trail.length
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.abs(np.log(trail.own / trail.in_plane))
    apart = int(np.argmax(np.where(np.isnan(ratios), 0, ratios)))
    fig = sheet(height=3.3)
    explain(
        fig,
        f"{seen.name}: training went from loss {number(trail.own[0])} to {number(trail.own[-1])}; "
        f"this plane holds {percent(share)} of its path",
        f"{_mean(seen)} in the plane of the two principal components of {len(trail.steps)} snapshots of "
        f"{plural(seen.parameters, 'weight')}, with the last as origin (percent: of their squared distances from it). "
        "Markers: the snapshots, in the colour of their own loss; line: the nearest points of the plane. They are up "
        f"to {number(float(trail.distances.max()))} apart ({percent(float(out.max()))} of the way from start to end), "
        f"so that the losses differ: at step {trail.steps[apart]:,} the weights have {number(trail.own[apart])}, the "
        f"point in the plane {number(trail.in_plane[apart])}. {_sentence(seen.statistics)}Every run has a plane of "
        "its own: such pictures of two runs cannot be compared.",
    )
    left, right = _pair(fig)
    scale = _Scale(surface, trail.own)
    _contours(left, surface, scale)
    left.plot(*trail.points.T, color="white", linewidth=1.2, label="path", zorder=3)
    left.scatter(
        *trail.points.T,
        c=np.where(np.isfinite(trail.own), trail.own, np.nan),
        cmap=scale.colours,
        norm=scale.norm,
        s=16,
        edgecolors="white",
        linewidths=0.8,
        zorder=4,
        label="snapshots",
    )
    _ends(left, trail.points)
    for axis, name, explained in zip((left.xaxis, left.yaxis), ("1st", "2nd"), trail.explained, strict=True):
        axis.set_label_text(f"{name} principal component ({percent(explained)})")
    left.set_title(f"○ step {trail.steps[0]:,}   ☆ step {trail.steps[-1]:,}")
    _hill(right, surface, scale)
    _over(right, scale, trail.points, trail.in_plane, surface)
    scale.bar(fig, [left, right])
    _name_steps(left, trail)
    return arrange(fig)


@drawn
def descent_rates(
    surface: Surface, descents: Sequence[Descent], seen: Seen, curvature: tuple[float, float], chosen: str = ""
) -> Figure:
    """Gradient descent on all rows with three learning rates from the same start, on the same landscape.

    Too small: it creeps. Good: it goes down and arrives. Too large: it jumps across the valley, and may leave it.
    `curvature` is the largest one at the start and at the lowest point; `chosen` says how the rates were chosen by it,
    where not as in `nnvis.lessons.descent.rates_of`.
    """
    at_start, at_end = curvature
    says = "; ".join(f"lr {each.rate:.3g} reaches {_end(each)}" for each in descents)
    fig = sheet(height=2.6)
    explain(
        fig,
        f"{seen.name}, {plural(max(each.updates for each in descents), 'update')} from loss "
        f"{number(float(descents[0].losses[0]))}: {says}",
        f"{_restricted(seen)} The largest curvature λ is {number(at_start)} at the start and {number(at_end)} at the "
        "lowest point found in a box that reaches as far as the weights are long. A minimum holds a descent only if "
        f"the rate is below 2/λ = {number(2 / at_end)} there. "
        + (chosen or "Too large is half as much again; good is 1 over the larger of the two, too small 0.02 over it."),
    )
    return _panels(fig, surface, descents, [f"{each.label}: lr {each.rate:.3g}" for each in descents])


@drawn
def descent_batches(surface: Surface, descents: Sequence[Descent], seen: Seen) -> Figure:
    """Gradient descent with the mean gradient of all rows, of a few and of a single one, on the same landscape.

    The fewer rows an update sees, the more it wanders; and the less it costs.
    """
    says = ", ".join(f"{_end(each)} with {plural(each.rows, 'row')} each" for each in descents)
    fig = sheet(height=2.6)
    explain(
        fig,
        f"{seen.name}, {plural(descents[0].updates, 'update')} from loss {number(float(descents[0].losses[0]))}: "
        f"{says}",
        f"{_restricted(seen)} All have the same learning rate, {descents[0].rate:.3g}, and the same number of "
        f"updates, not of rows: they saw {_series([f'{each.updates * each.rows:,}' for each in descents])} rows. "
        "The losses are those of all rows.",
    )
    return _panels(fig, surface, descents, [each.label for each in descents])


# ---------------------------------------------------------------- parts


class _Scale:
    """Colours and heights of losses: by the logarithm where they span more than a factor of 8, else by the square root
    of what they are above the lowest.
    """

    def __init__(self, surface: Surface, others: FloatArray | None = None) -> None:
        values = surface.finite if others is None else np.concatenate([surface.finite, others[np.isfinite(others)]])
        positive = values[values > 0]
        low, high = float(values.min(initial=math.inf)), float(values.max(initial=-math.inf))
        if low > high:
            low, high = 0.0, 1.0
        self.log = bool(positive.size) and low >= 0 and high > _LOG * max(low, float(positive.min()))
        self.zeros = bool((values == 0).any())
        self.colours = matplotlib.colormaps["viridis"]
        self.broken = bool((~np.isfinite(surface.loss)).any())
        if self.log:
            low = float(positive.min())
            self.norm: Normalize = LogNorm(low, high)
            self.levels = np.geomspace(low, high, LEVELS)
        else:
            high = high if high > low else low + max(abs(low), 1.0) * 1e-6
            self.norm = PowerNorm(0.5, low, high)  # rings of a quadratic bowl then lie as far apart as each other
            self.levels = low + (high - low) * np.linspace(0, 1, LEVELS) ** 2
        self.levels[[0, -1]] = low, high  # rounding would leave the extremes out

    def shown(self, losses: FloatArray) -> FloatArray:
        """The losses; on a log scale a 0 lies where the lowest other one is."""
        return np.maximum(losses, self.levels[0]) if self.log else losses

    def heights(self, losses: FloatArray) -> FloatArray:
        """What a surface shows."""
        return np.log10(self.shown(losses)) if self.log else losses

    def bar(self, fig: Figure, axes: list[Axes]) -> None:
        bar = fig.colorbar(ScalarMappable(self.norm, self.colours), ax=axes, pad=0.02, aspect=30)
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        if self.log:
            ticks = log_ticks(math.log10(self.levels[0]), math.log10(self.levels[-1]), most=6)
            bar.set_ticks(ticks, labels=tick_words(ticks))
            bar.ax.minorticks_off()
        else:
            bar.locator = MaxNLocator(5)
            bar.update_ticks()
        bar.set_label(
            "loss, log scale" + (" (0: the lowest)" if self.zeros else "") if self.log else "loss, root scale"
        )
        if self.broken:
            patch = Patch(facecolor=BROKEN, label="not finite")
            axes[-1].legend(handles=[patch], loc="lower right")


def _pair(fig: Figure) -> tuple[Axes, Axes3D]:
    grid = fig.add_gridspec(1, 2, width_ratios=[1, 1])
    right = fig.add_subplot(grid[1], projection="3d", computed_zorder=False)
    assert isinstance(right, Axes3D)
    return fig.add_subplot(grid[0]), right


def _contours(ax: Axes, surface: Surface, scale: _Scale) -> None:
    """Filled, with lines at every other level; what is not finite shows the colour behind."""
    loss = np.ma.masked_invalid(scale.shown(surface.loss))
    ax.set_facecolor(BROKEN)
    ax.grid(visible=False)
    look: dict[str, Any] = {"levels": scale.levels, "norm": scale.norm}
    if loss.count():
        ax.contourf(surface.x, surface.y, loss, cmap=scale.colours, **look)
        look["levels"] = scale.levels[::2]
        ax.contour(surface.x, surface.y, loss, colors="white", linewidths=0.4, alpha=0.5, **look)
    ax.set(xlim=surface.x[[0, -1]], ylim=surface.y[[0, -1]])
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.yaxis.set_major_locator(MaxNLocator(5))


def _hill(ax: Axes3D, surface: Surface, scale: _Scale) -> None:
    """The same as a surface. It has no numbers: the colours are those of the contours."""
    x, y = np.meshgrid(surface.x, surface.y)
    heights = scale.heights(np.where(np.isfinite(surface.loss), surface.loss, np.nan))
    faces = scale.colours(scale.norm(np.ma.masked_invalid(scale.shown(surface.loss))))
    ax.plot_surface(x, y, heights, facecolors=faces, rstride=1, cstride=1, linewidth=0, antialiased=False, shade=False)
    ax.set_zlim(*scale.heights(scale.levels[[0, -1]]))
    ax.view_init(elev=42, azim=-62)
    any_ax: Any = ax  # whose stubs want an int
    any_ax.set_box_aspect((1, 1, 0.62), zoom=1.15)
    axes: list[Any] = [ax.xaxis, ax.yaxis, ax.zaxis]
    for axis in axes:
        axis.set_ticks([])
        axis.set_pane_color((0.97, 0.97, 0.97, 1.0))
    ax.set_title("the same as a surface" + (", height: log loss" if scale.log else ", height: loss"))


def _over(ax: Axes3D, scale: _Scale, points: FloatArray, losses: FloatArray, surface: Surface) -> None:
    """A path on the surface, drawn over it where a hill would hide it."""
    lift = 0.01 * float(np.ptp(scale.heights(scale.levels)))
    heights = scale.heights(losses) + lift
    ax.plot(*points.T, heights, color="white", linewidth=1.4, zorder=5, label="path")
    ax.plot(*points[0], heights[0], marker="o", **_START, zorder=6)
    ax.plot(*points[-1], heights[-1], marker="*", **_END, zorder=6)


_START: dict[str, Any] = {
    "markersize": 7,
    "markerfacecolor": "white",
    "markeredgecolor": INK,
    "linestyle": "none",
    "label": "start",
}
_END: dict[str, Any] = {**_START, "markersize": 11, "label": "end"}


def _ends(ax: Axes, points: FloatArray) -> None:
    ax.plot(*points[0], marker="o", zorder=5, **_START)
    ax.plot(*points[-1], marker="*", zorder=5, **_END)


def _name_steps(ax: Axes, trail: Trail) -> None:
    """The step beside some of the snapshots, where there is room."""
    ends = np.array([ax.get_xlim(), ax.get_ylim()])
    places = (trail.points - ends[:, 0]) / np.ptp(ends, axis=1)  # shares of the axes
    taken = [places[0], places[-1]]
    for step, point, place in list(zip(trail.steps, trail.points, places, strict=True))[1:-1]:
        if all(abs(place[0] - other[0]) > 0.2 or abs(place[1] - other[1]) > 0.12 for other in taken):
            taken.append(place)
            text = ax.annotate(
                f"{step:,}", point, (0, 6), textcoords="offset points", ha="center", fontsize=8, color=INK, zorder=6
            )
            text.set_path_effects([withStroke(linewidth=2, foreground="white")])
            text.set_in_layout(False)


def _panels(fig: Figure, surface: Surface, descents: Sequence[Descent], titles: Sequence[str]) -> Figure:
    axes = list(fig.subplots(1, len(descents), sharex=True, sharey=True))
    scale = _Scale(surface)
    for ax, descent, title in zip(axes, descents, titles, strict=True):
        _contours(ax, surface, scale)
        ax.plot(*descent.points.T, color="white", linewidth=1.0, label="path")
        ax.plot(*descent.points.T, marker=".", markersize=3, color="white", linestyle="none", label="updates")
        ax.plot(*descent.points[0], marker="o", **_START)
        ax.plot(*descent.points[-1], marker="*", **_END)
        gone = not surface.holds(descent.points[-1])
        ax.set_title(f"{title}\nloss {_end(descent)}" + (", not in the picture" if gone else ""))
        ax.set_xlabel("along the first gradient" if ax is axes[len(axes) // 2] else "")
    axes[0].set_ylabel("across it")
    scale.bar(fig, axes)
    return arrange(fig)


def _restricted(seen: Seen) -> str:
    return (
        f"{_mean(seen)} in the plane in which descent takes its first two steps from where training starts; only the "
        "two coordinates are trained, so that every path lies on what is drawn. ○ start, ☆ end. "
        f"{_sentence(seen.statistics)}"
    ).rstrip()


def _mean(seen: Seen) -> str:
    loss = seen.loss.replace("_", " ")
    return f"The {loss if loss.startswith('mean') else f'mean {loss}'} of {_rows(seen)}"


def _series(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _end(descent: Descent) -> str:
    return number(float(descent.losses[-1]), 4)


def _rows(seen: Seen) -> str:
    if seen.rows == seen.all_rows:
        return f"all {seen.rows:,} training rows"
    return f"{seen.rows:,} training rows (of {seen.all_rows:,}, evenly spaced)"


def _sentence(text: str) -> str:
    return f"{text} " if text else ""
