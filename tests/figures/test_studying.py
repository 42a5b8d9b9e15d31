"""All figures of a study: files and their numbers, names, failures, and texts that stay apart."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from made_up_studies import made_up_study
from overlaps import problems

from nnvis.config.study_file import Figure
from nnvis.errors import InputError
from nnvis.figures import studying
from nnvis.figures.studying import STUDY_FIGURES, NothingToDraw, StudyFigure, draw_study
from nnvis.record import Study

OF_LAYERS = (
    "gradient_flow",
    "grad_norm_heatmap",
    "activation_std_heatmap",
    "dead_heatmap",
    "saturated_heatmap",
    "difference",
    "signal_propagation",
    "update_ratio",
    "weight_norm",
    "clip_factor",
)
NAMES = ["sigmoid", "tanh", "relu_he", "batch_norm", "residual", "sigmoid_with_a_long_name_of_its_own"]
STUDIES: dict[str, dict[str, Any]] = {
    "two variants, three layers, one seed": {"variants": ["sigmoid", "relu"], "seeds": 1, "layers": 3},
    "six variants, one diverged, one missing": {
        "variants": NAMES,
        "seeds": 2,
        "layers": 20,
        "diverged": {("residual", 1)},
        "missing": {("tanh", 0)},
        "gains": {"sigmoid": 0.25, "residual": 1.1},
    },
    "a grid of long names and differing depth": {
        "axes": {"model.activation": ["sigmoid", "relu"], "model.residual": [True, False], "model.depth": [5, 10]},
        "seeds": 1,
        "layers": 8,
    },
    "fourteen variants, sixty layers": {"variants": [f"width={16 * i}" for i in range(14)], "seeds": 1, "layers": 60},
}


@pytest.fixture(scope="module", params=STUDIES)
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = made_up_study(tmp_path_factory.mktemp("studies") / "study", **STUDIES[request.param])
    if study.axes:  # the last variant's network is deeper than the others
        deeper = made_up_study(study.path / "deeper", study.variants[-1:], seeds=1, layers=30)
        study.runs[study.variants[-1]].update(deeper.runs[study.variants[-1]])
    return study


@pytest.mark.parametrize("name", OF_LAYERS)
def test_texts_do_not_overlap(study: Study, name: str) -> None:
    try:
        drawing = STUDY_FIGURES[name](study)
    except NothingToDraw:
        assert name in ("dead_heatmap", "saturated_heatmap", "clip_factor")
        return
    assert problems(drawing.figure) == []
    assert all(len(row) == len(drawing.columns) for row in drawing.rows)


def test_a_picture_and_its_numbers_lie_side_by_side(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["sigmoid", "relu"], seeds=2, layers=4)
    files = draw_study(study, tmp_path / "out", ["gradient_flow", "difference"])
    assert files == [tmp_path / "out" / "gradient_flow.png", tmp_path / "out" / "difference.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "difference.csv",
        "difference.png",
        "gradient_flow.csv",
        "gradient_flow.png",
    ]
    drawing = STUDY_FIGURES["gradient_flow"](study)
    with (tmp_path / "out" / "gradient_flow.csv").open() as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == drawing.columns
    assert [float(row[4]) for row in rows] == [row[4] for row in drawing.rows]  # to the last bit
    assert {row[1] for row in rows} == {"sigmoid", "relu"}


def test_all_that_suits_is_drawn_where_nothing_is_named(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["relu", "leaky"], seeds=1, layers=3)
    drawn = {path.stem for path in draw_study(study, tmp_path / "out")}
    assert set(OF_LAYERS) - drawn == {"saturated_heatmap", "clip_factor"}  # nothing saturates or is clipped


def test_the_studys_own_names_are_drawn_and_what_cannot_be_is_told(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["relu"], seeds=1, layers=3, figures=["gradient_flow", "saturated_heatmap"])
    with pytest.warns(
        UserWarning, match="saturated_heatmap is not drawn: .*no run has saturated_fraction in its record"
    ):
        files = draw_study(study, tmp_path / "out")
    assert [path.stem for path in files] == ["gradient_flow"]


def test_an_unknown_name_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["relu"], seeds=1, layers=3)
    with pytest.raises(InputError, match=r"no figure 'gradientflow' of a study; there is .*gradient_flow"):
        draw_study(study, tmp_path / "out", ["gradient_flow", "gradientflow"])
    assert not (tmp_path / "out").exists()


def test_a_study_file_may_name_exactly_the_figures_that_there_are() -> None:
    assert sorted(get_args(Figure)) == sorted(STUDY_FIGURES)


def test_a_figure_that_fails_does_not_cost_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Study) -> StudyFigure:
        raise ZeroDivisionError

    table: dict[str, Callable[[Study], StudyFigure]] = {
        "broken": broken,
        "gradient_flow": STUDY_FIGURES["gradient_flow"],
    }
    monkeypatch.setattr(studying, "STUDY_FIGURES", table)
    study = made_up_study(tmp_path / "s", ["relu"], seeds=1, layers=3)
    told: list[str] = []
    assert draw_study(study, tmp_path / "out", say=told.append) == [tmp_path / "out" / "gradient_flow.png"]
    assert told == ["broken could not be drawn: ZeroDivisionError: ; please report it"]
    assert (tmp_path / "out" / "gradient_flow.csv").exists()


def test_figures_of_before_do_not_lie_beside_those_of_now(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["relu", "tanh"], seeds=1, layers=3)
    draw_study(study, tmp_path / "out", ["gradient_flow", "summary"])
    (tmp_path / "out" / "mine.png").touch()
    studying.remove_stale(tmp_path / "out", draw_study(study, tmp_path / "out", ["summary"]))
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["mine.png", "summary.csv", "summary.png"]


def test_an_empty_study_has_no_figures(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["a"], seeds=1, missing={("a", 0)})
    assert draw_study(study, tmp_path / "out") == []


def test_drawing_a_study_needs_neither_torch_nor_pyplot(tmp_path: Path) -> None:
    made_up_study(tmp_path / "s", ["a", "b"], seeds=1, layers=3)
    code = (
        "import sys; from pathlib import Path; from nnvis.record.study import load_study;"
        "from nnvis.figures.studying import draw_study;"
        f"draw_study(load_study({str(tmp_path / 's')!r}), Path({str(tmp_path / 'out')!r}), ['gradient_flow']);"
        "assert not {'matplotlib.pyplot', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_same_study_gives_the_same_numbers(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", ["a", "b"], seeds=2, layers=3)
    for name in OF_LAYERS:
        if name not in ("saturated_heatmap", "clip_factor"):
            first, second = STUDY_FIGURES[name](study), STUDY_FIGURES[name](study)
            assert np.array_equal(
                np.array(first.rows, dtype=object).astype(str), np.array(second.rows, dtype=object).astype(str)
            )
