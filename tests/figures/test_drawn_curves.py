"""Learning curves: what happened, when, and how it is marked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_up_runs import STEPS_PER_EPOCH
from matplotlib.colors import to_hex
from numpy.testing import assert_allclose, assert_array_equal
from reading_back import end_labels, lines, title

from nnvis import figures
from nnvis.figures.style import HEALTHY, SICK
from nnvis.record.run import Recorded, Run
from nnvis.record.vocabulary import Series

MakeRun = Callable[..., Run]


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
    assert title(fig) == "Overfitting: validation loss is best at epoch 3 (1), then rises to 1.5; best accuracy 90%"
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
