"""How data errors are told: where, what was found, the choices, what was probably meant.

raise InputError(first_few(problems))
raise InputError(f"data.target: {not_among('pirce', columns, more='houses.csv')}")
path = existing_file("houses.csv", "data.path")
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from nnvis.config.problems import among, closest
from nnvis.errors import InputError

SHOWN_PROBLEMS = 5


def first_few(problems: Sequence[str]) -> str:
    """The first problems, one a line, and how many more there are."""
    more = len(problems) - SHOWN_PROBLEMS
    return "\n".join([*problems[:SHOWN_PROBLEMS], *([f"and {more} more"] if more > 0 else [])])


def not_among(word: str, choices: Collection[str], noun: str = "column", *, more: str) -> str:
    """`no column 'pirce'; choices: price, size; did you mean "price"?` Of many choices: see `more`."""
    return f"no {noun} {word!r}{among(word, choices, more=more)}"


def existing_file(path: str, key: str) -> Path:
    """The path of a file that is there; raises InputError with the folder's listing where it is not."""
    file = Path(path)
    if file.is_dir():
        raise InputError(f"{key}: {path} is a folder, expected a file")
    if not file.exists():
        folder = existing_folder(str(file.parent), key)
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
        # By their stems: what ends in .csv too need not be near. Of equal stems the one of the same kind is last.
        by_stem = {Path(name).stem: name for name in sorted(names, key=lambda name: name.endswith(file.suffix))}
        likely = by_stem.get(closest(file.stem, by_stem) or "")
        raise InputError(f"{key}: {path}: there is no such file{among(likely, names, more=f'ls {folder}')}")
    return _readable(file, key)


def existing_folder(path: str, key: str) -> Path:
    """The path of a folder that is there; raises InputError."""
    folder = Path(path)
    if not folder.is_dir():
        found = "is a file, expected a folder" if folder.exists() else "there is no such folder"
        raise InputError(f"{key}: {path}: {found} (looked from {Path.cwd()})")
    return _readable(folder, key)


def _readable(path: Path, key: str) -> Path:
    if not os.access(path, os.R_OK):
        raise InputError(f"{key}: {path}: you have no permission to read it")
    return path
