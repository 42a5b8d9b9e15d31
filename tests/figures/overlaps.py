"""Where the texts of a figure lie, to show that none covers another or leaves the canvas."""

from __future__ import annotations

import itertools

import numpy as np
from matplotlib.axis import Tick
from matplotlib.figure import Figure
from matplotlib.text import Text


def shown_texts(fig: Figure) -> list[Text]:
    """All texts that are drawn; tick labels only within the axes' limits."""
    fig.draw_without_rendering()
    outside = set()
    for ax in fig.axes:
        for axis in (ax.xaxis, ax.yaxis):
            drawn = set(axis._update_ticks())  # type: ignore[attr-defined]
            ticks = set(axis.get_major_ticks()) | set(axis.get_minor_ticks()) | set(axis.findobj(Tick))
            outside |= {label for tick in ticks - drawn for label in (tick.label1, tick.label2)}  # type: ignore
            if not axis.get_visible() or not ax.axison:
                outside |= set(axis.findobj(Text))
    texts = [text for text in fig.findobj(Text) if isinstance(text, Text) and text not in outside]
    return [text for text in texts if text.get_visible() and text.get_text().strip()]


def corners(text: Text) -> np.ndarray:
    """(4, 2) corners of the text's box in pixels, turned with it."""
    angle = text.get_rotation()
    if angle % 90 == 0:
        return text.get_window_extent().corners()[[0, 1, 3, 2]]
    assert text.get_rotation_mode() == "anchor"
    text.set_rotation(0)
    flat = text.get_window_extent().corners()[[0, 1, 3, 2]]
    text.set_rotation(angle)
    anchor = text.get_transform().transform(text.get_unitless_position())
    turn = np.deg2rad(angle)
    return (flat - anchor) @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + anchor


def overlap(a: np.ndarray, b: np.ndarray, slack: float = 1.0) -> bool:
    """Whether two convex polygons (4, 2) overlap by more than `slack` pixels: no line parts them."""
    for polygon in (a, b):
        for side in np.roll(polygon, -1, axis=0) - polygon:
            normal = np.array([-side[1], side[0]]) / max(float(np.hypot(*side)), 1e-9)
            along_a, along_b = a @ normal, b @ normal
            if along_a.max() <= along_b.min() + slack or along_b.max() <= along_a.min() + slack:
                return False
    return True


def problems(fig: Figure) -> list[str]:
    """What is wrong with the texts: those that overlap, leave the canvas, or are smaller than 8 pt."""
    texts = shown_texts(fig)
    boxes = [corners(text) for text in texts]
    found = [f"{t.get_text()!r} is {t.get_fontsize()} pt" for t in texts if float(t.get_fontsize()) < 8]
    for text, box in zip(texts, boxes, strict=True):
        if (box < -1).any() or (box > [fig.bbox.width + 1, fig.bbox.height + 1]).any():
            found.append(f"{text.get_text()!r} leaves the canvas")
    for (a, box_a), (b, box_b) in itertools.combinations(zip(texts, boxes, strict=True), 2):
        if overlap(box_a, box_b):
            found.append(f"{a.get_text()!r} overlaps {b.get_text()!r}")
    return found
