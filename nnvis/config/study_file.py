"""What a study's file may hold, section by section, and what is wrong with one that holds something else.

told, problems = checked(document)      # fields by name: those that are right
flat({"model": {"activation": "relu"}}) # (("model", "activation"), "model.activation", "relu")
combined({"optimizer.lr": [0.1, 1]})    # ("lr=0.1", [Change(…)]), ("lr=1", [Change(…)])
"""

# ruff: noqa: RUF012  (pydantic copies defaults)

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema, model_validator

from nnvis.config.base import FORMS, Name, Section, refusal, refuse
from nnvis.config.explaining import explain_one
from nnvis.config.problems import Problem, among, closest, shown
from nnvis.config.schema import Config
from nnvis.config.torch_arguments import Complaint
from nnvis.config.yaml_text import Document
from nnvis.config.yaml_text import Path as Steps

Figure = Literal[
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
    "learning_curves",
    "overfitting",
    "learning_rate",
    "lr_range_test",
    "summary",
    "parallel_coordinates",
]
"""What can be drawn of a study."""

MAX_VARIANTS, MAX_SEEDS = 200, 1000
MAX_NAME = 120  # it becomes a folder's
RESERVED = ("figures", "study.yaml", "runs.json", "comparison.json")
"""What lies in a study's directory beside its variants."""

SECTIONS = tuple(name for name in Config.model_fields if name not in ("name", "seed"))
_NAME, _NAME_IN_WORDS = next(iter(FORMS.items()))


_VARIANTS = {
    "type": "object",
    "minProperties": 1,
    "maxProperties": MAX_VARIANTS,
    "propertyNames": {"pattern": _NAME},
    "additionalProperties": {"type": ["object", "null"]},
}
_VALUES = {"type": "array", "minItems": 1, "uniqueItems": True}
_GRID = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {"anyOf": [_VALUES, {"type": "object", "additionalProperties": _VALUES}]},
}
_SEED = {"type": "integer", "minimum": 0, "exclusiveMaximum": 2**32}
_SEEDS = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": MAX_SEEDS},
        {"type": "array", "items": _SEED, "minItems": 1, "maxItems": MAX_SEEDS, "uniqueItems": True},
    ]
}
_FIGURES = {"type": "array", "items": {"enum": list(get_args(Figure))}}
_LINE = {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1, "maxProperties": 1}
_LINES = {"type": "array", "items": {"anyOf": [{"type": "string"}, _LINE]}}


def _a_base(raw: Any) -> Any:
    if not isinstance(raw, str | dict) or not raw:
        raise refusal(Complaint((), f"should be a config, its file or the name of a shipped one, got {shown(raw)}"))
    return raw


def _some_variants(raw: Any) -> Any:
    if raw is None:  # left out
        return None
    if not isinstance(raw, dict) or not raw:
        raise refusal(Complaint((), f"should be a mapping `name: {{key: value}}`, got {shown(raw)}"))
    complaints = []
    for name, overrides in raw.items():
        if not re.match(_NAME, name):
            complaints.append(Complaint((name,), f"a name should be {_NAME_IN_WORDS}", at_key=True))
        elif len(name) > MAX_NAME:
            complaints.append(Complaint((name,), f"a name should have at most {MAX_NAME} letters", at_key=True))
        elif name in RESERVED:
            complaints.append(Complaint((name,), "is what a study's own file or folder is called", at_key=True))
        if isinstance(overrides, dict):
            complaints += [each._replace(path=(name, *each.path)) for each in _misplaced(overrides)]
        elif overrides is not None:
            complaints.append(Complaint((name,), f"should be a mapping `key: value`, got {shown(overrides)}"))
    if len(raw) > MAX_VARIANTS:
        complaints.append(Complaint((), f"should be at most {MAX_VARIANTS} variants, got {len(raw):,}"))
    refuse(complaints)
    return raw


def _a_grid(raw: Any) -> Any:
    if raw is None:  # left out
        return None
    if not isinstance(raw, dict) or not raw:
        raise refusal(Complaint((), f"should be a mapping `key: [values]`, got {shown(raw)}"))
    complaints = list(_misplaced(raw))
    for path, _, values in flat(raw):
        if not isinstance(values, list) or not values:
            complaints.append(Complaint(path, f"should be a list of values, got {shown(values)}"))
            continue
        twice = [index for index, value in enumerate(values) if _in(value, values[:index])]
        complaints += [Complaint((*path, index), f"{shown(values[index])} is given twice") for index in twice]
    refuse(complaints)
    count = math.prod(len(values) for _, _, values in flat(raw))
    if count > MAX_VARIANTS:
        raise refusal(Complaint((), f"should make at most {MAX_VARIANTS} variants, makes {count:,}"))
    if long := next((name for name, _ in combined(raw) if len(name) > MAX_NAME), None):
        raise refusal(Complaint((), f"makes a name of {len(long)} letters ({long}); name them, under variants"))
    twice = [name for name, times in Counter(name for name, _ in combined(raw)).items() if times > 1]
    if twice:
        raise refusal(Complaint((), f"two of its variants would be called {twice[0]}; name them, under variants"))
    return raw


