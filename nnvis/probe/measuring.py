"""From the readings of measured steps to their `Measurement`s: every quantity, every layer, a reason for every gap.

pending = Pending(step, rows, owners, parameters, ...)   # its numbers start on their way to the host
for measurement in measurements([pending, ...]): ...     # the one place where a device is waited for
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, groupby
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from nnvis.probe.formulas import GREW, Owners, call_quantities, gradient_scalars, parameter_quantities
from nnvis.probe.histograms import Sample, magnitude_counts
from nnvis.probe.native import Row
from nnvis.probe.parameters import ParameterReadings
from nnvis.probe.readings import CallReading
from nnvis.probe.statistics import MEAN, NO_SUMS, Number, Sums
from nnvis.probe.transfer import Transfer
from nnvis.record.vocabulary import FloatArray, LayerCounts, LayerValues, Measurement


@dataclass(frozen=True)
class Scales:
    """What gradients were multiplied by: at the end of the backward pass, and when the optimizer got them."""

    backward: Number = 1.0
    optimizer: Number = 1.0


class Layout(NamedTuple):
    """What stands where in the numbers of a step: layer calls, five readings of parameters, scalars, two scales."""

    rows: tuple[str, ...]
    positions: tuple[tuple[int, ...], ...]  # of the parameters that each of the five was read of
    scalars: tuple[str, ...]
    owners: Owners  # others when a row becomes another layer's

    @property
    def ends(self) -> list[int]:
        """Where each of these parts ends."""
        return [*accumulate([len(NO_SUMS) * len(self.rows), *map(len, self.positions), len(self.scalars), 2])]


class Pending:
    """A step whose numbers may be on their way from the device: `measurements` makes the rest of it.

    Where looking at them is free only numbers are kept of its readings (and histograms), so that the next step finds
    their memory still in the caches. `under_way`: whether `measurements` might wait.
    """

    def __init__(
        self,
        step: int,
        rows: Mapping[str, CallReading],
        owners: Owners,
        read: ParameterReadings,
        scales: Scales,
        scalars: Mapping[str, Number],
        before: Pending | None = None,
    ) -> None:
        """`before`: an earlier step, whose layout is kept once if this one's is the same."""
        self.step, self.wall_time = step, time.time()
        self.layers = [reading.layer for reading in rows.values()]
        readings = read.grad_norms, read.grad_nonfinite, read.weight_norms, read.update_norms, read.clipped_norms
        layout = Layout(tuple(rows), tuple(map(tuple, readings)), tuple(scalars), owners)
        self.layout = before.layout if before and before.layout == layout else layout
        self.frozen = owners.frozen() if len(read.grad_norms) < read.count else owners.none
        self._histograms = _histogram_columns(rows, owners, read)
        sums = [reading.sums for reading in rows.values()]
        others = [n for one in (*readings, scalars) for n in one.values()] + [scales.backward, scales.optimizer]
        self._numbers = _in_a_row(sums, others)
        self._samples = Transfer(
            [one for column in self._histograms.values() for row in column.values() for one in row]
        )  # both start now
        self.under_way = self._samples.under_way or (isinstance(self._numbers, Transfer) and self._numbers.under_way)

    @property
    def on_device(self) -> bool:
        """Whether its numbers cannot be looked at yet."""
        return isinstance(self._numbers, Transfer)

    @property
    def gradients_grew(self) -> bool:
        """Whether an optimizer got larger gradients than were read: more was backpropagated than layers show."""
        if isinstance(self._numbers, Transfer):
            return False
        ends, (backward, optimizer) = self.layout.ends, self._numbers[-2:]
        read, got = self._numbers[ends[0] : ends[1]], self._numbers[ends[4] : ends[5]]
        return math.hypot(*got.tolist()) * float(backward) > GREW * math.hypot(*read.tolist()) * float(optimizer)

    def numbers(self) -> FloatArray:
        """(n,) everything that was read, in one row. The device is waited for here."""
        return self._numbers.floats() if isinstance(self._numbers, Transfer) else self._numbers

    def layer_counts(self) -> dict[str, LayerCounts]:
        """The histograms; none at most steps."""
        if not self._histograms:
            return {}
        arrays = iter(self._samples.arrays())
        rows = [[next(arrays) for _ in row] for column in self._histograms.values() for row in column.values()]
        ends = [*accumulate(len(column) for column in self._histograms.values())]
        counts = np.split(magnitude_counts(rows), ends[:-1])
        columns = zip(self._histograms.items(), counts, strict=True)
        return {quantity: LayerCounts(tuple(column), found) for (quantity, column), found in columns}


def measurements(steps: Iterable[Pending]) -> Iterator[Measurement]:
    """Wait for the device, and put every number into its place; steps of one layout go through numpy together."""
    for _, alike in groupby(steps, key=lambda step: step.layout):
        yield from _measurements(list(alike))


def _measurements(steps: list[Pending]) -> Iterator[Measurement]:
    """Of T steps with one layout."""
    layout, numbers = steps[0].layout, np.array([step.numbers() for step in steps])
    calls, *parameters, scalars, scales = np.split(numbers, layout.ends[:-1], axis=1)
    calls = calls.reshape(len(steps), -1, len(NO_SUMS))
    blocks = call_quantities(layout.rows, steps[0].layers, calls, scales[:, :1])
    if layout.owners.layers:
        frozen = np.array([step.frozen for step in steps])
        blocks |= parameter_quantities(layout.owners, layout.positions, parameters, scales[:, :1], frozen)
    grads, clipped = parameters[0] / scales[:, :1], parameters[-1] / scales[:, 1:]
    of_grads, of_clipped = layout.positions[0], {*layout.positions[-1]}
    handed_over = [place for place, position in enumerate(of_grads) if position in of_clipped]
    totals = gradient_scalars(grads, grads[:, handed_over], clipped)
    for t, step in enumerate(steps):
        yield Measurement(
            step.step,
            {quantity: LayerValues(names, values[t], codes[t]) for quantity, (names, values, codes) in blocks.items()},
            step.layer_counts(),
            dict(zip(layout.scalars, scalars[t].tolist(), strict=True)) | totals[t],
            step.wall_time,
        )


# ---------------------------------------------------------------- what is sent to the host


def _in_a_row(sums: Sequence[Sums], others: Sequence[Number]) -> FloatArray | Transfer:
    """All numbers of a step, one after another; a `Transfer` of them where some are on a device."""
    kinds = {*map(type, others)} | {type(one[MEAN]) for one in sums if one.__class__ is not Row}
    if any(issubclass(kind, Tensor) for kind in kinds):
        return Transfer([*chain.from_iterable(sums), *others])
    rows: list[Any] = [one if one.__class__ is Row else Row(*one) for one in sums]
    return np.frombuffer(b"".join([*rows, array("d", map(float, others))]))


def _histogram_columns(
    rows: Mapping[str, CallReading], owners: Owners, read: ParameterReadings
) -> dict[str, dict[str, tuple[Sample, ...]]]:
    """Sampled values by histogram quantity and layer; none where nothing was read."""
    if not (read.sampled or any(r.samples for r in rows.values())):
        return {}
    columns = {
        "activation": {row: r.samples for row, r in rows.items()},
        "activation_grad": {row: r.grad_samples for row, r in rows.items()},
        "grad": {name: read.grad_samples(positions) for name, positions in owners.own.items()},
    }
    return {quantity: column for quantity, column in columns.items() if any(column.values())}
