"""From pydantic's errors to sentences with places: what is wrong, the choices, the next step."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nnvis.config.base import FORMS, Section
from nnvis.config.consistency import inconsistencies
from nnvis.config.problems import Problem, among, shown
from nnvis.config.schema import Config
from nnvis.config.yaml_text import Document, Path

Details = typing.Mapping[str, Any]
"""One of `ValidationError.errors()`."""


def explain(error: ValidationError, document: Document) -> list[Problem]:
    """All problems of a document, those between its sections that are right included."""
    problems = []
    details = error.errors(include_url=False)
    for detail in details:
        path = _path(detail["loc"], document.data)
        complaints = detail.get("ctx", {}).get("complaints")
        if complaints is not None:
            problems += [document.problem((*path, *below), message, at_key) for below, message, at_key in complaints]
            continue
        if detail["type"] in ("union_tag_invalid", "union_tag_not_found") and "kind" in detail["input"]:
            path = (*path, "kind")
        message = _SENTENCES[detail["type"]](detail) if detail["type"] in _SENTENCES else detail["msg"]
        problems.append(document.problem(path, message, at_key=detail["type"] == "extra_forbidden"))
    wrong = {detail["loc"][0] for detail in details if detail["loc"]}
    if wrong:
        problems += [document.problem(*complaint) for complaint in inconsistencies(_sections(document.data, wrong))]
    return problems


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
    return f"unknown key{among(key, list(_section_at(around).model_fields))}"


def _section_at(loc: list[str | int]) -> type[Section]:
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
        return {typing.get_args(kind.annotation)[0] if kind and typing.get_args(kind.annotation) else "": annotation}
    return {kind: section for part in typing.get_args(annotation) for kind, section in _options(part).items()}


def _kinds(detail: Details) -> list[str]:
    return list(_options(Config.model_fields[str(detail["loc"][0])].annotation))


def _expected(what: str) -> Callable[[Details], str]:
    return lambda detail: f"should be {what.format(**detail.get('ctx', {}))}, got {shown(detail['input'])}"


def _literal(detail: Details) -> str:
    choices = detail["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
    return f"{shown(detail['input'])} is unknown{among(detail['input'], choices)}"


_SENTENCES: dict[str, Callable[[Details], str]] = {
    "missing": lambda _: "is missing",
    "extra_forbidden": _unknown_key,
    "union_tag_not_found": lambda detail: f"kind is missing{among('', _kinds(detail))}",
    "union_tag_invalid": lambda detail: (
        f"{shown(detail['input']['kind'])} is unknown{among(detail['input']['kind'], _kinds(detail))}"
    ),
    "literal_error": _literal,
    "int_type": _expected("a whole number"),
    "float_type": _expected("a number"),
    "bool_type": _expected("true or false"),
    "string_type": _expected("text"),
    "list_type": _expected("a list"),
    "dict_type": _expected("a mapping, `key: value`"),
    "model_type": _expected("a mapping, `key: value`"),
    "model_attributes_type": _expected("a mapping with a kind"),
    "finite_number": _expected("a finite number"),
    "greater_than_equal": _expected("at least {ge}"),
    "greater_than": _expected("more than {gt}"),
    "less_than_equal": _expected("at most {le}"),
    "less_than": _expected("less than {lt}"),
    "too_short": lambda detail: "should have at least {min_length} entries, has {actual_length}".format(
        **detail["ctx"]
    ),
    "too_long": lambda detail: "should have at most {max_length} entries, has {actual_length}".format(**detail["ctx"]),
    "string_too_short": _expected("at least {min_length} character"),
    "string_too_long": _expected("at most {max_length} character"),
    "string_pattern_mismatch": lambda detail: (
        f"should be {FORMS[detail['ctx']['pattern']]}, got {shown(detail['input'])}"
    ),
}
