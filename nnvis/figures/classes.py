"""Classes in pictures: a colour and a marker each, the ground that they hold, and the key to them.

scatter_classes(ax, points, targets, 3)
ax.imshow(class_ground(probabilities))
class_key(ax, ("setosa", "versicolor", "virginica"))
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_rgb
from matplotlib.lines import Line2D

from nnvis.figures.style import MARKERS
from nnvis.figures.words import clipped
from nnvis.record.vocabulary import FloatArray, IntArray

# Okabe & Ito's and two more, apart in lightness as well; from the eleventh class on they come again.
CLASSES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#999933", "#882255", "#999999")
BANDS = 6  # of confidence
NAMED = 12  # classes in a key
KEY_COLUMNS = 7


def class_ground(shares: FloatArray) -> FloatArray:
    """(H, G, 3): the colour of the likeliest of K classes (K, H, G), white where all are alike, in bands."""
    colours = np.array([to_rgb(class_colour(k)) for k in range(len(shares))])
    finite = np.asarray(np.isfinite(shares).all(axis=0))
    shares = np.where(finite, shares, 0)
    sure = (shares.max(axis=0) * len(shares) - 1) / (len(shares) - 1)  # 0: alike, 1: certain
    alpha = 0.5 * np.ceil(np.clip(sure, 0, 1) * BANDS)[..., None] / BANDS
    ground = 1 - alpha + alpha * colours[shares.argmax(axis=0)]
    return np.where(finite[..., None], ground, 0.85)


def output_ground(values: FloatArray, norm: Normalize) -> FloatArray:
    """(H, G, 3): an output (H, G) by the colours of the targets, grey where it is no number."""
    colours = matplotlib.colormaps["viridis"](np.asarray(norm(values)))[..., :3]
    return np.where(np.isfinite(values)[..., None], 0.4 + 0.6 * colours, 0.85)


def class_colour(k: int) -> str:
    """The colour of a class."""
    return CLASSES[k % len(CLASSES)]


def margins(shares: FloatArray) -> list[FloatArray]:
    """By how much each class leads over the best other one; of two classes one says it all."""
    each = range(1) if len(shares) == 2 else range(len(shares))
    return [shares[k] - np.delete(shares, k, axis=0).max(axis=0) for k in each]


def scatter_classes(ax: Axes, points: FloatArray, targets: FloatArray | IntArray, classes: int) -> list[Artist]:
    """The rows of each class in its colour and marker."""
    drawn: list[Artist] = []
    for k in range(classes):
        look = {"s": 9, "marker": MARKERS[k % len(MARKERS)], "edgecolors": "white", "linewidths": 0.3, "zorder": 3}
        drawn.append(ax.scatter(*points[targets == k].T, color=class_colour(k), **look))
    return drawn


def key_lines(classes: Sequence[str], more: int = 0) -> int:
    """How many lines a key takes, with `more` entries beside the classes."""
    n = len(classes)
    return -(-(min(n, NAMED) + (n > NAMED) + more) // KEY_COLUMNS)


def class_key(ax: Axes, classes: Sequence[str], more: Sequence[Line2D] = ()) -> None:
    """Names the classes, and `more`, in axes that hold nothing else."""
    look = {"linestyle": "none", "markersize": 5, "markeredgewidth": 0}
    handles = [
        Line2D([], [], marker=MARKERS[k % len(MARKERS)], color=class_colour(k), label=clipped(name, 12), **look)
        for k, name in enumerate(classes[:NAMED])
    ]
    if len(classes) > NAMED:
        handles.append(Line2D([], [], linestyle="none", label=f"and {len(classes) - NAMED} more"))
    place = {"loc": "upper left", "columnspacing": 1.2, "handletextpad": 0.3}
    ax.legend(handles=[*handles, *more], ncols=KEY_COLUMNS, **place).set_in_layout(False)
    ax.axis("off")
