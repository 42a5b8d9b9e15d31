"""Reading a csv file so that whatever is wrong with it is told with its line and column.

    table = read_table("houses.csv", ",")
    prices = table.numbers(table.named("price", "data.target"))      # (N,) float64
    table.refuse_bad_cells()                                         # all bad cells at once

Lines are counted as an editor counts them, the header being line 1 and quoted cells spanning several. Cells are
kept as text (about 60 bytes each): for millions of rows, `npz` is the better home.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from nnvis.data.problems import existing_file, first_few, not_among
from nnvis.data.source import FLOAT32_MAX, FloatArray
from nnvis.errors import InputError

DELIMITERS = (",", ";", "\t", "|")
NO_TEXT = frozenset(("", "nan"))
PLACEHOLDERS = frozenset(("", "na", "n/a", "null", "none", "-", "?"))
"""What stands for a missing number; among texts all but the empty cell may be meant."""


def number(cell: str) -> float | None:
    """The number that a cell holds, None where it holds none that is finite in float32. `1_000` is none."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if abs(value) <= FLOAT32_MAX and "_" not in cell else None


def all_numbers(cells: list[str]) -> FloatArray | None:
    """What `number` gives for each cell, quickly; None unless every cell is one."""
    try:
        values = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        return None
    return values if (np.abs(values) <= FLOAT32_MAX).all() and "_" not in "".join(cells) else None


def _kind(cell: str) -> Literal["number", "text", "bad"]:
    """A number with a decimal comma is meant as one; "bad" are placeholders and what is beyond float32."""
    if number(cell.replace(",", ".")) is not None:
        return "number"
    try:
        float(cell)
    except ValueError:
        return "bad" if cell.casefold() in PLACEHOLDERS else "text"
    return "bad"


@dataclass(frozen=True)
class Table:
    """The cells of a csv file, stripped, column by column."""

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]
    """The line on which each row starts."""
    bad_cells: list[tuple[int, str]] = field(default_factory=list)
    """(line, what is wrong): gathered by `numbers`, `texts` and `refuse`, told by `refuse_bad_cells`."""

    def named(self, name: str, key: str) -> str:
        """The name, if the table has such a column; raises InputError that opens with `key`, the config's."""
        if name in self.columns:
            return name
        delimiter = next(
            (mark for mark in DELIMITERS if len(self.columns) == 1 and mark in next(iter(self.columns))), None
        )
        hint = f"; does {delimiter!r} separate the columns? Then set data.delimiter" if delimiter else ""
        raise InputError(f"{key}: {self.path}:1: {not_among(name, self.columns, more=f'head -1 {self.path}')}{hint}")

    def is_numeric(self, name: str, instead: str = "") -> bool:
        """Whether a column holds numbers, by most of the cells that are not missing. A text among them is a mistake
        that `numbers` notes; a number among texts is noted here, with what may be done `instead`.
        """
        cells = self.columns[name]
        if all_numbers(cells) is not None:
            return True
        kinds = list(map(_kind, cells))
        if kinds.count("number") >= kinds.count("text"):
            return True
        for row, kind in enumerate(kinds):
            if kind == "number":
                self.refuse(name, row, f"a text as in most rows{instead}")
        return False

    def numbers(self, name: str, expected: str = "a number") -> FloatArray:
        """A column as (N,) float64, all NaN where a cell is bad."""
        cells = self.columns[name]
        if (values := all_numbers(cells)) is not None:
            return values
        for row, cell in enumerate(cells):
            if number(cell) is None:
                decimal_comma = number(cell.replace(",", ".")) is not None
                self.refuse(name, row, expected + " (with a decimal point)" * decimal_comma)
        return np.full(len(cells), np.nan)

    def texts(self, name: str) -> list[str]:
        """A column as text, none of it missing."""
        for row, cell in enumerate(self.columns[name]):
            if cell.casefold() in NO_TEXT:
                self.refuse(name, row, "a text")
        return self.columns[name]

    def refuse(self, name: str, row: int, expected: str) -> None:
        """Note a bad cell."""
        cell = self.columns[name][row]
        found = repr(cell if len(cell) <= 40 else cell[:39] + "…") if cell else "an empty cell"
        self.bad_cells.append((self.lines[row], f"column {name!r}: found {found}, expected {expected}"))

    def refuse_bad_cells(self) -> None:
        """Raise InputError if any cell was bad, telling the first few from top to bottom."""
        if self.bad_cells:
            raise InputError(first_few([f"{self.path}:{line}: {problem}" for line, problem in sorted(self.bad_cells)]))


def read_table(path: str, delimiter: str) -> Table:
    """The table in a csv file with a header row; raises InputError for a file that is not one."""
    file = existing_file(path, "data.path")
    lines, rows = _rows(file, delimiter)
    if not rows:
        raise InputError(f"{file}:1: the file is empty, expected a row of column names")
    header = rows[0]
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise InputError(f"{file}:{lines[0]}: column {repeated[0]!r} appears twice, expected names that differ")
    if len(rows) == 1:
        raise InputError(f"{file}:{lines[0]}: only a row of column names, expected rows of data below it")
    ragged = [
        f"{file}:{line}: the row has {len(row)} cells, expected {len(header)} as in the header"
        for line, row in zip(lines, rows, strict=True)
        if len(row) != len(header)
    ]
    if ragged:
        raise InputError(first_few(ragged))
    cells = zip(*rows[1:], strict=True)
    return Table(file, {name: list(column) for name, column in zip(header, cells, strict=True)}, lines[1:])


def _rows(file: Path, delimiter: str) -> tuple[list[int], list[list[str]]]:
    """The line on which each row starts, and its stripped cells. Blank lines are no rows."""
    text = _text(file).rstrip("\r\n")
    lines: list[int] = []
    rows: list[list[str]] = []
    line = 1
    try:
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=delimiter != " ", strict=True
        )
        for cells in reader:
            # In a table of one column a blank line is a missing value, anywhere else it means nothing.
            if cells or (rows and len(rows[0]) == 1):
                lines.append(line)
                rows.append([cell.strip() for cell in cells] or [""])
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{file}:{line}: {error}: is a quote left open in the row that starts here?") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"data.delimiter: {delimiter!r} cannot separate columns: {error}") from error
    return lines, rows


def _text(file: Path) -> str:
    content = file.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{file}:{line}: byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from error
