"""`optimizer.lr=0.01` on a document: the key leads through mappings by name and lists by index, the value is YAML.

    override(document, "model.layers.0.Linear=128")

A mapping on the way that is not there is made; one that is written as its kind alone (`loss: huber`) is
spelled out (`loss: {kind: huber}`), so that `loss.delta=0.5` finds its place.
"""

from __future__ import annotations

from typing import Any

from nnvis.config.problems import ConfigError, Problem, among, shown
from nnvis.config.yaml_text import Document, Path, Place, read_yaml


def override(document: Document, text: str) -> None:
    """Applies one override, or adds what is wrong with it to the document's problems."""
    key, equals, value_text = text.partition("=")
    if not equals or not all(key.split(".")):
        _complain(document, text, "an override is written key=value, as in optimizer.lr=0.01")
        return
    try:
        value = read_yaml(value_text, text, override=True)
    except ConfigError as error:
        document.problems += error.problems
        return
    document.problems += value.problems
    try:
        store(document, key, value, Place(text))
    except LookupError as error:
        _complain(document, text, error.args[0])


def store(document: Document, key: str, value: Document, place: Place) -> None:
    """Puts what `value` holds at the dotted key, written at `place`. Raises LookupError with what stands in the way."""
    path = _put(document, key.split("."), value.data, place)
    for places in (document.values, document.keys):
        for stale in [known for known in places if known[: len(path)] == path]:
            del places[stale]
    document.keys[path] = place
    document.values |= {path + below: found for below, found in value.values.items()}
    document.keys |= {path + below: found for below, found in value.keys.items()}


def _complain(document: Document, text: str, message: str) -> None:
    document.problems.append(Problem(text, None, None, "", message))


def _put(document: Document, parts: list[str], value: Any, place: Place) -> Path:
    """Stores the value and returns its path. Raises LookupError with what stands in the way."""
    here: Any = document.data
    path: Path = ()
    for part in parts[:-1]:
        index = _index(here, part, path)
        path = (*path, index)
        if isinstance(here, dict) and isinstance(kind := here.get(index), str | None):
            here[index] = {} if kind is None else {"kind": kind}
            if kind is not None:
                document.values[*path, "kind"] = document.values[path]
            document.values[path] = document.keys[path] = place
        here = here[index]
    index = _index(here, parts[-1], path)
    here[index] = value
    return (*path, index)


def _index(container: Any, part: str, path: Path) -> Any:
    """The part as a key or an index of this container."""
    name = ".".join(map(str, path))
    if isinstance(container, dict):
        return part
    if not isinstance(container, list):
        raise LookupError(f"{name} is {shown(container)}, which has no {part}; give the whole of {name}")
    if not part.isascii() or not part.isdigit() or len(part) > 9 or int(part) >= len(container):
        raise LookupError(f"{name} is a list{among(None, [str(index) for index in range(len(container))])}")
    return int(part)
