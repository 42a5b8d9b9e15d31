"""The figures that only the lessons draw, read back from the axes."""

from __future__ import annotations

import numpy as np
from matplotlib.collections import PathCollection, QuadMesh
from reading_back import end_labels, lines, title

from nnvis.figures.passes import Neuron
from nnvis.figures.taught import Curve, Panel, Region, neuron_planes, panels, regions

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


def test_regions() -> None:
    x = np.linspace(-1, 1, 5)
    probability = np.broadcast_to((x + 1) / 2, (5, 5)).copy()
    rows, classes = np.array([[-0.5, 0.1], [0.5, -0.1], [0.7, 0.7]]), np.array([0, 1, 1])
    (ax,) = regions("A border", "A caption.", [Region("one", x, x, probability, rows, classes)]).axes
    (mesh,) = (each for each in ax.collections if isinstance(each, QuadMesh))
    np.testing.assert_array_equal(np.asarray(mesh.get_array()).reshape(5, 5), probability)
    first, second = (each for each in ax.collections if isinstance(each, PathCollection))
    np.testing.assert_array_equal(np.asarray(first.get_offsets()), rows[:1])
    np.testing.assert_array_equal(np.asarray(second.get_offsets()), rows[1:])
