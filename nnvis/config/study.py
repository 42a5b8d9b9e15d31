"""A study's file: one config varied, over several seeds. Every error as file:line:col. No torch.

    study = load_study_config("vanishing", ["training.epochs=2", "seeds=3"])
    study.variants                    # {"sigmoid": {}, "relu_he": {"model.activation": "relu", …}}
    study.config_of("relu_he", 0)     # the Config of that run
    dump_study(study)                 # the study.yaml that `nnvis.record.load_study` reads

In variants and grids `optimizer.lr: 0.1` and `optimizer: {lr: 0.1}` mean the same. A section that names its `kind`
(`optimizer: {kind: Adam}`), and any other mapping or list, takes the place of what the base has there.
"""

# ruff: noqa: RUF012  (pydantic copies defaults)

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema, model_validator

from nnvis.config.base import FORMS, Name, Section, refusal, refuse
from nnvis.config.dumping import plain
from nnvis.config.expectations import Expectation, UnclearExpectationError, parse_expectation
from nnvis.config.explaining import explain_one
from nnvis.config.loading import (
    file_of,
    in_order,
    no_such_file,
    read_mapping,
    read_text,
    shipped_configs,
    shipped_studies,
    validated,
)
from nnvis.config.overrides import override, store
from nnvis.config.problems import ConfigError, Problem, among, closest, shown
from nnvis.config.schema import Config
from nnvis.config.torch_arguments import Complaint
from nnvis.config.yaml_text import Document, write_yaml
from nnvis.config.yaml_text import Path as Steps

__all__ = [
    "Expectation",
    "Figure",
    "StudyConfig",
    "StudyFile",
    "dump_study",
    "is_study_file",
    "load_study_config",
    "parse_study",
]

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

_SECTIONS = tuple(name for name in Config.model_fields if name not in ("name", "seed"))
_NAME, _NAME_IN_WORDS = next(iter(FORMS.items()))


@dataclass(frozen=True)
class StudyConfig:
    """A study as it was resolved: all its configs are valid."""

    name: str
    question: str
    base: Config
    variants: dict[str, dict[str, Any]]  # by name: dotted key -> value, in the order of the file
    axes: dict[str, list[Any]]  # of a grid: dotted key -> its values; {} for named variants
    seeds: tuple[int, ...]
    figures: tuple[str, ...]  # () for those that suit it
    expect: tuple[Expectation, ...]
    configs: dict[str, Config] = field(repr=False)  # by variant, whatever its seed

    def config_of(self, variant: str, seed: int) -> Config:
        """The config of one run; its name is the variant's."""
        return self.configs[variant].model_copy(update={"seed": seed})


def dump_study(config: StudyConfig) -> str:
    """The YAML that `nnvis.record.load_study` reads, with every value of the base spelled out."""
    return write_yaml(
        {
            "name": config.name,
            "question": config.question,
            "base": plain(config.base),
            "variants": config.variants,
            "axes": config.axes,
            "seeds": list(config.seeds),
            "figures": list(config.figures),
            "expect": [each.text for each in config.expect],
        }
    )


# ---------------------------------------------------------------- what a file may hold

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
    if longest := max((name for name, _ in _combined(raw) if len(name) > MAX_NAME), default=None):
        raise refusal(Complaint((), f"makes a name of {len(longest)} letters ({longest}); name them, under variants"))
    twice = [name for name, times in Counter(name for name, _ in _combined(raw)).items() if times > 1]
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


# ---------------------------------------------------------------- from a file to a study


def load_study_config(source: str | Path, overrides: Sequence[str] = (), *, trust: bool = False) -> StudyConfig:
    """The study in a file, or a shipped one by its name, with `key=value` overrides: of the study, or of its base.

    `seeds=3` is the study's, `training.epochs=2` the base's; what a variant says for itself stays. Data paths are taken
    from the file's folder, those in overrides from the working directory. `trust` allows `kind: python`.
    Raises ConfigError with everything that is wrong.
    """
    path = file_of(source, shipped_studies())
    text = read_text(path, "study", shipped_studies())
    return parse_study(text, str(path), overrides, trust=trust, folder=path.parent)


def is_study_file(source: str | Path) -> bool:
    """Whether a file, or the name of a shipped one, is a study rather than a config (by the keys at its margin)."""
    path = file_of(source, shipped_studies())
    try:
        keys = re.findall(r"^(\w+):", path.read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, ValueError):  # whoever reads it says what is wrong
        return False
    return not {"base", "variants", "grid"}.isdisjoint(keys)


