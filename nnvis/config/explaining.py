"""From pydantic's errors to sentences with places: what is wrong, the choices, the next step."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nnvis.config.base import FORMS, Section
from nnvis.config.consistency import inconsistencies
from nnvis.config.problems import Problem, among, closest, shown
from nnvis.config.schema import Config
from nnvis.config.torch_signatures import torch_table
from nnvis.config.training_sections import Capture, Training
from nnvis.config.yaml_text import Document, Path

Details = typing.Mapping[str, Any]
"""One of `ValidationError.errors()`."""


def explain(error: ValidationError, document: Document) -> list[Problem]:
    """All problems of a document: a misspelt kind is read as what it likely is, to find what else is wrong."""
    details: list[Any] = error.errors(include_url=False)
    problems = [problem for detail in details for problem in explain_one(detail, document)]
    wrong = {detail["loc"][0] for detail in details if detail["loc"]}
    if wrong:
        problems += [document.problem(*complaint) for complaint in inconsistencies(_sections(document.data, wrong))]
    misspelt = {str(detail["loc"][0]): kind for detail in details if (kind := _likely_kind(detail))}
    if misspelt:
        sections = {name: {**document.data[name], "kind": kind} for name, kind in misspelt.items()}
        problems += _explain_again(replace(document, data={**document.data, **sections}))
    return list(dict.fromkeys(problems))


def _explain_again(document: Document) -> list[Problem]:
    try:
        Config.model_validate(document.data)
    except ValidationError as error:
        return explain(error, document)
    return []


def _likely_kind(detail: Details) -> str | None:
    misspelt = detail["type"] == "union_tag_invalid"
    return closest(detail["input"]["kind"], _kinds(detail)) if misspelt else None


def explain_one(detail: Details, document: Document) -> Iterator[Problem]:
    """The problems that one of pydantic's errors stands for."""
    path = _path(detail["loc"], document.data)
    complaints = detail.get("ctx", {}).get("complaints")
    for below, message, at_key in complaints or ():
        yield document.problem((*path, *below), message, at_key)
    if complaints is None:
        message = _SENTENCES[detail["type"]](detail) if detail["type"] in _SENTENCES else detail["msg"]
        path = (*path, "kind") if detail["type"].startswith("union_tag") else path
        yield document.problem(path, message, at_key=detail["type"] == "extra_forbidden")


def _path(loc: tuple[str | int, ...], data: Any) -> Path:
    """A location in the schema as a path in the data: without the names of kinds, with layers as they are written."""
    path: list[str | int] = []
    for depth, part in enumerate(loc):
        if depth == 1 and loc[0] in ("data", "model"):
            continue  # the kind
        if part == "children" and isinstance(data, dict) and len(data) == 1:
            (part,) = data
        path.append(part)
        data = data.get(part) if isinstance(data, dict) else data[int(part)] if isinstance(data, list) else None
    return tuple(path)


def _sections(data: dict[str, Any], wrong: set[str | int]) -> dict[str, Any]:
    """The sections that are right."""
    sections = {}
    for name, hint in typing.get_type_hints(Config, include_extras=True).items():
        field = Config.model_fields.get(name)
        if field is None or name in wrong:
            continue
        given = name in data
        sections[name] = (
            TypeAdapter(hint).validate_python(data[name]) if given else field.get_default(call_default_factory=True)
        )
    return sections


def _unknown_key(detail: Details) -> str:
    *around, key = detail["loc"]
    if not around and (home := _home(key)):
        return f'unknown key; did you mean "{home}.{key}"?'
    return f"unknown key{among(key, list(_section_at(around).model_fields))}"


def _home(key: str) -> str | None:
    """The section that a key at the top likely belongs to."""
    homes = [("training", Training.model_fields), ("capture", Capture.model_fields)]
    homes += [("optimizer", signature) for signature in torch_table().optimizers.values()]
    return next((section for section, keys in homes if key in keys), None)


def _missing(detail: Details) -> str:
    return f"is missing{among('', _choices(detail))}"


def _unknown_choice(detail: Details) -> str:
    return f"{shown(detail['input'])} is unknown{among(detail['input'], _choices(detail))}"


def _unknown_kind(detail: Details) -> str:
    if "kind" not in detail["input"]:
        return f"is missing{among('', _kinds(detail))}"
    kind = detail["input"]["kind"]
    return f"{shown(kind)} is unknown{among(kind, _kinds(detail))}"


def _kinds(detail: Details) -> list[str]:
    return list(_options(Config.model_fields[detail["loc"][0]].annotation))


def _choices(detail: Details) -> list[str]:
    """What the field at a location may be; empty where that is no choice of words."""
    *around, name = detail["loc"]
    return _words(_section_at(around).model_fields[name].annotation)


def _words(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is typing.Literal:
        return list(typing.get_args(annotation))
    return [word for part in typing.get_args(annotation) for word in _words(part)]


def _section_at(loc: Sequence[str | int]) -> type[Section]:
    """The class of the section at a location in the schema."""
    options = {"": Config}
    for part in loc:
        if part in options:  # the kind
            options = {"": options[str(part)]}
        elif isinstance(part, str):
            options = _options(next(iter(options.values())).model_fields[part].annotation)
    return next(iter(options.values()))


def _options(annotation: Any) -> dict[str, type[Section]]:
    """The sections that an annotation allows, by their kinds where they have one."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        kind = annotation.model_fields.get("kind")
        return {"".join(_words(kind.annotation)[:1]) if kind else "": annotation}
    return {kind: section for part in typing.get_args(annotation) for kind, section in _options(part).items()}


def _expected(what: str) -> Callable[[Details], str]:
    def sentence(detail: Details) -> str:
        return f"should be {what.format(**detail.get('ctx', {})).removesuffix('.0')}, got {shown(detail['input'])}"

    return sentence


def _list_of(value: Any) -> str:
    return f"; write [{shown(value)}]" if isinstance(value, str | int | float) else ""


def _no_mapping(detail: Details) -> str:
    hint = f"; write {{kind: {detail['input']}}}" if detail["input"] in _kinds(detail) else ""
    return f"should be a mapping with a kind, got {shown(detail['input'])}{hint}"


_SENTENCES: dict[str, Callable[[Details], str]] = {
    "missing": _missing,
    "extra_forbidden": _unknown_key,
    "union_tag_not_found": _unknown_kind,
    "union_tag_invalid": _unknown_kind,
    "literal_error": _unknown_choice,
    "int_type": _expected("a whole number"),
    "float_type": _expected("a number"),
    "bool_type": _expected("true or false"),
    "string_type": _expected("text"),
    "list_type": lambda detail: f"{_expected('a list')(detail)}{_list_of(detail['input'])}",
    "dict_type": _expected("a mapping, `key: value`"),
    "model_type": _expected("a mapping, `key: value`"),
    "model_attributes_type": _no_mapping,
    "finite_number": _expected("a finite number"),
    "greater_than_equal": _expected("at least {ge}"),
    "greater_than": _expected("more than {gt}"),
    "less_than_equal": _expected("at most {le}"),
    "less_than": _expected("less than {lt}"),
    "too_short": _expected("a list of at least {min_length}"),
    "too_long": _expected("a list of at most {max_length}"),
    "string_too_short": _expected("at least {min_length} character"),
    "string_too_long": _expected("at most {max_length} character"),
    "string_pattern_mismatch": lambda detail: (
        f"should be {FORMS[detail['ctx']['pattern']]}, got {shown(detail['input'])}"
    ),
}