def _misplaced(overrides: Mapping[str, Any]) -> Iterator[Complaint]:
    """What is no key of a config, or given twice."""
    seen: set[str] = set()
    for path, key, _ in flat(overrides):
        if key in seen:
            yield Complaint(path, "is given twice", at_key=True)
        seen.add(key)
        if not all(key.split(".")):
            yield Complaint(path, "a key leads to a value by names and dots, as in optimizer.lr", at_key=True)
        elif key == "seed":
            yield Complaint(path, "is for the whole study: seeds: 5, or a list", at_key=True)
        elif key == "name":
            yield Complaint(path, "is the variant's own; leave it out", at_key=True)


def _some_seeds(raw: Any) -> Any:
    """A list of seeds, from a list or a number of them."""
    seeds = list(range(raw)) if type(raw) is int and 1 <= raw <= MAX_SEEDS else raw
    if not isinstance(seeds, list) or not seeds or len(seeds) > MAX_SEEDS:
        raise refusal(Complaint((), f"should be a list of seeds, or how many (1 to {MAX_SEEDS}), got {shown(raw)}"))
    refuse(
        Complaint((index,), f"should be a whole number from 0 to {2**32 - 1}, got {shown(seed)}")
        for index, seed in enumerate(seeds)
        if type(seed) is not int or not 0 <= seed < 2**32
    )
    refuse(Complaint((index,), f"{seed} is given twice") for index, seed in enumerate(seeds) if seed in seeds[:index])
    return seeds


def _known_figures(raw: Any) -> Any:
    names = get_args(Figure)
    if not isinstance(raw, list):
        raise refusal(Complaint((), f"should be a list of names, got {shown(raw)}{among(raw, names)}"))
    refuse(
        Complaint((index,), f"{shown(name)} is no figure{among(name, names)}")
        for index, name in enumerate(raw)
        if name not in names
    )
    return raw


def _some_lines(raw: Any) -> Any:
    if not isinstance(raw, list):
        raise refusal(Complaint((), f"should be a list of lines, got {shown(raw)}"))
    lines = _lines(raw)
    refuse(
        Complaint((index,), f"should be a line of text, got {shown(line)}")
        for index, line in enumerate(lines)
        if not isinstance(line, str)
    )
    return lines


def _lines(raw: list[Any]) -> list[Any]:
    """As lines of text: YAML takes `a: accuracy/val > 0.9` for a mapping, which is as good."""
    return [
        f"{next(iter(each))}: {text}"
        if isinstance(each, dict) and len(each) == 1 and isinstance(text := next(iter(each.values())), str)
        else each
        for each in raw
    ]


class StudyFile(Section):
    """One config, varied: what do the variants do, over several seeds?"""

    name: Name
    """Names the study's folder: letters, digits, `.`, `_`, `-`, `=` and `,`."""
    question: Annotated[str, Field(min_length=1)]
    """What the study is to answer."""
    base: Annotated[Any, BeforeValidator(_a_base)]
    """What is varied: a config in place, a file (relative to this one), or the name of a shipped config."""
    variants: Annotated[Any, BeforeValidator(_some_variants), WithJsonSchema(_VARIANTS)] = None
    """What each variant changes: name -> {key: value}; nothing for the base as it is."""
    grid: Annotated[Any, BeforeValidator(_a_grid), WithJsonSchema(_GRID)] = None
    """Instead of variants, every combination: {key: [values]}."""
    seeds: Annotated[Any, BeforeValidator(_some_seeds), WithJsonSchema(_SEEDS)] = Field(
        default_factory=lambda: [0, 1, 2, 3, 4]
    )
    """A list, or how many (from 0 on)."""
    figures: Annotated[Any, BeforeValidator(_known_figures), WithJsonSchema(_FIGURES)] = []
    """What is drawn; left out: whatever suits the study."""
    expect: Annotated[Any, BeforeValidator(_some_lines), WithJsonSchema(_LINES)] = []
    """What will come out: `a beats b on accuracy/val`, `a: loss/val < 0.1`, `a shows dead_units in 4 of 5`, …"""

    @model_validator(mode="after")
    def _varies(self) -> StudyFile:
        refuse(_one_of_two({"variants": self.variants, "grid": self.grid}))
        return self


