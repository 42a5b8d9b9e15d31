"""A study from its file to its verdict: several processes, what is missing, what fails, what is interrupted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from small_studies import small_study

import nnvis
from nnvis import cli
from nnvis.config.study import load_study_config
from nnvis.errors import InputError, RunError
from nnvis.experiment import train
from nnvis.record import Run, Study, read_json
from nnvis.record.files import claimed
from nnvis.studies import running
from nnvis.studies.plan import Plan

VARIANTS = {"relu": {}, "tanh": {"model.activation": "tanh"}, "wild": {"optimizer.lr": 1e30}}
CRASHING = """
import os, signal
import torch

def killed():
    os.kill(os.getpid(), signal.SIGKILL)

def left():
    print("this is no event")
    os._exit(7)

def fine():
    print("this is no event")
    return torch.nn.Linear(2, 2)
"""


def weights(run: Run) -> dict[str, torch.Tensor]:
    return torch.load(run.path / "checkpoints" / "last.pt", weights_only=True)["model"]


def assert_same_weights(a: Run, b: Run) -> None:
    ours, theirs = weights(a), weights(b)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Three variants of two seeds, by two processes."""
    folder = tmp_path_factory.mktemp("finished")
    return nnvis.compare(small_study(folder, variants=VARIANTS, seeds=2), runs=folder / "runs", jobs=2, quiet=True)


def test_a_study_leaves_runs_a_comparison_and_figures(finished: Study) -> None:
    assert finished.path.name == "small"
    assert (finished.variants, finished.seeds, finished.missing) == (("relu", "tanh", "wild"), (0, 1), {})
    statuses = {(variant, seed): run.summary["status"] for variant, seed, run in finished.each_run()}
    assert statuses == {(v, s): "diverged" if v == "wild" else "completed" for v in VARIANTS for s in (0, 1)}
    places = read_json(finished.path / "runs.json")
    for variant, seed, run in finished.each_run():
        assert run.path == finished.path / places[variant][str(seed)]
        assert (run.config["name"], run.config["seed"], run.config["training"]["threads"]) == (variant, seed, 1)
    compared = read_json(finished.path / "comparison.json")["variants"]
    losses = [run.summary["metrics"]["val"]["loss"] for run in finished.runs["tanh"].values()]
    assert compared["tanh"]["metrics"]["loss/val"]["mean"] == pytest.approx(sum(losses) / 2)
    assert list((finished.path / "figures").glob("*.png"))


def test_results_do_not_depend_on_the_number_of_processes(finished: Study, tmp_path: Path) -> None:
    one = nnvis.compare(small_study(tmp_path, variants=VARIANTS, seeds=2), runs=tmp_path / "runs", jobs=1, quiet=True)
    for variant in ("relu", "tanh"):
        for seed in (0, 1):
            assert_same_weights(one.runs[variant][seed], finished.runs[variant][seed])
    config = load_study_config(tmp_path / "small.yaml").config_of("tanh", 1)
    alone = train(config, ["training.threads=1"], runs=tmp_path / "alone", quiet=True, figures=False)
    assert_same_weights(one.runs["tanh"][1], alone)


def test_only_what_is_missing_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, runs = small_study(tmp_path, variants={"relu": {}}), tmp_path / "runs"
    first = nnvis.compare(file, runs=runs)
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["[1/1] relu, seed 0"]
    log = next(first.runs["relu"][0].path.glob("events*")).stat()
    small_study(tmp_path, variants={"relu": {}, "tanh": {"model.activation": "tanh"}})
    grown = nnvis.compare(file, ["seeds=[0, 2]"], runs=runs)
    told = [line.split(":")[0] for line in capsys.readouterr().err.splitlines()]
    assert told == ["[2/4] tanh, seed 0", "[3/4] relu, seed 2", "[4/4] tanh, seed 2"]
    assert grown.runs["relu"][0].path == first.runs["relu"][0].path
    assert next(grown.runs["relu"][0].path.glob("events*")).stat() == log  # untouched
    (grown.path / "comparison.json").unlink()
    again = nnvis.compare(file, ["seeds=[0, 2]"], runs=runs)
    assert capsys.readouterr().err == ""
    assert (again.path / "comparison.json").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_what_fails_leaves_the_others_and_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crashing.py").write_text(CRASHING, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # with it nothing could be lost
    variants = {
        name: {"model": {"kind": "python", "target": f"crashing:{name}"}}
        for name in ("killed", "left", "nowhere", "fine")
    }
    file = small_study(tmp_path, variants=variants)
    assert cli.main(["compare", str(file), "--runs", str(tmp_path / "runs"), "--jobs", "2", "--trust"]) == 1
    out, err = capfd.readouterr()
    assert out.splitlines()[-1] == str(tmp_path / "runs" / "small")
    assert err.count("this is no event") == 2
    failed = [line.removeprefix("failed: ") for line in err.splitlines() if line.startswith("failed: ")]
    assert failed[0] == "killed, seed 0: its process was killed (SIGKILL); was there enough memory?"
    assert failed[1] == "left, seed 0: its process ended with exit code 7; what it said is above"
    assert failed[2].startswith("nowhere, seed 0: model.target: crashing:nowhere")
    assert len(failed) == 3
    assert read_json(tmp_path / "runs" / "small" / "runs.json").keys() == {"fine"}


