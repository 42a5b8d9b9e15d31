"""A study in TensorBoard: columns for what varies, a row for each run, figures and verdict, in one file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_up_studies import made_up_study
from watching_boards import Board, running_board, visible_text, wait_for

from nnvis.errors import InputError
from nnvis.record import EventLog, Study, find_runs, is_study, load_run, load_study
from nnvis.record.study import varied_values
from nnvis.record.study_log import hyperparameters, log_run, write_study_log

VARIANTS = {
    "sigmoid": {"model.activation": "sigmoid", "data.kind": "digits"},  # nobody has other data: no column
    "full_batch": {"model.activation": "relu", "training.batch_size": "full"},
    "clipped": {"model.activation": "relu", "training.clip_grad_norm": 1.0},
    "adam": {"model.activation": "relu", "optimizer": {"kind": "Adam", "lr": 0.01}},
}
AXES = {"optimizer.lr": [0.1, 0.001], "model.width": [64, 16, 32]}
SEEDS = (0, 3)


def written(study: Study, folder: Path, png: bytes) -> Study:
    """The study with its log, and one picture."""
    picture = folder / "gradient_flow.png"
    picture.write_bytes(png)
    write_study_log(study, ["sigmoid loses."], [picture])
    return study


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory, picture: bytes) -> Study:
    folder = tmp_path_factory.mktemp("named")
    return written(made_up_study(folder / "activations", VARIANTS, SEEDS, diverged={("adam", 3)}), folder, picture)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory, picture: bytes) -> Study:
    folder = tmp_path_factory.mktemp("grid")
    return written(made_up_study(folder / "sizes", axes=AXES, seeds=SEEDS), folder, picture)


def test_columns_are_what_varies(named: Study, grid: Study) -> None:
    assert {column.title or column.name: column.values for column in hyperparameters(named)} == {
        "variant": ["sigmoid", "full_batch", "clipped", "adam"],
        "model.activation": ["sigmoid", "relu"],
        "training.batch_size": ["64", "full"],
        "training.clip_grad_norm": ["null", "1.0"],
        "optimizer.kind": ["SGD", "Adam"],
        "optimizer.lr": [0.01, 0.1],
        "seed": [0, 3],
    }
    assert {column.name: column.values for column in hyperparameters(grid)} == {
        "optimizer.lr": [0.001, 0.1],
        "model.width": [16, 32, 64],
        "seed": [0, 3],
    }
    assert all(column.is_domain for study in (named, grid) for column in hyperparameters(study))


def test_every_run_has_a_value_in_every_column(tmp_path: Path) -> None:
    """Else TensorBoard draws no line: what a variant lacks is null, as text."""
    adam = {"optimizer": {"kind": "Adam", "lr": 0.01, "amsgrad": True}}
    study = made_up_study(tmp_path / "s", {"sgd": {}, "adam": adam}, seeds=1)
    assert {column.name: column.values for column in hyperparameters(study)} == {
        "name": ["sgd", "adam"],
        "optimizer.kind": ["SGD", "Adam"],
        "optimizer.lr": [0.01, 0.1],
        "optimizer.amsgrad": ["null", "true"],
        "seed": [0],
    }


def test_what_the_variants_of_a_study_have(tmp_path: Path) -> None:
    variants = {
        "base": {},
        "adam": {"optimizer": {"kind": "Adam"}, "model.layers.1.Dropout": 0.5},
        "slow": {"optimizer.lr": 0.01, "training.batch_size": "full"},
    }
    base = {"optimizer": {"kind": "SGD", "lr": 0.1}, "model": {"layers": [{"Linear": 3}, {"Dropout": 0.1}]}}
    (tmp_path / "study.yaml").write_text(json.dumps({"base": base, "variants": variants, "axes": {}}))
    assert varied_values(tmp_path) == {
        "optimizer.kind": ["SGD", "Adam", "SGD"],
        "model.layers.1.Dropout": [0.1, 0.5, 0.1],
        "optimizer.lr": [0.1, None, 0.01],
        "training.batch_size": [None, None, "full"],
    }
    assert varied_values(tmp_path / "elsewhere") == {}


OTHERS = {
    "no study": "name: mine\npages: 12\n",
    "its source": "name: s\nquestion: Which?\nbase: {data: {kind: digits}}\nvariants: {a: {}}\n",
    "nearly one": "{base: {}, axes: {}, variants: {a: 1}}",
    "a list": "- 1\n",
    "no YAML": "a: [",
    "a date that is none": "a: 2026-13-45",
    "empty": "",
}


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS)
def test_somebodys_own_study_yaml_is_no_study(text: str, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(text)
    assert not is_study(tmp_path)
    assert varied_values(tmp_path) == {}
    with pytest.raises(InputError, match=r"study\.yaml: not "):
        load_study(tmp_path)
    run = tmp_path / "mine" / "1-seed0"
    run.mkdir(parents=True)
    with EventLog.create(run) as log:
        log_run(log, run, {"optimizer.lr": 0.1}, ["loss/val"])
    assert load_run(run).path == run


def test_a_record_that_was_damaged_is_told(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", {"a": {}, "b": {}}, seeds=1)
    record = yaml.safe_load((study.path / "study.yaml").read_text())
    for key in record:
        (study.path / "study.yaml").write_text(json.dumps({**record, key: 1}))
        with pytest.raises(InputError, match="not a study that nnvis wrote"):
            load_study(study.path)
    (study.path / "study.yaml").write_text(json.dumps(record))
    for places in ([], {"a": 1}):
        (study.path / "runs.json").write_text(json.dumps(places))
        with pytest.raises(InputError, match=r"runs\.json: not the runs of a study"):
            load_study(study.path)


def test_the_log_is_replaced_and_is_no_run(named: Study, tmp_path: Path, picture: bytes) -> None:
    [before] = named.path.glob("events.out.tfevents.*")
    size = before.stat().st_size
    written(named, tmp_path, picture)
    [after] = named.path.glob("events.out.tfevents.*")
    assert after.stat().st_size == size
    assert named.path not in find_runs(named.path)
    assert len(find_runs(named.path)) == len(VARIANTS) * len(SEEDS)
    with pytest.raises(InputError, match=r"activations: is a study, not a run; the runs in .* are .*adam/1-seed0"):
        load_run(named.path)


def groups(board: Board, columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the dashboard as its own page asks for them: filtered by the columns' domains."""
    filters = [
        {"hparam": info["name"]} | ({"filterDiscrete": info["domainDiscrete"]} if "domainDiscrete" in info else {})
        for info in columns
    ]
    statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
    body = {"experimentName": "", "allowedStatuses": statuses, "sliceSize": 99, "colParams": filters}
    return board.get("hparams/session_groups", request=json.dumps(body))["sessionGroups"]


