"""The figures of the loss landscape: no text over another, whatever the losses are; broken ones have a colour."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from overlaps import problems

from nnvis.figures.landscape import (
    BROKEN,
    Descent,
    Seen,
    Surface,
    Trail,
    descent_batches,
    descent_rates,
    random_landscape,
    training_landscape,
)
from nnvis.record.vocabulary import FloatArray

SEEN = Seen("a-network", trained=True, loss="cross_entropy", rows=512, all_rows=1437, parameters=301_066, centre=0.01)
X = np.linspace(-1, 1, 9)
BOWL = 0.01 + np.add.outer(X**2, 3 * X**2)
LOSSES: dict[str, Callable[[], FloatArray]] = {
    "bowl": lambda: BOWL,
    "gentle": lambda: 2.3 + BOWL / 10,
    "huge": lambda: 10 ** (60 * BOWL),
    "tiny": lambda: BOWL * 1e-12,
    "flat": lambda: np.full((9, 9), 0.7),
    "zero": lambda: np.zeros((9, 9)),
    "zeros": lambda: np.where(BOWL < 1, 0, BOWL),
    "holes": lambda: np.where(BOWL > 3, np.nan, np.where(BOWL > 2, np.inf, BOWL)),
    "nothing": lambda: np.full((9, 9), np.nan),
}


def trail(scale: float, own: float) -> Trail:
    steps = np.array([0, 1, 3, 10, 40, 200, 12_000])
    points = scale * np.stack([np.linspace(-0.7, 0, 7), np.linspace(0.4, 0, 7) ** 2], axis=1)
    losses = np.linspace(2, own, 7)
    return Trail(steps, points, np.linspace(0.3, 0, 7), losses * 1.1, losses, (0.91, 0.052))


def descent(label: str, points: FloatArray, losses: FloatArray) -> Descent:
    return Descent(label, 1.234e-5, 512, points, losses)


@pytest.mark.parametrize("name", LOSSES)
def test_of_any_losses(name: str) -> None:
    surface = Surface(X, X, LOSSES[name]())
    assert problems(random_landscape(surface, SEEN, 0)) == []
    assert problems(training_landscape(surface, trail(1.0, 0.01), SEEN)) == []
    away = np.array([[0.0, 0.0], [0.5, 0.2], [1e30, np.inf]])
    paths = [descent(label, away, np.array([2.0, 1.0, np.inf])) for label in ("too small", "good", "too large")]
    assert problems(descent_rates(surface, paths, SEEN, (1e3, 2.0))) == []
    assert problems(descent_batches(surface, paths, SEEN)) == []


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_on_any_scale(scale: float) -> None:
    surface = Surface(X * scale, X * scale, BOWL)
    assert problems(training_landscape(surface, trail(scale, float("nan")), SEEN)) == []


def test_what_is_not_finite_has_a_colour_of_its_own() -> None:
    fig = random_landscape(Surface(X, X, LOSSES["holes"]()), SEEN, 0)
    fig.draw_without_rendering()
    fig.canvas.draw()  # type: ignore[attr-defined]
    pixels = np.asarray(fig.canvas.buffer_rgba())[..., :3] / 255  # type: ignore[attr-defined]
    ax = next(ax for ax in fig.axes if ax.get_xlabel().startswith("first"))

    def colour(x: float, y: float) -> FloatArray:
        column, row = ax.transData.transform((x, y)).round().astype(int)
        return pixels[-row, column]

    np.testing.assert_allclose(colour(0.98, 0.98), to_rgb(BROKEN), atol=0.01)
    assert np.ptp(colour(0.2, 0.2)) > 0.1
    assert "not finite" in [text.get_text() for legend in fig.findobj() for text in getattr(legend, "texts", [])]


def test_a_path_that_leaves_says_so() -> None:
    away = np.array([[0.0, 0.0], [0.5, 0.2], [9.0, 0.0]])
    paths = [
        descent("good", away[:2], np.array([2.0, 0.5])),
        descent("too large", away, np.array([2.0, 0.5, 70.0])),
    ]
    fig = descent_rates(Surface(X, X, BOWL), paths, SEEN, (3.0, 2.0))
    titles = [ax.get_title("left") for ax in fig.axes[:2]]
    assert titles == ["good: lr 1.23e-05\nloss 0.5", "too large: lr 1.23e-05\nloss 70, not in the picture"]
    assert "lr 1.23e-05 reaches 70" in fig.get_suptitle().replace("\n", " ")
    np.testing.assert_array_equal(fig.axes[1].get_lines()[0].get_xydata(), away)


def test_the_title_tells_where_a_lower_point_is() -> None:
    assert "is not where they are" not in random_landscape(Surface(X, X, BOWL), SEEN, 0).get_suptitle()
    lower = BOWL.copy()
    lower[1, 1] = 0.001
    title = random_landscape(Surface(X, X, lower), SEEN, 0).get_suptitle().replace("\n", " ")
    assert "the lowest point here, 0.001," in title
