"""From a file, the name of a shipped config, or text to a `Config`; or to one error that tells all that is wrong.

config = load_config("digits_mlp", ["optimizer.lr=0.01"])
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from nnvis.config.explaining import explain
from nnvis.config.overrides import override
from nnvis.config.problems import ConfigError, Problem, among
from nnvis.config.schema import Config
from nnvis.config.yaml_text import MAX_CHARACTERS, Document, read_yaml

FILES = ("path", "root")
"""Keys of the data section that name a file or folder."""

_PLURALS = {"config": "configs", "study": "studies"}


def load_config(source: str | Path, overrides: Sequence[str] = (), *, trust: bool = False) -> Config:
    """The config in a file, or a shipped one by its name, with `key=value` overrides applied.

    Data paths are taken from the file's folder, those in overrides from the working directory.
    `trust` allows `kind: python`. Raises ConfigError with everything that is wrong.
    """
    path = file_of(source, shipped_configs())
    return parse_config(
        read_text(path, "config", shipped_configs()), str(path), overrides, trust=trust, folder=path.parent
    )


def parse_config(
    text: str,
    filename: str = "<config>",
    overrides: Iterable[str] = (),
    *,
    trust: bool = False,
    folder: Path | None = None,
) -> Config:
    """The config that a text holds. Relative data paths stay as they are without a `folder`. Raises ConfigError."""
    document = read_mapping(text, filename, "a config has at least name, data and model")
    for each in overrides:
        override(document, each)
    config = validated(document, folder, trust=trust)
    if isinstance(config, Config):
        return config
    raise ConfigError(in_order(config))


def validated(document: Document, folder: Path | None, *, trust: bool) -> Config | list[Problem]:
    """The config that a mapping holds, or all that is wrong with it. Makes its data paths absolute, given a folder."""
    if folder is not None:
        _make_absolute(document, folder)
    problems = document.problems + ([] if trust else _untrusted(document))
    try:
        config = Config.model_validate(document.data)
    except ValidationError as error:
        return problems + explain(error, document)
    return problems or config


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """By their places in the text, then those of overrides."""
    return sorted(problems, key=lambda problem: (problem.line is None, problem.line or 0, problem.column or 0))


def shipped_configs() -> dict[str, Path]:
    """The configs that come with nnvis: name -> file."""
    return {path.stem: path for path in sorted(_shipped_folder().glob("*.yaml"))}


def shipped_studies() -> dict[str, Path]:
    """The studies that come with nnvis: name -> file."""
    return {path.stem: path for path in sorted((_shipped_folder() / "studies").glob("*.yaml"))}


def _shipped_folder() -> Path:
    package = Path(__file__).parents[1]
    return next((path for path in (package / "configs", package.parent / "configs") if path.is_dir()), package)


def file_of(source: str | Path, shipped: Mapping[str, Path]) -> Path:
    """The file that is meant: a path, or the name of a shipped one."""
    path = Path(source)
    if path.name == str(source) and not os.path.isfile(path):  # never raises, unlike Path.is_file
        return shipped.get(str(source), path)
    return path


def read_mapping(text: str, filename: str, at_least: str) -> Document:
    """The document that a text holds. Raises ConfigError if that is no mapping; `at_least` says what would be there."""
    document = read_yaml(text, filename)
    if not isinstance(document.data, dict):
        what = "is empty" if document.data is None else "is no mapping of `key: value` lines"
        raise ConfigError([document.problem((), f"{what}; {at_least}")])
    return document


def read_text(path: Path, what: str, shipped: Mapping[str, Path]) -> str:
    """The text of a file. Raises ConfigError with what stands in the way, and what is shipped (`what`s: config, …)."""
    try:
        with path.open("rb") as file:
            raw = file.read(4 * MAX_CHARACTERS + 1)
        if len(raw) > 4 * MAX_CHARACTERS:
            raise _unreadable(path, f"is too long for a {what} (over {4 * MAX_CHARACTERS:,} bytes)")
        return raw.decode()
    except FileNotFoundError:
        raise _unreadable(path, no_such_file(path, what, shipped)) from None
    except IsADirectoryError:
        inside = path / f"{what}.yaml"
        hint = f"; did you mean {inside}?" if os.path.isfile(inside) else ""
        raise _unreadable(path, f"is a directory, not a file{hint}") from None
    except UnicodeDecodeError as error:
        raise _unreadable(path, f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None


def no_such_file(path: Path, what: str, shipped: Mapping[str, Path]) -> str:
    """That there is none, and what there is."""
    other = shipped_studies() if what == "config" else shipped_configs()
    if path.name in other:
        return "is a study: nnvis compare " + path.name if what == "config" else "is a config: nnvis train " + path.name
    near = [file.name for file in path.parent.glob("*.yaml")]
    choices = among(path.name, list(shipped), more=f"nnvis list {_PLURALS[what]}", hidden=near)
    return f"no such file, and no shipped {what} of that name{choices}"


def _unreadable(path: Path, message: str) -> ConfigError:
    return ConfigError([Problem(str(path), None, None, "", message)])


def _make_absolute(document: Document, folder: Path) -> None:
    data = document.data.get("data")
    for name in FILES:
        if isinstance(data, dict) and isinstance(data.get(name), str):
            base = folder if document.place(("data", name)).line is not None else Path()
            data[name] = os.path.abspath(base / os.path.expanduser(data[name]))


def _untrusted(document: Document) -> list[Problem]:
    """A problem for each section that would run Python code."""
    return [
        document.problem((name, "kind"), "python runs code of your own; allow it with --trust")
        for name in ("data", "model")
        if isinstance(section := document.data.get(name), dict) and section.get("kind") == "python"
    ]