def _one_of_two(data: Mapping[str, Any]) -> Iterator[Complaint]:
    if (data.get("variants") is None) == (data.get("grid") is None):
        path = () if data.get("grid") is None else ("grid",)
        yield Complaint(path, "give either variants (name: {key: value}) or a grid (key: [values])", at_key=True)


def flat(overrides: Mapping[str, Any]) -> Iterator[tuple[Steps, str, Any]]:
    """(where it is written, dotted key, value) of each override: sections are opened unless they name their kind."""
    for key, value in overrides.items():
        if key in SECTIONS and isinstance(value, dict) and value and "kind" not in value:
            yield from (((key, below), f"{key}.{below}", inner) for below, inner in value.items())
        else:
            yield (key,), key, value


class Change(NamedTuple):
    """One override of a variant."""

    written: Steps  # where in the study's file
    key: str
    value: Any


def combined(grid: Mapping[str, Any]) -> Iterator[tuple[str, list[Change]]]:
    """Every combination of a grid's values, the last axis first: (name, its overrides)."""
    axes = list(flat(grid))
    last = Counter(key.rpartition(".")[2] for _, key, _ in axes)
    choices = [
        [Change(("grid", *path, index), key, value) for index, value in enumerate(values)] for path, key, values in axes
    ]
    for combination in itertools.product(*choices):
        keys = (short if last[short := change.key.rpartition(".")[2]] == 1 else change.key for change in combination)
        pairs = (f"{_word(key)}={_word(change.value)}" for key, change in zip(keys, combination, strict=True))
        yield ",".join(pairs).lstrip("._=,-"), list(combination)


def _word(value: Any) -> str:
    """A value as a part of a file's name."""
    match value:
        case dict():
            return "-".join(map(_word, value.values()))
        case list():
            return "x".join(map(_word, value))
        case float():
            short = f"{value:g}"
            text = (short if float(short) == value else repr(value)).replace("+", "")
        case str():
            text = value
        case _:
            text = json.dumps(value)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)  # as a run's name may be


def _in(value: Any, values: list[Any]) -> bool:
    """Whether it is among them; 1 and true are two."""
    return any(type(each) is type(value) and each == value for each in values)


def checked(document: Document) -> tuple[dict[str, Any], list[Problem]]:
    """The fields that are right, and all that is wrong with the others."""
    try:
        return StudyFile.model_validate(document.data).model_dump(), list(document.problems)
    except ValidationError as error:
        details: list[Any] = error.errors(include_url=False)
    problems = [*document.problems, *(problem for detail in details for problem in _explained(detail, document))]
    if all(detail["loc"] for detail in details):  # what is asked of the whole was not asked
        problems += [document.problem(*complaint) for complaint in _one_of_two(document.data)]
    wrong = {detail["loc"][0] for detail in details if detail["loc"]}
    right = {name: value for name, value in document.data.items() if name not in wrong}
    return right | _right_parts(document.data, wrong), problems


def _right_parts(data: dict[str, Any], wrong: set[Any]) -> dict[str, Any]:
    """Seeds and lines as they are read, and the right ones of wrong variants and lines: to find what else is wrong."""
    parts: dict[str, Any] = {}
    if "seeds" in data and "seeds" not in wrong:
        parts["seeds"] = _some_seeds(data["seeds"])
    if isinstance(lines := data.get("expect"), list):
        parts["expect"] = _lines(lines)
    if "variants" in wrong and isinstance(variants := data["variants"], dict) and len(variants) <= MAX_VARIANTS:
        parts["variants"] = {
            name: overrides
            for name, overrides in variants.items()
            if re.match(_NAME, name) and name not in RESERVED
            if overrides is None or (isinstance(overrides, dict) and not [*_misplaced(overrides)])
        }
    return parts


def _explained(detail: Any, document: Document) -> Iterator[Problem]:
    key = detail["loc"][0] if detail["loc"] else ""
    if detail["type"] == "extra_forbidden":
        own = among(key, list(StudyFile.model_fields))
        home = (
            f'; did you mean "base.{key}"?' if key in SECTIONS and closest(key, StudyFile.model_fields) is None else ""
        )
        yield document.problem((key,), f"unknown key{own}{home}", at_key=True)
    elif detail["type"] == "missing":
        yield document.problem((key,), "is missing")
    else:
        yield from explain_one(detail, document)
