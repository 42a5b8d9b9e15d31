"""What a convolutional network looks for, and what it finds in an image.

filters(first)            # the first layer's filters
feature_maps(maps)        # one image, and what every convolution makes of it

`nnvis.lessons.images` computes the numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from nnvis.figures.labels import arrange
from nnvis.figures.style import BROKEN, INK, SIGNED, drawn, explain, sheet
from nnvis.figures.words import clipped, listing, number
from nnvis.record.vocabulary import FloatArray, IntArray

_ACROSS = 10  # filters in a line, at most
_CHANNELS = 16  # of a filter that is neither grey nor RGB, at most
_SHOWN = 8  # such filters, at most


@dataclass(frozen=True)
class Filters:
    """The filters of a layer."""

    name: str
    trained: bool
    layer: str
    weights: FloatArray  # (F, C, H, W): those that are drawn
    drawn: IntArray  # (F,): which they are
    norms: FloatArray  # (all filters,): L2


@dataclass(frozen=True)
class LayerMaps:
    """What a convolution makes of an image."""

    layer: str
    activation: str  # that follows; "" for none
    channels: int
    silent: int  # maps that are exactly 0 everywhere
    drawn: IntArray  # (M,): which maps are drawn
    values: FloatArray  # (M, H, W)


@dataclass(frozen=True)
class FeatureMaps:
    """One image through all convolutions."""

    name: str
    trained: bool
    sample: int  # row of the training split
    image: FloatArray  # (C, H, W) in the units of the data: [0, 1] for pixels
    said: str  # what it is, and what the network says
    layers: tuple[LayerMaps, ...]
    total: int  # convolutions that there are


@drawn
def filters(first: Filters) -> Figure:
    """Each small image is a filter: the layer answers most strongly where the image looks like it.

    Orange above 0, purple below, white 0; of colour images grey is 0, and a filter has the colour that it looks for.
    Edges, spots and stripes: it has learned to see. Noise: it has not (yet), or did not need to.
    """
    channels = first.weights.shape[1]
    top = float(np.abs(first.weights[np.isfinite(first.weights)]).max(initial=0)) or 1.0
    tiles = _tiles(first, top)
    across = len(tiles[0]) if channels not in (1, 3) else min(_ACROSS, math.ceil(math.sqrt(2 * len(tiles))))
    flat = [tile for row in tiles for tile in row]
    tall = math.ceil(len(flat) / across)
    fig = sheet(height=0.2 + (0.2 + min(0.6, 5.4 / across)) * tall)
    explain(fig, _message(first), _about_filters(first, len(tiles)))
    axes = list(fig.subplots(tall, across, squeeze=False).flat)
    for ax, (title, tile) in zip(axes, flat, strict=False):
        _show(ax, tile, top, title)
    for ax in axes[len(flat) :]:
        ax.axis("off")
    if channels != 3:
        bar = fig.colorbar(ScalarMappable(Normalize(-top, top), SIGNED), ax=axes, pad=0.02, aspect=20)
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        bar.set_label("weight")
    return arrange(fig)


@drawn
def feature_maps(maps: FeatureMaps) -> Figure:
    """The image, then one row a convolution: its maps after the activation, orange above 0, purple below, white 0.

    Early maps are the image with some of its edges or spots; later ones are coarser, and say where something is. A map
    that is white all over: its filter found nothing in this image.
    """
    columns = max(8, *(len(layer.drawn) for layer in maps.layers))
    rows = len(maps.layers) + 1
    fig = sheet(height=0.3 + 0.86 * rows)
    state = "" if maps.trained else ", untrained"
    explain(fig, f"{maps.name}{state}, row {maps.sample}: {maps.said}", _about_maps(maps))
    grid = fig.subplots(rows, columns, squeeze=False)
    _image(grid[0][0], maps.image)
    for axes, layer in zip(grid[1:], maps.layers, strict=True):
        top = float(np.abs(layer.values[np.isfinite(layer.values)]).max(initial=0)) or 1.0
        for ax, channel, values in zip(axes, layer.drawn, layer.values, strict=False):
            _show(ax, values, top, str(channel))
        more = f"all {layer.channels}"
        if len(layer.drawn) < layer.channels:
            more = f"{len(layer.drawn)} of {layer.channels:,}"
        size = f"{layer.activation + ', ' * bool(layer.activation)}{'×'.join(map(str, layer.values.shape[1:]))}"
        scale = f"±{number(top, 2)}" if np.isfinite(layer.values).any() else "NaN or Inf"
        words = f"{clipped(layer.layer, 16)}\n{size}\n{more}\n{scale}"
        axes[0].set_ylabel(words, rotation=0, ha="right", va="center", fontsize=8, color=INK)
    for ax in grid.flat:
        if not ax.images:
            ax.axis("off")
    return arrange(fig)


def _show(ax: Axes, values: FloatArray, top: float, title: str) -> None:
    """An image (H, W) of signed numbers, or (H, W, 3) of colours."""
    ax.set_facecolor(BROKEN)
    look = {"cmap": SIGNED, "vmin": -top, "vmax": top} if values.ndim == 2 else {}
    ax.imshow(np.ma.masked_invalid(values), interpolation="nearest", **look)
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
    ax.set_title(title, pad=2, fontsize=8, fontweight="normal", color="#666666")


def _image(ax: Axes, image: FloatArray) -> None:
    """In grey or RGB from 0 to 1 where it is of pixels; any other by its own range, the first channel of it."""
    low, high = float(image.min()), float(image.max())
    pixels = low >= -1e-6 and high <= 1 + 1e-6
    if len(image) == 3 and pixels:
        ax.imshow(np.clip(np.moveaxis(image, 0, -1), 0, 1), interpolation="nearest")
    else:
        low, high = (0.0, 1.0) if pixels else (low, high)
        ax.imshow(image[0], cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
    ax.set_ylabel(
        f"image\n{'×'.join(map(str, image.shape))}", rotation=0, ha="right", va="center", fontsize=8, color=INK
    )


def _tiles(first: Filters, top: float) -> list[list[tuple[str, FloatArray]]]:
    """Rows of titled images: one for each filter, of one or three channels; else each filter a row of channels."""
    weights, channels = first.weights, first.weights.shape[1]
    if channels == 1:
        return [[(str(k), one[0])] for k, one in zip(first.drawn, weights, strict=True)]
    if channels == 3:
        colours = np.clip(0.5 + np.moveaxis(weights, 1, -1) / (2 * top), 0, 1)
        return [[(str(k), one)] for k, one in zip(first.drawn, colours, strict=True)]
    return [
        [(f"{k}, {c}", one[c]) for c in range(min(channels, _CHANNELS))]
        for k, one in list(zip(first.drawn, weights, strict=True))[:_SHOWN]
    ]


def _message(first: Filters) -> str:
    state = "" if first.trained else ", untrained"
    size = "×".join(map(str, first.weights.shape[1:]))
    message = f"{first.name}{state}: {len(first.norms):,} filters of {size} in {first.layer}"
    if not (np.isfinite(first.norms).all() and first.norms.min() > 0):
        return message
    return f"{message}, the longest {number(float(first.norms.max() / first.norms.min()))} times the shortest"


def _about_filters(first: Filters, rows: int) -> str:
    channels = first.weights.shape[1]
    if channels == 3:
        most = number(float(np.abs(first.weights).max()))
        what = f"Red, green and blue weights as colours: grey is 0, full colours are ±{most}."
    else:
        what = "Orange: weights above 0, purple: below, white: 0; one scale for all."
    if channels not in (1, 3):
        what += f" A row is a filter, a column one of its {channels} input channels (numbers above: filter, channel)."
        what += f" The first {_CHANNELS} are drawn." if channels > _CHANNELS else ""
    what += " Length: L2 norm."
    drawn = min(rows, len(first.drawn))
    chosen = "the longest" if drawn == len(first.drawn) else "the first of them"
    return what + (f" {drawn} of {len(first.norms):,} filters are drawn, {chosen}." if drawn < len(first.norms) else "")


def _about_maps(maps: FeatureMaps) -> str:
    silent = [f"{layer.silent:,} of {layer.channels:,} in {layer.layer}" for layer in maps.layers if layer.silent]
    abridged = any(len(layer.drawn) < layer.channels for layer in maps.layers)
    n = len(maps.layers)
    return (
        "Maps after the layer's activation: orange above 0, purple below, white 0; a layer has one scale, ± the "
        "largest value of those drawn."
        + (" Of more than 8 maps those are drawn that vary most." if abridged else "")
        + (f" {n} of {maps.total} convolutions are drawn, evenly spaced." if n < maps.total else "")
        + (f" 0 everywhere: {listing(silent, 4)}." if silent else "")
    )
