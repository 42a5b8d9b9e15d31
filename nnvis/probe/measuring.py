"""From the readings of one step to its `Measurement`: every quantity, every layer, a reason for every gap.

    pending = Pending(step, rows, owners, parameters, ...)   # its numbers start on their way to the host
    measurement = pending.measurement()                      # the one place where a device is waited for

What was read are plain sums. The formulas that make quantities of them are all here, in float64 on the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from nnvis.probe.histograms import BINS
from nnvis.probe.layers import Layer
from nnvis.probe.parameters import ParameterReadings, Readings
from nnvis.probe.readings import CallReading
from nnvis.probe.statistics import Number, number
from nnvis.probe.transfer import Transfer
from nnvis.record.vocabulary import (
    ABSENCE_REASONS,
    FloatArray,
    IntArray,
    LayerCounts,
    LayerValues,
    Measurement,
)

_CODES = {reason: code for code, reason in enumerate(ABSENCE_REASONS)}


@dataclass(frozen=True)
class Owner:
    """A layer that owns parameters, with their positions in the model's list."""

    layer: Layer
    positions: tuple[int, ...]


@dataclass(frozen=True)
class Scales:
    """What gradients were multiplied by: at the end of the backward pass, and when the optimizer got them."""

    backward: Number = 1.0
    optimizer: Number = 1.0


class Pending:
    """A step whose numbers are on their way from the device."""

    def __init__(
        self,
        step: int,
        rows: Mapping[str, CallReading],
        owners: Sequence[Owner],
        read: ParameterReadings,
        scales: Scales,
        scalars: Mapping[str, Number],
    ) -> None:
        self.step = step
        self._rows, self._owners, self._read = rows, owners, read
        self._tags = tuple(scalars)
        groups = [
            [value for reading in rows.values() for value in _call_sums(reading)],
            *([*readings.values()] for readings in _parameter_sums(read)),
            [*scalars.values()],
            [scales.backward, scales.optimizer],
        ]
        self._group_sizes = [len(group) for group in groups]
        self._numbers = Transfer([value for group in groups for value in group])
        self._histograms = _histogram_columns(rows, owners, read)
        self._counts = Transfer([counts for column in self._histograms.values() for counts in column.values()])

    @property
    def under_way(self) -> bool:
        """Whether `measurement()` might wait for a device."""
        return self._numbers.under_way or self._counts.under_way

    def measurement(self) -> Measurement:
        """Wait for the device, and put every number into its place."""
        numbers = iter(self._numbers.floats().tolist())
        groups = [np.array(list(islice(numbers, size))) for size in self._group_sizes]
        calls, *parameters, scalars, (scale, optimizer_scale) = groups
        layers = call_quantities(self._rows, calls.reshape(len(self._rows), -1), scale)
        if self._owners:
            layers |= parameter_quantities(self._owners, self._read, parameters, scale)
        grad_norms, clipped = parameters[0] / scale, parameters[-1] / optimizer_scale
        return Measurement(
            self.step,
            layers,
            self._layer_counts(),
            dict(zip(self._tags, scalars.tolist(), strict=True)) | _gradient_scalars(grad_norms, clipped),
        )

    def _layer_counts(self) -> dict[str, LayerCounts]:
        counts = iter(self._counts.arrays())
        return {
            quantity: LayerCounts(tuple(column), np.stack([next(counts) for _ in column]).astype(np.int64))
            for quantity, column in self._histograms.items()
        }


# ---------------------------------------------------------------- what is sent to the host


def _call_sums(reading: CallReading) -> tuple[Number, ...]:
    read, grad, active = reading.moments, reading.gradient, reading.active
    nan = np.nan
    return (
        *((read.mean, read.squared_deviations, read.absmax, read.nonfinite) if read else (nan, nan, nan, nan)),
        *((number(active.sum()), number(torch.count_nonzero(active))) if active is not None else (nan, nan)),
        nan if reading.saturated is None else reading.saturated,
        *((grad.squares, grad.nonfinite) if grad else (nan, nan)),
    )


def _parameter_sums(read: ParameterReadings) -> tuple[Readings, ...]:
    return read.grad_norms, read.grad_nonfinite, read.weight_norms, read.update_norms, read.clipped_norms


def _histogram_columns(
    rows: Mapping[str, CallReading], owners: Sequence[Owner], read: ParameterReadings
) -> dict[str, dict[str, Tensor]]:
    """(B + 2,) counts by histogram quantity and layer; all 0 where nothing was read."""
    columns = {
        "activation": {row: r.histogram for row, r in rows.items()},
        "activation_grad": {row: r.gradient.histogram if r.gradient else None for row, r in rows.items()},
        "grad": {owner.layer.name: read.grad_histogram(owner.positions) for owner in owners},
    }
    nothing = torch.zeros(BINS + 2, dtype=torch.int64)
    return {
        quantity: {row: nothing if counts is None else counts for row, counts in column.items()}
        for quantity, column in columns.items()
        if any(counts is not None for counts in column.values())
    }


# ---------------------------------------------------------------- formulas


