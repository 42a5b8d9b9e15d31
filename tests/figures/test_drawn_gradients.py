"""Gradient flow: lines, marks, shared axes, and the title's numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_up_runs import layer_series
from matplotlib.colors import to_hex
from numpy.testing import assert_array_equal
from reading_back import caption, end_labels, lines, title, with_layers

from nnvis import figures
from nnvis.figures.style import HEALTHY, SICK
from nnvis.record.run import Recorded, Run
from nnvis.record.vocabulary import Series

MakeRun = Callable[..., Run]


def test_gradient_flow_draws_the_first_middle_and_last_step(make_run: MakeRun) -> None:
    run = make_run(20, "vanishing")
    table = run.layers["grad_norm"]
    fig = figures.gradient_flow(run)
    ax = fig.axes[0]
    drawn = {line.get_label(): line.get_ydata() for line in lines(ax)}
    assert list(drawn) == ["step 0", "step 340", "step 680"]
    for row, values in zip((0, 34, 68), drawn.values(), strict=True):
        assert_array_equal(values, table.values[row])
    low, high = ax.get_ylim()
    assert ax.get_yscale() == "log"
    assert low < np.min(table.values)
    assert np.max(table.values) < high
    ratio = table.values[0, 0] / table.values[0, -1]
    assert f"{ratio:.0e}".replace("e-12", "×10⁻¹²") in title(fig)
    assert to_hex(lines(ax)[-1].get_color()).upper() == SICK


def test_zero_nan_inf_and_absent_are_marked_at_their_layers_and_named(make_run: MakeRun) -> None:
    run = with_layers(
        make_run(3),
        grad_norm=layer_series([0], "abcde", [[1.0, 0.0, np.nan, np.inf, 1.0]], [["", "", "", "", "frozen"]]),
    )
    ax = figures.gradient_flow(run).axes[0]
    marks = {
        name: lines(ax, f"_{name}")[0].get_xdata().tolist() for name in ("exactly 0", "NaN", "Inf", "not measured")
    }
    assert marks == {"exactly 0": [1], "NaN": [2], "Inf": [3], "not measured": [4]}
    words = " ".join(end_labels(ax))
    assert all(name in words for name in marks)


def test_the_caption_says_how_often_and_how_much_gradients_were_clipped(make_run: MakeRun) -> None:
    run = make_run(3)
    factors = Series(np.arange(4), np.array([1.0, 0.5, 0.25, 0.25]))
    clipped = replace(run, scalars=Recorded(run.scalars | {"clip_factor": factors}))
    words = "Clipping shortened it in 75% of the measured steps, to ×0.25 in the median."
    assert words in caption(figures.gradient_flow(clipped))
    assert "Clipping" not in caption(figures.gradient_flow(run))


def test_runs_that_are_compared_share_their_axes(make_run: MakeRun) -> None:
    fig = figures.gradient_flow(
        make_run(20, "vanishing", name="runs/sick/1-seed0"), make_run(20, name="runs/well/1-seed0")
    )
    sick, well = fig.axes
    assert sick.get_ylim() == well.get_ylim()
    assert sick.get_title(loc="left").startswith("sick\nfirst : last layer = 4×10⁻¹²  (×0.25 a layer)")
    assert [to_hex(lines(ax)[-1].get_color()).upper() for ax in (sick, well)] == [SICK, HEALTHY]
    assert title(fig).startswith("sick: the first layer gets 4×10⁻¹² of the last layer's gradient at the start; well: ")


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        ([1.0, 1.0, 1.0], [1e4, 1e4, 1e4], "Exploding gradients: 10⁴ times the first norm by step 10"),
        (
            [1e4, 1e2, 1.0],
            [1e4, 1e2, 1.0],
            "Exploding gradients: the first layer gets 10⁴ times the last layer's at step 0",
        ),
        ([1.0, 1.0, 2.0], [0.0, 0.0, 2.0], "No gradient at all (exactly 0) reaches 2 of 3 layers at step 10"),
        ([1.0, 1.0, 2.0], [0.0, 0.0, 0.0], "No gradient at all (exactly 0) reaches 3 of 3 layers at step 10"),
        ([1.0, 1.0, 2.0], [np.nan, 1.0, 2.0], "NaN or Inf gradients in 1 of 3 layers at step 10"),
        (
            [1.0, 1.0, 2.0],
            [1.0, 1.0, 2.0],
            "Gradient reaches every layer: the first gets 0.5 of the last layer's at step 0",
        ),
    ],
)
def test_gradient_flow_says_what_it_shows(make_run: MakeRun, first: Any, last: Any, words: str) -> None:
    run = with_layers(make_run(3), grad_norm=layer_series([0, 10], "abc", [first, last]))
    assert title(figures.gradient_flow(run)) == words


def test_the_ends_of_the_range_of_floats_are_drawn(make_run: MakeRun) -> None:
    values = [[1e-307, 1.0, 1e307], [1e307, 1.0, 1e-307]]
    run = with_layers(
        make_run(3), **{name: layer_series([0, 10], "abc", values) for name in ("grad_norm", "update_ratio")}
    )
    for ax in (figures.gradient_flow(run).axes[0], figures.update_ratio(run).axes[0]):
        low, high = ax.get_ylim()
        assert low <= 1e-307
        assert high >= 1e307
    assert title(figures.layer_heatmap(run, "grad_norm"))
