"""Every shipped config: complete, commented, trained, and keeping what it promises in its `# expect:` line."""

from __future__ import annotations

import operator
import re
from pathlib import Path

import numpy as np
import pytest

from nnvis.config import dump_config, load_config, parse_config, shipped_configs
from nnvis.errors import RunError
from nnvis.experiment import train
from nnvis.figures.facts import first_to_last
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
        assert promise in SYMPTOMS or METRIC.fullmatch(promise) or promise == "status diverged", promise
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
    try:
        run = train(name, where_the_data_are(name), runs=tmp_path, quiet=True, figures=False)
    except RunError:
        run = load_run(next(tmp_path.glob("*/1-seed*")))
    for promise in promises(shipped_configs()[name]):
        assert kept(promise, run), (promise, run.summary["metrics"])


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
    return SYMPTOMS[promise](run) if promise in SYMPTOMS else promise == f"status {run.summary['status']}"


def vanishing(run: Run) -> bool:
    """Whether the first layer starts with less than a millionth of the last layer's gradient."""
    norms = run.layers["grad_norm"]
    return first_to_last(norms.values[0][norms.present[0]]) < 1e-6


def exploding(run: Run) -> bool:
    """Whether gradients start large and end beyond all bounds."""
    norms = run.layers["grad_norm"]
    first, last = (norms.values[row][norms.present[row]] for row in (0, -1))
    return bool(first.max() > 100 and not (np.isfinite(last).all() and last.max() < 1e6))


def overfitting(run: Run) -> bool:
    """Whether the validation loss ends well above its minimum while the training loss still falls."""
    val, training = run.scalars["loss/val"].values, run.scalars["loss/epoch"].values
    best = int(val.argmin())
    return bool(val[-1] > 1.2 * val[best] and training[-1] < 0.5 * training[best])


SYMPTOMS = {"vanishing_gradients": vanishing, "exploding_gradients": exploding, "overfitting": overfitting}
