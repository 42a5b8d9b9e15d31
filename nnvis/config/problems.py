"""What is wrong with a config, told so that it can be put right.

raise ConfigError([Problem("a.yaml", 3, 7, "optimizer.lr", "should be a number, got abc")])
# a.yaml:3:7: optimizer.lr: should be a number, got abc
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nnvis.errors import InputError

MAX_LISTED = 40
"""Choices that are spelled out; a longer list is referred to."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where."""

    file: str  # the file's path, or the override "key=value"
    line: int | None  # from 1; None where there is no line, as in an override
    column: int | None  # from 1
    path: str  # "optimizer.lr"; "" for the file as a whole
    message: str

    def __str__(self) -> str:
        where = _printable(self.file, 200) or '""' if self.line is None else f"{self.file}:{self.line}:{self.column}"
        path = "" if self.file.startswith(f"{self.path}=") else _printable(self.path, 200)
        return ": ".join(part for part in (where, path, _printable(self.message, 1500)) if part)


class ConfigError(InputError):
    """A config that cannot be used; `problems` has all that is wrong with it, one line each in the text."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        self.problems = list(problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def shown(value: Any) -> str:
    """A value as YAML writes it, in at most 40 characters; lists and mappings by their kind."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if value is None:
        return "nothing (null)"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    if isinstance(value, int) and abs(value) >= 10**40:  # str() of a huge number is refused by Python
        return "a number of more than 40 digits"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str | int | float) else repr(value)
    return _printable(text, 40)


def _printable(text: str, longest: int) -> str:
    """The text in one line, with what cannot be printed as escapes and what is too long cut off."""
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[: longest + 1])
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def among(word: Any, names: Collection[str], *, more: str = "nnvis list", hidden: Iterable[str] = ()) -> str:
    """The choices and the likeliest of them: '; choices: a, b; did you mean "a"?'. `hidden` ones are not listed."""
    text = f"; choices: {', '.join(names)}" if len(names) <= MAX_LISTED else f"; {len(names)} choices, see `{more}`"
    close = closest(word, names) or closest(word, hidden)
    return (text if names else "") + (f'; did you mean "{close}"?' if close else "")


def closest(word: Any, names: Iterable[str]) -> str | None:
    """The name that is spelled most like `word`, upper case and underscores aside; None when none is near."""
    if not isinstance(word, str):
        return None
    plain = {_plain(name): name for name in names}
    matches = difflib.get_close_matches(_plain(word[:80]), plain, n=1, cutoff=0.6)
    return plain[matches[0]] if matches else None


def _plain(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")