def parse_study(
    text: str,
    filename: str = "<study>",
    overrides: Iterable[str] = (),
    *,
    trust: bool = False,
    folder: Path | None = None,
) -> StudyConfig:
    """The study that a text holds; relative paths are taken from the `folder`. Raises ConfigError."""
    document = read_mapping(text, filename, "a study has at least name, question, base and variants")
    for_base = [each for each in overrides if not _is_for_study(document, each)]
    told, problems = _checked(document)
    base = _base_of(document, told, for_base, folder)
    if isinstance(base, list):
        raise ConfigError(in_order([*problems, *base]))
    config = validated(base.document, base.folder, trust=trust)
    wrong, right = (config, []) if isinstance(config, list) else ([], [config])
    problems += [base.told(problem) for problem in wrong]
    changes = _changes_of(document, told)
    configs: dict[str, Config] = {}
    grown: dict[Problem, list[str]] = {}  # problem -> the variants that have it
    for name, own in changes.items():
        varied = _varied(name, own, document, base.document, folder, trust)
        if isinstance(varied, Config):
            configs[name] = varied
            continue
        for problem in varied:
            if problem not in wrong:
                grown.setdefault(_at_its_change(problem, own, document), []).append(name)
    problems += [_naming(problem, names, gridded=bool(told.get("grid"))) for problem, names in grown.items()]
    seeds = told.get("seeds", [0])
    named = document.data.get("variants")
    names = list(named) if isinstance(named, dict) else list(changes)  # wrong ones too
    expectations, unclear = _expectations(document, told, names, len(seeds), [*configs.values(), *right])
    problems += unclear
    if problems or isinstance(config, list):
        raise ConfigError(in_order(dict.fromkeys(problems)))
    return StudyConfig(
        name=told["name"],
        question=told["question"],
        base=config,
        variants={name: {change.key: change.value for change in own} for name, own in changes.items()},
        axes={key: values for _, key, values in flat(told.get("grid") or {})},
        seeds=tuple(seeds),
        figures=tuple(told["figures"]),
        expect=tuple(expectations),
        configs=configs,
    )


def flat(overrides: Mapping[str, Any]) -> Iterator[tuple[Steps, str, Any]]:
    """(where it is written, dotted key, value) of each override: sections are opened unless they name their kind."""
    for key, value in overrides.items():
        if key in _SECTIONS and isinstance(value, dict) and value and "kind" not in value:
            yield from (((key, below), f"{key}.{below}", inner) for below, inner in value.items())
        else:
            yield (key,), key, value


class _Change(NamedTuple):
    """One override of a variant."""

    written: Steps  # where in the study's file
    key: str
    value: Any


class _Base(NamedTuple):
    """What is varied."""

    document: Document
    folder: Path | None  # that its data paths are taken from
    in_place: bool

    def told(self, problem: Problem) -> Problem:
        """A problem of it, as it is to be told: one in the study's own file with its path there."""
        if not self.in_place or problem.line is None:
            return problem
        return dataclasses.replace(problem, path=f"base.{problem.path}".removesuffix("."))


def _is_for_study(document: Document, text: str) -> bool:
    """Applies an override that is the study's. Whether it was."""
    first = text.partition("=")[0].partition(".")[0]
    own = [name for name in StudyFile.model_fields if name != "base" or text.startswith("base=")]
    if first in own:
        override(document, text)
    elif first == "seed":
        document.problems.append(Problem(text, None, None, "seed", "is for a run; a study has seeds: seeds=5"))
    elif "=" in text and first not in ("base", *Config.model_fields):
        choices = among(first, [*own, *_SECTIONS])
        document.problems.append(Problem(text, None, None, first, f"unknown key{choices}"))
    else:
        return False
    return True


def _checked(document: Document) -> tuple[dict[str, Any], list[Problem]]:
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
            f'; did you mean "base.{key}"?' if key in _SECTIONS and closest(key, StudyFile.model_fields) is None else ""
        )
        yield document.problem((key,), f"unknown key{own}{home}", at_key=True)
    elif detail["type"] == "missing":
        yield document.problem((key,), "is missing")
    else:
        yield from explain_one(detail, document)