def test_where_nothing_came_to_its_end_there_is_nothing_to_compare(tmp_path: Path) -> None:
    file = small_study(tmp_path, base={"data": {"kind": "csv", "path": "nowhere.csv", "target": "y"}}, seeds=2)
    with pytest.raises(RunError, match=r"small: no run came to its end\nas_it_is, seed 0 and 1 more: .*nowhere.csv"):
        nnvis.compare(file, runs=tmp_path / "runs", quiet=True)


def interrupt(command: list[str], signum: int, until: Callable[[], bool]) -> list[str]:
    """What a command tells that is interrupted as soon as something is so."""
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # tests in the background are started deaf to it
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heard) as process:
        while not until():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signum)
        assert process.stderr
        told = process.stderr.read().splitlines()
    assert process.returncode == 130
    return told


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_an_interrupted_study_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    file, runs = small_study(tmp_path, variants={"relu": {}, "tanh": {"model.activation": "tanh"}}), tmp_path / "runs"
    long = "training.epochs=1000"  # 3,000 steps: seconds, of which the signal has to meet one
    command = [sys.executable, "-m", "nnvis", "compare", str(file), long, "--runs", str(runs)]
    first, second = (runs / "small" / name / "1-seed0" for name in ("relu", "tanh"))

    told = interrupt(command, signal.SIGINT, lambda: (first / "checkpoints" / "last.pt").exists())
    assert told == [
        "the runs in progress save and end; once more to end them at once",
        "interrupted with 0 of 2 runs done; the same command goes on with the rest",
    ]
    summary = read_json(first / "summary.json")
    assert summary["status"] == "interrupted"
    assert 0 < summary["steps"] < 3000
    assert not second.exists()

    told = interrupt(command, signal.SIGTERM, lambda: (second / "checkpoints" / "last.pt").exists())
    assert told[-1] == "interrupted with 1 of 2 runs done; the same command goes on with the rest"
    assert read_json(second / "summary.json")["status"] == "interrupted"

    study = nnvis.compare(file, [long], runs=runs, quiet=True)
    tasks = Plan.of(load_study_config(file, [long]), tmp_path / "elsewhere").tasks
    for task, path in zip(tasks, (first, second), strict=True):
        assert study.runs[task.variant][0].path == path
        whole = train(task.config, runs=tmp_path / "whole", quiet=True, figures=False)
        assert_same_weights(study.runs[task.variant][0], whole)


def test_one_study_at_a_time_in_a_directory(tmp_path: Path) -> None:
    (tmp_path / "runs" / "small").mkdir(parents=True)
    with claimed(tmp_path / "runs" / "small", "running this study"):
        assert cli.main(["compare", str(small_study(tmp_path)), "--runs", str(tmp_path / "runs")]) == 2


@pytest.mark.parametrize("name", ["small.yaml", "study.yaml"])
def test_somebodys_own_study_yaml_is_never_replaced(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the file that is compared, nor another one where the study's record would lie."""
    folder = tmp_path / "small"
    folder.mkdir()
    own = small_study(folder).rename(folder / "study.yaml")
    before = own.read_text(encoding="utf-8")
    source = own if name == own.name else small_study(tmp_path)
    assert cli.main(["compare", str(source), "--runs", str(tmp_path)]) == 2
    assert f"{own}: is not written by nnvis" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["study.yaml"]
    assert own.read_text(encoding="utf-8") == before


def test_another_study_of_the_same_name_takes_no_directory_over(
    finished: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished.path, tmp_path / "runs" / "small")
    file, record = tmp_path / "small.yaml", tmp_path / "runs" / "small" / "study.yaml"
    before = record.read_text(encoding="utf-8")
    small_study(tmp_path, question="Which one forgets?", variants=VARIANTS, seeds=2, base={"optimizer": {"lr": 0.3}})
    with pytest.raises(InputError, match=r"small: holds another study \(its question: Which one learns\?\); choose"):
        nnvis.compare(file, runs=tmp_path / "runs", quiet=True)
    assert record.read_text(encoding="utf-8") == before

    monkeypatch.setattr(running, "_conclude", lambda study, board: None)
    small_study(tmp_path, question="Which one learns best?", variants=VARIANTS, seeds=2)  # the same one, its runs too
    study = nnvis.compare(file, runs=tmp_path / "runs", quiet=True)
    assert (study.question, study.missing) == ("Which one learns best?", {})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"jobs": 0}, "jobs: should be"), ({"on": "spark"}, r"on: should be ray or ray://ADDRESS, got spark")],
)
def test_what_cannot_be_is_refused_before_anything_is_made(tmp_path: Path, options: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        nnvis.compare(small_study(tmp_path), runs=tmp_path / "runs", **options)
    assert not (tmp_path / "runs").exists()


def test_comparing_imports_no_torch_but_in_its_workers(finished: Study) -> None:
    file, runs = finished.path.parents[1] / "small.yaml", finished.path.parent
    code = f"import nnvis, sys; nnvis.compare({str(file)!r}, runs={str(runs)!r}); print('torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (printed.stdout, printed.stderr) == ("False\n", "")


def test_figures_are_drawn_again(finished: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["figures", str(finished.path), "--out", str(tmp_path)]) == 0
    drawn = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert drawn
    assert all(path.parent == tmp_path and path.with_suffix(".csv").exists() for path in drawn)
