"""YAML 1.2's core schema, with places."""

from __future__ import annotations

import math
from typing import Any

import pytest

from nnvis.config.yaml_text import Place, read_yaml, write_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1E5", 1e5), ("+.5", 0.5), ("5.", 5.0), ("-.inf", -math.inf), (".INF", math.inf),
        ("12", 12), ("010", 10), ("0o10", 8), ("0x1F", 31), ("-7", -7), ("1_000", "1_000"), ("1:30", "1:30"),
        ("true", True), ("False", False), ("yes", "yes"), ("off", "off"), ("y", "y"),
        ("~", None), ("", None), ("Null", None),
        ("2001-01-01", "2001-01-01"), ("'12'", "12"), ("!!str 12", "12"), ("!!float 12", 12.0), ("=", "="),
        ("{a: 1}", {"a": 1}), ("[1, [2]]", [1, [2]]), ("e3", "e3"), (".", "."), ("1e", "1e"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    document = read_yaml(text, "a.yaml")
    assert (document.data, type(document.data)) == (value, type(value))
    assert not document.problems
    assert read_yaml(write_yaml(value), "a.yaml").data == value


def test_places_of_keys_and_values() -> None:
    document = read_yaml("a:\n  b: [10, {c: 1e-3}]\n  'd':   x\n", "a.yaml")
    assert document.place(()) == Place("a.yaml", 1, 1)
    assert document.place(("a", "b", 1, "c")) == Place("a.yaml", 2, 15)
    assert document.place(("a", "b", 1, "c"), at_key=True) == Place("a.yaml", 2, 12)
    assert document.place(("a", "d")) == Place("a.yaml", 3, 10)
    assert document.place(("a", "b", 5, "nothing")) == Place("a.yaml", 2, 6)  # the list around it


def test_anchors_and_merge_keys() -> None:
    text = "base: &base {lr: 0.1, betas: [1, 2]}\none: {<<: *base, lr: 0.2}\n"
    text += "two: {lr: 3, <<: [{x: 1, y: 1}, {y: 2}, *base]}\n"
    document = read_yaml(text, "a.yaml")
    assert document.data["one"] == {"lr": 0.2, "betas": [1, 2]}
    assert document.data["two"] == {"lr": 3, "x": 1, "y": 1, "betas": [1, 2]}
    assert document.place(("one", "lr")) == Place("a.yaml", 2, 22)
    assert document.place(("one", "betas")) == Place("a.yaml", 1, 30)
    document.data["one"]["betas"].append(3)
    assert document.data["base"]["betas"] == [1, 2]  # nothing is shared


def test_a_merged_key_is_no_duplicate_but_a_repeated_one_is() -> None:
    assert not read_yaml("a: {<<: {b: 1}, b: 2}", "a.yaml").problems
    (problem,) = read_yaml("a: {b: 1, b: 2}", "a.yaml").problems
    assert str(problem) == "a.yaml:1:11: a.b: is given twice, first in line 1"
