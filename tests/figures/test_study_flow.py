"""Gradient flow, signal propagation and update ratio of studies: lines and rows against the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import layer_series
from made_up_studies import made_up_study
from numpy.testing import assert_allclose, assert_array_equal
from reading_back import end_labels, lines, title

from nnvis.figures.study_flow import gradient_flow, signal_propagation, update_ratio
from nnvis.figures.study_layers import profile, weighted
from nnvis.figures.variants import NothingToDraw, StudyFigure
from nnvis.record import LayerInfo, Study


def recorded(study: Study, variant: str, quantity: str, row: int) -> Any:
    """(S, L) of the record, at a row of measured steps."""
    return np.array([run.layers[quantity].values[row] for run in study.runs[variant].values()])


def of(drawing: StudyFigure, **wanted: Any) -> list[dict[str, Any]]:
    """The rows with these values, as mappings."""
    rows = [dict(zip(drawing.columns, row, strict=True)) for row in drawing.rows]
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def test_gradient_flow_draws_the_median_over_the_seeds_and_shades_their_range(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["sigmoid", "relu"], seeds=4, layers=7)
    drawing = gradient_flow(study)
    for ax, row, when in zip(drawing.figure.axes, (0, -1), ("at the start", "at the end of training"), strict=True):
        for variant in study.variants:
            seen = recorded(study, variant, "grad_norm", row)
            line = lines(ax, variant)[0]
            assert_allclose(line.get_ydata(), np.median(seen, axis=0))
            assert_array_equal(line.get_xdata(), np.arange(7))
            band = next(c for c in ax.collections if c.get_label() == f"_{variant}")
            vertices: Any = band.get_paths()[0].vertices
            for i in range(7):
                heights = vertices[vertices[:, 0] == i, 1]
                assert_allclose([heights.min(), heights.max()], [seen[:, i].min(), seen[:, i].max()])
            rows = of(drawing, when=when, variant=variant)
            assert_allclose([r["median"] for r in rows], np.median(seen, axis=0))
            assert_allclose([r["smallest"] for r in rows], seen.min(axis=0))
            assert_allclose([r["largest"] for r in rows], seen.max(axis=0))
            assert [r["layer"] for r in rows] == [f"linear{i}" for i in range(1, 8)]
            assert {r["seeds"] for r in rows} == {4}
    upper, lower = drawing.figure.axes
    assert upper.get_ylim() == lower.get_ylim()
    assert upper.get_xlim() == lower.get_xlim()
    assert len(drawing.rows) == 2 * 2 * 7


def test_at_each_line_stand_its_ratio_and_its_slope(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["sigmoid", "relu"], seeds=1, layers=20, gains={"sigmoid": 0.25})
    values = recorded(study, "sigmoid", "grad_norm", 0)[0]
    slope = np.polyfit(np.arange(20), np.log10(values), 1)[0]
    assert slope == pytest.approx(-np.log10(0.25), abs=0.02)  # a layer passes back a quarter: 0.6 decades
    mantissa, exponent = f"{values[0] / values[-1]:.0e}".split("e-")
    raised = exponent.translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    ratio = f"{mantissa}×10⁻{raised}".removeprefix("1×")
    drawing = gradient_flow(study)
    assert f"sigmoid: {ratio}, {slope:+.2f} ●" in end_labels(drawing.figure.axes[0])
    assert title(drawing.figure).startswith(f"sigmoid: the first layer gets {ratio} of the last layer's gradient")


def test_each_variant_keeps_its_look_in_all_figures_and_no_two_are_alike(tmp_path: Path) -> None:
    names = [f"v{i}" for i in range(14)]
    study = made_up_study(tmp_path / "s", names, seeds=1, layers=3)

    def drawn(drawing: StudyFigure, name: str) -> Any:
        line = lines(drawing.figure.axes[0], name)[0]
        return line.get_color(), line.get_marker(), line.get_linestyle()

    figures = [gradient_flow(study), signal_propagation(study), update_ratio(study)]
    first = [drawn(figures[0], name) for name in names]
    assert len(set(first)) == 14
    assert all([drawn(each, name) for name in names] == first for each in figures[1:])


def test_networks_of_differing_depth_share_a_relative_axis_that_says_so(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["deep", "flat"], seeds=1, layers=9)
    study.runs["flat"].update(made_up_study(tmp_path / "t", ["flat"], seeds=1, layers=3).runs["flat"])
    ax = gradient_flow(study).figure.axes[1]
    assert_allclose(lines(ax, "deep")[0].get_xdata(), np.arange(9) / 8)
    assert_allclose(lines(ax, "flat")[0].get_xdata(), [0, 0.5, 1])
    assert ax.get_xlabel() == "relative depth (first layer 0, last layer 1; 3 to 9 layers)"


def test_normalization_is_left_out_so_that_networks_line_up(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["plain"], seeds=1, layers=2)
    run = study.runs["plain"][0]
    run = run.__class__(**{**run.__dict__, "network": (*run.network, LayerInfo("norm1", "BatchNorm1d", None, 4, 4))})
    table = layer_series([0], ["linear1", "norm1", "linear2"], [[1.0, 2.0, 3.0]])
    kept = weighted(run, table)
    assert kept.layers == ("linear1", "linear2")
    assert kept.values.tolist() == [[1.0, 3.0]]


def test_a_diverged_run_counts_with_its_last_finite_measurement(tmp_path: Path) -> None:
    values = [[1.0, 2.0], [5.0, np.inf], [np.nan, np.nan]]
    tables = {
        0: layer_series([0, 10, 20], "ab", values),
        1: layer_series([0, 10, 20], "ab", [[1, 2], [3, 4], [7, 8.0]]),
    }
    end = profile(tables, "end")
    assert end.steps == (10, 20)
    assert_array_equal(end.middle, [6.0, 8.0])
    assert_array_equal(end.high, [7.0, 8.0])
    study = made_up_study(tmp_path / "s", ["low", "high"], seeds=3, diverged={("high", 2)}, missing={("low", 1)})
    caption = gradient_flow(study).figure.get_supxlabel().replace("\n", " ")
    assert "Median of 2 to 3 seeds, shaded: their range. Diverged: high 1 of 3. 1 run missing (low)." in caption


def test_zero_nan_and_unmeasured_layers_are_marked(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["one"], seeds=1, layers=4)
    study.runs["one"][0].layers["grad_norm"] = layer_series(
        [0], "abcd", [[0.0, np.nan, 1.0, 1.0]], [["", "", "", "frozen"]]
    )
    drawing = gradient_flow(study)
    ax = drawing.figure.axes[0]
    marks = {name: lines(ax, f"_{name}")[0].get_xdata().tolist() for name in ("exactly 0", "NaN", "not measured")}
    assert marks == {"exactly 0": [0], "NaN": [1], "not measured": [3]}
    assert "no gradient at all" in title(drawing.figure)


def test_signal_propagation_is_that_of_the_first_measured_step(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["tanh", "relu"], seeds=3, layers=6, gains={"tanh": 0.5})
    drawing = signal_propagation(study)
    for ax, quantity in zip(drawing.figure.axes, ("activation_std", "activation_grad_rms"), strict=True):
        for variant in study.variants:
            expected = np.median(recorded(study, variant, quantity, 0), axis=0)
            assert_allclose(lines(ax, variant)[0].get_ydata(), expected)
            assert_allclose([r["median"] for r in of(drawing, quantity=quantity, variant=variant)], expected)
    kept = recorded(study, "tanh", "activation_std", 0)[0]
    assert kept[-1] / kept[0] == pytest.approx(0.25)  # four layers of half the variance
    assert title(drawing.figure).startswith("Before training, tanh multiplies the signal by 0.25 and ")


def test_update_ratio_is_the_median_over_training_beside_its_guide(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["sigmoid", "relu"], seeds=3, layers=5)
    drawing = update_ratio(study)
    ax = drawing.figure.axes[0]
    for variant in study.variants:
        each = [np.median(run.layers["update_ratio"].values, axis=0) for run in study.runs[variant].values()]
        assert_allclose(lines(ax, variant)[0].get_ydata(), np.median(each, axis=0))
        assert_allclose([r["largest"] for r in of(drawing, variant=variant)], np.max(each, axis=0))
    assert lines(ax, "_guide")[0].get_ydata()[0] == 1e-3
    low, high = ax.get_ylim()
    assert low < 1e-3 < high
    assert title(drawing.figure).startswith("sigmoid: a step changes layer 1 by ")


def test_a_study_without_the_quantity_has_nothing_to_draw(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["one", "two"], seeds=1)
    for _, _, run in study.each_run():
        run.layers.clear()
    for figure in (gradient_flow, signal_propagation, update_ratio):
        with pytest.raises(NothingToDraw, match=r"no run has .* in its record"):
            figure(study)
