"""From the readings of one step to its `Measurement`: every quantity, every layer, a reason for every gap.

pending = Pending(step, quantities, histograms, scalars)    # numbers start on their way to the host
measurement = pending.measurement()                         # the one place where a device is waited for
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from nnvis.probe.histograms import BINS
from nnvis.probe.layers import Layer
from nnvis.probe.parameters import ParameterReadings, total
from nnvis.probe.readings import CallReading
from nnvis.probe.statistics import Number, number, widest
from nnvis.record.vocabulary import ABSENCE_REASONS, LayerCounts, LayerValues, Measurement

Cell = Number | str  # a value, or the reason why there is none
Column = Mapping[str, Cell]  # by layer
Quantities = Mapping[str, Column]


def call_quantities(rows: Mapping[str, CallReading], scale: Number) -> Quantities:
    """The activation quantities, by row."""
    quantities: dict[str, dict[str, Cell]] = {}
    for row, reading in rows.items():
        for quantity, cell in _call_cells(reading, scale).items():
            quantities.setdefault(quantity, {})[row] = cell
    return quantities


def _call_cells(reading: CallReading, scale: Number) -> dict[str, Cell]:
    """Everything about one call, by quantity; what makes no sense for this kind of layer is left out."""
    read, grad, active = reading.moments, reading.gradient, reading.active
    absence = reading.absence or "not applicable"
    cells: dict[str, Cell] = {
        "activation_mean": read.mean if read else absence,
        "activation_std": read.std if read else absence,
        "activation_absmax": read.absmax if read else absence,
        "activation_nonfinite": read.nonfinite if read else absence,
    }
    if reading.layer.nonlinearity:
        cells["zero_fraction"] = 1.0 - number(active.sum()) / read.count if read and active is not None else absence
        cells["dead_fraction"] = number((active == 0).sum()) / active.numel() if active is not None else absence
    if reading.layer.bounds:
        cells["saturated_fraction"] = (
            reading.saturated / read.count if read and reading.saturated is not None else absence
        )
    absence = reading.absence or "no gradient"
    cells["activation_grad_norm"] = grad.squares**0.5 / scale if grad else absence
    cells["activation_grad_rms"] = (grad.squares / max(grad.count, 1)) ** 0.5 / scale if grad else absence
    cells["activation_grad_nonfinite"] = grad.nonfinite if grad else absence
    return cells


def parameter_quantities(layers: Sequence[Layer], read: ParameterReadings, scale: Number) -> Quantities:
    """The parameter quantities, for each layer that owns parameters."""

    def over(
        values: Mapping[nn.Parameter, Number], absence: str, combine: Callable[[Iterable[Number]], Number] = total
    ) -> dict[str, Cell]:
        cells: dict[str, Cell] = {}
        for layer in layers:
            own = [values[p] for p in layer.parameters if p in values]
            frozen = not any(p.requires_grad for p in layer.parameters)
            cells[layer.name] = combine(own) if own else "frozen" if frozen else absence
        return cells

    grad_norm = {name: _scaled(cell, scale) for name, cell in over(read.grad_norms, "no gradient").items()}
    sizes = {layer.name: sum(p.numel() for p in layer.parameters if p in read.grad_norms) for layer in layers}
    weight_norm = over(read.weight_norms, "not in an optimizer")
    update_norm = over(read.update_norms, "not in an optimizer")
    return {
        "weight_norm": weight_norm,
        "grad_norm": grad_norm,
        "grad_rms": {name: _scaled(cell, max(sizes[name], 1) ** 0.5) for name, cell in grad_norm.items()},
        "grad_nonfinite": over(read.grad_nonfinite, "no gradient", combine=lambda own: sum(own, 0.0)),
        "update_norm": update_norm,
        "update_ratio": {name: _ratio(cell, weight_norm[name]) for name, cell in update_norm.items()},
    }


def step_scalars(read: ParameterReadings, scale: Number, optimizer_scale: Number) -> dict[str, Number]:
    """The whole gradient before clipping, and the factor that clipping left of it."""
    if not read.grad_norms:
        return {}
    norm = total(read.grad_norms.values()) / scale
    if read.clipped_norm is None:
        return {"grad_norm/total": norm}
    return {"grad_norm/total": norm, "clip_factor": _quotient(read.clipped_norm / optimizer_scale, norm)}


def histogram_columns(
    rows: Mapping[str, CallReading], layers: Sequence[Layer], read: ParameterReadings
) -> dict[str, dict[str, Tensor]]:
    """(B + 2,) counts by histogram quantity and layer; all 0 where nothing was read."""
    columns = {
        "activation": {row: r.histogram for row, r in rows.items()},
        "activation_grad": {row: r.gradient.histogram if r.gradient else None for row, r in rows.items()},
        "grad": {layer.name: read.grad_histogram(layer.parameters) for layer in layers},
    }
    nothing = torch.zeros(BINS + 2, dtype=torch.int64)
    return {
        quantity: {row: nothing if counts is None else counts for row, counts in column.items()}
        for quantity, column in columns.items()
        if any(counts is not None for counts in column.values())
    }


class Pending:
    """A step whose numbers are on their way from the device."""

    def __init__(
        self,
        step: int,
        quantities: Quantities,
        histograms: Mapping[str, Mapping[str, Tensor]],
        scalars: Mapping[str, Number],
    ) -> None:
        self.step = step
        self._quantities = {q: column for q, column in quantities.items() if column}
        self._histograms = histograms
        self._scalars = dict(scalars)
        self._host = _start_transfer([*self._numbers(), *self._counts()])

    def measurement(self) -> Measurement:
        """Wait for the device, and put every number into its place."""
        for arrival in {event for _, event in self._host.values() if event is not None}:
            arrival.synchronize()
        layers = {quantity: self._values(column) for quantity, column in self._quantities.items()}
        return Measurement(
            step=self.step,
            layers=layers,
            histograms={
                quantity: LayerCounts(
                    tuple(column),
                    np.array([self._on_host(counts).numpy() for counts in column.values()], dtype=np.int64),
                )
                for quantity, column in self._histograms.items()
            },
            scalars={tag: self._float(value) for tag, value in self._scalars.items()} | gradient_band(layers),
        )

    def _values(self, column: Column) -> LayerValues:
        cells = column.values()
        return LayerValues(
            layers=tuple(column),
            values=np.array([np.nan if isinstance(c, str) else self._float(c) for c in cells], dtype=np.float64),
            reason_codes=np.array(
                [ABSENCE_REASONS.index(c) if isinstance(c, str) else 0 for c in cells], dtype=np.int8
            ),
        )

    def _float(self, value: Number) -> float:
        return float(self._on_host(value)) if isinstance(value, Tensor) else float(value)

    def _on_host(self, value: Tensor) -> Tensor:
        return self._host[id(value)][0] if id(value) in self._host else value

    def _numbers(self) -> Iterable[Number]:
        for column in self._quantities.values():
            yield from (cell for cell in column.values() if not isinstance(cell, str))
        yield from self._scalars.values()

    def _counts(self) -> Iterable[Tensor]:
        for column in self._histograms.values():
            yield from column.values()


def gradient_band(layers: Mapping[str, LayerValues]) -> dict[str, float]:
    """log10 of the smallest, median and largest layer's grad_norm: the band that TensorBoard's margin chart shows."""
    norms = layers["grad_norm"].values if "grad_norm" in layers else np.empty(0)
    norms = norms[np.isfinite(norms) & (norms > 0)]
    if not len(norms):
        return {}
    return {f"gradient_band/{name}": float(np.log10(f(norms))) for name, f in _BAND.items()}


_BAND = {"min": np.min, "median": np.median, "max": np.max}


def _start_transfer(values: Iterable[Number]) -> dict[int, tuple[Tensor, torch.cuda.Event | None]]:
    """One copy a device to the host, started and not waited for: id of a device tensor -> its place on the host."""
    by_device: dict[torch.device, list[Tensor]] = {}
    for value in values:
        if isinstance(value, Tensor) and not value.is_cpu:
            by_device.setdefault(value.device, []).append(value)
    arrived: dict[int, tuple[Tensor, torch.cuda.Event | None]] = {}
    for device, tensors in by_device.items():
        packed = torch.cat([t.reshape(-1).to(widest(t)) for t in tensors])
        host = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=device.type == "cuda")
        host.copy_(packed, non_blocking=True)
        event = None
        if device.type == "cuda":
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(device))
        places = host.split([t.numel() for t in tensors])
        arrived.update({id(t): (place.view(t.shape), event) for t, place in zip(tensors, places, strict=True)})
    return arrived


def _scaled(cell: Cell, scale: Number) -> Cell:
    return cell if isinstance(cell, str) else cell / scale


def _ratio(cell: Cell, norm: Cell) -> Cell:
    if isinstance(cell, str) or isinstance(norm, str):
        return cell if isinstance(cell, str) else norm
    return _quotient(cell, norm)


def _quotient(a: Number, b: Number) -> Number:
    """a / b, with IEEE's answer where b is 0 (Inf, or NaN for 0 / 0)."""
    if isinstance(a, float) and isinstance(b, float) and b == 0:
        return np.inf if a > 0 else np.nan
    return a / b
