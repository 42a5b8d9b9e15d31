"""YAML text to plain data in which the place of every key and value is known, and back to text.

    document = read_yaml("optimizer: {lr: 1e-3}", "a.yaml")
    document.data                                   # {"optimizer": {"lr": 0.001}}
    document.place(("optimizer", "lr"))             # Place("a.yaml", 1, 17)

YAML 1.2's core schema: `1e-3` is a number, `on` and `yes` are text. Keys are text and unique. Anchors,
aliases and merge keys (`<<`) work, within bounds. Tags that would make Python objects are refused.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from nnvis.config.problems import ConfigError, Problem, shown

MAX_CHARACTERS = 1_000_000
MAX_VALUES = 100_000
MAX_DEPTH = 50

Path = tuple[str | int, ...]
_NULL, _BOOL, _INT, _FLOAT, _STR, _MERGE, _MAP, _SEQ = (
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "merge", "map", "seq")
)
_PATTERNS = {  # the first that matches a plain scalar wins
    _NULL: (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    _BOOL: (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    _INT: (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    _FLOAT: (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    _MERGE: (r"<<", ["<"]),
}


_INDENT_HINT = (
    "is the line indented like those around it, and has each `:` a space behind it? Text that holds `: ` needs quotes"
)
_HINTS = {  # what PyYAML says -> what it likely is
    "'\\t'": "indent with spaces, not tabs",
    "expected <block end>": _INDENT_HINT,
    "mapping values are not allowed": _INDENT_HINT,
    "could not find expected ':'": _INDENT_HINT,
    "expected ',' or": "a comma or a closing bracket is missing",
}


class Place(NamedTuple):
    """Where something is written."""

    file: str  # or the override "key=value"
    line: int | None = None
    column: int | None = None


@dataclass
class Document:
    """What a text says, where it says it, and what is wrong with it."""

    data: Any
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: Path, at_key: bool = False) -> Place:
        """Where the value (or its key) is; where the mapping around it is if it isn't there."""
        if at_key and path in self.keys:
            return self.keys[path]
        while path and path not in self.values:
            path = path[:-1]
        return self.values[path]

    def part(self, path: Path) -> Document:
        """What lies below a path, as a document of its own; a copy."""
        data = self.data
        for step in path:
            data = data[step]
        values, keys = (
            {known[len(path) :]: place for known, place in places.items() if known[: len(path)] == path}
            for places in (self.values, self.keys)
        )
        return Document(copy.deepcopy(data), values, keys)

    def problem(self, path: Path, message: str, at_key: bool = False) -> Problem:
        """A problem at a place of the document."""
        return Problem(*self.place(path, at_key), ".".join(map(str, path)), message)


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers = {}  # noqa: RUF012


