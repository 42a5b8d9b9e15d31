"""The look of all figures, applied in one place: palette, sheet, title and caption, saving.

@drawn
def my_figure(run: Run) -> Figure:
    fig = sheet(height=4)
    ...
    return explain(fig, title="One message with its number", caption="What is drawn; what to conclude.")

save(my_figure(run), "figure.png")        # or .svg, .pdf
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

STYLE = Path(__file__).with_name("nnvis.mplstyle")
WIDTH = 7.2  # inches: a page's text width, so that sizes in points are those in print

# Okabe & Ito (2008), told apart by colour-blind readers; every use adds a marker or a dash.
HEALTHY, SICK = "#0072B2", "#D55E00"
VARIANTS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
MARKERS, GLYPHS = ("o", "s", "^", "D"), ("●", "■", "▲", "◆")
DASHES = ((0, (1, 1.2)), (0, (2, 1)), (0, (5, 1.5)), "solid")
TRAIN, VALIDATION = "#777777", "#0072B2"
INK, FAINT = "#333333", "#9A9A9A"
BROKEN = "#D0D0D0"  # where a number is NaN or Inf
SIGNED = "PuOr_r"  # values around a real 0: purple below, orange above

P = ParamSpec("P")


def drawn(figure: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draws with nnvis's style, whatever the user's own matplotlib settings are."""

    @wraps(figure)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.style.context(STYLE, after_reset=True), np.errstate(over="ignore"):
            fig = figure(*args, **kwargs)
        fig.set_layout_engine("none")  # as `labels.arrange` laid it out, so it is saved
        return fig

    return styled


def sheet(height: float, width: float = WIDTH) -> Figure:
    """An empty figure; `height` in inches is that of the axes, title and caption come on top."""
    fig = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(fig)  # keeps one renderer, by which texts are measured
    return fig


def lay_out(fig: Figure) -> None:
    """Runs the constrained layout, so that sizes can be measured. (Ticks are made here, and take their style.)"""
    engine = fig.get_layout_engine()
    assert engine is not None
    engine.execute(fig)


def explain(fig: Figure, title: str, caption: str) -> None:
    """Puts the message above and the explanation below, wrapped to the figure's width, and makes room for both."""
    left = 0.09 / fig.get_figwidth()
    above = fig.suptitle(title, x=left, ha="left")
    below = fig.supxlabel(caption, x=left, ha="left", color="#555555", linespacing=1.35)
    for text in (above, below):
        _wrap(text, fig.bbox.width * (1 - 2 * left))
    extra = sum(text.get_window_extent().height for text in (above, below)) / fig.dpi
    fig.set_figheight(fig.get_figheight() + extra)


def retitle(fig: Figure, title: str) -> None:
    """Another message above a figure that is explained already."""
    left = 0.09 / fig.get_figwidth()
    before = fig.get_suptitle().count("\n")
    above = fig.suptitle(title, x=left, ha="left")
    _wrap(above, fig.bbox.width * (1 - 2 * left))
    line = float(above.get_fontsize()) * 1.2 / 72  # inches
    height = fig.get_figheight()
    fig.set_figheight(height + line * (above.get_text().count("\n") - before))
    if not isinstance(fig.get_layout_engine(), ConstrainedLayoutEngine):  # laid out: it stays where it is
        for ax in fig.axes:
            x, y, width, tall = ax.get_position().bounds
            ax.set_position((x, y * height / fig.get_figheight(), width, tall * height / fig.get_figheight()))


def _wrap(text: Text, width: float) -> None:
    """Breaks a text's lines to `width` pixels. (matplotlib's own wrap=True measures every word at every draw.)"""
    words = text.get_text()
    characters = len(words)
    while (measured := text.get_window_extent().width) > width:
        characters = min(characters - 1, int(characters * width / measured) + 2)
        text.set_text(textwrap.fill(words, characters))


def save(fig: Figure, path: str | Path) -> Path:
    """Writes PNG (at 2x resolution), SVG or PDF by the path's suffix, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    with matplotlib.style.context(STYLE, after_reset=True):
        fig.savefig(partial, metadata={"Date": None} if path.suffix == ".svg" else None)
    return partial.replace(path)


def shades(colour: str, number: int) -> list[tuple[float, float, float]]:
    """`number` shades of a colour, pale (early) to full (late)."""
    mix = [1.0] if number == 1 else [0.4 + 0.6 * i / (number - 1) for i in range(number)]
    return [tuple(1 - m + m * c for c in to_rgb(colour)) for m in mix]  # type: ignore[misc]


def by_depth(number: int) -> list[tuple[float, float, float, float]]:
    """Colours of layers, first to last, along viridis without its palest end (lines on white)."""
    return list(depth_map()([i / max(number - 1, 1) for i in range(number)]))


def depth_map() -> ListedColormap:
    """viridis without its palest end."""
    viridis = matplotlib.colormaps["viridis"]
    return ListedColormap(viridis([i / 255 * 0.9 for i in range(256)]))


def from_white() -> LinearSegmentedColormap:
    """viridis from its pale end to its dark one, after white for nothing at all."""
    viridis = matplotlib.colormaps["viridis"]
    return LinearSegmentedColormap.from_list(
        "from_white", ["white", *viridis([0.95 - 0.95 * i / 15 for i in range(16)])]
    )


def white_to(colour: str) -> LinearSegmentedColormap:
    """A map from white to a colour, for shares that start at nothing."""
    return LinearSegmentedColormap.from_list("share", ["#FFFFFF", colour])