def call_quantities(rows: Mapping[str, CallReading], sums: FloatArray, scale: float) -> dict[str, LayerValues]:
    """The activation quantities of R rows, from what was summed (R, 9)."""
    if not rows:
        return {}
    names, readings = tuple(rows), list(rows.values())
    mean, deviations, absmax, nonfinite, active, active_units, saturated, grad_squares, grad_nonfinite = sums.T
    counts = np.array([r.moments.count if r.moments else 0 for r in readings])
    units = np.array([r.active.numel() if r.active is not None else 0 for r in readings])
    grad_counts = np.array([r.gradient.count if r.gradient else 0 for r in readings])
    absent = np.array([_CODES[r.absence or ("" if r.moments else "not measured")] for r in readings], np.int8)
    no_grad = np.array([0 if r.gradient else _CODES[r.absence or "no gradient"] for r in readings], np.int8)
    nonlinear = np.array([r.layer.nonlinearity for r in readings])
    bounded = np.array([r.layer.bounds is not None for r in readings])

    def column(values: FloatArray, codes: IntArray, chosen: np.ndarray | slice = slice(None)) -> LayerValues:
        layers = names if isinstance(chosen, slice) else tuple(np.array(names, object)[chosen])
        return LayerValues(layers, values[chosen], codes[chosen])

    quantities = {
        "activation_mean": column(mean, absent),
        "activation_std": column(np.sqrt(deviations / np.maximum(counts - 1, 1)), absent),
        "activation_absmax": column(absmax, absent),
        "activation_nonfinite": column(nonfinite, absent),
        "activation_grad_norm": column(np.sqrt(grad_squares) / scale, no_grad),
        "activation_grad_rms": column(np.sqrt(grad_squares / np.maximum(grad_counts, 1)) / scale, no_grad),
        "activation_grad_nonfinite": column(grad_nonfinite, no_grad),
    }
    if nonlinear.any():
        quantities["zero_fraction"] = column(1 - active / np.maximum(counts, 1), absent, nonlinear)
        quantities["dead_fraction"] = column(1 - active_units / np.maximum(units, 1), absent, nonlinear)
    if bounded.any():
        quantities["saturated_fraction"] = column(saturated / np.maximum(counts, 1), absent, bounded)
    return quantities


def parameter_quantities(
    owners: Sequence[Owner], read: ParameterReadings, sums: Sequence[FloatArray], scale: float
) -> dict[str, LayerValues]:
    """The parameter quantities of the layers that own parameters."""
    names = tuple(owner.layer.name for owner in owners)
    positions = np.array([p for owner in owners for p in owner.positions])
    starts = np.cumsum([0, *(len(owner.positions) for owner in owners[:-1])])
    sizes = np.array([p.numel() for owner in owners for p in owner.layer.parameters])
    frozen = np.array([not any(p.requires_grad for p in owner.layer.parameters) for owner in owners])

    def gather(readings: Readings, values: FloatArray, absence: str) -> tuple[FloatArray, np.ndarray, IntArray]:
        """(K,) values of all owned parameters with 0 for gaps, (K,) which there are, (L,) reasons of their layers."""
        by_parameter, known = np.zeros(read.count), np.zeros(read.count, bool)
        read_here = list(readings)
        by_parameter[read_here], known[read_here] = values, True
        there = known[positions]
        missing = ~np.logical_or.reduceat(there, starts)
        codes = np.where(missing, np.where(frozen, _CODES["frozen"], _CODES[absence]), 0).astype(np.int8)
        return by_parameter[positions], there, codes

    def norm_of(values: FloatArray) -> FloatArray:
        return np.sqrt(np.add.reduceat(values * values, starts))

    grads, with_grad, no_grad = gather(read.grad_norms, sums[0], "no gradient")
    nonfinite, _, _ = gather(read.grad_nonfinite, sums[1], "no gradient")
    weights, _, no_update = gather(read.weight_norms, sums[2], "not in an optimizer")
    updates, _, _ = gather(read.update_norms, sums[3], "not in an optimizer")
    grad_norm, weight_norm, update_norm = norm_of(grads) / scale, norm_of(weights), norm_of(updates)
    grad_sizes = np.maximum(np.add.reduceat(sizes * with_grad, starts), 1)
    with np.errstate(divide="ignore", invalid="ignore"):  # IEEE's answer where a layer's weights are all 0
        update_ratio = update_norm / weight_norm
    return {
        "weight_norm": _layer_values(names, weight_norm, no_update),
        "grad_norm": _layer_values(names, grad_norm, no_grad),
        "grad_rms": _layer_values(names, grad_norm / np.sqrt(grad_sizes), no_grad),
        "grad_nonfinite": _layer_values(names, np.add.reduceat(nonfinite, starts), no_grad),
        "update_norm": _layer_values(names, update_norm, no_update),
        "update_ratio": _layer_values(names, update_ratio, no_update),
    }


def _layer_values(names: tuple[str, ...], values: FloatArray, codes: IntArray) -> LayerValues:
    return LayerValues(names, np.where(codes == 0, values, np.nan), codes)


def _gradient_scalars(grad_norms: FloatArray, clipped_norms: FloatArray) -> dict[str, float]:
    """The whole gradient before clipping, and the factor that clipping left of it."""
    if not len(grad_norms):
        return {}
    before, after = np.linalg.norm(grad_norms), np.linalg.norm(clipped_norms)
    scalars = {"grad_norm/total": float(before)}
    if len(clipped_norms) and before > 0:
        scalars["clip_factor"] = float(after / before)
    return scalars