@pytest.mark.parametrize("load_fast", ["true", "false"], ids=["fast loader", "slow loader"])
@pytest.mark.parametrize("above", [False, True], ids=["the study's folder", "the folder above"])
def test_hparams(named: Study, grid: Study, load_fast: str, above: bool) -> None:
    for study in (named, grid):
        with running_board(study.path.parent if above else study.path, load_fast) as board:
            runs = len(study.variants) * len(SEEDS)
            wait_for(lambda: len(board.get("scalars/tags")) >= runs and board.get("images/tags"), "the study")  # noqa: B023
            experiment = board.get("hparams/experiment", request=json.dumps({"experimentName": ""}))
            columns, rows = experiment["hparamInfos"], groups(board, experiment["hparamInfos"])
            assert {info["name"] for info in columns} == {column.name for column in hyperparameters(study)}
            assert columns[0]["name"] in ("name", "model.width")  # what is varied, before the seed
            metrics = [info["name"]["tag"] for info in experiment["metricInfos"]]
            assert metrics == ["accuracy/val", "loss/val", "accuracy/epoch", "loss/epoch"]
            assert experiment["description"] == study.question
            expected = {f"{study.name}/{variant}/1-seed{seed}" for variant in study.variants for seed in SEEDS}
            assert {row["name"] for row in rows} == expected
            for row in rows:
                assert {*row["hparams"]} >= {info["name"] for info in columns}
                assert len(row["sessions"]) == 1
                assert {value["name"]["tag"] for value in row["metricValues"]} == {*metrics}
            [row] = [row for row in rows if row["name"].endswith(f"{study.variants[1]}/1-seed3")]
            assert row["hparams"]["seed"] == 3
            for key, value in study.overrides[study.variants[1]].items():
                assert row["hparams"][key] == value


DASHBOARDS = {
    "hparams": ["variant", "full_batch", "training.clip_grad_norm", "activations/clipped/1-seed3"],
    "images": ["figures/gradient_flow"],
    "text": ["verdict", "sigmoid loses.", "Which of these learns?"],
}


@pytest.fixture(scope="module")
def board(named: Study) -> Iterator[Board]:
    with running_board(named.path, "false") as board:
        wait_for(lambda: board.get("images/tags"), "the log to be loaded")
        yield board


@pytest.mark.browser
@pytest.mark.parametrize("dashboard", DASHBOARDS)
def test_dashboards_show_the_study(board: Board, browser: Any, dashboard: str, tmp_path: Path) -> None:
    browser.get(f"{board.url}#{dashboard}")
    wait_for(lambda: all(each in visible_text(browser) for each in DASHBOARDS[dashboard]), f"the study in {dashboard}")
    if dashboard == "hparams":
        find = ELEMENTS % "paper-tab"
        next(tab for tab in browser.execute_script(find) if "PARALLEL" in tab.text.upper()).click()
        runs = len(VARIANTS) * len(SEEDS)
        wait_for(lambda: len(browser.execute_script(LINES)) == runs, "a line for each run")
    browser.save_screenshot(str(tmp_path / f"{dashboard}.png"))


ELEMENTS = """
    const all = (node) => [...(node.localName == "%s" ? [node] : []),
        ...[...(node.shadowRoot?.children ?? []), ...node.children].flatMap(all)];
    return all(document.body)"""
LINES = (
    ELEMENTS % "path"
    + """
    .filter(path => path.parentNode.classList.contains("foreground") && path.getAttribute("d")?.startsWith("M"))"""
)
