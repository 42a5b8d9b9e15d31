"""The frames of a moving picture: what was drawn, read back from the axes; scales that stay; texts that are apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from overlaps import problems
from reading_back import caption, lines, title

from nnvis.figures.animated import Cloud, Fit, Landscape, Region, Weights, at_step, cell_shades, kept_of
from nnvis.figures.animation import Movie, animation_frame
from nnvis.figures.classes import class_ground
from nnvis.record.vocabulary import Series

STEPS = np.array([0, 1, 7, 40])
RNG = np.random.default_rng(0)


def made_up_movie(layers: int = 3, width: int = 4) -> Movie:
    """Four frames of a chain of `layers` Linear layers."""
    x, y = np.linspace(-2, 2, 11), np.linspace(-1, 1, 9)
    first = 1 / (1 + np.exp(-np.arange(1, 5)[:, None, None] * (x[None, None, :] + y[None, :, None])))
    side = min(width, 8)
    weights = tuple(
        Weights(
            f"linear{n}",
            (width, width),
            RNG.normal(size=(4, side, side)),
            10.0**-n * RNG.normal(size=(4, side, side)),
        )
        for n in range(1, layers + 1)
    )
    points, path = RNG.normal(size=(20, 2)), np.array([[-1, 0], [-0.5, 0.5], [-0.2, 0.1], [0, 0]])
    return Movie(
        name="made-up/1-seed0",
        steps=STEPS,
        total=40,
        losses=np.array([2.0, 1.0, 0.5, 0.01]),
        rows="the 96 training rows, without dropout",
        layers=tuple(f"linear{n}" for n in range(1, layers + 1)),
        gradient_norms=np.outer([4.0, 3.0, 2.0, 1.0], 10.0 ** np.arange(layers)),
        nonfinite=np.zeros(4, dtype=np.int64),
        weights=weights,
        chain=True,
        view=Region(x, y, np.stack([first, 1 - first], axis=1), points, np.arange(20.0) % 2, ("x", "y"), ("a", "b")),
        train=Series(np.array([5, 40]), np.array([0.9, 0.02])),
        val=Series(np.array([5, 40]), np.array([1.1, 0.03])),
        landscape=Landscape(x, y, 1.1 + first[0], path, np.array([0.9, 0.05])),
    )


def test_every_panel_shows_the_frame() -> None:
    movie = made_up_movie()
    for i, (step, loss) in enumerate(zip(movie.steps, ("2", "1", "0.5", "0.01"), strict=True)):
        fig = animation_frame(movie, i)
        view, weights, gradients, profile, losses, land = fig.axes
        assert title(fig) == f"Step {step} of 40: loss {loss}; linear1's gradient is 0.01 times linear3's"
        assert isinstance(movie.view, Region)
        assert np.asarray(view.images[0].get_array()) == pytest.approx(class_ground(movie.view.values[i]))
        (border,) = [c for c in view.collections if type(c).__name__ == "QuadContourSet"]
        assert abs(np.asarray(border.get_paths()[0].vertices).sum(axis=1)).max() < 0.02  # x + y = 0, up to the grid
        (now,) = lines(profile, "now")
        assert now.get_ydata() == pytest.approx(movie.gradient_norms[i])
        (first,) = lines(profile, "first")
        assert first.get_ydata() == pytest.approx(movie.gradient_norms[0])
        (dot,) = lines(losses, "now")
        assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (np.log10(1 + step), movie.losses[i])
        for name, series in (("train", movie.train), ("validation", movie.val)):
            past = series.steps <= step
            assert lines(losses, name)[0].get_xdata() == pytest.approx(np.log10(1 + series.steps[past]))
            assert lines(losses, name)[0].get_ydata() == pytest.approx(series.values[past])
        assert movie.landscape
        (place,) = lines(land, "now")
        assert (*place.get_xdata(), *place.get_ydata()) == tuple(movie.landscape.path[i])
        assert np.array(lines(land, "way")[0].get_xydata()) == pytest.approx(movie.landscape.path[: i + 1])
        for ax, kind in ((weights, "weights"), (gradients, "gradients")):
            for edges, layer in zip(edges_of(ax), movie.weights, strict=True):
                values = getattr(layer, kind)[i].ravel()
                shades = np.array(edges.get_color())[:, :3]
                assert ((shades[:, 0] > shades[:, 2]) == (values > 0)).all()  # orange above 0, purple below


def edges_of(ax: Axes) -> list[LineCollection]:
    return [lines for lines in ax.collections if isinstance(lines, LineCollection)]


def test_widths_tell_sizes() -> None:
    movie = made_up_movie()
    for i in range(4):
        _, weights, gradients, *_ = animation_frame(movie, i).axes
        for edges, layer in zip(edges_of(weights), movie.weights, strict=True):
            share = np.abs(layer.weights[i]).ravel() / np.abs(layer.weights).max()
            assert np.array(edges.get_linewidth()) == pytest.approx(0.15 + 2.05 * share)
        medians = [np.median(edges.get_linewidth()) for edges in edges_of(gradients)]
        assert medians == sorted(medians, reverse=True)  # ten times less in each layer, by powers of ten
        assert medians[0] - medians[1] == pytest.approx(medians[1] - medians[2], abs=0.35)


def test_scales_stay_and_the_frames_differ() -> None:
    movie = made_up_movie()
    frames = [animation_frame(movie, i) for i in range(4)]
    limits = [[(ax.get_xlim(), ax.get_ylim(), ax.get_position().bounds) for ax in fig.axes] for fig in frames]
    assert all(each == limits[0] for each in limits)
    for fig in frames:
        fig.canvas.draw()
    pictures = [np.asarray(fig.canvas.buffer_rgba()) for fig in frames]  # type: ignore[attr-defined]
    assert all(not np.array_equal(a, b) for k, a in enumerate(pictures) for b in pictures[k + 1 :])
    assert title(animation_frame(movie, -1)) == title(frames[-1])


def test_what_is_left_out_is_told() -> None:
    deep = made_up_movie(layers=20, width=64)
    fig = animation_frame(deep, 0)
    assert "drawn: the first 8 units of each layer, 4 of 20 layers" in caption(fig)
    assert len(edges_of(fig.axes[1])) == 3  # of four layers; what leads to the third comes from one that is not drawn
    assert kept_of(20, 4) == [0, 1, 18, 19]
    assert kept_of(6, 6) == [0, 1, 2, 3, 4, 5]
    cells = animation_frame(replace(deep, chain=False), 0)
    assert "drawn: the first 8 × 8 of each, 6 of 20 layers" in caption(cells)
    assert len(cells.axes[1].images) == 6
    assert "drawn:" not in caption(animation_frame(made_up_movie(), 0))


def test_cells_are_shades_of_their_values() -> None:
    values = np.array([[2.0, -1.0], [0.0, np.nan]])
    assert cell_shades(values, 2.0, 0.0) == pytest.approx(np.array([[1, -0.5], [0, np.nan]]), nan_ok=True)
    by_ten = cell_shades(np.array([[1.0, -0.1], [1e-9, np.inf]]), 1.0, 2.0)
    assert by_ten == pytest.approx(np.array([[1, -0.5], [0, np.nan]]), nan_ok=True)


def test_the_ground_is_stronger_where_the_network_is_surer() -> None:
    shares = np.array([[[1.0, 0.5, 0.2, np.nan]], [[0.0, 0.5, 0.8, 0.5]]])
    sure, undecided, other, broken = class_ground(shares)[0]
    assert undecided.tolist() == [1, 1, 1]
    assert broken.tolist() == [0.85] * 3
    assert sure[2] > sure[0]  # blue
    assert other[0] > other[2]  # orange
    assert sure.sum() < other.sum() < 3


def test_views_of_other_data() -> None:
    movie = made_up_movie()
    points = RNG.normal(size=(4, 30, 2)) * np.array([1, 1e-3, 2, 3])[:, None, None]
    points[2] = np.nan
    points[3] += 20 * (np.arange(30) % 3)[:, None]
    cloud = Cloud(points, np.arange(30) % 3, ("cat", "dog", "owl"), "output", np.array([0.6, 0.3]))
    shown = [animation_frame(replace(movie, view=cloud), i).axes[0] for i in range(4)]
    told = [[text.get_text() for text in ax.texts if text.get_visible() and text.get_text()] for ax in shown]
    assert told[1:] == [["all rows on one spot"], ["no finite numbers"], ["cat", "dog", "owl"]]
    assert np.asarray(shown[3].collections[1].get_offsets()) == pytest.approx(points[3][1::3])
    fit = Fit(np.arange(5.0), np.array([np.arange(5.0), [0, 0, 0, 0, np.nan], np.ones(5), np.full(5, np.nan)]))
    for i, missing in enumerate(("", "1 rows: no finite number", "", "5 rows: no finite number")):
        ax = animation_frame(replace(movie, view=fit), i).axes[0]
        usable = np.isfinite(fit.predictions[i])
        assert lines(ax, "rows")[0].get_ydata() == pytest.approx(fit.predictions[i][usable])
        assert ax.texts[0].get_text() == missing
    view = movie.view
    assert isinstance(view, Region)
    plane = replace(view, values=view.values[:, :1], targets=np.linspace(0, 1, 20), classes=())
    ax = animation_frame(replace(movie, view=plane), 3).axes[0]
    assert ax.get_title(loc="left") == "output"
    assert len({tuple(row) for row in np.asarray(ax.images[0].get_array()).reshape(-1, 3)}) > 10


@pytest.mark.parametrize("layers", [1, 2, 4, 20, 100])
@pytest.mark.parametrize("chain", [True, False])
def test_texts_are_apart_at_any_depth(layers: int, chain: bool) -> None:
    movie = replace(made_up_movie(layers, width=64), chain=chain)
    for i in (0, 3):
        assert problems(animation_frame(movie, i)) == []


def test_what_is_broken_is_drawn_and_told() -> None:
    movie = made_up_movie()
    assert movie.landscape
    norms, path = movie.gradient_norms.copy(), movie.landscape.path.copy()
    norms[2], norms[3, 0], path[2] = np.nan, 0.0, np.nan
    lost = np.array([0, 0, np.nan, 0])[:, None, None]
    weights = tuple(replace(one, weights=one.weights + lost) for one in movie.weights)
    broken = replace(
        movie,
        losses=np.array([2.0, 1.0, np.nan, 3.0]),
        gradient_norms=norms,
        nonfinite=np.array([0, 0, 48, 0]),
        weights=weights,
        landscape=replace(movie.landscape, path=path, losses=np.full((9, 11), np.inf)),
    )
    for i in range(4):
        assert problems(animation_frame(broken, i)) == []
    assert title(animation_frame(broken, 2)) == "Step 7 of 40: loss NaN; 48 weights not finite"
    marks = [text.get_text() for text in animation_frame(broken, 2).axes[3].texts]
    assert "× NaN" in marks
    assert "▽ exactly 0" in marks
    without = animation_frame(replace(movie, landscape=None, remark=" No landscape: it is flat."), 0)
    assert len(without.axes) == 5
    assert caption(without).endswith("No landscape: it is flat.")
    unrecorded = replace(movie, train=Series(STEPS[:0], np.zeros(0)), val=Series(STEPS[:0], np.zeros(0)))
    assert problems(animation_frame(unrecorded, 1)) == []
    assert at_step(0).tolist() == [0]
