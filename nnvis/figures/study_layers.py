"""A quantity of every layer over a study's seeds: what its per-layer figures draw.

profiles = profiles_of(study, "grad_norm", "start")     # a Profile for each variant that measured it
x, label, names = depth(profiles)                       # where its layers stand, and what to call them
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nnvis.figures.reading import NoData, layer_table
from nnvis.figures.variants import NothingToDraw, spread
from nnvis.record.run import Run
from nnvis.record.study import Study
from nnvis.record.vocabulary import ABSENCE_REASONS, BoolArray, FloatArray, IntArray, LayerSeries

_NOT_RECORDED = ABSENCE_REASONS.index("not recorded")
Keep = Callable[[Run, LayerSeries], LayerSeries]


@dataclass(frozen=True)
class Profile:
    """A quantity through the depth of one variant at one moment, over its seeds."""

    layers: tuple[str, ...]  # L
    seeds: int
    steps: tuple[int, ...]  # of the seeds, in their order
    middle: FloatArray  # (L,) median over the seeds
    low: FloatArray  # (L,)
    high: FloatArray  # (L,)
    present: BoolArray  # (L,) whether any seed measured it


def tables_of(study: Study, quantity: str, keep: Keep) -> dict[str, dict[int, LayerSeries]]:
    """By variant, by seed: the tables of those runs that measured the quantity. Raises NothingToDraw without any."""
    tables: dict[str, dict[int, LayerSeries]] = {}
    for variant, seed, run in study.each_run():
        try:
            tables.setdefault(variant, {})[seed] = keep(run, layer_table(run, quantity))
        except NoData:
            continue
    if not tables:
        raise NothingToDraw(f"{study.path}: no run has {quantity} in its record")
    return {variant: _alike(by_seed) for variant, by_seed in tables.items() if by_seed}


def _alike(tables: dict[int, LayerSeries]) -> dict[int, LayerSeries]:
    """Those with the layers of the first; another network (another code's run, say) is no seed of the same."""
    layers = next(iter(tables.values())).layers
    return {seed: table for seed, table in tables.items() if table.layers == layers}


def profile(tables: Mapping[int, LayerSeries], when: Literal["start", "end"]) -> Profile:
    """Of the first measured step, or the last one at which any layer was finite (a diverged run ends in NaN)."""
    rows = {seed: _row(table, when) for seed, table in tables.items()}
    values = np.array([t.values[rows[seed]] for seed, t in tables.items()])
    present = np.array([t.present[rows[seed]] for seed, t in tables.items()])
    steps = tuple(int(table.steps[rows[seed]]) for seed, table in tables.items())
    return Profile(next(iter(tables.values())).layers, len(tables), steps, *spread(values), np.any(present, axis=0))


def _row(table: LayerSeries, when: Literal["start", "end"]) -> int:
    if when == "start":
        return 0
    finite = np.flatnonzero((table.present & np.isfinite(table.values)).any(axis=1))
    return int(finite[-1]) if len(finite) else len(table.steps) - 1


def median_table(tables: Mapping[int, LayerSeries]) -> LayerSeries:
    """The median over the seeds, layer by layer, at every step at which any was measured.

    A seed counts from its first to its last measured step, with its newest measurement. Where half of the seeds or more
    are NaN or Inf, so is the result.
    """
    every = list(tables.values())
    steps = np.unique(np.concatenate([table.steps for table in every]))
    rows = [newest(table.steps, steps) for table in every]
    values = np.array([table.values[row] for table, row in zip(every, rows, strict=True)])  # (S, T, L)
    present = np.array([t.present[row] & (row >= 0)[:, None] for t, row in zip(every, rows, strict=True)])
    finite = present & np.isfinite(values)
    kept = finite.sum(axis=0) > present.sum(axis=0) / 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where no seed has a number
        middle = np.nanmedian(np.where(finite, values, np.nan), axis=0)
    infinite = (present & np.isinf(values)).any(axis=0)
    middle = np.where(kept, middle, np.where(infinite, np.inf, np.nan))
    seen = np.asarray(present.any(axis=0))
    return LayerSeries(steps, every[0].layers, middle, seen, np.where(seen, 0, _NOT_RECORDED))


def newest(measured: IntArray, steps: IntArray) -> IntArray:
    """(T,) rows of the newest measurement at each of the `steps`; -1 before the first and after the last."""
    rows = np.searchsorted(measured, steps, side="right") - 1
    return np.where(steps > measured[-1], -1, rows)


def weighted(run: Run, table: LayerSeries) -> LayerSeries:
    """The table without the scales and shifts of normalization, so that networks with and without it line up."""
    kinds = {layer.name: layer.kind for layer in run.network}
    kept = [i for i, layer in enumerate(table.layers) if "Norm" not in kinds.get(layer, "")]  # BatchNorm1d, RMSNorm, …
    if not kept or len(kept) == len(table.layers):
        return table
    layers = tuple(table.layers[i] for i in kept)
    return LayerSeries(table.steps, layers, table.values[:, kept], table.present[:, kept], table.reason_codes[:, kept])


@dataclass(frozen=True)
class Depth:
    """Where layers stand on an axis that all variants share."""

    label: str
    names: tuple[str, ...]  # of the places 0 … L-1, where all networks have the same; else ()
    longest: int

    def at(self, layers: int) -> FloatArray:
        """(layers,) places: 0 … L-1, or from 0 to 1 where the networks differ in depth."""
        return np.arange(layers, dtype=float) if self.longest else np.arange(layers) / max(layers - 1, 1)


def depth(layers: Sequence[tuple[str, ...]]) -> Depth:
    """Layer by layer where all networks have as many, else relative: first layer 0, last layer 1."""
    lengths = {len(names) for names in layers}
    if len(lengths) > 1:
        few, many = min(lengths), max(lengths)
        return Depth(f"relative depth (first layer 0, last layer 1; {few} to {many} layers)", (), 0)
    names = layers[0] if len(set(layers)) == 1 else tuple(str(i + 1) for i in range(len(layers[0])))
    return Depth("layer, input → output", names, len(layers[0]))
