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
from torch import Tensor

from nnvis.probe.formulas import Owners, call_quantities, gradient_scalars, parameter_quantities
from nnvis.probe.histograms import magnitude_counts
from nnvis.probe.native import Row
from nnvis.probe.parameters import ParameterReadings, Readings
from nnvis.probe.readings import CallReading
from nnvis.probe.statistics import MEAN, NO_SUMS, Number, Sums
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
        for reading in rows.values():
            reading.counts = None  # small tensors that live on would keep the allocator from giving back large ones
        self._histograms = _histogram_columns(rows, owners, read)
        self._on_device = any(issubclass(kind, Tensor) for kind in self._kinds())
        self.under_way = self._on_device and any([self._numbers.under_way, self._samples.under_way])  # both start now

    def _kinds(self) -> set[type]:
        """If all of these are float, so is everything that was read: looking was free everywhere."""
        kinds = {type(reading.sums[MEAN]) for reading in self.rows.values()}
        for numbers in (self.read.grad_norms.values(), self.read.weight_norms.values(), self.scalars.values()):
            kinds.update(map(type, numbers))
        return kinds | {type(self.scales.backward), type(self.scales.optimizer)}

    def numbers(self) -> FloatArray:
        """(n,) everything that was read, in one row. The device is waited for here."""
        if self._on_device:
            return self._numbers.floats()
        calls = b"".join([sums if isinstance(sums, Row) else Row(*sums) for sums in self.calls])
        return np.concatenate([np.frombuffer(calls), np.fromiter(chain.from_iterable(self.groups), np.float64)])

    @cached_property
    def _numbers(self) -> Transfer:
        return Transfer([*chain.from_iterable(self.calls), *chain.from_iterable(self.groups)])

    @property
    def layout(self) -> Hashable:
        """Steps for which this is equal have the same things in the same places of that row."""
        read = (tuple(readings) for readings in _parameter_sums(self.read))
        return tuple(self.rows), id(self.owners), tuple(self.scalars), *read

    @property
    def calls(self) -> list[Sums]:
        """The first part of that row: layer calls."""
        return [reading.sums for reading in self.rows.values()]

    @property
    def groups(self) -> list[Sequence[Number]]:
        """The other parts: five of parameters, scalars, scales."""
        parameters = ([*readings.values()] for readings in _parameter_sums(self.read))
        return [*parameters, [*self.scalars.values()], [self.scales.backward, self.scales.optimizer]]

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
    ends = [*accumulate(map(len, first.groups), initial=len(NO_SUMS) * len(first.rows))]
    calls, *parameters, scalars, scales = np.split(numbers, ends[:-1], axis=1)
    blocks = call_quantities(first.rows, calls.reshape(len(steps), -1, len(NO_SUMS)), scales[:, :1])
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
        "activation_grad": {row: r.grad_samples for row, r in rows.items()},
        "grad": {name: read.grad_samples(positions) for name, positions in owners.own.items()},
    }
    return {quantity: column for quantity, column in columns.items() if any(column.values())}
