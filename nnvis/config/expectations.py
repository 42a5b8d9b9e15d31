"""What a study says will come out, line by line: a small, strict language.

parse_expectation("relu_he beats sigmoid on accuracy/val", ["sigmoid", "relu_he"], seeds=5)

A beats B on METRIC                    the interval of the paired difference is on the better side of 0
A no different from B on METRIC        no difference is shown
A: METRIC < 0.3                        the mean over the seeds; also <=, > and >=
A shows SYMPTOM in 4 of 5              in at least so many of the seeds; `in most`: in more than half
A shows no SYMPTOM                     in no seed
A diverges in 3 of 5 · A never diverges
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from nnvis.config.problems import among, shown
from nnvis.config.training_sections import Symptom

Kind = Literal["beats", "no_difference", "mean", "shows", "shows_no", "diverges", "never_diverges"]
Relation = Literal["<", "<=", ">", ">="]

FORMS = {
    "beats": "A beats B on METRIC",
    "different": "A no different from B on METRIC",
    ":": "A: METRIC < NUMBER (or <=, >, >=)",
    "shows": "A shows SYMPTOM in 4 of 5 (or `in most`), A shows no SYMPTOM",
    "diverges": "A diverges in 3 of 5 (or `in most`), A never diverges",
}
"""How each is written, by the word that tells it."""

_MEAN = re.compile(r"(\S+):\s+(\S+?)\s*(<=|>=|<|>)\s*(\S+)")


@dataclass(frozen=True)
class Expectation:
    """One line of `expect`. What its kind does not need is None."""

    kind: Kind
    variant: str
    text: str  # the line as it is written
    other: str | None = None  # the variant that it is compared with
    metric: str | None = None  # "accuracy/val"
    relation: Relation | None = None
    value: float | None = None
    symptom: str | None = None
    count: int | None = None  # of the study's seeds, at least


class UnclearExpectationError(ValueError):
    """A line that says nothing which could hold or not; its text says what is wrong with it."""


def parse_expectation(
    text: str, variants: Collection[str], seeds: int, metrics: Collection[str] | None = None
) -> Expectation:
    """What a line says about these variants over so many seeds. `metrics` are the names that there can be (None: any).

    `in 4 of 5` is a share: with 10 seeds it asks for 8, with 3 seeds for all of them. Raises UnclearExpectationError.
    """

    def a(name: str) -> str:
        return _one_of("variant", name, variants)

    def measured(name: str) -> str:
        return name if metrics is None else _one_of("metric", name, metrics)

    def symptom(name: str) -> str:
        return _one_of("symptom", name, get_args(Symptom))

    if mean := _MEAN.fullmatch(text.strip()):
        variant, metric, relation, number = mean.groups()
        bound = _number(number)
        return Expectation("mean", a(variant), text, metric=measured(metric), relation=relation, value=bound)  # pyright: ignore[reportArgumentType]
    match text.split():
        case [one, "beats", other, "on", metric]:
            return Expectation("beats", a(one), text, other=_another(one, a(other)), metric=measured(metric))
        case [one, "no", "different", "from", other, "on", metric]:
            return Expectation("no_difference", a(one), text, other=_another(one, a(other)), metric=measured(metric))
        case [one, "shows", "no", name]:
            return Expectation("shows_no", a(one), text, symptom=symptom(name))
        case [one, "shows", name, "in", *count]:
            return Expectation("shows", a(one), text, symptom=symptom(name), count=_count(count, seeds))
        case [one, "diverges", "in", *count]:
            return Expectation("diverges", a(one), text, count=_count(count, seeds))
        case [one, "never", "diverges"]:
            return Expectation("never_diverges", a(one), text)
        case words:
            marks = [":" if word.endswith(":") else word for word in words]
            forms = [form for mark, form in FORMS.items() if mark in marks] or list(FORMS.values())
            raise UnclearExpectationError(f"{shown(text)} is not clear; write {' · '.join(forms)}")


def _one_of(what: str, name: str, names: Collection[str]) -> str:
    if name not in names:
        raise UnclearExpectationError(f"{shown(name)} is no {what}{among(name, names)}")
    return name


def _another(one: str, other: str) -> str:
    if one == other:
        raise UnclearExpectationError(f"{one} is compared with itself")
    return other


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UnclearExpectationError(f"{shown(text)} is not a number")
    return number


def _count(words: list[str], seeds: int) -> int:
    """How many of `seeds` are asked for: `most`, or a share `4 of 5`."""
    if words == ["most"]:
        return seeds // 2 + 1
    match [int(word) if re.fullmatch(r"[0-9]{1,9}", word) else word for word in words]:
        case [int(some), "of", int(of)] if 1 <= some <= of:
            return -(-some * seeds // of)  # rounded up
    raise UnclearExpectationError(f"{shown(' '.join(words))} is no share of the seeds; write `in 4 of 5`, or `in most`")
