"""A moving picture of training: what the network does, its weights and gradients, the loss, and where it is.

animation_frame(movie, 12)                                # one frame as a figure
write_animation(movie, "training.gif", fps=8)             # or .mp4, where ffmpeg is found

`nnvis.lessons.animating` makes the movie of a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.animation import FFMpegWriter
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from nnvis.errors import InputError
from nnvis.figures.animated import (
    COLUMNS,
    TILES,
    Cloud,
    Fit,
    Landscape,
    Region,
    Show,
    View,
    Weights,
    draw_landscape,
    draw_losses,
    draw_network,
    draw_profile,
    draw_view,
)
from nnvis.figures.classes import CLASSES
from nnvis.figures.facts import first_to_last
from nnvis.figures.labels import EndLabel, arrange
from nnvis.figures.nodes import NODES
from nnvis.figures.style import FAINT, HEALTHY, INK, SICK, STYLE, TRAIN, drawn, explain, sheet
from nnvis.figures.words import number, plural, shorten
from nnvis.record.files import disk_errors
from nnvis.record.vocabulary import FloatArray, IntArray, Series

WIDTH, HEIGHT, DPI = 9.0, 5.3, 100  # inches, inches without title and caption, pixels an inch
FORMATS = (".gif", ".mp4")
_HOLD_S = 2.0  # for which a GIF stays at its last frame
_COLOURS = 112  # of a GIF, beside those that are kept exactly
_NEAR = 12  # of 255, from such a colour: it takes its place


@dataclass(frozen=True)
class Movie:
    """What there is to draw of a run at F of its steps."""

    name: str  # the run's
    steps: IntArray  # (F,): updates completed
    total: int  # steps of the run
    losses: FloatArray  # (F,): mean over the rows
    rows: str  # which rows those are, and in which mode the network was: "the 800 training rows; …"
    layers: tuple[str, ...]  # L names, first to last
    gradient_norms: FloatArray  # (F, L): L2 of ∂L/∂parameters of each layer
    nonfinite: IntArray  # (F,): weights that are NaN or Inf
    weights: tuple[Weights, ...]  # first to last
    chain: bool  # whether the network is a chain of Linear layers
    view: View
    train: Series  # loss, from the record
    val: Series
    landscape: Landscape | None = None
    remark: str = ""  # what else must be known: " No landscape: …"


def animation_frame(movie: Movie, i: int) -> Figure:
    """Frame `i` of the movie; -1 is the last."""
    fig, show = _stage(movie)
    with matplotlib.style.context(STYLE, after_reset=True):
        show(i % len(movie.steps))
    return fig


def write_animation(movie: Movie, path: str | Path, fps: float = 8.0, frames: Iterable[int] | None = None) -> Path:
    """Draws the frames and writes a GIF, or MP4 by the path's suffix, whole or not at all.

    `frames` are their indices, all unless said. Raises InputError for another suffix, and for MP4 without ffmpeg.
    """
    path = Path(path)
    require_format(path)
    frames = range(len(movie.steps)) if frames is None else frames
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    fig, show = _stage(movie)
    with disk_errors(path), matplotlib.style.context(STYLE, after_reset=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            (_write_gif if path.suffix == ".gif" else _write_mp4)(fig, show, frames, partial, fps)
            return partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def require_format(path: Path) -> None:
    """Raises InputError where a moving picture of that suffix cannot be written."""
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: a moving picture ends in .gif or .mp4")
    if path.suffix == ".mp4" and not FFMpegWriter.isAvailable():
        raise InputError(f"{path}: MP4 needs the program ffmpeg, which is not found here; name a .gif")


def _write_gif(fig: Figure, show: Show, frames: Iterable[int], path: Path, fps: float) -> None:
    pictures: list[Image.Image] = []
    for i in frames:
        show(i)
        fig.canvas.draw()
        pictures.append(Image.fromarray(np.array(fig.canvas.buffer_rgba())[..., :3]))  # type: ignore[attr-defined]
    images = _with_one_palette(pictures)
    each = round(1000 / fps)
    durations = [each] * (len(images) - 1) + [max(each, round(1000 * _HOLD_S))]
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, loop=0)


def _with_one_palette(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """In colours that all of them share, so that what stands still is the same in all of them and takes no room."""
    width, height = pictures[0].size
    samples = [pictures[i] for i in sorted({0, len(pictures) // 2, len(pictures) - 1})]
    together = Image.new("RGB", (width, height * len(samples)))
    for at, sample in enumerate(samples):
        together.paste(sample, (0, at * height))
    colours = np.array(together.quantize(_COLOURS).getpalette()).reshape(-1, 3)
    for name in (
        "white",
        INK,
        HEALTHY,
        SICK,
        TRAIN,
        FAINT,
        *CLASSES,
    ):  # exactly, so that a class looks alike everywhere
        exact = np.round(255 * np.array(to_rgb(name)))
        colours[np.abs(colours - exact).max(axis=1) <= _NEAR] = exact
        colours = np.vstack([colours, exact[None]])
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours.astype(np.uint8).ravel().tolist())
    return [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]


def _write_mp4(fig: Figure, show: Show, frames: Iterable[int], path: Path, fps: float) -> None:
    writer = FFMpegWriter(fps=fps)  # type: ignore[arg-type]
    with writer.saving(fig, str(path), DPI):
        for i in frames:
            show(i)
            writer.grab_frame()


def _stage(movie: Movie) -> tuple[Figure, Show]:
    """All that stays, laid out; and what draws a frame into it."""
    shows: list[Show] = []
    fig = _staged(movie, shows)

    def show_all(i: int) -> None:
        for show in shows:
            show(i)

    return fig, show_all


@drawn
def _staged(movie: Movie, shows: list[Show]) -> Figure:
    fig = sheet(height=HEIGHT, width=WIDTH)
    fig.set_dpi(DPI)  # texts are measured as they will be drawn
    titles = [_title(movie, i) for i in range(len(movie.steps))]
    explain(fig, max(titles, key=len), _caption(movie))
    lower = 3 if movie.landscape else 2
    grid = fig.add_gridspec(2, 6)
    above = [fig.add_subplot(grid[0, 2 * i : 2 * i + 2]) for i in range(3)]
    below = [fig.add_subplot(grid[1, 6 // lower * i : 6 // lower * (i + 1)]) for i in range(lower)]
    ends: dict[Axes, list[EndLabel]] = {}
    shows.append(draw_view(above[0], movie.view))
    for ax, gradients in zip(above[1:], (False, True), strict=True):
        shows.append(draw_network(ax, movie.weights, chain=movie.chain, gradients=gradients))
    show, ends[below[0]] = draw_profile(below[0], movie.layers, movie.gradient_norms)
    shows.append(show)
    show, ends[below[1]] = draw_losses(below[1], movie.steps, movie.losses, movie.train, movie.val)
    shows.append(show)
    if movie.landscape:
        shows.append(draw_landscape(below[2], movie.landscape))
    arrange(fig, ends=ends, names={below[0]: shorten(movie.layers, 12)})
    above_all = fig.suptitle(fig.get_suptitle(), x=0.09 / fig.get_figwidth(), ha="left")
    shows.append(lambda i: above_all.set_text(titles[i]))
    return fig


def _title(movie: Movie, i: int) -> str:
    """The step and what was measured there."""
    words = f"Step {movie.steps[i]:,} of {movie.total:,}: loss {number(movie.losses[i])}"
    if movie.nonfinite[i]:
        return f"{words}; {plural(int(movie.nonfinite[i]), 'weight')} not finite"
    if len(movie.layers) < 2:
        return f"{words}, gradient norm {number(movie.gradient_norms[i, 0])}"
    first, last = shorten([movie.layers[0], movie.layers[-1]], 16)
    ratio = first_to_last(movie.gradient_norms[i])
    if not np.isfinite(ratio):
        return (
            f"{words}; the gradients of {first} and {last}: {', '.join(map(number, movie.gradient_norms[i, [0, -1]]))}"
        )
    return f"{words}; {first}'s gradient is {number(ratio, 2)} times {last}'s"


def _caption(movie: Movie) -> str:
    """How it was measured, and how to read it."""
    match movie.view:
        case Region(classes=()):
            seen = "Ground: what the network puts out, dots: targets, both by one colour scale."
        case Region():
            seen = "Ground: the likeliest class, stronger where surer."
        case Fit():
            seen = f"Dots: {len(movie.view.targets):,} targets; on the dashed line the prediction is right."
        case Cloud():
            seen = (
                f"{len(movie.view.targets):,} rows, by what reaches {movie.view.layer}, on the principal components of "
                "the last frame."
            )
    marks = "Edges" if movie.chain else "Cells"
    drawn_of = _abridged(movie)
    where = " Landscape: dark is low loss." if movie.landscape else ""
    return (
        f"{movie.name}. {seen} {marks}: orange above 0, purple below; weights by the largest of their "
        f"layer, gradients by powers of ten{drawn_of}. Dashed grey: gradient at step {movie.steps[0]:,}.{where} "
        f"Loss (title, black line, orange dot) and gradients{', as the landscape,' * bool(movie.landscape)} are those "
        f"of {movie.rows}. Grey and blue: training and validation loss of the record.{movie.remark}"
    )


def _abridged(movie: Movie) -> str:
    """What is left out of the two networks."""
    sides = [side for one in movie.weights for side in (one.shape[0], int(np.prod(one.shape[1:])))]
    most = COLUMNS - 1 if movie.chain else TILES
    words = f"the first {NODES} units of each layer" if movie.chain else f"the first {NODES} × {NODES} of each"
    parts = [words] if max(sides, default=0) > NODES else []
    if len(movie.weights) > most:
        parts.append(f"{most} of {len(movie.weights)} layers")
    return f"; drawn: {', '.join(parts)}" if parts else ""
