"""Rows of event files joined into series: in the order of steps, one value a step, generations of a tag in one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnvis.record.protos import FACTS, NETWORK
from nnvis.record.reader import ArrayRows, CheckRows, EventData, FactRows, ScalarRows, TextRows
from nnvis.record.vocabulary import (
    ABSENCE_REASONS,
    Check,
    FloatArray,
    HistogramSeries,
    IntArray,
    LayerInfo,
    LayerSeries,
    Series,
)

_NOT_RECORDED = ABSENCE_REASONS.index("not recorded")


def scalar_series(data: EventData) -> dict[str, Series]:
    """By tag."""
    series = {}
    for tag, rows in data.series.items():
        if isinstance(rows, ScalarRows):
            steps, order = _in_order(rows.steps)
            series[tag] = Series(steps, np.array(rows.values)[order])
    for rows in data.arrays("exact"):
        whole = series[rows.quantity]
        whole.values[np.searchsorted(whole.steps, rows.steps)] = rows.numbers()
    return series


def layer_series(data: EventData) -> dict[str, LayerSeries]:
    """By quantity. A layer that a generation did not know is absent there, "not recorded"."""
    return {quantity: _join_layers(generations) for quantity, generations in _generations(data, "layers").items()}


def histogram_series(data: EventData) -> dict[str, HistogramSeries]:
    """By quantity. A layer that a generation did not know has counts of 0 there."""
    return {quantity: _join_counts(parts) for quantity, parts in _generations(data, "histograms").items()}


def network_table(data: EventData) -> tuple[LayerInfo, ...]:
    """The newest table of layers; empty where none was written."""
    table = data.series.get(NETWORK)
    if not isinstance(table, TextRows):
        return ()
    rows = json.loads(table.text)
    shapes = [None if row["output_shape"] is None else tuple(row["output_shape"]) for row in rows]
    return tuple(LayerInfo(**{**row, "output_shape": shape}) for row, shape in zip(rows, shapes, strict=True))


def checks(data: EventData) -> tuple[Check, ...]:
    """In the order of their steps; of one step's the last one counts."""
    found: dict[int, dict[str, FloatArray]] = {}
    for rows in data.series.values():
        if isinstance(rows, CheckRows):
            for step, values in zip(rows.steps, rows.arrays, strict=True):
                found.setdefault(step, {})[rows.quantity] = values
    facts = data.series.get(FACTS)
    known = dict(zip(facts.steps, facts.texts, strict=True)) if isinstance(facts, FactRows) else {}
    parsed = {step: json.loads(text) for step, text in known.items()}
    result = []
    newest: dict[str, Any] = {}
    for step in sorted(found):
        newest = parsed.get(step, newest)
        result.append(Check(step, found[step], newest))
    return tuple(result)


def newest_facts(data: EventData) -> str:
    """The newest facts of a check, as they were written."""
    facts = data.series.get(FACTS)
    return facts.texts[-1].decode() if isinstance(facts, FactRows) else ""


def _generations(data: EventData, kind: str) -> dict[str, list[ArrayRows]]:
    generations: dict[str, list[ArrayRows]] = {}
    for rows in data.arrays(kind):
        generations.setdefault(rows.quantity, []).append(rows)
    return generations


def _join_layers(generations: Sequence[ArrayRows]) -> LayerSeries:
    steps, layers, places = _joined(generations)
    if len(generations) == 1:
        values, codes = generations[0].layer_values()
    else:
        values = np.full((len(steps), len(layers)), np.nan)
        codes = np.full(values.shape, _NOT_RECORDED, np.uint8)
        for rows, place in zip(generations, places, strict=True):
            values[place], codes[place] = rows.layer_values()
    steps, order = _in_order(steps)
    values, codes = values[order], codes[order]
    return LayerSeries(steps, layers, values, codes == 0, codes)


def _join_counts(generations: Sequence[ArrayRows]) -> HistogramSeries:
    steps, layers, places = _joined(generations)
    edges = generations[-1].edges
    counts = np.zeros((len(steps), len(layers), len(edges) + 1), np.int32)
    for rows, place in zip(generations, places, strict=True):
        counts[place] = rows.counts()
    steps, order = _in_order(steps)
    counts = counts[order]
    return HistogramSeries(steps, layers, edges, counts[..., :-2], counts[..., -2], counts[..., -1])


def _joined(generations: Sequence[ArrayRows]) -> tuple[list[int], tuple[str, ...], list[Any]]:
    """All steps, all layers, and for each generation the index of its part of a (steps, layers, ...) array."""
    layers = _union([rows.layers for rows in generations])
    steps: list[int] = []
    places = []
    for rows in generations:
        columns = slice(None) if rows.layers == layers else [layers.index(name) for name in rows.layers]
        places.append((slice(len(steps), len(steps) + len(rows.steps)), columns))
        steps += rows.steps
    return steps, layers, places


def _union(generations: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """All layers; one that is new in a generation comes after the layer that it follows there."""
    union = list(generations[0])
    for layers in generations[1:]:
        place = 0
        for name in layers:
            if name not in union:
                union.insert(place, name)
            place = union.index(name) + 1
    return tuple(union)


def _in_order(steps: Sequence[int]) -> tuple[IntArray, IntArray | slice]:
    """Steps strictly increasing, and what brings values into that order; of one step's values the last one counts."""
    array = np.array(steps, np.int64)
    if np.all(np.diff(array) > 0):
        return array, slice(None)
    unique, last = np.unique(array[::-1], return_index=True)
    return unique, len(array) - 1 - last
