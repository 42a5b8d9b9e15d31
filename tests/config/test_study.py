"""A study's file becomes the configs that are compared."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnvis.config import (
    ConfigError,
    StudyConfig,
    dump_study,
    is_study_file,
    load_config,
    load_study_config,
    parse_config,
    parse_expectation,
    parse_study,
    schema_text,
    shipped_configs,
    shipped_studies,
    study_schema,
)
from nnvis.config.expectations import Expectation, UnclearExpectationError
from nnvis.config.training_sections import Symptom
from nnvis.config.yaml_text import read_yaml, write_yaml
from nnvis.diagnosis import RULES
from nnvis.record import load_study

BASE = """
name: a-study
question: Which learns?
base:
  seed: 7
  data: {kind: digits, val_fraction: 0.2}
  model: {kind: mlp, hidden: [8], init: {kind: orthogonal, gain: 2}}
  optimizer: {kind: SGD, lr: 0.1, momentum: 0.9}
  training: {epochs: 3}
"""


def study(rest: str, *overrides: str, **options: Any) -> StudyConfig:
    return parse_study(f"{BASE}{rest}", "a.yaml", overrides, **options)


# ---------------------------------------------------------------- variants


def test_a_variant_is_the_base_with_its_changes() -> None:
    found = study("variants:\n  plain:\n  slow: {optimizer.lr: 0.001, training: {epochs: 9}}\nseeds: [4, 2]")
    assert found.variants == {"plain": {}, "slow": {"optimizer.lr": 0.001, "training.epochs": 9}}
    assert found.seeds == (4, 2)
    assert found.axes == {}
    by_hand = parse_config(
        "{name: slow, seed: 2, data: {kind: digits, val_fraction: 0.2}, "
        "model: {kind: mlp, hidden: [8], init: {kind: orthogonal, gain: 2}}, "
        "optimizer: {kind: SGD, lr: 0.001, momentum: 0.9}, training: {epochs: 9}}"
    )
    assert found.config_of("slow", 2) == by_hand
    assert found.config_of("plain", 4).optimizer.arguments["lr"] == 0.1
    assert (found.config_of("plain", 4).name, found.config_of("plain", 4).seed) == ("plain", 4)


@pytest.mark.parametrize(
    ("nested", "dotted"),
    [
        ("model: {activation: tanh, norm: layer}", "model.activation: tanh, model.norm: layer"),
        ("training: {early_stopping.patience: 3}", "training.early_stopping.patience: 3"),
        ("optimizer: {lr: 1}", "optimizer.lr: 1"),
    ],
)
def test_a_section_means_the_same_as_dotted_keys(nested: str, dotted: str) -> None:
    assert study(f"variants: {{a: {{{nested}}}}}").configs == study(f"variants: {{a: {{{dotted}}}}}").configs


def test_a_section_with_its_kind_and_any_other_mapping_replace() -> None:
    found = study("variants: {a: {optimizer: {kind: Adam, lr: 0.01}, model: {init: {kind: normal, std: 0.5}}}}")
    config = found.config_of("a", 0)
    assert config.optimizer.arguments == {"lr": 0.01}  # no momentum, which Adam would refuse
    model: Any = config.model
    assert (model.init.kind, model.init.gain, model.init.std) == ("normal", None, 0.5)
    assert list(found.variants["a"]) == ["optimizer", "model.init"]


def test_merge_keys_share_changes() -> None:
    found = study("variants:\n  a: &a {training.epochs: 2}\n  b: {<<: *a, optimizer.lr: 1}")
    assert found.variants["b"] == {"training.epochs": 2, "optimizer.lr": 1}


# ---------------------------------------------------------------- grids


def test_a_grid_is_every_combination_in_the_files_order() -> None:
    found = study("grid: {optimizer.lr: [0.00001, 0.5, 1000000.0], model: {activation: [relu, tanh]}}")
    assert list(found.variants) == [
        "lr=1e-05,activation=relu",
        "lr=1e-05,activation=tanh",
        "lr=0.5,activation=relu",
        "lr=0.5,activation=tanh",
        "lr=1e06,activation=relu",
        "lr=1e06,activation=tanh",
    ]
    assert found.axes == {"optimizer.lr": [0.00001, 0.5, 1e6], "model.activation": ["relu", "tanh"]}
    assert found.variants["lr=0.5,activation=tanh"] == {"optimizer.lr": 0.5, "model.activation": "tanh"}
    assert found.config_of("lr=0.5,activation=tanh", 3).optimizer.arguments["lr"] == 0.5
    again = parse_config(write_yaml({**BASE_DATA, "name": "lr=1e06,activation=relu"}))  # usable with --name
    assert again.name == "lr=1e06,activation=relu"


BASE_DATA: dict[str, Any] = {"data": {"kind": "digits"}, "model": {"kind": "mlp", "hidden": [8]}}


def test_names_of_a_grid_are_told_apart_and_make_folders() -> None:
    found = study(
        "grid: {data.kind: [digits], model.kind: [mlp], model.hidden: [[], [8, 4]], "
        "model.init: [orthogonal, {kind: normal, std: 0.25}], training.clip_grad_norm: [null], model.bias: [true]}"
    )
    with_plain = "data.kind=digits,model.kind=mlp,hidden=8x4,init=orthogonal,clip_grad_norm=null,bias=true"
    assert list(found.variants)[2:] == [with_plain, with_plain.replace("orthogonal", "normal-0.25")]


def test_two_hundred_variants_are_the_most() -> None:
    assert len(study(f"grid: {{optimizer.lr: {list(range(1, 201))}}}").variants) == 200
    with pytest.raises(ConfigError, match="should make at most 200 variants, makes 201"):
        study(f"grid: {{optimizer.lr: {list(range(1, 202))}}}")


# ---------------------------------------------------------------- bases, overrides


def test_a_base_is_found_by_path_beside_the_study_then_by_name(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "rows.csv").write_text("a,b\n1,2\n")
    (tmp_path / "sub" / "mine.yaml").write_text(
        "name: mine\ndata: {kind: csv, path: rows.csv, target: b}\nmodel: {kind: mlp, hidden: [3]}\n"
    )
    text = "name: s\nquestion: Which?\nbase: {}\nvariants: {{a: {{}}, b: {{data.path: other.csv}}}}\n"
    (tmp_path / "by_path.yaml").write_text(text.format("sub/mine.yaml"))
    (tmp_path / "by_name.yaml").write_text(text.format("digits_mlp").replace("data.path: other.csv", ""))
    found = load_study_config(tmp_path / "by_path.yaml")
    assert found.base.data.path == str(tmp_path / "sub" / "rows.csv")  # pyright: ignore[reportAttributeAccessIssue]
    assert found.config_of("b", 0).data.path == str(tmp_path / "other.csv")  # pyright: ignore[reportAttributeAccessIssue]
    assert load_study_config(tmp_path / "by_name.yaml").base == load_config("digits_mlp")


def test_overrides_go_to_the_base_or_to_the_study() -> None:
    rest = "variants:\n  a: {optimizer.lr: 0.5}\n  b: {training.epochs: 9}\n"
    found = study(rest, "seeds=2", "training.epochs=2", "base.optimizer.lr=0.25", "name=other")
    assert (found.name, found.seeds) == ("other", (0, 1))
    assert [found.config_of(name, 0).training.epochs for name in "ab"] == [2, 9]
    assert [found.config_of(name, 0).optimizer.arguments["lr"] for name in "ab"] == [0.5, 0.25]
    assert study(rest, "base=digits_mlp").base == load_config("digits_mlp")
    assert study(rest, "variants.a.optimizer.momentum=0.5").config_of("a", 0).optimizer.arguments["momentum"] == 0.5


def test_users_code_needs_trust() -> None:
    rest = "variants: {a: {model: {kind: python, target: 'a:b'}}}"
    with pytest.raises(ConfigError, match="allow it with --trust"):
        study(rest)
    assert study(rest, trust=True).config_of("a", 0).model.kind == "python"


def test_the_record_reads_what_is_dumped(tmp_path: Path) -> None:
    found = study(
        "grid: {optimizer.lr: [0.1, 1], model.init: [orthogonal, {kind: normal, std: 1}]}\nseeds: 3\n"
        "figures: [summary]\nexpect:\n  - lr=1,init=orthogonal beats lr=0.1,init=orthogonal on loss/val\n"
        "  - lr=1,init=normal-1: accuracy/val < 0.5\n"
    )
    (tmp_path / "study.yaml").write_text(dump_study(found), encoding="utf-8")
    read = load_study(tmp_path)
    assert (read.name, read.question) == (found.name, found.question)
    assert read.variants == tuple(found.variants)
    assert read.overrides == found.variants
    assert read.axes == {key: tuple(values) for key, values in found.axes.items()}
    assert (read.seeds, read.figures) == (found.seeds, found.figures)
    assert [parse_expectation(line, read.variants, len(read.seeds)) for line in read.expect] == list(found.expect)
    base = read_yaml(dump_study(found), "a").data["base"]
    assert parse_config(write_yaml(base)) == found.base


# ---------------------------------------------------------------- expectations


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("a beats b on accuracy/val", {"kind": "beats", "other": "b", "metric": "accuracy/val"}),
        ("a no different from b on loss/val", {"kind": "no_difference", "other": "b", "metric": "loss/val"}),
        ("a: accuracy/val < 0.3", {"kind": "mean", "metric": "accuracy/val", "relation": "<", "value": 0.3}),
        ("a: seconds>=1e3", {"kind": "mean", "metric": "seconds", "relation": ">=", "value": 1000.0}),
        ("a shows dead_units in 4 of 5", {"kind": "shows", "symptom": "dead_units", "count": 4}),
        ("a  shows dead_units in most", {"kind": "shows", "symptom": "dead_units", "count": 3}),
        ("a shows no dead_units", {"kind": "shows_no", "symptom": "dead_units"}),
        ("a diverges in 2 of 5", {"kind": "diverges", "count": 2}),
        ("a diverges in most", {"kind": "diverges", "count": 3}),
        ("a never diverges", {"kind": "never_diverges"}),
    ],
)
def test_each_form_of_line(line: str, meaning: dict[str, Any]) -> None:
    expected = Expectation(variant="a", text=line, **meaning)
    assert parse_expectation(line, ["a", "b"], 5, ["accuracy/val", "loss/val", "seconds"]) == expected


@pytest.mark.parametrize(("seeds", "count"), [(1, 1), (2, 2), (3, 3), (5, 4), (10, 8)])
def test_a_count_is_a_share_of_the_seeds(seeds: int, count: int) -> None:
    assert parse_expectation("a diverges in 4 of 5", ["a"], seeds).count == count


@pytest.mark.parametrize(("seeds", "count"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_most_is_more_than_half(seeds: int, count: int) -> None:
    assert parse_expectation("a diverges in most", ["a"], seeds).count == count


def test_symptoms_are_the_rules_of_diagnosis() -> None:
    assert set(get_args(Symptom)) == set(RULES)


def test_a_metric_must_be_one_that_runs_have() -> None:
    with pytest.raises(ConfigError, match="choices: loss/train, loss/val, seconds, parameters"):
        study("variants: {a: {}}\nexpect: ['a: accuracy/val > 0']", "base=diabetes_regression")
    with pytest.raises(ConfigError, match='"loss/test" is no metric'):
        study("variants: {a: {}}\nexpect: ['a: loss/test < 1']")
    assert study("variants: {a: {data.test_fraction: 0.1}}\nexpect: ['a: loss/test < 1']").expect


# ---------------------------------------------------------------- nothing whatever gives a traceback

QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
TEXTS = [path.read_text(encoding="utf-8") for path in shipped_studies().values()]
TEXTS += [path.read_text(encoding="utf-8") for path in (Path(__file__).parent / "golden" / "studies").glob("*.yaml")]
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["name", "seed", "a", "model", "model.init", "optimizer.lr", "digits_mlp", "a beats b on loss/val", "<<", "a..b"]
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


def survives(text: str, overrides: tuple[str, ...] = ()) -> None:
    try:
        parse_study(text, "a.yaml", overrides)
    except ConfigError as error:
        lines = str(error).splitlines()
        assert lines
        assert all(": " in line and line.isprintable() and len(line) < 2000 for line in lines)


@QUICK
@given(st.text())
def test_random_text(text: str) -> None:
    survives(text)


@QUICK
@given(st.sampled_from(TEXTS), st.integers(0, 2000), st.integers(0, 20), st.text(max_size=5))
def test_a_study_with_a_piece_replaced(text: str, start: int, length: int, piece: str) -> None:
    survives(text[:start] + piece + text[start + length :])
    survives(text[:start])


@QUICK
@given(st.sampled_from(TEXTS[:11]), st.data())
def test_a_study_with_a_value_of_the_wrong_type(text: str, data: st.DataObject) -> None:
    raw = read_yaml(text, "a.yaml").data
    here: Any = raw
    while True:
        key = data.draw(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here))))
        if not isinstance(here[key], dict | list) or not here[key] or data.draw(st.booleans()):
            break
        here = here[key]
    here[key] = data.draw(plain)
    survives(write_yaml(raw))


@QUICK
@given(st.sampled_from(TEXTS), st.lists(words), words)
def test_any_override(text: str, parts: list[str], value: str) -> None:
    survives(text, (f"{'.'.join(parts)}={value}", value, "base=x\0y"))


@QUICK
@given(words | st.lists(words).map(" ".join))
def test_any_line(line: str) -> None:
    with suppress(UnclearExpectationError):
        assert parse_expectation(line, ["a", "b"], 5).text == line


# ---------------------------------------------------------------- what there is


def test_a_study_is_told_from_a_config() -> None:
    assert all(is_study_file(name) and is_study_file(path) for name, path in shipped_studies().items())
    assert not any(is_study_file(name) or is_study_file(path) for name, path in shipped_configs().items())
    assert not shipped_configs().keys() & shipped_studies().keys()


def test_the_committed_schema_is_current() -> None:
    committed = Path(__file__).parents[2] / "configs" / "studies" / "schema.json"
    assert json.loads(committed.read_text(encoding="utf-8")) == study_schema(), f"nnvis schema --study -o {committed}"
    assert json.loads(schema_text(study=True)) == study_schema()


def test_the_schema_takes_shipped_studies_and_refuses_broken_ones() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(study_schema())
    validator = jsonschema.Draft202012Validator(study_schema())
    for path in shipped_studies().values():
        validator.validate(read_yaml(path.read_text(encoding="utf-8"), path.name).data)
    good = {"name": "a", "question": "b?", "base": BASE_DATA, "variants": {"a": None}}
    validator.validate(good)
    for wrong in (
        {"grid": {"a": [1]}},
        {"variants": {}},
        {"variants": {"a b": {}}},
        {"variants": {"a": 3}},
        {"seeds": 0},
        {"seeds": [1, 1]},
        {"figures": ["sumary"]},
        {"base": {"data": {"kind": "digit"}}},
        {"sed": 1},
    ):
        assert not validator.is_valid({**good, **wrong}), wrong
        with pytest.raises(ConfigError):
            parse_study(write_yaml({**good, **wrong}))
