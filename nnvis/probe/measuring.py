"""From the readings of one step to its `Measurement`: every quantity, every layer, a reason for every gap.

    pending = Pending(step, rows, owners, parameters, ...)   # its numbers start on their way to the host
    measurement = pending.measurement()                      # the one place where a device is waited for

What was read are plain sums. The formulas that make quantities of them are all here, in float64 on the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from nnvis.probe.histograms import BINS
from nnvis.probe.layers import Layer
from nnvis.probe.parameters import ParameterReadings, Readings
from nnvis.probe.readings import CallReading
from nnvis.probe.statistics import Number, number, widest
from nnvis.probe.transfer import Transfer
from nnvis.record.vocabulary import (
    ABSENCE_REASONS,
    BoolArray,
    FloatArray,
    IntArray,
    LayerCounts,
    LayerValues,
    Measurement,
)

_CODES = {reason: code for code, reason in enumerate(ABSENCE_REASONS)}


class Owners:
    """The L layers that own parameters, and where their K parameters stand in the model's list (shared ones twice)."""

    def __init__(self, layers: Sequence[Layer], position_of: Mapping[int, int]) -> None:
        own = [[position_of[id(p)] for p in layer.parameters] for layer in layers]
        self.layers = tuple(layers)
        self.names = tuple(layer.name for layer in layers)
        self.own = dict(zip(self.names, own, strict=True))
        self.positions = np.array([position for one in own for position in one], np.int64)  # (K,)
        self.starts = np.cumsum([0, *(len(one) for one in own)])[:-1]  # (L,) of each layer's part of `positions`
        self.sizes = np.array([p.numel() for layer in layers for p in layer.parameters])  # (K,)
        self.everywhere = np.ones(len(self.positions), bool)
        self.no_codes = np.zeros(len(layers), np.int8)

    def frozen(self) -> BoolArray:
        """(L,) whether none of a layer's parameters requires a gradient, at present."""
        return np.array([not any(p.requires_grad for p in layer.parameters) for layer in self.layers])


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
        owners: Owners,
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
        numbers, ends = self._numbers.floats(), [*accumulate(self._group_sizes)]
        groups = [numbers[end - size : end] for size, end in zip(self._group_sizes, ends, strict=True)]
        calls, *parameters, scalars, (scale, optimizer_scale) = groups
        layers = call_quantities(self._rows, calls.reshape(-1, _CALL_SUMS), scale)
        if self._owners.layers:
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


_CALL_SUMS = 14


def _call_sums(reading: CallReading) -> tuple[Number, ...]:
    """What `call_quantities` makes its quantities of."""
    read, grad, active = reading.moments, reading.gradient, reading.active
    nan = np.nan
    return (
        *((read.count, read.mean, read.squared_deviations, read.absmax, read.nonfinite) if read else _NOTHING[:5]),
        *(
            (active.numel(), number(active.sum(dtype=widest(active))), number(torch.count_nonzero(active)))
            if active is not None
            else _NOTHING[:3]
        ),
        nan if reading.saturated is None else reading.saturated,
        *((grad.count, grad.squares, grad.nonfinite) if grad else _NOTHING[:3]),
        0 if read else _CODES[reading.absence or "not measured"],
        0 if grad else _CODES[reading.absence or "no gradient"],
    )


_NOTHING = (1, np.nan, np.nan, np.nan, np.nan)


def _parameter_sums(read: ParameterReadings) -> tuple[Readings, ...]:
    return read.grad_norms, read.grad_nonfinite, read.weight_norms, read.update_norms, read.clipped_norms


def _histogram_columns(
    rows: Mapping[str, CallReading], owners: Owners, read: ParameterReadings
) -> dict[str, dict[str, Tensor]]:
    """(B + 2,) counts by histogram quantity and layer; all 0 where nothing was read."""
    columns = {
        "activation": {row: r.histogram for row, r in rows.items()},
        "activation_grad": {row: r.gradient.histogram if r.gradient else None for row, r in rows.items()},
        "grad": {name: read.grad_histogram(positions) for name, positions in owners.own.items()},
    }
    nothing = torch.zeros(BINS + 2, dtype=torch.int64)
    return {
        quantity: {row: nothing if counts is None else counts for row, counts in column.items()}
        for quantity, column in columns.items()
        if any(counts is not None for counts in column.values())
    }


# ---------------------------------------------------------------- formulas


