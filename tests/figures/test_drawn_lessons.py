"""The figures that only the lessons draw, read back from the axes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from overlaps import problems
from reading_back import caption, end_labels, lines, title

from nnvis.figures.classes import class_ground
from nnvis.figures.passes import Neuron
from nnvis.figures.planes import Plane, Rows, regions_compared
from nnvis.figures.taught import Curve, Panel, neuron_planes, panels

Z = np.linspace(-4, 4, 401)
SIGMOID = 1 / (1 + np.exp(-Z))


def test_a_neurons_plane() -> None:
    neuron = Neuron("linear1", 0, np.array([1.0, 0.5]), np.array([0.3, 0.7]), 0.1, 0.75, 0.679, "Sigmoid", (Z, SIGMOID))
    ax, _ = neuron_planes({"by hand": neuron}).axes
    (mesh,) = (each for each in ax.collections if isinstance(each, QuadMesh))
    x = np.linspace(-4, 4, 161)
    values = np.asarray(mesh.get_array()).reshape(161, 161)
    for row, column in ((0, 0), (90, 100), (160, 7)):  # x₂ upwards, x₁ to the right
        z = 0.3 * x[column] + 0.7 * x[row] + 0.1
        assert np.isclose(values[row, column], 1 / (1 + np.exp(-z)), rtol=1e-12)
    assert (mesh.norm.vmin, mesh.norm.vmax) == (0, 1)
    assert ax.get_title(loc="left") == "by hand\na = 0.679 at the row"


def test_panels_draw_what_they_are_given() -> None:
    x = np.arange(1.0, 5.0)
    curves = [Curve(x, x**2, "square"), Curve(x, np.array([1, np.inf, 3, 4.0]), "gap")]
    fig = panels("Squares grow", "A caption.", [Panel("one", "x", "y", curves, log_y=True), Panel("two", "x", "y", [])])
    left, right = fig.axes
    assert title(fig) == "Squares grow"
    np.testing.assert_array_equal(lines(left, "square")[0].get_data(), [x, x**2])
    np.testing.assert_array_equal(lines(left, "gap")[0].get_ydata(), [1, np.nan, 3, 4])
    assert set(end_labels(left)) == {"square", "gap"}
    assert left.get_yscale() == "log"
    assert not right.lines


def test_regions_compared() -> None:
    x, y = np.linspace(-1, 1, 5), np.linspace(0, 3, 4)
    points, classes = np.array([[-0.5, 0.1], [0.5, 0.4], [0.7, 0.7]]), np.array([0.0, 1.0, 1.0])
    rows = Rows("training", 3, points, classes, np.array([True, False, False]), 0.3, 2 / 3)
    second = np.broadcast_to((x + 1) / 2, (4, 5))
    values = np.stack([1 - second, second])
    plane = Plane("a", True, "cross_entropy", x, y, values, ("u", "v"), ("left", "right"), (rows, rows))
    turned = replace(plane, values=values[::-1])
    fig = regions_compared("A border", "One seed.", {"one": plane, "other": turned})
    assert title(fig) == "A border"
    assert caption(fig).endswith("Dots: the training rows as they are labelled. One seed.")
    for ax, said in zip(fig.axes[:2], (plane, turned), strict=True):
        np.testing.assert_array_equal(np.asarray(ax.images[0].get_array()), class_ground(said.values))
        border, *dots = ax.collections
        assert np.abs(np.asarray(border.get_paths()[0].vertices)[:, 0]) == pytest.approx(0)
        for k in (0, 1):
            np.testing.assert_array_equal(np.asarray(dots[k].get_offsets()), points[classes == k])
        assert len(dots) == 2
    assert [ax.get_title(loc="left") for ax in fig.axes[:2]] == ["one", "other"]
    assert (fig.axes[0].get_ylabel(), fig.axes[1].get_ylabel()) == ("v", "")
    assert problems(fig) == []
