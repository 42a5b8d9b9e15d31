"""Update ratios and activation distributions against the record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal
from reading_back import end_labels, lines, title

from nnvis import figures
from nnvis.figures.distributions import Ladder, chosen_layers
from nnvis.record.run import Recorded, Run
from nnvis.record.vocabulary import HISTOGRAM_EDGES, HistogramSeries

MakeRun = Callable[..., Run]


def test_update_ratio_draws_every_layer_beside_the_guide(make_run: MakeRun) -> None:
    run = make_run(20)
    table = run.layers["update_ratio"]
    fig = figures.update_ratio(run)
    ax = fig.axes[0]
    drawn = lines(ax)
    assert len(drawn) == 20
    assert_array_equal(drawn[7].get_ydata(), table.values[:, 7])
    assert lines(ax, "_guide")[0].get_ydata() == [1e-3, 1e-3]
    brightness = [np.dot(to_rgb(line), [0.3, 0.6, 0.1]) for line in drawn]
    assert (np.diff(brightness) > 0).all()  # depth is told in grey as well
    assert len(fig.axes) == 2  # the colour bar instead of 20 labels


def to_rgb(line: Any) -> Any:
    return np.array(line.get_color()[:3])


def test_update_ratio_names_a_few_layers_at_their_lines(make_run: MakeRun) -> None:
    fig = figures.update_ratio(make_run(3, "dead"))
    words = end_labels(fig.axes[0])
    assert words[:3] == ["linear1 (to step 330)", "linear2 (to step 330)", "linear3"]
    assert words[-1] == "▽ exactly 0"
    assert title(fig) == "2 of 3 layers do not move at all at half of the measured steps or more"


def distribution(counts: dict[int, int], zeros: int = 0, nonfinite: int = 0) -> HistogramSeries:
    """One layer, one step; `counts` by bin."""
    table = np.zeros((1, 1, 32), dtype=int)
    for place, number in counts.items():
        table[0, 0, place] = number
    return HistogramSeries(
        np.array([0]), ("act1",), HISTOGRAM_EDGES, table, np.array([[zeros]]), np.array([[nonfinite]])
    )


def meshes(fig: Figure) -> dict[str, Any]:
    return {str(c.get_label()): c for c in fig.axes[0].collections if isinstance(c, QuadMesh)}


def test_distribution_draws_shares_per_decade(make_run: MakeRun) -> None:
    one, hundred_to_million = 16 + 12, 16 + 14
    record = distribution({one: 30, hundred_to_million: 40, 31 - one: 10}, zeros=15, nonfinite=5)
    fig = figures.activation_distribution(replace(make_run(3), histograms=Recorded(activation=record)))
    drawn = meshes(fig)
    up, down = (np.ma.filled(np.ma.asarray(drawn[s].get_array()), 0)[:, 0] for s in ("_1", "_-1"))
    assert_allclose(up, [0.3, 0, 0.4 / 4], rtol=1e-3)  # 1–10, 10–100, and four decades from 100 to 10⁶
    assert_allclose(down, [0.1, 0, 0])
    heights = drawn["_1"].get_coordinates()[:, 0, 1]
    assert_allclose(np.diff(heights), [1, 1, 4], atol=0.004)  # edges are powers of ten to 8 binary digits
    shares = [float(np.ma.asarray(drawn[name].get_array()).sum()) for name in ("_zero", "_nonfinite")]
    assert_allclose((up + down) @ np.diff(heights) + sum(shares), 1)
    assert shares == [0.15, 0.05]
    assert fig.axes[0].get_ylim()[0] <= drawn["_-1"].get_coordinates()[..., 1].min()


@pytest.mark.parametrize("place", [15, 16, 0, 31])
def test_values_beyond_the_outermost_edges_are_drawn(make_run: MakeRun, place: int) -> None:
    fig = figures.activation_distribution(
        replace(make_run(3), histograms=Recorded(activation=distribution({place: 7})))
    )
    mesh = meshes(fig)["_1" if place >= 16 else "_-1"]
    assert np.ma.asarray(mesh.get_array()).sum() == 1
    assert np.abs(mesh.get_coordinates()[..., 1]).max() <= max(np.abs(fig.axes[0].get_ylim()))


def test_distribution_of_nothing_but_zeros(make_run: MakeRun) -> None:
    fig = figures.activation_distribution(
        replace(make_run(3), histograms=Recorded(activation=distribution({}, zeros=9)))
    )
    assert title(fig) == "Silent: every activation is exactly 0 at the end in act1"
    assert Ladder.of(distribution({}, zeros=9), [0]).signs == (1,)


def test_layers_of_the_distribution_are_spread_over_the_depth(make_run: MakeRun) -> None:
    run = make_run(21)
    assert chosen_layers(run, run.histograms["activation"]) == [0, 5, 10, 14, 19]
    assert len(figures.activation_distribution(run).axes) == 5 + 1
