"""Forecasting: windows of a series as inputs, the values that follow each window as targets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnvis.data.source import FloatArray, Source
from nnvis.data.tables import read_table
from nnvis.errors import InputError

if TYPE_CHECKING:
    from nnvis.config import schema

SUNSPOTS = Path(__file__).with_name("tables") / "sunspots.csv"


def sunspots(section: schema.Sunspots, rng: np.random.Generator) -> Source:
    """309 yearly mean sunspot numbers, 1700 to 2008 (source: tables/README.md)."""
    values = np.loadtxt(SUNSPOTS, delimiter=",", skiprows=1, usecols=1)
    return forecast(values, section.window, section.horizon, "sunspots", "data.window")


def series_csv(section: schema.SeriesCsv, rng: np.random.Generator) -> Source:
    """A column of numbers, the oldest first."""
    table = read_table(section.path, section.delimiter)
    values = table.numbers(table.named(section.column, "data.column"))
    table.refuse_bad_cells()
    return forecast(values, section.window, section.horizon, section.column, f"{table.path}: column {section.column!r}")


def forecast(values: FloatArray, window: int, horizon: int, name: str, where: str) -> Source:
    """A series (S,) -> inputs (N, window, 1), targets (N, horizon), N = S - window - horizon + 1, in time order."""
    if len(values) < window + horizon:
        raise InputError(
            f"{where}: the series has {len(values)} values; window {window} and horizon {horizon} "
            f"need {window + horizon} at least"
        )
    windows = np.lib.stride_tricks.sliding_window_view(values, window + horizon)
    return Source(windows[:, :window, None], windows[:, window:], feature_names=(name,), overlap=window + horizon - 1)
