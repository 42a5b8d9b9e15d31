"""The figure of a finding: the right one, with the place marked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from reading_back import title

from nnvis import figures
from nnvis.diagnosis import RULES
from nnvis.figures.findings import MARK, SHOWN_BY
from nnvis.figures.gallery import FIGURES
from nnvis.record import Finding
from nnvis.record.run import Run

MakeRun = Callable[..., Run]


def finding(symptom: str, first_step: int = 0, layers: tuple[str, ...] = (), severity: str = "error") -> Finding:
    evidence = "linear1 gets 3e-13 (99% interval 2e-13 to 4e-13) of the gradient at the output; the loss does not fall"
    return Finding(symptom, severity, layers, first_step, 1.0, 0.5, evidence)


def marks(fig: Figure) -> list[Any]:
    return [artist for ax in fig.axes for artist in (*ax.patches, *ax.lines) if artist.get_label() == MARK]


def test_every_symptom_has_its_figure() -> None:
    assert set(SHOWN_BY) <= set(RULES)
    assert set(SHOWN_BY.values()) <= set(FIGURES)


def test_layers_of_the_gradient_flow_are_shaded(make_run: MakeRun) -> None:
    run = make_run(20, "vanishing")
    fig = figures.finding_figure(run, finding("vanishing_gradients", layers=("linear1", "linear2", "linear5")))
    assert [(mark.get_x(), mark.get_x() + mark.get_width()) for mark in marks(fig)] == [(-0.5, 1.5), (3.5, 4.5)]
    assert title(fig) == "Vanishing gradients: linear1 gets 3e-13 of the gradient at the output"


def test_a_title_of_several_lines_has_room(make_run: MakeRun) -> None:
    told = replace(finding("vanishing_gradients"), evidence="one two three four five six seven eight nine ten " * 3)
    fig = figures.finding_figure(make_run(20, "vanishing"), told)
    above = fig._suptitle.get_window_extent()  # pyright: ignore
    assert above.y0 >= max(ax.get_window_extent().y1 for ax in fig.axes)
    assert above.x1 <= fig.bbox.width


def test_the_last_step_is_boxed_so_that_it_is_seen(make_run: MakeRun) -> None:
    run = make_run(6, "dead")
    fig = figures.finding_figure(run, finding("dead_units", 10**6, ("act4",)))
    (box,) = marks(fig)
    left, right = fig.axes[0].get_xlim()
    assert box.get_width() == pytest.approx((right - left) / 40)
    assert box.get_x() + box.get_width() == pytest.approx(right)


def test_cells_of_a_heat_map_are_boxed_from_the_first_step_on(make_run: MakeRun) -> None:
    run = make_run(6, "dead")
    fig = figures.finding_figure(run, finding("dead_units", 300, ("act4", "act5")))
    (box,) = marks(fig)
    assert isinstance(box, Rectangle)
    assert (box.get_x(), box.get_y(), box.get_height()) == (300, 2.5, 2)
    assert box.get_x() + box.get_width() == pytest.approx(fig.axes[0].get_xlim()[1])


@pytest.mark.parametrize("symptom", ["overfitting", "not_learning", "output_mismatch"])
def test_the_first_step_is_a_line_in_the_learning_curves(make_run: MakeRun, symptom: str) -> None:
    run = make_run(4, "overfitting")
    fig = figures.finding_figure(run, finding(symptom, 230))
    lines = marks(fig)
    assert len(lines) == 2  # loss and accuracy
    assert all(list(line.get_xdata()) == [10, 10] for line in lines)  # epochs of 23 steps


@pytest.mark.parametrize("symptom", list(RULES))
@pytest.mark.parametrize("story", ["healthy", "diverged"])
def test_every_finding_can_be_drawn(make_run: MakeRun, tmp_path: Path, symptom: str, story: str) -> None:
    files = figures.draw_findings(make_run(3, story), [finding(symptom, 20, ("linear1",))], tmp_path)
    if symptom != "saturated_activations":  # ReLU has no bounds
        assert files == [tmp_path / f"finding_{symptom}.png"]
        assert files[0].stat().st_size > 10_000
    else:
        assert files == []


def test_notes_are_not_drawn(make_run: MakeRun, tmp_path: Path) -> None:
    assert figures.draw_findings(make_run(3), [finding("dead_units", severity="info")], tmp_path) == []