class Dumper(yaml.SafeDumper):
    """Lists of scalars in one line; text quoted wherever any YAML would take it for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        """Never write anchors."""
        return True


def _represent_list(dumper: Dumper, data: list[Any]) -> yaml.Node:
    flat = not any(isinstance(item, dict | list) for item in data)
    return dumper.represent_sequence(_SEQ, data, flow_style=flat)


def _represent_text(dumper: Dumper, data: str) -> yaml.Node:
    odd_breaks = any(letter in data for letter in "\x85\u2028\u2029")  # PyYAML folds them, unless escaped
    return dumper.represent_scalar(_STR, data, style='"' if odd_breaks else None)


Dumper.add_representer(list, _represent_list)
Dumper.add_representer(str, _represent_text)
for _tag, (_pattern, _first) in _PATTERNS.items():
    _whole = re.compile(f"^(?:{_pattern})$")
    Loader.add_implicit_resolver(_tag, _whole, _first)
    Dumper.add_implicit_resolver(_tag, _whole, _first)


def write_yaml(data: Any) -> str:
    """Plain data as YAML that `read_yaml` reads back to the same."""
    return yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110)


def write_line(data: Any) -> str:
    """The same in one line."""
    return yaml.dump(data, Dumper=yaml.SafeDumper, default_flow_style=True, allow_unicode=True, width=10**6).strip()


def read_yaml(text: str, file: str, *, override: bool = False) -> Document:
    """Reads one document; its places carry no lines if it comes from an override.

    Raises ConfigError where the text cannot be read to its end; what can wait is in `problems`.
    """
    reader = _Reader(file, override)
    if len(text) > MAX_CHARACTERS:
        raise ConfigError([Problem(file, None, None, "", f"is too long for a config ({len(text):,} characters)")])
    try:
        root = yaml.compose(text, Loader=Loader)
        reader.document.data = None if root is None else reader.build(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reasons = [part for part in (error.context, error.problem) if part]
        hint = "".join(f"; {hint}" for sign, hint in _HINTS.items() if sign in str(error.problem))
        raise reader.failure(mark, f"not valid YAML: {', '.join(reasons)}{hint}") from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = (before.count("\n") + 1, error.position - before.rfind("\n"))
        message = f"not text: holds the character {chr(error.character)!a}"  # pyright: ignore[reportArgumentType]
        raise ConfigError([Problem(file, *((None, None) if override else place), "", message)]) from None
    except RecursionError:
        raise reader.failure(None, f"is nested more than {MAX_DEPTH} levels deep") from None
    except (ValueError, OverflowError):  # PyYAML on "\\Uffffffff", %YAML 1.<5000 digits>
        raise reader.failure(None, "not valid YAML: an escape or a number that does not exist") from None
    if root is None:
        reader.document.values[()] = reader.place(None)
    return reader.document


class _Reader:
    """Turns nodes into plain data and notes places on the way."""

    def __init__(self, file: str, override: bool) -> None:
        self.file, self.override = file, override
        self.document = Document(None)
        self.open: set[int] = set()  # nodes that are being built: one that meets itself has no end
        self.count = 0

    def place(self, mark: yaml.Mark | None) -> Place:
        if self.override:
            return Place(self.file)
        return Place(self.file, mark.line + 1, mark.column + 1) if mark else Place(self.file, 1, 1)

    def failure(self, mark: yaml.Mark | None, message: str) -> ConfigError:
        return ConfigError([Problem(*self.place(mark), "", message)])

    def complain(self, path: Path, mark: yaml.Mark, message: str) -> None:
        self.document.problems.append(Problem(*self.place(mark), ".".join(map(str, path)), message))

    def build(self, node: yaml.Node, path: Path) -> Any:
        self.count += 1
        if self.count > MAX_VALUES:
            raise self.failure(node.start_mark, f"holds more than {MAX_VALUES:,} values, aliases written out")
        if len(path) > MAX_DEPTH:
            raise self.failure(node.start_mark, f"is nested more than {MAX_DEPTH} levels deep")
        if id(node) in self.open:
            raise self.failure(node.start_mark, "contains itself through an alias")
        self.document.values[path] = self.place(node.start_mark)
        self.open.add(id(node))
        if not isinstance(node, yaml.ScalarNode) and node.tag not in (_MAP, _SEQ):
            self.complain(path, node.start_mark, _no_tag(node.tag))
        if isinstance(node, yaml.MappingNode):
            value = self.mapping(node, path)
        elif isinstance(node, yaml.SequenceNode):
            value = [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        else:
            value = self.scalar(node, path)
        self.open.discard(id(node))
        return value

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        merges = [value for key, value in node.value if key.tag == _MERGE]
        merged = self.merged(merges, path)
        own: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                continue
            key = self.key(key_node, path)
            if key is None:
                continue
            if key in own:
                first = self.document.keys[(*path, key)].line
                self.complain((*path, key), key_node.start_mark, f"is given twice, first in line {first or 1}")
                continue
            self.document.keys[(*path, key)] = self.place(key_node.start_mark)
            own[key] = self.build(value_node, (*path, key))
        return {**merged, **own}

    def merged(self, nodes: list[yaml.Node], path: Path) -> dict[str, Any]:
        """What `<<` brings in: of several mappings the earlier ones win."""
        place = self.document.values[path]
        result: dict[str, Any] = {}
        for node in nodes:
            sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
            for source in reversed(sources):
                if not isinstance(source, yaml.MappingNode):
                    self.complain(path, source.start_mark, "`<<` takes a mapping, or a list of mappings")
                    continue
                result |= self.build(source, path)
        self.document.values[path] = place
        return result

    def key(self, node: yaml.Node, path: Path) -> str | None:
        value = self.scalar(node, path) if isinstance(node, yaml.ScalarNode) else [...]
        if isinstance(value, str):
            return value
        self.complain(path, node.start_mark, f"a key should be text, got {shown(value)}")
        return None

    def scalar(self, node: yaml.Node, path: Path) -> Any:
        try:
            return _scalar(node.tag, node.value)
        except KeyError:
            self.complain(path, node.start_mark, _no_tag(node.tag))
        except ValueError:
            self.complain(path, node.start_mark, f"{shown(node.value)} cannot be read")
        return None


def _no_tag(tag: str) -> str:
    return f"{tag.replace('tag:yaml.org,2002:', '!!')} is not for configs; write plain values"


def _scalar(tag: str, text: str) -> Any:
    """A scalar's value. Raises KeyError for an unknown tag, ValueError for text that does not fit it."""
    if tag == _INT:
        number = int(text, 8) if text.startswith("0o") else int(text, 16) if text.startswith("0x") else int(text)
        str(number)  # ValueError for more digits than Python writes
        return number
    if tag == _FLOAT:
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if tag == _BOOL:
        return ["false", "true"].index(text.lower()) == 1
    if tag == _NULL:
        return None
    if tag in (_STR, _MERGE):
        text.encode()  # ValueError for half a surrogate pair
        return text
    raise KeyError(tag)