def call_quantities(rows: Mapping[str, CallReading], sums: FloatArray, scale: float) -> dict[str, LayerValues]:
    """The activation quantities of R rows, from what was summed (R, 14)."""
    if not rows:
        return {}
    count, mean, deviations, absmax, nonfinite, units, active, active_units, saturated, *gradient = sums.T
    grad_count, grad_squares, grad_nonfinite, absent, no_grad = gradient
    absent, no_grad = absent.astype(np.int8), no_grad.astype(np.int8)
    names = tuple(rows)
    nonlinear = [i for i, reading in enumerate(rows.values()) if reading.layer.nonlinearity]
    bounded = [i for i in nonlinear if rows[names[i]].layer.bounds]
    nonlinear_names, bounded_names = tuple(names[i] for i in nonlinear), tuple(names[i] for i in bounded)
    quantities = {
        "activation_mean": LayerValues(names, mean, absent),
        "activation_std": LayerValues(names, np.sqrt(deviations / np.maximum(count - 1, 1)), absent),
        "activation_absmax": LayerValues(names, absmax, absent),
        "activation_nonfinite": LayerValues(names, nonfinite, absent),
        "activation_grad_norm": LayerValues(names, np.sqrt(grad_squares) / scale, no_grad),
        "activation_grad_rms": LayerValues(names, np.sqrt(grad_squares / grad_count) / scale, no_grad),
        "activation_grad_nonfinite": LayerValues(names, grad_nonfinite, no_grad),
    }
    if nonlinear:
        absent_here = absent[nonlinear]
        quantities["zero_fraction"] = LayerValues(nonlinear_names, (1 - active / count)[nonlinear], absent_here)
        quantities["dead_fraction"] = LayerValues(nonlinear_names, (1 - active_units / units)[nonlinear], absent_here)
    if bounded:
        quantities["saturated_fraction"] = LayerValues(bounded_names, (saturated / count)[bounded], absent[bounded])
    return quantities


def parameter_quantities(
    owners: Owners, read: ParameterReadings, sums: Sequence[FloatArray], scale: float
) -> dict[str, LayerValues]:
    """The parameter quantities of the layers that own parameters."""

    def gather(readings: Readings, values: FloatArray) -> tuple[FloatArray, BoolArray]:
        """(K,) values of all owned parameters, 0 for gaps, and which there are."""
        if len(readings) == read.count:
            return values[owners.positions], owners.everywhere
        by_parameter, known = np.zeros(read.count), np.zeros(read.count, bool)
        by_parameter[list(readings)], known[list(readings)] = values, True
        return by_parameter[owners.positions], known[owners.positions]

    def codes(known: BoolArray, absence: str) -> IntArray:
        if known is owners.everywhere:
            return owners.no_codes
        there = np.logical_or.reduceat(known, owners.starts)
        return np.where(there, 0, np.where(owners.frozen(), _CODES["frozen"], _CODES[absence])).astype(np.int8)

    grads, with_grad = gather(read.grad_norms, sums[0])
    nonfinite, _ = gather(read.grad_nonfinite, sums[1])
    weights, in_optimizer = gather(read.weight_norms, sums[2])
    updates, _ = gather(read.update_norms, sums[3])
    squares = np.stack([grads * grads, weights * weights, updates * updates, owners.sizes * with_grad, nonfinite])
    totals = np.add.reduceat(squares, owners.starts, axis=1)
    grad_norm, weight_norm, update_norm = np.sqrt(totals[:3])
    grad_norm = grad_norm / scale
    no_grad, no_update = codes(with_grad, "no gradient"), codes(in_optimizer, "not in an optimizer")
    with np.errstate(divide="ignore", invalid="ignore"):  # IEEE's answer where a layer's weights are all 0
        update_ratio = update_norm / weight_norm
    return {
        "weight_norm": _layer_values(owners.names, weight_norm, no_update),
        "grad_norm": _layer_values(owners.names, grad_norm, no_grad),
        "grad_rms": _layer_values(owners.names, grad_norm / np.sqrt(np.maximum(totals[3], 1)), no_grad),
        "grad_nonfinite": _layer_values(owners.names, totals[4], no_grad),
        "update_norm": _layer_values(owners.names, update_norm, no_update),
        "update_ratio": _layer_values(owners.names, update_ratio, no_update),
    }


def _layer_values(names: tuple[str, ...], values: FloatArray, codes: IntArray) -> LayerValues:
    return LayerValues(names, np.where(codes == 0, values, np.nan) if codes.any() else values, codes)


def _gradient_scalars(grad_norms: FloatArray, clipped_norms: FloatArray) -> dict[str, float]:
    """The whole gradient before clipping, and the factor that clipping left of it."""
    if not len(grad_norms):
        return {}
    before, after = np.linalg.norm(grad_norms), np.linalg.norm(clipped_norms)
    scalars = {"grad_norm/total": float(before)}
    if len(clipped_norms) and 0 < before < np.inf:
        scalars["clip_factor"] = float(after / before)
    return scalars
