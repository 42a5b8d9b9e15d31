"""From the readings of measured steps to their `Measurement`s: every quantity, every layer, a reason for every gap.

pending = Pending(step, rows, owners, parameters, ...)   # its numbers start on their way to the host
for measurement in measurements([pending, ...]): ...     # the one place where a device is waited for
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain, groupby

import numpy as np
import torch
from torch import Tensor

from nnvis.probe.formulas import CALL_SUMS, CODES, Owners, call_quantities, gradient_scalars, parameter_quantities
from nnvis.probe.histograms import magnitude_counts
from nnvis.probe.parameters import ParameterReadings, Readings
from nnvis.probe.readings import CallReading
from nnvis.probe.statistics import Number, looking_is_free, number, widest
from nnvis.probe.transfer import Transfer
from nnvis.record.vocabulary import FloatArray, LayerCounts, LayerValues, Measurement

_NONE = np.empty(0, np.float32)


@dataclass(frozen=True)
class Scales:
    """What gradients were multiplied by: at the end of the backward pass, and when the optimizer got them."""

    backward: Number = 1.0
    optimizer: Number = 1.0


class Pending:
    """A step whose numbers are on their way from the device: `measurements` makes the rest of it.

    Where looking at them is free nothing is done before. `under_way`: whether `measurements` might wait.
    """

    def __init__(
        self,
        step: int,
        rows: Mapping[str, CallReading],
        owners: Owners,
        read: ParameterReadings,
        scales: Scales,
        scalars: Mapping[str, Number],
    ) -> None:
        self.step, self.wall_time = step, time.time()
        self.rows, self.owners, self.read = rows, owners, read
        self.scales, self.scalars = scales, scalars
        self.frozen = owners.frozen() if len(read.grad_norms) < read.count else owners.none
        counts = {row: r.active for row, r in rows.items() if r.active is not None}
        self._active = dict(zip(counts, active_sums(list(counts.values())), strict=True))
        for reading in rows.values():
            reading.active = None  # small tensors that live on would keep the allocator from giving back large ones
        self._histograms = _histogram_columns(rows, owners, read)
        self._on_device = any(issubclass(kind, Tensor) for kind in self._kinds())
        self.under_way = self._on_device and any([self._numbers.under_way, self._samples.under_way])  # both start now

    def _kinds(self) -> set[type]:
        """If all of these are float, so is everything that was read: looking was free everywhere."""
        kinds = {type(reading.moments.mean) for reading in self.rows.values() if reading.moments}
        for numbers in (self.read.grad_norms.values(), self.read.weight_norms.values(), self.scalars.values()):
            kinds.update(map(type, numbers))
        return kinds | {type(self.scales.backward), type(self.scales.optimizer)}

    def numbers(self) -> FloatArray:
        """(n,) everything that was read, in one row. The device is waited for here."""
        if self._on_device:
            return self._numbers.floats()
        return np.fromiter(chain.from_iterable(self.groups), np.float64)

    @cached_property
    def _numbers(self) -> Transfer:
        return Transfer([value for group in self.groups for value in group])

    @property
    def layout(self) -> Hashable:
        """Steps for which this is equal have the same things in the same places of that row."""
        read = (tuple(readings) for readings in _parameter_sums(self.read))
        return tuple(self.rows), id(self.owners), tuple(self.scalars), *read

    @property
    def groups(self) -> list[Sequence[Number]]:
        """The parts of that row: layer calls, five of parameters, scalars, scales."""
        sums = (_call_sums(reading, self._active.get(row)) for row, reading in self.rows.items())
        calls = [*chain.from_iterable(sums)]
        parameters = ([*readings.values()] for readings in _parameter_sums(self.read))
        return [calls, *parameters, [*self.scalars.values()], [self.scales.backward, self.scales.optimizer]]

    @cached_property
    def _samples(self) -> Transfer:
        return Transfer([one for column in self._histograms.values() for row in column.values() for one in row])

    def layer_counts(self) -> dict[str, LayerCounts]:
        """The histograms; none at most steps."""
        if not self._histograms:
            return {}
        arrays = iter(self._samples.arrays())
        rows = [[next(arrays) for _ in row] for column in self._histograms.values() for row in column.values()]
        counts = iter(magnitude_counts([row[0] if len(row) == 1 else np.concatenate([_NONE, *row]) for row in rows]))
        return {
            quantity: LayerCounts(tuple(column), np.stack([next(counts) for _ in column]))
            for quantity, column in self._histograms.items()
        }


def measurements(steps: Iterable[Pending]) -> Iterator[Measurement]:
    """Wait for the device, and put every number into its place; steps of one layout go through numpy together."""
    for _, alike in groupby(steps, key=lambda step: step.layout):
        yield from _measurements(list(alike))


def _measurements(steps: list[Pending]) -> Iterator[Measurement]:
    """Of T steps with one layout."""
    first, numbers = steps[0], np.array([step.numbers() for step in steps])
    ends = [*accumulate(len(group) for group in first.groups)]
    calls, *parameters, scalars, scales = np.split(numbers, ends[:-1], axis=1)
    blocks = call_quantities(first.rows, calls.reshape(len(steps), -1, CALL_SUMS), scales[:, :1])
    if first.owners.layers:
        frozen = np.array([step.frozen for step in steps])
        blocks |= parameter_quantities(first.owners, first.read, parameters, scales[:, :1], frozen)
    grads, clipped = parameters[0] / scales[:, :1], parameters[-1] / scales[:, 1:]
    handed_over = [
        place for place, position in enumerate(first.read.grad_norms) if position in first.read.clipped_norms
    ]
    totals = gradient_scalars(grads, grads[:, handed_over], clipped)
    for t, step in enumerate(steps):
        yield Measurement(
            step.step,
            {quantity: LayerValues(names, values[t], codes[t]) for quantity, (names, values, codes) in blocks.items()},
            step.layer_counts(),
            dict(zip(step.scalars, scalars[t].tolist(), strict=True)) | totals[t],
            step.wall_time,
        )


# ---------------------------------------------------------------- what is sent to the host


def _call_sums(reading: CallReading, active: tuple[Number, ...] | None) -> tuple[Number, ...]:
    """What `call_quantities` makes its quantities of."""
    read, grad = reading.moments, reading.gradient
    nan = np.nan
    return (
        *(read or _NOTHING[:5]),
        *(active or _NOTHING[:3]),
        nan if reading.saturated is None else reading.saturated,
        reading.inputs_nonfinite,
        *((grad.count, grad.squares, grad.nonfinite) if grad else _NOTHING[:3]),
        0 if read else CODES[reading.absence or "not measured"],
        0 if grad else CODES[reading.absence or reading.gradient_absence or "no gradient"],
    )


def active_sums(counts: Sequence[Tensor]) -> list[tuple[Number, ...]]:
    """Of the (U,) counts of the units of each of several layers: U, their sum, and how many are not 0."""
    if not all(map(looking_is_free, counts)):
        return [(c.numel(), c.sum(dtype=widest(c)), number(torch.count_nonzero(c))) for c in counts]
    if not counts:
        return []
    sizes = [c.numel() for c in counts]
    together = torch.cat(list(counts)).numpy()
    starts = [0, *accumulate(sizes[:-1])]
    sums = np.add.reduceat(together, starts, dtype=np.float64).tolist()
    return list(zip(sizes, sums, np.add.reduceat(together != 0, starts, dtype=np.float64).tolist(), strict=True))


_NOTHING = (1, np.nan, np.nan, np.nan, np.nan)


def _parameter_sums(read: ParameterReadings) -> tuple[Readings, ...]:
    return read.grad_norms, read.grad_nonfinite, read.weight_norms, read.update_norms, read.clipped_norms


def _histogram_columns(
    rows: Mapping[str, CallReading], owners: Owners, read: ParameterReadings
) -> dict[str, dict[str, tuple[Tensor, ...]]]:
    """Sampled values by histogram quantity and layer; none where nothing was read."""
    if not (read.sampled or any(r.samples for r in rows.values())):
        return {}
    columns = {
        "activation": {row: r.samples for row, r in rows.items()},
        "activation_grad": {row: r.gradient.samples if r.gradient else () for row, r in rows.items()},
        "grad": {name: read.grad_samples(positions) for name, positions in owners.own.items()},
    }
    return {quantity: column for quantity, column in columns.items() if any(column.values())}
