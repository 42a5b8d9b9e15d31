"""What the figures draw, read back from their axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import STEPS_PER_EPOCH, layer_series
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm, to_hex
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal

from nnvis import figures
from nnvis.figures.distributions import Ladder, chosen_layers
from nnvis.figures.heatmap import COLUMNS, cells
from nnvis.figures.style import HEALTHY, SICK
from nnvis.record.run import Recorded, Run
from nnvis.record.vocabulary import HISTOGRAM_EDGES, HistogramSeries, LayerInfo, Series

MakeRun = Callable[..., Run]


def with_layers(run: Run, **tables: Any) -> Run:
    return replace(run, layers=Recorded(tables))


def lines(ax: Axes, label: str | None = None) -> list[Any]:
    found = [line for line in ax.lines if not str(line.get_label()).startswith("_")]
    return found if label is None else [line for line in ax.lines if line.get_label() == label]


def title(fig: Figure) -> str:
    return fig.get_suptitle().replace("\n", " ")


def end_labels(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


# ---------------------------------------------------------------- gradient flow


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


def test_runs_that_are_compared_share_their_axes(make_run: MakeRun) -> None:
    fig = figures.gradient_flow(
        make_run(20, "vanishing", name="runs/sick/1-seed0"), make_run(20, name="runs/well/1-seed0")
    )
    sick, well = fig.axes
    assert sick.get_ylim() == well.get_ylim()
    assert sick.get_title(loc="left").startswith("sick\nfirst : last layer = 4×10⁻¹²  (×0.25 a layer)")
    assert [to_hex(lines(ax)[-1].get_color()).upper() for ax in (sick, well)] == [SICK, HEALTHY]
    assert title(fig).startswith(
        "In sick the first layer gets 4×10⁻¹² of the last layer's gradient at the start, in well"
    )


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
        ([1.0, 1.0, 2.0], [np.nan, 1.0, 2.0], "NaN or Inf gradients in 1 of 3 layers at step 10"),
        (
            [1.0, 1.0, 2.0],
            [1.0, 1.0, 2.0],
            "Gradient reaches every layer: the first gets 0.5 times the last layer's at step 0",
        ),
    ],
)
def test_gradient_flow_says_what_it_shows(make_run: MakeRun, first: Any, last: Any, words: str) -> None:
    run = with_layers(make_run(3), grad_norm=layer_series([0, 10], "abc", [first, last]))
    assert title(figures.gradient_flow(run)) == words


# ---------------------------------------------------------------- heat maps


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


# ---------------------------------------------------------------- learning curves


def curves_run(run: Run, val: Any, train: Any, accuracy: bool = False) -> Run:
    ends = np.arange(1, len(val) + 1) * STEPS_PER_EPOCH
    scalars = {"loss/epoch": Series(ends, np.array(train)), "loss/val": Series(ends, np.array(val))}
    if accuracy:
        scalars["accuracy/val"] = Series(ends, 1 - 0.1 * np.array(val))
    return replace(run, scalars=Recorded(scalars))


TRAIN_LOSS = [2.0, 1.5, 1.0, 0.8, 0.6, 0.5, 0.4]
OVERFIT = [2.0, 1.5, 1.0, 1.2, 1.3, 1.4, 1.5]


def test_learning_curves_mark_the_onset_of_overfitting(make_run: MakeRun) -> None:
    fig = figures.learning_curves(curves_run(make_run(3), OVERFIT, TRAIN_LOSS, accuracy=True))
    loss, accuracy = fig.axes
    assert title(fig) == "Overfitting: validation loss is best at epoch 3 (1), then rises to 1.4; best accuracy 90%"
    assert_allclose(lines(loss, "validation")[0].get_ydata(), OVERFIT)
    assert_allclose(lines(loss, "validation")[0].get_xdata(), np.arange(1, 8))
    assert_allclose(lines(loss, "train")[0].get_ydata(), TRAIN_LOSS)
    assert_allclose(lines(accuracy, "validation")[0].get_ydata(), 1 - 0.1 * np.array(OVERFIT))
    for ax in fig.axes:
        start = ax.transData.transform((3, 0))[0]
        assert lines(ax, "_event")[0].get_xdata() == [3, 3]
        assert [p.get_extents().x0 for p in ax.patches if p.get_label() == "_overfitting"] == [start]
    assert loss.get_xlim()[1] > 7
    gap = next(c for c in loss.collections if c.get_label() == "_gap").get_paths()[0].get_extents()
    assert (gap.y0, gap.y1) == (0.4, 2.0)
    assert end_labels(loss)[:3] == ["best: epoch 3, then overfitting", "train 0.4", "validation 1.5"]
    assert fig.axes[-1].get_xlabel() == "epoch (23 steps each)"


@pytest.mark.parametrize(
    ("val", "train", "words"),
    [
        (TRAIN_LOSS, TRAIN_LOSS, "Still improving at epoch 7: validation loss 0.4"),
        ([2, 1, 0.5, 0.5, 0.5, 0.5, 0.5], TRAIN_LOSS, "Validation loss levels off (0.5 at epoch 3 of 7)"),
        ([2.3] * 7, [2.31, *[2.3] * 6], "It did not learn: the loss never left 2.3"),
        ([1.0, 2, 9, 30, 80, 99, 99], [1.0, 2, 9, 30, 80, 99, 99], "Diverged: the loss grew from 1 to 99 by epoch 7"),
        ([1.0, 1, np.nan], [1.0, 1, np.inf], "Diverged: the loss turned Inf at step 69"),
        ([1.0, 0.9], [1.0, 0.9], "Validation loss 0.9 by epoch 2"),
    ],
)
def test_learning_curves_say_what_happened(make_run: MakeRun, val: Any, train: Any, words: str) -> None:
    assert title(figures.learning_curves(curves_run(make_run(3), val, train))) == words


def test_a_run_stopped_by_nan_is_not_called_improving(make_run: MakeRun) -> None:
    run = replace(curves_run(make_run(3), TRAIN_LOSS, TRAIN_LOSS), summary={"status": "diverged", "steps": 170})
    assert title(figures.learning_curves(run)) == "Diverged: the loss turned NaN or Inf at step 170"


def test_guessing_is_drawn_for_a_classifier_that_does_no_better(make_run: MakeRun) -> None:
    fig = figures.learning_curves(make_run(5, "stuck"))
    assert title(fig) == "It did not learn: the loss never left 2.3 (guessing gets 2.3)"
    assert lines(fig.axes[0], "_guessing")[0].get_ydata() == pytest.approx([np.log(10)] * 2)
    assert lines(fig.axes[1], "_guessing")[0].get_ydata() == pytest.approx([0.1] * 2)


def test_loss_is_logarithmic_only_where_the_range_asks_for_it(make_run: MakeRun) -> None:
    narrow = figures.learning_curves(curves_run(make_run(3), TRAIN_LOSS, TRAIN_LOSS))
    wide = figures.learning_curves(curves_run(make_run(3), TRAIN_LOSS, [3.0, 1, 0.3, 0.1, 0.03, 0.01, 0.003]))
    assert [fig.axes[0].get_yscale() for fig in (narrow, wide)] == ["linear", "log"]


def test_compared_curves_name_the_winner_and_keep_the_two_colours(make_run: MakeRun) -> None:
    runs = make_run(5, "stuck", name="runs/sick/1-seed0"), make_run(5, name="runs/well/1-seed0")
    fig = figures.learning_curves_compared(*runs)
    best = [max(run.scalars["accuracy/val"].values) for run in runs]
    assert title(fig) == f"well reaches {best[1]:.1%} validation accuracy, sick {best[0]:.0%}"
    colours = [to_hex(lines(fig.axes[0], name)[0].get_color()).upper() for name in ("sick", "well")]
    assert colours == [SICK, HEALTHY]
    for ax, tag in zip(fig.axes, ("loss/val", "accuracy/val"), strict=True):
        assert_array_equal(lines(ax, "well")[0].get_ydata(), runs[1].scalars[tag].values)


# ---------------------------------------------------------------- update ratio, distribution


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
    assert_allclose(up, [0.3, 0, 0.4 / 4])  # 1–10, 10–100, and four decades from 100 to 10⁶
    assert_allclose(down, [0.1, 0, 0])
    heights = drawn["_1"].get_coordinates()[:, 0, 1]
    assert_allclose(np.diff(heights), [1, 1, 4])
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


# ---------------------------------------------------------------- network


def test_network_folds_what_repeats(make_run: MakeRun) -> None:
    fig = figures.network(make_run(20))
    words = end_labels(fig.axes[0])
    assert words == ["linear1", "64", "Linear 4.16k", "act1", "64", "ReLU", "linear20", "10", "Linear 650", "×19"]
    assert title(fig) == "79.7k parameters in 39 layers; the largest, linear1, holds 5.2%"


def test_network_wraps_and_sums_up_what_does_not_fit(make_run: MakeRun) -> None:
    table = tuple(LayerInfo(f"layer{i}", "Linear", (i + 1,), 10, 10 * (i > 0)) for i in range(300))
    fig = figures.network(replace(make_run(3), network=table))
    blocks = [patch for ax in fig.axes for patch in ax.patches]
    words = [text for ax in fig.axes for text in end_labels(ax)]
    assert len(fig.axes) == 2
    assert len(blocks) == 120
    assert "… 180 more layers, 1.8k parameters …" in words
    assert (np.diff([block.get_extents().width for block in blocks[:60]]) >= 0).all()  # more units, wider block
    assert [block.get_linestyle() for block in blocks[:2]] == ["--", "solid"]  # the first is frozen


def test_network_of_odd_outputs(make_run: MakeRun) -> None:
    table = (LayerInfo("lstm", "LSTM", None, 5, 5), LayerInfo("mean", "Mean", (), 0, 0))
    words = end_labels(figures.network(replace(make_run(3), network=table)).axes[0])
    assert words == ["lstm", "?", "LSTM 5", "mean", "1", "Mean"]
