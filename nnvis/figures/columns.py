"""Measured steps as columns on a step axis: honest about gaps, few enough to draw.

steps, values, kinds = thinned(table)      # at most COLUMNS of them
edges, filling = cells(steps)              # what to hand to pcolormesh
"""

from __future__ import annotations

import math

import numpy as np

from nnvis.figures.scales import INF, NAN, value_kinds
from nnvis.record.vocabulary import BoolArray, FloatArray, IntArray, LayerSeries

COLUMNS = 300  # more measured steps than these share a column


def per_column(steps: IntArray) -> int:
    """How many measured steps share a column."""
    return math.ceil(len(steps) / COLUMNS)


def thinned(table: LayerSeries) -> tuple[IntArray, FloatArray, IntArray]:
    """(C,) first steps, (C, L) values and kinds of at most COLUMNS columns.

    A column of several measured steps holds their median, unless one of them is NaN or Inf: that is never lost.
    """
    size = per_column(table.steps)
    if size == 1:
        return table.steps, table.values, value_kinds(table.values, table.present)
    blocks = [slice(start, start + size) for start in range(0, len(table.steps), size)]
    values = np.array([medians(table.values[b], table.present[b]) for b in blocks])
    kinds = value_kinds(values, np.array([table.present[b].any(axis=0) for b in blocks]))
    each = value_kinds(table.values, table.present)
    for kind in (INF, NAN):
        kinds[np.array([(each[b] == kind).any(axis=0) for b in blocks])] = kind
    return table.steps[::size], values, kinds


def medians(values: FloatArray, present: BoolArray) -> FloatArray:
    """(L,) medians over time of what is present and finite in (T, L); NaN where nothing is."""
    usable = present & np.isfinite(values)
    if usable.all():
        return np.median(values, axis=0)
    return np.array([np.median(v[u]) if u.any() else np.nan for v, u in zip(values.T, usable.T, strict=True)])


def cells(steps: IntArray) -> tuple[FloatArray, IntArray]:
    """(C + 1,) edges on the step axis and (C,) which of the steps (T,) fills a cell, -1 for a gap.

    A measurement fills the time until the next one. Where that is over four times as long as it is on either
    side, it fills as much as its neighbours do, and the rest stays empty.
    """
    lengths = np.diff(steps).astype(float)
    beside = np.concatenate([[0.0], lengths, [0.0]])  # of step i: [i] before it, [i + 1] after it
    edges, filling = [float(steps[0])], []
    for i, step in enumerate(steps):
        usual = max(beside[i], beside[i + 2] if i + 2 < len(beside) else 0.0)
        length = lengths[i] if i < len(lengths) else usual or 1.0
        gap = bool(usual) and length > 4 * usual
        edges.append(step + (usual if gap else length))
        filling.append(i)
        if gap:
            edges.append(step + length)
            filling.append(-1)
    return np.array(edges), np.array(filling)
