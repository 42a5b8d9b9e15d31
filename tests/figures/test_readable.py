"""Every figure of every sort of record: no text over another, off the canvas, or too small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from made_up_runs import LONG
from matplotlib.figure import Figure
from overlaps import overlap, problems, shown_texts

from nnvis.figures.curves import learning_curves_compared
from nnvis.figures.gallery import FIGURES
from nnvis.figures.gradients import gradient_flow
from nnvis.figures.reading import NoData
from nnvis.record.run import Run

RECORDS: dict[str, dict[str, Any]] = {
    "three layers, one measured step": {"layers": 3, "steps": [0]},
    "a single layer, no validation, no accuracy": {"layers": 1, "val": False, "accuracy": False},
    "twenty long names, diverged": {"layers": 20, "story": "diverged", "names": LONG},
    "twenty, dead": {"layers": 20, "story": "dead"},
    "a hundred long names": {"layers": 100, "names": LONG, "story": "overfitting"},
}


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("figure", [*list(FIGURES)[:6], "dead_fraction"])
def test_texts_do_not_overlap(make_run: Callable[..., Run], figure: str, record: str) -> None:
    run = make_run(**RECORDS[record])
    try:
        fig = FIGURES[figure](run)
    except NoData:
        return
    assert problems(fig) == []


@pytest.mark.parametrize("compared", [gradient_flow, learning_curves_compared])
def test_comparisons_do_not_overlap(make_run: Callable[..., Run], compared: Callable[..., Figure]) -> None:
    runs = [make_run(21, "stuck", name="runs/demo-sigmoid/1-seed0"), make_run(21, name="runs/demo-relu/1-seed0")]
    assert problems(compared(*runs)) == []


def test_the_check_finds_an_overlap_and_a_lost_text() -> None:
    fig = Figure()
    fig.text(0.5, 0.5, "one")
    fig.text(0.51, 0.5, "two", fontsize=7)
    fig.text(0.99, 0.9, "beyond the edge")
    assert [p.split("'")[2] for p in problems(fig)] == [" is 7.0 pt", " leaves the canvas", " overlaps "]


def test_the_check_sees_ticks_titles_and_labels(make_run: Callable[..., Run]) -> None:
    texts = {text.get_text() for text in shown_texts(gradient_flow(make_run(21), make_run(3)))}
    assert {"linear1", "linear3", "linear21", "1", "gradient norm", "● step 0"} <= texts
    assert "linear2" in texts  # of the second panel, which has room for all


def test_turned_boxes_overlap_only_where_they_meet() -> None:
    square = np.array([[0.0, 0], [10, 0], [10, 10], [0, 10]])
    diamond = np.array([[0.0, -10], [10, 0], [0, 10], [-10, 0]])
    assert overlap(square, diamond)
    assert not overlap(square, diamond + np.array([16, 16]))  # their upright boxes still meet