def _base_of(
    document: Document, told: Mapping[str, Any], overrides: Iterable[str], folder: Path | None
) -> _Base | list[Problem]:
    """The base with its overrides, not yet checked; or what is wrong with where it is said to be."""
    source = told.get("base")
    if source is None:
        return []
    if isinstance(source, dict):
        base = _Base(document.part(("base",)), folder, in_place=True)
        base.document.data.setdefault("name", told.get("name", "base"))
    else:
        written_in_file = document.place(("base",)).line is not None
        beside = (folder or Path()) / source if written_in_file else Path(source)
        path = beside if os.path.isfile(beside) else file_of(source, shipped_configs())
        if not os.path.isfile(path):
            return [document.problem(("base",), no_such_file(beside, "config", shipped_configs()))]
        try:
            text = read_text(path, "config", shipped_configs())
            found = read_mapping(text, str(path), "a config has at least name, data and model")
        except ConfigError as error:
            return error.problems
        base = _Base(found, path.parent, in_place=False)
    for each in overrides:
        override(base.document, each.removeprefix("base."))
    return base


def _changes_of(document: Document, told: Mapping[str, Any]) -> dict[str, list[_Change]]:
    """Variant -> its overrides, in the order of the file."""
    if told.get("variants"):
        return {
            name: [_Change(("variants", name, *path), key, value) for path, key, value in flat(overrides or {})]
            for name, overrides in told["variants"].items()
        }
    return dict(_combined(told["grid"])) if told.get("grid") else {}


def _combined(grid: Mapping[str, Any]) -> Iterator[tuple[str, list[_Change]]]:
    """Every combination of a grid's values, the last axis first: (name, its overrides)."""
    axes = list(flat(grid))
    last = Counter(key.rpartition(".")[2] for _, key, _ in axes)
    choices = [
        [_Change(("grid", *path, index), key, value) for index, value in enumerate(values)]
        for path, key, values in axes
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


def _varied(
    name: str, changes: list[_Change], study: Document, base: Document, folder: Path | None, trust: bool
) -> Config | list[Problem]:
    """The config of a variant, or all that is wrong with it, its base's own problems too."""
    varied = base.part(())
    varied.problems = list(base.problems)
    for change in changes:
        place = study.place(change.written, at_key=True)
        try:
            store(varied, change.key, study.part(change.written), place)
        except LookupError as error:
            varied.problems.append(Problem(*place, change.key, error.args[0]))
    varied.data["name"] = name
    return validated(varied, folder, trust=trust)


def _at_its_change(problem: Problem, changes: list[_Change], study: Document) -> Problem:
    """A problem of a variant, told where the study's file makes it: at one of the variant's changes."""
    place = (problem.file, problem.line, problem.column)
    for change in changes:
        depth = len(change.written)
        for places in (study.values, study.keys):
            if any(found == place and path[:depth] == change.written for path, found in places.items()):
                return dataclasses.replace(problem, path=_joined(change, problem.path))
    section = problem.path.partition(".")[0]
    near = next((change for change in changes if change.key.partition(".")[0] == section), changes[0])
    message = f"then {problem.path or 'the base'} is wrong: {problem.message}"
    return Problem(*study.place(near.written, at_key=True), _joined(near, near.key), message)


def _joined(change: _Change, path: str) -> str:
    return ".".join([*map(str, change.written[: 2 if change.written[0] == "variants" else 1]), path])


def _naming(problem: Problem, variants: list[str], *, gridded: bool) -> Problem:
    """A problem of a grid's variants with the name of the first of them; a named one's is in the path."""
    more = f" and {len(variants) - 1} more" if len(variants) > 1 else ""
    suffix = f" (in {variants[0]}{more})" if gridded else ""
    return dataclasses.replace(problem, message=f"{problem.message}{suffix}")


def _expectations(
    document: Document, told: Mapping[str, Any], variants: list[str], seeds: int, configs: list[Config]
) -> tuple[list[Expectation], list[Problem]]:
    """What will come out, and what is not clear about it. Nothing is judged before the variants are known."""
    clear, unclear = [], []
    metrics = _metrics(configs) if configs else None
    for index, line in enumerate(told.get("expect", []) if variants else []):
        if not isinstance(line, str):  # told already
            continue
        try:
            clear.append(parse_expectation(line, variants, seeds, metrics))
        except UnclearExpectationError as error:
            unclear.append(document.problem(("expect", index), str(error)))
    return clear, unclear


def _metrics(configs: list[Config]) -> list[str]:
    """The metrics that runs of these configs have."""
    names: dict[str, None] = {}
    for config in configs:
        data = config.data
        fractions = {"val": data.val_fraction, "test": data.test_fraction or data.kind == "fashion_mnist"}
        splits = ["train", *(split for split, share in fractions.items() if share)]
        kinds = ["loss", *["accuracy"] * (data.task != "regression")]
        names |= dict.fromkeys(f"{kind}/{split}" for kind in kinds for split in splits)
    return [*names, "seconds", "parameters"]
