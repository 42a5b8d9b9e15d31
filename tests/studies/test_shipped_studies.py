"""Every shipped study: complete, commented, and what it expects comes out over its seeds (the slow test)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nnvis.comparison import compare
from nnvis.config import dump_config, load_study_config, parse_config, shipped_studies
from nnvis.experiment import train
from nnvis.studies import run_study

STUDIES = sorted((Path(__file__).parents[2] / "configs" / "studies").glob("*.yaml"), key=lambda path: path.stem)
HEADLINES = ("exploding", "overfitting", "vanishing")


def test_there_are_twelve() -> None:
    assert [path.stem for path in STUDIES] == [
        "activations",
        "batch_size",
        "depth",
        "exploding",
        "exploding_rnn",
        "initialization",
        "learning_rate",
        "learning_rate_range",
        "optimizers",
        "overfitting",
        "vanishing",
        "width_depth",
    ]
    assert shipped_studies() == {path.stem: path for path in STUDIES}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_it_opens_with_its_question_command_and_expectation(path: Path) -> None:
    hint, question, command, expectation, *_ = path.read_text(encoding="utf-8").splitlines()
    study = load_study_config(path)
    assert hint == "# yaml-language-server: $schema=schema.json"
    assert question == f"# {study.question}"
    assert re.fullmatch(r"# [A-Z].*\?", question)
    assert command == f"# nnvis compare {path.stem}"
    assert re.fullmatch(r"# expect: \S.*", expectation)
    assert study.name == path.stem


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_it_compares_variants_over_five_seeds_and_says_what_comes_out(path: Path) -> None:
    study = load_study_config(path)
    assert len(study.variants) >= 2
    assert study.seeds == (0, 1, 2, 3, 4)
    assert 2 <= len(study.expect) <= 7
    assert len(set(map(dump_config, study.configs.values()))) == len(study.variants)
    for name in study.variants:
        config = study.config_of(name, 3)
        assert parse_config(dump_config(config)) == config


@pytest.mark.parametrize("name", [path.stem for path in STUDIES])
def test_its_first_variant_trains(name: str, tmp_path: Path) -> None:
    study = load_study_config(name)
    config = study.config_of(next(iter(study.variants)), 0)
    two_steps = config.training.model_copy(update={"epochs": None, "steps": 2, "threads": 1})
    run = train(config.model_copy(update={"training": two_steps}), runs=tmp_path, quiet=True, figures=False)
    assert (run.summary["status"], run.summary["steps"]) == ("completed", 2)
    assert run.summary["capture"]["steps_measured"] >= 1
    assert not run.summary["capture"]["unseen"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", [path.stem for path in STUDIES])
def test_what_it_expects_comes_out(name: str, tmp_path: Path) -> None:
    study = run_study(name, runs=tmp_path, jobs=2, quiet=True)
    assert not study.missing
    checked = compare(study).expectations
    assert [each.text for each in checked] == [each.text for each in load_study_config(name).expect]
    assert all(each.holds for each in checked), [(each.text, each.measured) for each in checked if not each.holds]
