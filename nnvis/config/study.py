"""A study's file: one config varied, over several seeds. Every error as file:line:col. No torch.

    study = load_study_config("vanishing", ["training.epochs=2", "seeds=3"])
    study.variants                    # {"sigmoid": {}, "relu_he": {"model.activation": "relu", …}}
    study.config_of("relu_he", 0)     # the Config of that run
    dump_study(study)                 # the study.yaml that `nnvis.record.load_study` reads

In variants and grids `optimizer.lr: 0.1` and `optimizer: {lr: 0.1}` mean the same. A section that names its `kind`
(`optimizer: {kind: Adam}`), and any other mapping or list, takes the place of what the base has there.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from nnvis.config.dumping import plain
from nnvis.config.expectations import Expectation, UnclearExpectationError, parse_expectation
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
from nnvis.config.problems import ConfigError, Problem, among
from nnvis.config.schema import Config
from nnvis.config.study_file import SECTIONS, Change, StudyFile, checked, combined, flat
from nnvis.config.yaml_text import MAX_CHARACTERS, Document, write_yaml

__all__ = ["Expectation", "StudyConfig", "dump_study", "is_study_file", "load_study_config", "parse_study"]


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
    try:
        with file_of(source, shipped_studies()).open(encoding="utf-8") as file:
            keys = re.findall(r"^(\w+):", file.read(MAX_CHARACTERS), re.MULTILINE)
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
    if all(isinstance(document.data.get(key), dict) for key in ("base", "variants", "axes")):
        raise ConfigError([document.problem((), "is the record of a study; use the file it came from")])
    for_base = [each for each in overrides if not _is_for_study(document, each)]
    told, problems = checked(document)
    base = _base_of(document, told, for_base, folder)
    if isinstance(base, list):
        raise ConfigError(in_order([*problems, *base]))
    config = validated(base.document, base.folder, trust=trust)
    wrong = config if isinstance(config, list) else []
    changes = _changes_of(told)
    configs, worse = _configs_of(changes, document, base.document, wrong, folder, trust)
    known = [*configs.values(), *([] if isinstance(config, list) else [config])]
    expect, unclear = _expectations(document, told, changes, known)
    problems += [*map(base.told, wrong), *worse, *unclear]
    if problems or isinstance(config, list):
        raise ConfigError(in_order(dict.fromkeys(problems)))
    return StudyConfig(
        name=told["name"],
        question=told["question"],
        base=config,
        variants={name: {change.key: change.value for change in own} for name, own in changes.items()},
        axes={key: values for _, key, values in flat(told["grid"] or {})},
        seeds=tuple(told["seeds"]),
        figures=tuple(told["figures"]),
        expect=tuple(expect),
        configs=configs,
    )


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
        choices = among(first, [*own, *SECTIONS])
        document.problems.append(Problem(text, None, None, first, f"unknown key{choices}"))
    else:
        return False
    return True


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


def _changes_of(told: Mapping[str, Any]) -> dict[str, list[Change]]:
    """Variant -> its overrides, in the order of the file."""
    if told.get("variants"):
        return {
            name: [Change(("variants", name, *path), key, value) for path, key, value in flat(overrides or {})]
            for name, overrides in told["variants"].items()
        }
    return dict(combined(told["grid"])) if told.get("grid") else {}


def _configs_of(
    changes: Mapping[str, list[Change]],
    study: Document,
    base: Document,
    wrong: list[Problem],
    folder: Path | None,
    trust: bool,
) -> tuple[dict[str, Config], list[Problem]]:
    """Variant -> its config where that is right, and what is wrong with the others beyond what is with the base."""
    configs: dict[str, Config] = {}
    found: dict[Problem, list[str]] = {}  # problem -> the variants that have it
    for name, own in changes.items():
        config = validated(_varied(name, own, study, base), folder, trust=trust)
        if isinstance(config, Config):
            configs[name] = config
            continue
        for problem in config:
            if problem not in wrong:
                found.setdefault(_at_its_change(problem, own, study), []).append(name)
    return configs, [_naming(problem, names) for problem, names in found.items()]


def _varied(name: str, changes: list[Change], study: Document, base: Document) -> Document:
    """The base with a variant's changes, each at its place in the study's file."""
    varied = base.part(())
    varied.problems = list(base.problems)
    for change in changes:
        place = study.place(change.written, at_key=True)
        try:
            store(varied, change.key, study.part(change.written), place)
        except LookupError as error:
            varied.problems.append(Problem(*place, change.key, error.args[0]))
    varied.data["name"] = name
    return varied


def _at_its_change(problem: Problem, changes: list[Change], study: Document) -> Problem:
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


def _joined(change: Change, path: str) -> str:
    return ".".join([*map(str, change.written[: 2 if change.written[0] == "variants" else 1]), path])


def _naming(problem: Problem, variants: list[str]) -> Problem:
    """A problem of a grid's variants with the name of the first of them; a named one's is in the path."""
    if not problem.path.startswith("grid."):
        return problem
    more = f" and {len(variants) - 1} more" if len(variants) > 1 else ""
    return dataclasses.replace(problem, message=f"{problem.message} (in {variants[0]}{more})")


def _expectations(
    document: Document, told: Mapping[str, Any], changes: Mapping[str, list[Change]], configs: list[Config]
) -> tuple[list[Expectation], list[Problem]]:
    """What will come out, and what is not clear about it. Nothing is judged before the variants are known."""
    named = document.data.get("variants")
    variants = named if isinstance(named, dict) else changes  # wrong ones too
    metrics, seeds = _metrics(configs) if configs else None, len(told.get("seeds", [0]))
    clear, unclear = [], []
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
