"""Growth of weights and clip factor of studies, against the record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import layer_series
from made_up_studies import made_up_study
from numpy.testing import assert_allclose
from reading_back import end_labels, lines, title

from nnvis.figures.study_weights import clip_factor, growth, weight_norm
from nnvis.figures.variants import NothingToDraw


def test_growth_is_the_norm_of_all_weights_over_the_first() -> None:
    table = layer_series([0, 10], "ab", [[3.0, 4.0], [6.0, 8.0]])
    assert growth(table).values.tolist() == [1.0, 2.0]
    assert growth(table).times.tolist() == [0, 10]


def test_weight_norm_draws_the_median_over_the_seeds(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["a", "b"], seeds=3, layers=4)
    for seed, run in study.runs["b"].items():
        table = run.layers["weight_norm"]
        run.layers["weight_norm"] = replace(table, values=table.values * np.linspace(1, 2 + 2 * seed, 20)[:, None])
    drawing = weight_norm(study)
    ax = drawing.figure.axes[0]
    assert_allclose(lines(ax, "a")[0].get_ydata(), (4 + 2 * np.arange(20) / 20) / 4)
    assert_allclose(lines(ax, "b")[0].get_ydata()[-1], 1.475 * 4)  # the middle one of 2, 4 and 6 times
    last = [row for row in drawing.rows if row[0] == "b"][-1]
    assert last == ("b", 190.0, *(pytest.approx(1.475 * f) for f in (4, 2, 6)), 3)
    assert title(drawing.figure) == "The weights of b end at 5.9 times their first norm, those of a at 1.48 times"
    assert "■ b: 5.9" in end_labels(ax)


def test_clip_factor_says_how_often_and_how_much(tmp_path: Path) -> None:
    clipped = {"training.clip_grad_norm": 2.0}
    variants = {"calm": clipped, "wild": clipped, "free": {}}
    study = made_up_study(tmp_path / "s", variants, seeds=2, layers=8, gains={"wild": 2.0, "calm": 0.3, "free": 0.3})
    drawing = clip_factor(study)
    ax = drawing.figure.axes[0]
    each = [run.scalars["clip_factor"].values for run in study.runs["wild"].values()]
    assert_allclose(lines(ax, "wild")[0].get_ydata(), np.median(each, axis=0))
    assert_allclose(lines(ax, "calm")[0].get_ydata(), np.ones(20))
    assert title(drawing.figure).startswith("Clipping acts at 100% of the steps of wild, down to 0.0")
    assert f"down to {np.min(each):.2g} of the gradient" in title(drawing.figure)
    assert "Without clipping: free." in drawing.figure.get_supxlabel().replace("\n", " ")


def test_a_study_that_never_clips_has_nothing_to_draw(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", {"a": {"training.clip_grad_norm": 2.0}}, seeds=1, layers=3)
    assert title(clip_factor(study).figure) == "Clipping never acts: no gradient was longer than the limit"
    study = made_up_study(tmp_path / "t", ["a"], seeds=1, layers=3)  # the factor is recorded, and always 1
    with pytest.raises(NothingToDraw, match=r"no run clips its gradients by norm \(training.clip_grad_norm\)"):
        clip_factor(study)
