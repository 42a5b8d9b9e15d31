"""The JSON Schema of a config, and that of a study, for editors that check and complete while you type.

    # yaml-language-server: $schema=schema.json       (the first line of a config)
    json_schema()["properties"]["seed"]["description"]

What a config may hold is in the sections' classes and in the table of torch's signatures; the schema is made
of both. `nnvis schema -o configs/schema.json` writes the committed one, `nnvis schema --study -o
configs/studies/schema.json` that of a study; a test keeps them current.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from nnvis.config.base import Section
from nnvis.config.model_sections import BLOCKS
from nnvis.config.schema import Config
from nnvis.config.study_file import StudyFile
from nnvis.config.torch_signatures import Parameter, Signature, torch_table
from nnvis.config.training_sections import Optimizer, Schedule, TorchSection

Json = dict[str, Any]

_NAMES = {"int": "integer", "float": "number", "bool": "boolean", "str": "string", "null": "null"}


def json_schema() -> Json:
    """The schema, a fresh dictionary: shorthands included, every class of torch with its arguments."""
    whole = Config.model_json_schema()
    definitions = whole["$defs"]
    for name, definition in [*definitions.items(), ("Config", whole)]:
        for field, text in field_texts(_section(name)).items():
            definition["properties"][field]["description"] = text
    for name in ("Init", "Loss"):
        definitions[name] = _forms(name, definitions[name]["properties"]["kind"]["enum"], [definitions[name]])
    for section in (Optimizer, Schedule):
        own = {key: value for key, value in definitions[section.__name__]["properties"].items() if key == "interval"}
        definitions[section.__name__] = _torch_section(section, own)
    layers = torch_table().layers
    references = _define_layers(definitions)
    definitions["TorchLayer"] = _layer({kind: kind for kind in layers}, references)
    blocks = {"type": "array", "items": _reference("TorchLayer"), "minItems": 1}
    definitions["TorchLayer"]["anyOf"][1]["properties"] |= dict.fromkeys(BLOCKS, blocks)
    activations = torch_table().activations
    definitions["Activation"] = _layer({kind: kind for kind in activations.values()} | dict(activations), references)
    for name in ("Mlp", "Cnn"):
        definitions[name]["properties"]["activation"] |= _reference("Activation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_slim(whole)}


def study_schema() -> Json:
    """The schema of a study, a fresh dictionary; a base in place needs no name."""
    config, whole = json_schema(), StudyFile.model_json_schema()
    for field, text in field_texts(StudyFile).items():
        whole["properties"][field]["description"] = text
    whole["properties"]["base"]["anyOf"] = [{"type": "string", "minLength": 1}, _reference("Config")]
    definitions = config.pop("$defs")
    config["required"].remove("name")
    head = {"$schema": config.pop("$schema"), **_slim(whole)}
    one_of_two = [{"required": ["variants"]}, {"required": ["grid"]}]
    return {**head, "oneOf": one_of_two, "$defs": {"Config": config, **definitions}}


def schema_text(*, study: bool = False) -> str:
    """The schema as the text of a file, one definition a line."""
    schema = study_schema() if study else json_schema()
    rows = (f"  {_line(name)}: {_line(definition)}" for name, definition in schema.pop("$defs").items())
    head = (f" {_line(key)}: {_line(value)}" for key, value in schema.items())
    return "{\n" + ",\n".join(head) + ',\n "$defs": {\n' + ",\n".join(rows) + "\n }\n}\n"


def field_texts(section: type[Section]) -> dict[str, str]:
    """What the fields of a section mean: the text under each field in the source, its base classes' included."""
    texts: dict[str, str] = {}
    for cls in reversed(section.__mro__):
        if issubclass(cls, Section):
            texts |= _texts_in_file(inspect.getfile(cls)).get(cls.__name__, {})
    return {field: text for field, text in texts.items() if field in section.model_fields}


@cache
def _texts_in_file(file: str) -> dict[str, dict[str, str]]:
    """Class -> field -> the string that stands under the field."""
    classes = [
        node for node in ast.parse(Path(file).read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)
    ]
    return {cls.name: dict(_texts(cls.body)) for cls in classes}


