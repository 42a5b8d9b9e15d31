"""Heat maps: every value in its place, and what is no number in a colour of its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from made_up_runs import layer_series
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from numpy.testing import assert_array_equal
from reading_back import title, with_layers

from nnvis import figures
from nnvis.figures.columns import COLUMNS, cells
from nnvis.record.run import Run

MakeRun = Callable[..., Run]


def test_heatmap_shows_every_value_and_gives_the_others_their_own_colour(make_run: MakeRun) -> None:
    values = np.array([[1e-20, 1.0], [0.0, np.nan], [np.inf, 1e10]])
    run = with_layers(
        make_run(3), grad_norm=layer_series([0, 10, 20], ["first", "last"], values, [["", ""]] * 2 + [["", "frozen"]])
    )
    fig = figures.layer_heatmap(run, "grad_norm")
    ax = fig.axes[0]
    mesh = next(artist for artist in ax.collections if isinstance(artist, QuadMesh))
    assert isinstance(mesh.norm, LogNorm)
    assert_array_equal(np.ma.filled(np.ma.asarray(mesh.get_array()), -1), [[1e-20, -1, -1], [1, -1, -1]])
    assert (mesh.norm.vmin, mesh.norm.vmax) == pytest.approx((1e-20, 1))
    bars = {c.get_label(): c.get_paths()[0].get_extents().bounds for c in ax.collections if c is not mesh}
    assert bars == {
        "_exactly 0": (10, -0.5, 10, 1),
        "_NaN": (10, 0.5, 10, 1),
        "_Inf": (20, -0.5, 10, 1),
        "_not measured": (20, 0.5, 10, 1),
    }
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["exactly 0", "NaN", "Inf", "not measured"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["first", "last"]
    assert ax.yaxis_inverted()  # input at the top


def test_a_fraction_of_zero_is_a_value_like_any_other(make_run: MakeRun) -> None:
    run = with_layers(make_run(3), dead_fraction=layer_series([0, 10], "ab", [[0.0, 0.2], [0.0, 1.0]]))
    fig = figures.layer_heatmap(run, "dead_fraction")
    mesh = fig.axes[0].collections[0]
    assert_array_equal(np.ma.asarray(mesh.get_array()), [[0, 0], [0.2, 1]])
    assert (mesh.norm.vmin, mesh.norm.vmax) == (0, 1)
    assert fig.axes[0].get_legend() is None
    assert title(fig) == "Dead units: 100% at most at the end (b, of 2 layers)"


def test_many_steps_share_columns_without_losing_a_single_nan(make_run: MakeRun) -> None:
    steps = np.arange(4 * COLUMNS)
    values = np.tile([[1.0, 2.0]], (len(steps), 1))
    values[501, 0], values[502, 0], values[700, 1] = np.nan, np.inf, 1e9
    run = with_layers(make_run(3), grad_norm=layer_series(steps, "ab", values))
    ax = figures.layer_heatmap(run, "grad_norm").axes[0]
    mesh = np.ma.asarray(ax.collections[0].get_array())
    assert mesh.shape == (2, COLUMNS)
    assert np.ma.count_masked(mesh) == 1
    assert mesh.max() == 2  # the median of four
    assert [c.get_label() for c in ax.collections[1:]] == ["_NaN"]


@pytest.mark.parametrize(
    ("steps", "edges", "filling"),
    [
        ([0, 10, 20], [0, 10, 20, 30], [0, 1, 2]),
        ([0, 10, 20, 90, 100], [0, 10, 20, 30, 90, 100, 110], [0, 1, 2, -1, 3, 4]),
        ([0, 1, 2, 5, 10, 20, 50], [0, 1, 2, 5, 10, 20, 50, 80], [0, 1, 2, 3, 4, 5, 6]),
        ([7], [7, 8], [0]),
    ],
)
def test_cells_of_irregular_steps_leave_gaps_empty(steps: list[int], edges: list[int], filling: list[int]) -> None:
    found_edges, found_filling = cells(np.array(steps))
    assert found_edges.tolist() == edges
    assert found_filling.tolist() == filling


def test_activation_std_compares_nonlinearities_only(make_run: MakeRun) -> None:
    run = make_run(3)
    table = layer_series([0], ["linear1", "act1", "linear2", "act2"], [[9.0, 0.5, 9.0, 0.4]])
    fig = figures.layer_heatmap(with_layers(run, activation_std=table), "activation_std")
    assert title(fig) == "Activation std is even over the layers: 0.4 in act2, 0.5 in act1"
