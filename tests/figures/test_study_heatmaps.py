"""Heat maps and the difference map of studies: cells against the record, one scale, special values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import layer_series
from made_up_studies import made_up_study
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from numpy.testing import assert_allclose, assert_array_equal
from reading_back import title

from nnvis.figures.study_heatmaps import gradient_difference, quantity_heatmaps
from nnvis.figures.study_layers import median_table
from nnvis.figures.variants import NothingToDraw, StudyFigure


def meshes(drawing: StudyFigure) -> dict[str, Any]:
    """The cells of each panel, by its title."""
    return {
        ax.get_title(loc="left"): mesh
        for ax in drawing.figure.axes
        for mesh in ax.collections
        if isinstance(mesh, QuadMesh) and mesh.get_label() == "_values"
    }


def bars(ax: Axes, label: str) -> list[Any]:
    """Extents of the cells that are named so."""
    return [path.get_extents() for c in ax.collections if c.get_label() == label for path in c.get_paths()]


def test_a_panel_holds_the_median_over_the_seeds_of_every_layer_and_step(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["sigmoid", "relu"], seeds=3, layers=5)
    drawing = quantity_heatmaps("grad_norm")(study)
    drawn = meshes(drawing)
    assert list(drawn) == ["sigmoid", "relu"]
    everything = []
    for variant in study.variants:
        runs = study.runs[variant].values()
        expected = np.median([run.layers["grad_norm"].values for run in runs], axis=0)  # (T, L)
        everything.append(expected)
        assert_allclose(drawn[variant].get_array(), expected.T)
        rows = [row for row in drawing.rows if row[0] == variant]
        assert_allclose([row[4] for row in rows], expected.T.ravel())
        assert rows[0][:4] == (variant, "linear1", 1, 0)
        assert rows[-1][:4] == (variant, "linear5", 5, 190)
    scales = {(mesh.norm.vmin, mesh.norm.vmax) for mesh in drawn.values()}
    assert len(scales) == 1
    assert_allclose(scales.pop(), [np.min(everything), np.max(everything)])
    first, second = drawing.figure.axes[:2]
    assert first.get_xlim() == second.get_xlim()
    assert first.yaxis_inverted()
    usual = np.median(everything[0], axis=0)
    assert f"differs {float(f'{usual.max() / usual.min():.2g}'):g}-fold between the layers of sigmoid" in title(
        drawing.figure
    )


def test_shares_run_from_0_to_1_and_name_the_worst(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["leaky", "relu", "tanh"], seeds=2, layers=5)
    for run in study.runs["leaky"].values():
        run.layers["dead_fraction"] = replace(table := run.layers["dead_fraction"], values=table.values / 2)
    drawing = quantity_heatmaps("dead_fraction")(study)
    drawn = meshes(drawing)
    assert list(drawn) == ["leaky", "relu"]
    assert {(mesh.norm.vmin, mesh.norm.vmax) for mesh in drawn.values()} == {(0, 1)}
    share = study.runs["relu"][0].layers["dead_fraction"].values[-1, 0]
    told = f"Dead units, worst layer at the end: {100 * share:.3g}% in relu, {50 * share:.3g}% in leaky"
    assert title(drawing.figure) == told
    assert "Not measured in: tanh." in drawing.figure.get_supxlabel().replace("\n", " ")


def test_zeros_nan_and_inf_have_colours_of_their_own_and_no_other_cells(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["one"], seeds=1, layers=3)
    values = [[0.0, 1.0, 2.0], [1.0, np.nan, 2.0], [1.0, 1.0, np.inf]]
    study.runs["one"][0].layers["grad_norm"] = layer_series([0, 10, 20], "abc", values)
    drawing = quantity_heatmaps("grad_norm")(study)
    ax = drawing.figure.axes[0]
    mesh = meshes(drawing)["one"].get_array()
    assert_array_equal(np.ma.getmaskarray(mesh), ~np.isfinite(np.array(values).T) | (np.array(values).T == 0))
    for label, x, y in (("_exactly 0", 0, 0), ("_NaN", 10, 1), ("_Inf", 20, 2)):
        box = bars(ax, label)[0]
        assert (box.x0, box.x1, box.y0, box.y1) == (x, x + 10, y - 0.5, y + 0.5)
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["exactly 0", "NaN", "Inf"]
    assert_array_equal([row[4] for row in drawing.rows], np.array(values).T.ravel())


def test_the_median_over_the_seeds_outlives_one_diverged_run_of_three_but_not_two(tmp_path: Path) -> None:
    sound = layer_series([0, 10], "ab", [[1.0, 2.0], [3.0, 4.0]])
    broken = layer_series([0, 10], "ab", [[5.0, 6.0], [np.nan, np.inf]])
    assert_array_equal(median_table({0: sound, 1: broken, 2: sound}).values, [[1.0, 2.0], [3.0, 4.0]])
    assert_array_equal(median_table({0: sound, 1: broken}).values, [[3.0, 4.0], [np.nan, np.inf]])


def test_seeds_that_were_measured_at_other_steps_count_with_their_newest_value() -> None:
    a = layer_series([0, 10, 20], "a", [[1.0], [2.0], [3.0]])
    b = layer_series([0, 15], "a", [[5.0], [7.0]])
    table = median_table({0: a, 1: b})
    assert table.steps.tolist() == [0, 10, 15, 20]
    assert table.values[:, 0].tolist() == [3.0, 3.5, 4.5, 3.0]  # b is over after step 15


def test_more_than_twelve_variants_are_named_where_they_are_not_shown(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", [f"v{i}" for i in range(14)], seeds=1, layers=3)
    drawing = quantity_heatmaps("grad_norm")(study)
    assert list(meshes(drawing)) == [f"v{i}" for i in range(14) if i not in (3, 10)]
    assert "No room for: v3, v10." in drawing.figure.get_supxlabel().replace("\n", " ")


def test_the_difference_is_the_log_ratio_of_the_first_variant_and_the_best_one(tmp_path: Path) -> None:
    scores = {"sigmoid": 0.3, "tanh": 0.6, "relu": 0.9}
    study = made_up_study(tmp_path / "s", list(scores), seeds=3, layers=6, scores=scores)
    drawing = gradient_difference(study)
    a, b = (
        np.median([run.layers["grad_norm"].values for run in study.runs[v].values()], axis=0)
        for v in ("sigmoid", "relu")
    )
    mesh = meshes(drawing)[""]
    assert_allclose(mesh.get_array(), np.log10(a / b).T, atol=1e-12)
    assert mesh.norm.vmin == -mesh.norm.vmax
    assert_allclose(mesh.norm.vmax, np.abs(np.log10(a / b)).max())
    assert_allclose([row[4] for row in drawing.rows], np.log10(a / b).T.ravel(), atol=1e-12)
    assert title(drawing.figure).startswith("sigmoid: layer 1 gets 0.00")
    assert title(drawing.figure).endswith("of its gradient in relu")


def test_the_difference_skips_who_does_not_line_up_and_needs_somebody_who_does(tmp_path: Path) -> None:
    scores = {"a": 0.3, "b": 0.6, "c": 0.9}
    study = made_up_study(tmp_path / "s", list(scores), seeds=1, layers=4, scores=scores)
    deeper = made_up_study(tmp_path / "t", ["c"], seeds=1, layers=7, scores=scores)
    study.runs["c"].update(deeper.runs["c"])
    assert title(gradient_difference(study).figure).startswith("a and b have gradients alike")
    study.runs["b"].clear()
    with pytest.raises(NothingToDraw, match="no other variant has as many layers with weights as a"):
        gradient_difference(study)


def test_equal_gradients_are_white_and_a_zero_is_no_difference(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["a", "b"], seeds=1, layers=3)
    study.runs["a"][0].layers["grad_norm"] = layer_series([0, 10], "xyz", [[1.0, 0.0, 1.0], [1.0, 2.0, np.inf]])
    study.runs["b"][0].layers["grad_norm"] = layer_series([0, 10], "xyz", [[1.0, 1.0, 1.0], [1.0, 2.0, 1.0]])
    drawing = gradient_difference(study)
    ax = drawing.figure.axes[0]
    mesh = meshes(drawing)[""].get_array()
    assert_array_equal(np.ma.filled(mesh, np.nan), [[0, 0], [np.nan, 0], [0, np.nan]])
    assert [(b.x0, b.y0) for b in bars(ax, "_exactly 0")] == [(0, 0.5)]
    assert [(b.x0, b.y0) for b in bars(ax, "_Inf")] == [(10, 1.5)]
