"""Every shipped config: complete, commented, trained, and keeping what it promises in its `# expect:` line."""

from __future__ import annotations

import operator
import re
from pathlib import Path

import numpy as np
import pytest

from nnvis.config import dump_config, load_config, parse_config, shipped_configs
from nnvis.diagnosis import RULES, diagnose
from nnvis.errors import RunError
from nnvis.experiment import train
from nnvis.record import Run, load_run

FASHION = Path("/usr/share/datasets/fashion-mnist")
CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"), key=lambda path: path.stem)
SLOW = {"adding_lstm", "fashion_cnn", "names_text", "sunspots_forecast"}


def where_the_data_are(name: str) -> list[str]:
    """Overrides that a config needs to find its data offline; skips where they are not installed."""
    if name != "fashion_cnn":
        return []
    if not FASHION.is_dir():
        pytest.skip("Fashion-MNIST is not installed")
    return [f"data.root={FASHION}"]


def test_there_are_thirteen() -> None:
    assert [path.stem for path in CONFIGS] == [
        "adding_lstm",
        "breast_cancer_mlp",
        "diabetes_regression",
        "digits_cnn",
        "digits_mlp",
        "exploding_relu",
        "fashion_cnn",
        "moons_mlp",
        "names_text",
        "overfit_digits",
        "spirals_mlp",
        "sunspots_forecast",
        "vanishing_sigmoid",
    ]
    assert shipped_configs() == {path.stem: path for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_opens_with_its_question_command_and_expectation(path: Path) -> None:
    hint, question, command, expectation, *rest = path.read_text(encoding="utf-8").splitlines()
    assert hint == "# yaml-language-server: $schema=schema.json"
    assert re.fullmatch(r"# [A-Z].*\?", question)
    assert command == f"# nnvis train {path.stem}"
    assert promises(path), expectation
    for promise in promises(path):
        assert promise in RULES or METRIC.fullmatch(promise) or promise == "status diverged", promise
    for line in rest:  # what else the opening suggests can be done
        if match := re.fullmatch(r"# .*nnvis train (\S+) (.*)", line):
            overrides = match[2].replace("FOLDER", str(FASHION)).split()
            load_config(match[1], overrides)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_reads_back_equal_and_is_named_for_its_file(path: Path) -> None:
    config = load_config(path)
    assert config.name == path.stem.replace("_", "-")
    assert parse_config(dump_config(config)) == config


@pytest.mark.parametrize("name", [path.stem for path in CONFIGS])
def test_it_trains(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["training.epochs=null", "training.steps=2", "capture.every=1", "data.train_size=100"]
    overrides += where_the_data_are(name)
    run = train(name, overrides, runs=tmp_path, figures=False)
    assert run.summary["status"] == "completed"
    unseen = run.summary["capture"]["unseen"]
    assert all(layer.endswith(".out_proj") for layer in unseen), unseen  # torch calls attention's by its function
    assert capsys.readouterr().err.count("not measured: ") == bool(unseen)
    assert list(run.layers["grad_norm"].steps) == [0, 1]
    assert np.isfinite(run.layers["grad_norm"].values).any(axis=1).all()


@pytest.mark.parametrize(
    "name", [pytest.param(path.stem, marks=[pytest.mark.slow] * (path.stem in SLOW)) for path in CONFIGS]
)
@pytest.mark.timeout(1800)
def test_it_keeps_its_promise(name: str, tmp_path: Path) -> None:
    run = trained(name, [], tmp_path)
    for promise in promises(shipped_configs()[name]):
        assert kept(promise, run), (promise, run.summary["metrics"])
    assert errors(run) <= symptoms(name) | (BY_THE_WAY if symptoms(name) else set())


METRIC = re.compile(r"(train|val|test) (\w+) (>=|<=) ([\d.]+)")


def promises(path: Path) -> list[str]:
    """What the config's fourth line says, promise by promise."""
    return path.read_text(encoding="utf-8").splitlines()[3].removeprefix("# expect: ").split(", ")


def kept(promise: str, run: Run) -> bool:
    """Whether a finished run is what was promised."""
    if match := METRIC.fullmatch(promise):
        split, metric, relation, number = match.groups()
        compare = operator.ge if relation == ">=" else operator.le
        return compare(run.summary["metrics"][split][metric], float(number))
    return promise in errors(run) or promise == f"status {run.summary['status']}"


BY_THE_WAY = {"not_learning", "nonfinite_values"}
"""What a sick network may show beside its disease."""


def errors(run: Run) -> set[str]:
    """The symptoms of severity error."""
    return {finding.symptom for finding in diagnose(run) if finding.severity == "error"}


def trained(name: str, overrides: list[str], folder: Path, *, quiet: bool = True) -> Run:
    """The run of a config, diverged or not."""
    try:
        return train(name, [*where_the_data_are(name), *overrides], runs=folder, quiet=quiet, figures=False)
    except RunError:
        return load_run(next(folder.glob("*/1-seed*")))


def symptoms(name: str) -> set[str]:
    """What is wrong with a shipped network, as its fourth line promises."""
    return {promise for promise in promises(shipped_configs()[name]) if promise in RULES}


SICK = [path.stem for path in CONFIGS if symptoms(path.stem)]


def test_three_of_them_are_sick() -> None:
    assert SICK == ["exploding_relu", "overfit_digits", "vanishing_sigmoid"]


def test_vanishing_is_told_before_a_fifth_of_the_budget(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = trained("vanishing_sigmoid", [], tmp_path, quiet=False)
    told = re.search(r"^step (\d+): vanishing_gradients: ", capfd.readouterr().err, flags=re.MULTILINE)
    assert told
    assert int(told[1]) <= run.summary["steps"] / 5


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize("name", [path.stem for path in CONFIGS])
def test_ten_seeds_get_the_right_verdict(name: str, tmp_path: Path) -> None:
    seeds = range(10)
    found = [errors(trained(name, [f"seed={seed}"], tmp_path / str(seed))) for seed in seeds]
    right = [
        symptoms(name) <= one and one <= symptoms(name) | (BY_THE_WAY if symptoms(name) else set()) for one in found
    ]
    assert sum(right) >= (0.9 if symptoms(name) else 1) * len(seeds), found
