"""Text beside data that never overlaps: layer names along an axis, labels at the ends of lines.

    arrange(fig, ends={ax: [EndLabel(0.3, "train", "k")]}, names={ax: run.layers["grad_norm"].layers})

Places by measured size, so it is the last step of a figure.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator

from nnvis.figures.facts import spread_out
from nnvis.figures.style import INK, lay_out
from nnvis.figures.words import shorten

_CHARACTER = 0.62 * 8 / 72  # mean width of one at 8 pt, inches
_LINE = 1.25 * 8 / 72  # height of a line at 8 pt, inches
_OUT = 1.045  # where labels start, share of the axes' width


@dataclass(frozen=True)
class EndLabel:
    """What to write level with the value `y` (data units) at which a line leaves the axes."""

    y: float
    text: str
    colour: Any


def arrange(
    fig: Figure,
    ends: Mapping[Axes, Sequence[EndLabel]] | None = None,
    names: Mapping[Axes, Sequence[str]] | None = None,
    axis: Literal["x", "y"] = "x",
    left: Collection[Axes] = (),
) -> Figure:
    """Lays the figure out: `ends` right of the axes, or `left`; `names` of layers at 0 … L-1 of their x or y axis."""
    ends = {ax: [label for label in labels if math.isfinite(label.y)] for ax, labels in (ends or {}).items()}
    texts = {ax: [_end_text(ax, label, ax in left) for label in labels] for ax, labels in ends.items() if labels}
    lay_out(fig)
    for ax, layers in (names or {}).items():
        _name_layers(ax, shorten(layers), axis)
    if names:
        lay_out(fig)
    for ax in texts:
        _spread_ends(ax, texts[ax], ends[ax], ax in left)
    return fig


def _end_text(ax: Axes, label: EndLabel, left: bool) -> Text:
    look: dict[str, Any] = {"va": "center", "fontsize": 8, "color": INK, "transform": ax.transAxes}
    return ax.text(1 - _OUT if left else _OUT, 0.5, label.text, ha="right" if left else "left", **look)


def _spread_ends(ax: Axes, texts: Sequence[Text], labels: Sequence[EndLabel], left: bool) -> None:
    """Moves the labels apart where they would overlap, each with a thin leader to its line."""
    tallest = max(text.get_window_extent().height for text in texts) / ax.get_window_extent().height
    to_axes = ax.get_yaxis_transform() + ax.transAxes.inverted()
    levels = [to_axes.transform((1, label.y))[1] for label in labels]
    heights = spread_out(levels, gap=1.05 * tallest, low=tallest / 2, high=1 - tallest / 2)
    for text, label, level, height in zip(texts, labels, levels, heights, strict=True):
        text.set_y(height)
        out = np.array([1.005, _OUT - 0.006])
        ends = 1 - out if left else out, [level, height]
        look = {"color": label.colour, "linewidth": 0.8, "clip_on": False, "label": "_leader"}
        ax.add_artist(Line2D(*ends, transform=ax.transAxes, **look))


def _name_layers(ax: Axes, labels: Sequence[str], axis: Literal["x", "y"]) -> None:
    """All names where they fit, else the first and every k-th after it."""
    box = ax.get_window_extent()
    room = (box.width if axis == "x" else box.height) / ax.figure.dpi / len(labels)
    flat = axis == "y" or max(map(len, labels)) * _CHARACTER + 0.1 < room
    needed = _LINE if axis == "y" else 0 if flat else _LINE / math.sin(math.radians(45))
    every = max(1, math.ceil(needed / room))
    places = range(0, len(labels), every)
    target = ax.xaxis if axis == "x" else ax.yaxis
    target.set_ticks(places, [labels[i] for i in places])
    target.set_minor_locator(FixedLocator(range(len(labels))))
    if not flat:
        for text in ax.get_xticklabels():
            text.set(rotation=45, ha="right", va="top", rotation_mode="anchor")