def _texts(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for statement, below in itertools.pairwise(body):
        match statement, below:
            case ast.AnnAssign(target=ast.Name(id=field)), ast.Expr(value=ast.Constant(value=str(text))):
                yield field, " ".join(text.split())


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _slim(value: Any) -> Any:
    """Without what says nothing: titles made of names, and what some versions of pydantic add."""
    if isinstance(value, list):
        return [_slim(item) for item in value]
    if not isinstance(value, dict):
        return value
    needless = {"title": isinstance(value.get("title"), str), "enum": "const" in value}
    needless["additionalProperties"] = value.get("additionalProperties") is True
    return {key: _slim(item) for key, item in value.items() if not needless.get(key)}


def _section(name: str) -> type[Section]:
    """The section class of that name."""
    waiting = [Section]
    while waiting:
        cls = waiting.pop()
        if cls.__name__ == name:
            return cls
        waiting += cls.__subclasses__()
    raise KeyError(name)


def _forms(name: str, words: Iterable[str], mappings: list[Json]) -> Json:
    """A section that is one of some words, or one of some mappings."""
    return {"description": inspect.getdoc(_section(name)), "anyOf": [{"enum": sorted(words)}, *mappings]}


def _reference(name: str) -> Json:
    return {"$ref": f"#/$defs/{name}"}


def _torch_section(section: type[TorchSection], own: Json) -> Json:
    choices = section.choices()
    default = section.model_fields["kind"].default
    mappings = [
        _mapping(signature, {"kind": {"const": kind}, **own}, [] if kind == default else ["kind"])
        for kind, signature in choices.items()
    ]
    return _forms(section.__name__, (kind for kind, signature in choices.items() if not _required(signature)), mappings)


def _define_layers(definitions: Json) -> dict[str, Json]:
    """Adds what each layer takes; layers that take the same share a definition. Layer -> reference to it."""
    names: dict[str, str] = {}
    for kind, signature in torch_table().layers.items():
        arguments = _layer_arguments(kind, signature)
        name = names.setdefault(_line(arguments), f"torch.nn.{kind}")
        definitions[name] = arguments
        names[kind] = name
    return {kind: _reference(names[kind]) for kind in torch_table().layers}


def _layer(written: dict[str, str], references: dict[str, Json]) -> Json:
    """A layer by its name, or as a mapping from its name to arguments. `written`: as written -> torch's class."""
    table = torch_table()
    words = [word for word, kind in written.items() if not _required(table.layers[kind], table.inferred.get(kind))]
    properties = {word: references[kind] for word, kind in written.items()}
    mapping = {"type": "object", "properties": properties, "additionalProperties": False}
    return _forms("TorchLayer", words, [{**mapping, "minProperties": 1, "maxProperties": 1}])


def _layer_arguments(kind: str, signature: Signature) -> Json:
    """Arguments by name, by position, or a single one."""
    inferred = torch_table().inferred.get(kind)
    free = [parameter for name, parameter in signature.items() if name != inferred]
    required = _required(signature, inferred)
    forms = [_mapping(signature, {}, required), {"type": "array", "minItems": len(required), "maxItems": len(free)}]
    if not required:
        forms.append({"type": "null"})
    if free and len(required) <= 1:
        forms.append(_value(free[0]))
    return {"anyOf": forms}


def _mapping(signature: Signature, own: Json, required: list[str]) -> Json:
    required = list(dict.fromkeys([*required, *(_required(signature) if own else [])]))
    arguments = {name: _value(parameter) for name, parameter in signature.items()}
    mapping = {"type": "object", "properties": {**own, **arguments}, "additionalProperties": False}
    return {**mapping, "required": required} if required else mapping


def _required(signature: Signature, inferred: str | None = None) -> list[str]:
    return [name for name, parameter in signature.items() if parameter.required and name != inferred]


def _value(parameter: Parameter) -> Json:
    """What an argument may be."""
    choices = [option.strip("'") for option in parameter.types if option.startswith("'")]
    names = [_NAMES[option] for option in parameter.types if option in _NAMES]
    forms: list[Json] = [{"enum": choices}] if choices else []
    forms += [{"type": names[0] if len(names) == 1 else names}] if names else []
    forms += [_array(option) for option in parameter.types if option.endswith("]")]
    value = forms[0] if len(forms) == 1 else {"anyOf": forms}
    return value if parameter.required else {**value, "default": parameter.default}


def _array(option: str) -> Json:
    element, _, length = option.removesuffix("]").partition("[")
    name = _NAMES[element.removesuffix("?")]
    array = {"type": "array", "items": {"type": [name, "null"] if element.endswith("?") else name}}
    return {**array, "minItems": int(length), "maxItems": int(length)} if length else {**array, "minItems": 1}
