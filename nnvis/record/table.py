"""A run as one long table: one row a scalar's value, one a layer's value; an absent value has its reason."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnvis.errors import InputError
from nnvis.record.files import disk_errors
from nnvis.record.vocabulary import ABSENCE_REASONS, FloatArray, IntArray, LayerSeries, Series

if TYPE_CHECKING:
    import pandas

COLUMNS = ("step", "kind", "quantity", "layer", "value", "reason")


def to_csv(path: Path, scalars: Mapping[str, Series], layers: Mapping[str, LayerSeries]) -> None:
    """Writes the table. Raises InputError or RunError where `path` cannot be written."""
    with disk_errors(path), path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for block in _blocks(scalars, layers):
            for step, values, codes in zip(block.steps, block.values.tolist(), block.reason_codes, strict=True):
                for layer, value, code in zip(block.layers, values, codes, strict=True):
                    reason = ABSENCE_REASONS[code]
                    writer.writerow((step, block.kind, block.quantity, layer, "" if reason else value, reason))


def to_frame(scalars: Mapping[str, Series], layers: Mapping[str, LayerSeries]) -> pandas.DataFrame:
    """The table for pandas, its texts as categories. Raises InputError where pandas is missing."""
    try:
        import pandas as pd
    except ImportError:
        raise InputError('to_frame needs pandas: pip install "nnvis-trainer[frame]"; or use to_csv') from None
    blocks = list(_blocks(scalars, layers))
    if not blocks:
        return pd.DataFrame(columns=COLUMNS)
    kinds = ["scalar", "layer"]
    quantities = list(dict.fromkeys(block.quantity for block in blocks))
    names = list(dict.fromkeys(name for block in blocks for name in block.layers))
    code_of = {name: code for code, name in enumerate(names)}

    def frame(block: _Block) -> pandas.DataFrame:
        count = block.values.size
        columns = (
            np.repeat(block.steps, len(block.layers)),
            pd.Categorical.from_codes(np.full(count, kinds.index(block.kind)), kinds),
            pd.Categorical.from_codes(np.full(count, quantities.index(block.quantity)), quantities),
            pd.Categorical.from_codes(np.tile([code_of[name] for name in block.layers], len(block.steps)), names),
            block.values.ravel(),
            pd.Categorical.from_codes(block.reason_codes.ravel(), list(ABSENCE_REASONS)),
        )
        return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))

    return pd.concat([frame(block) for block in blocks], ignore_index=True)


@dataclass(frozen=True)
class _Block:
    """One series as a table of its own; a scalar has a single layer without a name."""

    kind: str
    quantity: str
    steps: IntArray  # (T,)
    layers: tuple[str, ...]  # L
    values: FloatArray  # (T, L)
    reason_codes: IntArray  # (T, L)


def _blocks(scalars: Mapping[str, Series], layers: Mapping[str, LayerSeries]) -> Iterator[_Block]:
    for tag, series in scalars.items():
        values = series.values[:, np.newaxis]
        yield _Block("scalar", tag, series.steps, ("",), values, np.zeros(values.shape, np.uint8))
    for quantity, rows in layers.items():
        yield _Block("layer", quantity, rows.steps, rows.layers, rows.values, rows.reason_codes)
