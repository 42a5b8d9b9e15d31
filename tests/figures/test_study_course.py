"""A study's curves, rates and results: what is drawn is what was recorded, and the rows beside it say the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import build_run
from made_up_studies import made_up_study
from numpy.testing import assert_allclose
from overlaps import problems
from reading_back import end_labels, lines, title
from scipy import stats

from nnvis.comparison import compare
from nnvis.figures.seeds import Course, over_seeds
from nnvis.figures.study_curves import learning_curves, overfitting
from nnvis.figures.study_rates import learning_rate, lr_range_test, rises, turning_points
from nnvis.figures.study_results import duration, parallel_coordinates, summary
from nnvis.figures.studying import draw_study
from nnvis.figures.variants import NothingToDraw, StudyFigure
from nnvis.figures.varied import naming, varied
from nnvis.record import Study
from nnvis.record.run import Recorded, Run
from nnvis.record.vocabulary import Series

SIX = ["sigmoid", "tanh", "relu_he", "batch_norm", "residual", "sigmoid_better_init"]
FOURTEEN = [f"{kind}_{i}" for kind in ("tanh", "relu") for i in ("zero", "one", "low", "high", "xavier", "he", "ortho")]
RATES = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
AXES = {"optimizer.lr": [0.1, 0.01], "model.width": [16, 64, 256], "model.activation": ["relu", "tanh"]}


def in_memory(runs: dict[str, dict[int, Run]]) -> Study:
    """A study of runs that are on no disk."""
    seeds = tuple(sorted({seed for by_seed in runs.values() for seed in by_seed}))
    overrides = {variant: {"model.width": i} for i, variant in enumerate(runs)}
    return Study(Path("s"), "s", "?", tuple(runs), overrides, {}, seeds, (), (), Recorded(runs), {})


def of_stories(**stories: str) -> Study:
    return in_memory({v: {seed: build_run(3 + seed, story) for seed in range(5)} for v, story in stories.items()})


def rates_study(folder: Path) -> Study:
    points = {
        f"{kind}-{lr:g}": {"optimizer.kind": kind, "optimizer.lr": lr} for kind in ("SGD", "Adam") for lr in RATES
    }
    best = {"SGD": 3, "Adam": 1}
    scores = {f"{k}-{lr:g}": 0.95 - 0.1 * abs(i - at) for k, at in best.items() for i, lr in enumerate(RATES)}
    broken = {("SGD-10", seed) for seed in range(5)} | {("Adam-10", 1), ("Adam-1", 2)}
    return made_up_study(folder, points, seeds=5, scores=scores, diverged=broken)


def range_study(seeds: int = 3, *, falls: float = -3.0) -> Study:
    """Runs whose rate rises from 1e-6 to 10: the loss falls fastest at 10**falls, and blows up from 10**-0.5 on."""

    def run(seed: int) -> Run:
        x = np.linspace(-6, 1, 351)
        loss = 2.3 - 2 / (1 + np.exp(-4 * (x - falls))) + np.where(x > -0.5, np.expm1(8 * (x + 0.5)), 0) + 1e-3 * seed
        scalars = {"loss/train": Series(np.arange(351) * 2, loss), "lr": Series(np.arange(351) * 2, 10.0**x)}
        return replace(build_run(3), scalars=Recorded(scalars), summary={})

    return in_memory({"sgd": {seed: run(seed) for seed in range(seeds)}})


def table(drawing: StudyFigure, **where: Any) -> list[dict[str, Any]]:
    """The rows with these values, as dictionaries."""
    rows = [dict(zip(drawing.columns, row, strict=True)) for row in drawing.rows]
    return [row for row in rows if all(row[key] == value for key, value in where.items())]


def column(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


def recorded(study: Study, variant: str, tag: str) -> Any:
    """(S, T) of the seeds."""
    return np.array([run.scalars[tag].values for run in study.runs[variant].values()])


# ---------------------------------------------------------------- a curve over the seeds


def test_a_curve_over_seeds_is_their_median_and_range() -> None:
    t = np.array([1.0, 2, 3])
    spread = over_seeds([Course(t, np.array(v, float)) for v in ([1, 2, 3], [5, 1, 4], [3, 9, 0])])
    assert_allclose([spread.median, spread.low, spread.high], [[3, 2, 3], [1, 1, 0], [5, 9, 4]])
    assert spread.seeds.tolist() == [3, 3, 3]


def test_a_diverged_seed_is_the_worst_in_the_median_and_not_in_the_range() -> None:
    t = np.array([1.0, 2, 3])
    whole = Course(t, np.array([3.0, 2, 1]))
    broken = Course(t[:2], np.array([4.0, np.nan]), broken=True)
    one = over_seeds([whole, whole, broken])
    assert_allclose([one.median, one.low, one.high], [[3, 2, 1]] * 3)
    two = over_seeds([whole, broken, broken])
    assert_allclose([two.median, two.low], [[4, np.inf, np.inf], [3, 2, 1]])
    assert math.isnan(over_seeds([broken]).low[0])


def test_seeds_that_stopped_early_leave_the_curve_and_half_of_them_end_it() -> None:
    lengths = (4, 3, 2, 1)
    spread = over_seeds([Course(np.arange(n, dtype=float), np.full(n, float(n))) for n in lengths])
    assert spread.times.tolist() == [0, 1, 2]
    assert_allclose(spread.median, [2.5, 3, 3.5])
    assert spread.seeds.tolist() == [4, 3, 2]


def test_seeds_measured_at_other_times_are_interpolated() -> None:
    other = Course(np.array([0.0, 4]), np.array([0.0, 8]))
    spread = over_seeds([Course(np.array([0.0, 2, 4]), np.array([0.0, 0, 0])), other])
    assert_allclose(spread.high, [0, 4, 8])


# ---------------------------------------------------------------- learning curves


@pytest.mark.parametrize("variants", [["sigmoid", "relu"], SIX])
def test_learning_curves_draw_the_median_and_the_range_of_the_record(tmp_path: Path, variants: list[str]) -> None:
    study = made_up_study(tmp_path / "s", variants, seeds=4, gaps={"relu": 0.1}, noise=0.03)
    drawing = learning_curves(study)
    curves = {
        ("train", 0): "loss/epoch",
        ("val", 0): "loss/val",
        ("train", 1): "accuracy/epoch",
        ("val", 1): "accuracy/val",
    }
    for variant in variants:
        for (split, panel), tag in curves.items():
            values = recorded(study, variant, tag)
            (line,) = lines(drawing.figure.axes[panel], f"{variant} {split}")
            assert_allclose(line.get_ydata(), np.median(values, axis=0))
            assert_allclose(line.get_xdata(), np.arange(1, 11))
            assert (line.get_linestyle() == "--") == (split == "val")
            rows = table(drawing, variant=variant, curve=f"{tag.split('/')[0]}/{split}")
            assert_allclose(column(rows, "median"), line.get_ydata())
            assert_allclose(column(rows, "lowest"), values.min(axis=0))
            assert_allclose(column(rows, "highest"), values.max(axis=0))
            assert column(rows, "epoch") == list(range(1, 11))
    assert len(drawing.rows) == len(variants) * 4 * 10


def test_fourteen_variants_have_a_panel_each_on_the_same_axes(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", FOURTEEN, seeds=3, diverged={("relu_high", s) for s in range(3)})
    drawing = learning_curves(study)
    panels = drawing.figure.axes
    assert len(panels) == 14
    assert len({ax.get_ylim() for ax in panels}) == len({ax.get_xlim() for ax in panels}) == 1
    for variant, ax in zip(FOURTEEN, panels, strict=True):
        assert ax.get_title(loc="left").startswith(variant)
        values = np.median(recorded(study, variant, "loss/val"), axis=0)
        assert_allclose(lines(ax, "loss/val")[0].get_ydata(), values)
    assert "3 of 3 diverged" in panels[FOURTEEN.index("relu_high")].get_title(loc="left")
    assert "relu_high diverges" in title(drawing.figure)


def test_diverged_and_missing_runs_are_marked_counted_and_told(tmp_path: Path) -> None:
    broken = {("high", seed) for seed in (0, 1, 2)}
    study = made_up_study(tmp_path / "s", ["high", "low"], seeds=5, diverged=broken, missing={("low", 4)})
    drawing = learning_curves(study)
    loss = drawing.figure.axes[0]
    (crosses,) = lines(loss, "_diverged")
    assert list(crosses.get_xdata()) == [6.0] * 3  # made-up runs diverge after 6 of 10 epochs
    assert any("high\n3 of 5 diverged" in label for label in end_labels(loss))
    assert all(
        math.isinf(row["median"]) for row in table(drawing, variant="high", curve="loss/val") if row["epoch"] > 6
    )
    survivors = recorded(study, "low", "loss/val")
    assert column(table(drawing, variant="low", curve="loss/val"), "seeds") == [4] * 10
    assert loss.get_ylim()[1] < 3 * survivors.max()  # what blows up does not press the others flat
    assert title(drawing.figure).endswith("validation accuracy, high diverges in 3 of 5 seeds")
    caption = drawing.figure.get_supxlabel().replace("\n", " ")
    assert "Diverged: high 3 of 5." in caption
    assert "1 run missing (low)" in caption
    assert compare(study).sentences[1] in caption  # the verdict on what decides


def test_a_run_that_blows_up_has_its_label_at_the_edge_that_it_leaves_through() -> None:
    whole = build_run(3)
    steps, values = whole.scalars["loss/train"].steps, whole.scalars["loss/train"].values
    rising = Series(steps[:4], np.array([1.0, 10.0, 1e4, 1e16]))
    summary = {**whole.summary, "status": "diverged", "steps": int(steps[3]) + 1}
    blown = replace(whole, scalars=Recorded({"loss/train": rising}), summary=summary)
    figure = learning_curves(in_memory({"blown": {0: blown}, "whole": {0: whole}})).figure
    loss = figure.axes[0]
    levels = [float(leader.get_ydata()[0]) for leader in lines(loss, "_leader")]
    assert values.max() < 1e3
    assert levels[0] == pytest.approx(1)
    assert 0 < levels[1] < 1
    assert any("blown 10¹⁶\n1 of 1 diverged" in label for label in end_labels(loss))
    assert problems(figure) == []


def test_one_seed_has_no_range_and_regression_no_accuracy(tmp_path: Path) -> None:
    drawing = learning_curves(made_up_study(tmp_path / "s", ["a", "b"], seeds=[7], accuracy=False))
    (loss,) = drawing.figure.axes
    assert not loss.collections
    assert "One seed: no spread." in drawing.figure.get_supxlabel()
    assert {row[1] for row in drawing.rows} == {"loss/train", "loss/val"}


# ---------------------------------------------------------------- overfitting


def test_overfitting_marks_the_best_epoch_and_writes_the_gap_with_its_interval() -> None:
    study = of_stories(large="overfitting", small="healthy")
    drawing = overfitting(study)
    large, small = drawing.figure.axes
    val, train = recorded(study, "large", "loss/val"), recorded(study, "large", "loss/epoch")
    gaps = val[:, -1] - train[:, -1]
    half = stats.t.ppf(0.975, 4) * gaps.std(ddof=1) / math.sqrt(5)
    (row,) = table(drawing, variant="large", curve="final gap")
    assert_allclose([row["value"], row["low"], row["high"]], [gaps.mean(), gaps.mean() - half, gaps.mean() + half])
    best = val.argmin(axis=1) + 1
    assert_allclose(lines(large, "_best of each seed")[0].get_xdata(), best)
    assert lines(large, "_best")[0].get_xdata() == [np.median(best)] * 2
    assert [p.get_extents().x0 for p in large.patches] == [large.transData.transform((np.median(best), 0))[0]]
    assert not small.patches
    assert f"overfits from epoch {np.median(best):g} in 5 of 5 seeds: final gap {gaps.mean():.3g}" in title(
        drawing.figure
    )
    shaded = np.asarray(next(c for c in large.collections if c.get_label() == "_gap").get_paths()[0].vertices)
    assert shaded[:, 1].max() == pytest.approx(np.median(val, axis=0).max())
    assert shaded[:, 1].min() == pytest.approx(np.median(train, axis=0).min())
    assert_allclose(lines(large, "loss/val")[0].get_ydata(), np.median(val, axis=0))


def test_overfitting_leaves_diverged_seeds_out_of_the_gap(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["a", "b"], seeds=4, diverged={("a", 0)}, gaps={"a": 0.2, "b": 0.05})
    (row,) = table(overfitting(study), variant="a", curve="final gap")
    assert (row["seeds"], row["value"]) == (3, pytest.approx(0.2))
    assert "1 of 4 diverged" in overfitting(study).figure.axes[0].get_title(loc="left")


def test_overfitting_needs_a_validation_loss() -> None:
    study = in_memory({"a": {0: build_run(3, val=False)}})
    with pytest.raises(NothingToDraw, match="no validation loss"):
        overfitting(study)


# ---------------------------------------------------------------- learning rates


def test_learning_rate_draws_a_line_an_optimizer_and_counts_what_diverged(tmp_path: Path) -> None:
    study = rates_study(tmp_path / "s")
    drawing = learning_rate(study)
    (ax,) = drawing.figure.axes
    for kind in ("SGD", "Adam"):
        expected = []
        for lr in RATES:
            runs = study.runs[f"{kind}-{lr:g}"].values()
            losses = [r.summary["metrics"]["val"]["loss"] if r.summary["metrics"] else math.inf for r in runs]
            expected.append(np.median(losses))
        (line,) = lines(ax, kind)
        assert_allclose(line.get_xdata(), RATES)
        assert_allclose(line.get_ydata(), np.where(np.isfinite(expected), expected, np.nan))
        assert_allclose(column(table(drawing, line=kind), "median"), expected)
    assert column(table(drawing, line="Adam"), "diverged") == [0, 0, 0, 0, 1, 1]
    assert sorted(end_labels(ax))[:3] == ["1/5", "1/5", "5/5"]
    rings = sorted(line.get_xdata()[0] for line in lines(ax, "_best"))
    assert_allclose(rings, [1e-3, 0.1])
    first = compare(study).rankings["loss/val"].order[0]  # the figure and the verdict never disagree
    lr, mean = study.overrides[first]["optimizer.lr"], compare(study).outcomes[first].mean("loss/val")
    kind = study.overrides[first]["optimizer.kind"]
    words = f"{kind} is best at learning rate {lr:g}: validation loss {mean:.3g}"
    assert title(drawing.figure).startswith(words)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_a_single_line_of_rates_says_where_runs_diverge(tmp_path: Path) -> None:
    points = {f"lr{lr:g}": {"optimizer.lr": lr} for lr in (0.01, 0.1, 1.0)}
    scores = {"lr0.01": 0.5, "lr0.1": 0.9, "lr1": 0.3}
    study = made_up_study(tmp_path / "s", points, seeds=3, scores=scores, diverged={("lr1", 0), ("lr1", 2)})
    best = np.mean([run.summary["metrics"]["val"]["loss"] for run in study.runs["lr0.1"].values()])
    words = f"The loss is best at learning rate 0.1: validation loss {best:.3g}; 2 of 3 diverge at 1"
    assert title(learning_rate(study).figure) == words


def test_learning_rate_needs_variants_that_differ_in_the_rate_alone(tmp_path: Path) -> None:
    with pytest.raises(NothingToDraw, match=r"differ in nothing but optimizer\.lr"):
        learning_rate(made_up_study(tmp_path / "s", ["sigmoid", "relu"]))


def test_a_range_test_finds_the_steepest_fall_and_the_blow_up() -> None:
    study = range_study()
    drawing = lr_range_test(study)
    (ax,) = drawing.figure.axes
    assert np.log10(lines(ax, "_fastest")[0].get_xdata()[0]) == pytest.approx(-3, abs=0.15)
    assert np.log10(lines(ax, "_blown")[0].get_xdata()[0]) == pytest.approx(-0.4, abs=0.1)
    middle = study.runs["sgd"][1].scalars["loss/train"].values
    assert_allclose(column(drawing_rows := table(drawing), "median")[50:250], middle[50:250], rtol=0.03)
    assert_allclose(np.log10(column(drawing_rows, "learning_rate")), np.linspace(-6, 1, 351))
    assert title(drawing.figure).startswith("The loss falls fastest at learning rate")


def test_turning_points_of_known_curves() -> None:
    x = np.linspace(0, 10, 201)
    assert turning_points(x, 3 - np.tanh(x - 4))[0] == pytest.approx(4, abs=0.1)
    falls, blows = turning_points(x, np.where(x < 6, 2 - 0.3 * x, np.where(x < 8, 0.2, np.inf)))
    assert (0 < falls < 6, blows) == (True, pytest.approx(8))
    assert math.isnan(turning_points(x, 2 - 0.1 * x)[1])
    assert math.isnan(turning_points(x, 1 + x)[0])


def test_a_warm_up_is_no_range_test() -> None:
    up = np.geomspace(1e-5, 1, 50)
    assert rises(up)
    assert rises(np.linspace(1e-5, 1, 50))
    assert not rises(np.concatenate([up[:10], np.full(40, up[9])]))
    assert not rises(np.concatenate([up, up[::-1]]))
    assert not rises(np.full(50, 0.1))
    with pytest.raises(NothingToDraw, match="no range test"):
        lr_range_test(of_stories(a="healthy"))


# ---------------------------------------------------------------- results


@pytest.mark.parametrize("variants", [["sigmoid", "relu"], SIX, FOURTEEN])
def test_summary_is_sorted_and_draws_every_seed_and_the_interval(tmp_path: Path, variants: list[str]) -> None:
    study = made_up_study(tmp_path / "s", variants, seeds=5, noise=0.005)
    drawing = summary(study)
    ax = drawing.figure.axes[0]
    order = [label.get_text() for label in ax.get_yticklabels()]
    assert tuple(order) == compare(study).rankings["accuracy/val"].order
    means = []
    for y, variant in enumerate(order):
        values = [run.summary["metrics"]["val"]["accuracy"] for run in study.runs[variant].values()]
        dots = [line for line in lines(ax, "_seeds") if y < line.get_ydata()[0] < y + 0.5]
        assert_allclose(dots[0].get_xdata(), values)
        (mark,) = lines(ax, variant)
        assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (pytest.approx(np.mean(values)), y)
        low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
        (row,) = table(drawing, variant=variant, seed="mean")
        assert_allclose(
            [row["value"], row["low"], row["high"]],
            [float(np.mean(values)), max(float(low), 0.0), min(float(high), 1.0)],
        )
        assert (lines(ax, "_interval")[y].get_xdata() == [row["low"], row["high"]]).all()
        assert row["parameters"] == 5 * 17 * 16 + 17 * 10
        means.append(np.mean(values))
    assert means == sorted(means, reverse=True)
    side = end_labels(drawing.figure.axes[1])
    assert side.count("1.53k") == len(variants)
    assert side.count("5") == len(variants)


def test_summary_counts_diverged_and_missing_and_names_who_is_steady(tmp_path: Path) -> None:
    broken = {("best", 0), ("lost", 0), ("lost", 1), ("lost", 2)}
    scores = {"best": 0.95, "steady": 0.8, "lost": 0.9}
    study = made_up_study(
        tmp_path / "s", list(scores), seeds=3, scores=scores, diverged=broken, missing={("steady", 2)}
    )
    drawing = summary(study)
    ax, side = drawing.figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["steady", "best", "lost"]
    assert {"2 of 3", "2 of 3, 1 div.", "0 of 3, 3 div.", "no result"} <= set(end_labels(side))
    assert title(drawing.figure).startswith("steady comes first, of those that diverge least, with 8")
    assert math.isnan(table(drawing, variant="lost")[0]["value"])


def test_summary_of_losses_puts_the_lowest_first_and_of_one_seed_draws_no_interval(tmp_path: Path) -> None:
    scores = {"a": 0.4, "b": 0.2}
    study = made_up_study(tmp_path / "s", ["a", "b"], seeds=1, scores=scores, accuracy=False)
    drawing = summary(study)
    ax = drawing.figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "a"]
    assert not lines(ax, "_interval")
    assert ax.get_xlabel() == "validation loss"
    assert "no difference from a is shown" in title(drawing.figure)


def test_nothing_to_sum_up_is_said(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["a"], seeds=2, diverged={("a", 0), ("a", 1)})
    with pytest.raises(NothingToDraw, match="no run has ended with a result; a diverges"):
        summary(study)


def test_parallel_coordinates_lead_through_the_settings_to_the_metric(tmp_path: Path) -> None:
    lost = "lr=0.01,width=64,activation=relu"
    study = made_up_study(tmp_path / "s", axes=AXES, seeds=2, diverged={(lost, 0), (lost, 1)})
    drawing = parallel_coordinates(study)
    (ax,) = drawing.figure.axes
    means = {
        variant: np.mean([run.summary["metrics"]["val"]["accuracy"] for run in runs.values()])
        for variant, runs in study.runs.items()
        if variant != lost
    }
    low, high = min(means.values()), max(means.values())
    heights = {16: 0.0, 64: 0.5, 256: 1.0}
    for variant, mean in means.items():
        (line,) = lines(ax, variant)
        x, y = line.get_xdata(), line.get_ydata()
        assert list(x) == [0, 1, 2, 3]
        assert y[-1] == pytest.approx((mean - low) / (high - low))
        assert abs(y[1] - heights[study.overrides[variant]["model.width"]]) < 0.2
        (row,) = table(drawing, variant=variant)
        assert row["accuracy/val"] == pytest.approx(mean)
        assert row["model.width"] == study.overrides[variant]["model.width"]
    assert lines(ax, lost)[0].get_ydata()[-1] < 0
    assert table(drawing, variant=lost)[0]["diverged"] == 2
    assert max(lines(ax), key=lambda line: line.get_linewidth()).get_label() == max(means, key=lambda v: means[v])


def test_parallel_coordinates_of_losses_have_the_lowest_at_the_top(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", axes=AXES, seeds=1, accuracy=False)
    (ax,) = parallel_coordinates(study).figure.axes
    best = compare(study).rankings["loss/val"].order[0]
    assert lines(ax, best)[0].get_ydata()[-1] == 1


def test_parallel_coordinates_of_two_axes_are_drawn_when_asked_for(tmp_path: Path, told_on_stderr: list[str]) -> None:
    study = made_up_study(tmp_path / "s", axes={"optimizer.lr": [0.1, 0.01], "model.width": [16, 64]}, seeds=1)
    with pytest.raises(NothingToDraw, match="a grid of 2 axes"):
        parallel_coordinates(study)
    (picture,) = draw_study(study, tmp_path / "figures", ["parallel_coordinates"])
    rows = picture.with_suffix(".csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "variant,optimizer.lr,model.width,accuracy/val,diverged"
    assert len(rows) == 5
    assert told_on_stderr == []


# ---------------------------------------------------------------- names and texts


def test_what_variants_differ_in_and_what_they_are_called(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", {"base": {}, "slow": {"optimizer.lr": 0.001}}, seeds=1)
    assert varied(study) == {"optimizer.lr": {"base": 0.1, "slow": 0.001}}
    grid = made_up_study(tmp_path / "g", axes=AXES, seeds=1)
    labels, note = naming(grid, 22)
    assert labels["lr=0.1,width=16,activation=relu"] == "0.1 · 16 · relu"
    assert note == " Names: lr · width · activation."
    assert naming(study, 22) == ({"base": "base", "slow": "slow"}, "")


@pytest.mark.parametrize(("seconds", "words"), [(0.42, "0.42 s"), (59, "59 s"), (204, "3.4 min"), (7560, "2.1 h")])
def test_times_are_written_as_people_do(seconds: float, words: str) -> None:
    assert duration(seconds) == words


FIGURES = (learning_curves, overfitting, learning_rate, lr_range_test, summary, parallel_coordinates)


@pytest.mark.parametrize(
    "study",
    [
        lambda folder: made_up_study(
            folder, SIX, seeds=5, diverged={("tanh", 0), ("relu_he", 1)}, missing={("tanh", 3)}
        ),
        lambda folder: made_up_study(folder, FOURTEEN, seeds=2, diverged={("relu_high", 0), ("relu_high", 1)}),
        lambda folder: made_up_study(folder, ["a", "b"], seeds=1, accuracy=False),
        lambda folder: made_up_study(folder, ["a", "b"], seeds=2, diverged={(v, s) for v in "ab" for s in (0, 1)}),
        lambda folder: made_up_study(folder, axes={**AXES, "model.depth": [1, 2, 5]}, seeds=2),
        rates_study,
        lambda folder: range_study(),
    ],
    ids=["six", "fourteen", "regression", "all diverged", "grid", "rates", "range test"],
)
def test_texts_do_not_overlap(tmp_path: Path, study: Callable[[Path], Study]) -> None:
    shown = study(tmp_path / "s")
    found = {}
    for figure in FIGURES:
        try:
            found[figure.__name__] = problems(figure(shown).figure)
        except NothingToDraw:
            continue
    assert found
    assert not any(found.values()), found
