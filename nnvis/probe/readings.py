"""What was read of one step: of each layer call (`CallReading`), pooled over the passes that were backpropagated.

A `ForwardPass` holds the readings of one forward pass of the root. Passes without a backward pass do not count,
and several passes before one optimizer step (micro-batches) are pooled.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.utils.hooks import RemovableHandle

from nnvis.probe.histograms import sample
from nnvis.probe.layers import Layer, tensors_in, unit_dim_of
from nnvis.probe.statistics import (
    Moments,
    Number,
    active_counts,
    count_nonfinite,
    moments,
    number,
    place_of,
    saturated_count,
    squared_norm,
)

_Hook = Callable[[Tensor], Tensor | None]
_OURS = -1  # among the hooks of a tensor, whose other keys count from 0
CallKey = tuple[str, int]  # a layer's name, and which of its calls within one forward pass: 1, 2, ...


@dataclass(slots=True)
class GradientReading:
    """Of ∂loss/∂output, as it came (scaled, if a GradScaler scales)."""

    count: int
    squares: Number  # sum of squares
    nonfinite: Number
    samples: tuple[Tensor, ...] = ()  # (m,) each, for the histogram

    def pool(self, other: GradientReading) -> None:
        self.count += other.count
        self.squares = self.squares + other.squares
        self.nonfinite = self.nonfinite + other.nonfinite
        self.samples += other.samples


@dataclass(slots=True)
class CallReading:
    """Of one call of one layer."""

    layer: Layer
    absence: str = ""  # why there are no moments
    output_shape: tuple[int, ...] | None = None  # without the batch dimension
    followed: bool = False  # whether its gradient is waited for
    moments: Moments | None = None
    active: Tensor | None = None  # (U,) values of each unit that are not 0; after nonlinearities
    saturated: Number | None = None
    inputs_nonfinite: Number = 0.0  # NaN and Inf among the inputs; looked for where there are some in the output
    samples: tuple[Tensor, ...] = ()  # (m,) each, for the histogram
    gradient: GradientReading | None = None
    gradient_absence: str = ""  # why there cannot be one

    def gradient_arrived(self, gradient: GradientReading) -> None:
        """Of one backward pass."""
        if self.gradient is None and not self.gradient_absence:
            self.gradient = gradient
        else:
            self.lose_gradient("several backward passes")

    def lose_gradient(self, why: str) -> None:
        self.gradient, self.gradient_absence = None, why

    def pool(self, other: CallReading) -> None:
        """Add what another micro-batch's call of the same layer showed."""
        if self.moments is None or other.moments is None:
            return
        self.moments = self.moments.merge(other.moments)
        if self.active is not None and other.active is not None:
            same_units = self.active.shape == other.active.shape
            self.active = self.active + other.active if same_units else torch.cat([self.active, other.active])
        if self.saturated is not None and other.saturated is not None:
            self.saturated = self.saturated + other.saturated
        self.inputs_nonfinite = self.inputs_nonfinite + other.inputs_nonfinite
        self.samples += other.samples
        if why := self.gradient_absence or other.gradient_absence:
            self.lose_gradient(why)
        elif self.gradient and other.gradient:
            self.gradient.pool(other.gradient)
        else:
            self.gradient = self.gradient or other.gradient


@dataclass(slots=True, eq=False)
class Recomputed:
    """One call of a layer that activation checkpointing runs again, until it is known which of the first ones it is."""

    name: str  # of the layer
    followed: bool
    reading: CallReading | None = None


@dataclass(eq=False)
class ForwardPass:
    """One forward pass of the root, while it runs and after.

    `of_parts`: where the root is never called, all calls of its parts until the next backward pass begins.
    """

    number: int = 0  # within its step
    again: bool = False  # whether it ran within a backward pass, and without gradients before
    of_parts: bool = False
    readings: dict[CallKey, CallReading] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)  # by layer, so far
    unit_dim: int = -1  # of the output that was read last
    recursion: int = 0  # how many calls of the root run within the first
    backpropagated: bool = False
    handles: list[RemovableHandle] = field(default_factory=list)  # of the hooks on its outputs
    hooks: list[ref[OrderedDict[int, _Hook]]] = field(default_factory=list)  # those of outputs that had none before
    inputs_nonfinite: dict[nn.Module, Number] = field(default_factory=dict)  # of those that run and work in place

    def hook(self, output: Tensor, hook: _Hook) -> None:
        """`output.register_hook`, which takes 3 µs more for checks and a handle."""
        if output._backward_hooks is not None or output.grad_fn is None:
            self.handles.append(output.register_hook(hook))
            return
        hooks = OrderedDict({_OURS: hook})
        output._backward_hooks = hooks
        output.grad_fn._register_hook_dict(output)
        self.hooks.append(ref(hooks))

    def unhook(self) -> None:
        """No gradient of its outputs is waited for any more."""
        for handle in self.handles:
            handle.remove()
        for known in self.hooks:
            if (hooks := known()) is not None:
                hooks.pop(_OURS, None)

    def next_call(self, layer: Layer) -> CallKey:
        call = self.calls[layer.name] = self.calls.get(layer.name, 0) + 1
        return layer.name, call

    @property
    def counted(self) -> dict[CallKey, CallReading]:
        """Of parts, without the calls that were not backpropagated: what they were for raised an error, perhaps."""
        if not self.of_parts:
            return self.readings
        counted, calls = {}, {}
        for (layer, _), reading in self.readings.items():
            if reading.gradient or reading.gradient_absence or not reading.followed:
                calls[layer] = calls.get(layer, 0) + 1
                counted[layer, calls[layer]] = reading
        return counted

    def unfollowed(self, name: str) -> list[CallReading]:
        """The calls of a layer whose gradients are not waited for."""
        return [reading for (layer, _), reading in self.readings.items() if layer == name and not reading.followed]


def read_output(
    layer: Layer,
    inputs: Any,
    output: Tensor | None,
    *,
    unit_dim: int,
    histogram: bool,
    arrived_nonfinite: Number | None = None,
) -> CallReading:
    """Everything that is read of one output; with the reason where nothing can be.

    `arrived_nonfinite`: what was counted among the inputs before the layer ran, if it works in place.
    """
    if output is None:
        return CallReading(layer, "non-tensor output")
    try:
        place = place_of(output)
        if not place and not (output.is_floating_point() or output.is_complex()):
            return CallReading(layer, "non-float output")
        if not output.numel():
            return CallReading(layer, "empty output")
        x = output if place else output.detach()
        if not x.is_cpu and not _is_plain(output):
            return CallReading(layer, "no plain tensor")
        found = moments(x, place)
    except (RuntimeError, NotImplementedError):
        if _is_plain(output):
            raise
        return CallReading(layer, "no plain tensor")
    reading = CallReading(layer, "", x.shape[1:], moments=found)
    if found.nonfinite.__class__ is not float or found.nonfinite:
        reading.inputs_nonfinite = nonfinite_among(inputs) if arrived_nonfinite is None else arrived_nonfinite
    if layer.nonlinearity and x.dim() > 0:
        reading.active = active_counts(x, unit_dim_of(x, unit_dim), non_negative=layer.non_negative, place=place)
        if layer.bounds:
            reading.saturated = saturated_count(x, layer.bounds, place)
    if histogram:
        reading.samples = (sample(x.detach()),)
    return reading


def nonfinite_among(inputs: Any) -> Number:
    """NaN and Inf in all tensors that a layer is given: positional, by keyword, nested."""
    given = [t.detach() for t in tensors_in(inputs) if t.is_floating_point() or t.is_complex()]
    return sum((number(count_nonfinite(t)) for t in given), 0.0)


def _is_plain(x: Tensor) -> bool:
    """Whether its values can be looked at as an array."""
    odd = x.is_nested or x.is_meta or is_functorch_wrapped_tensor(x)
    return x.layout is torch.strided and not odd


def read_gradient(gradient: Tensor, *, histogram: bool) -> GradientReading:
    """Everything that is read of the gradient with respect to one output."""
    x = gradient.detach() if gradient.requires_grad else gradient
    squares = squared_norm(x)
    samples = (sample(x),) if histogram and x.numel() else ()
    return GradientReading(x.numel(), squares, nonfinite_given(squares, x), samples)


def nonfinite_given(size: Number, x: Tensor) -> Number:
    """The number of NaN and Inf in `x`, whose norm (or its square) is `size`: counted only where it can be above 0."""
    if size.__class__ is float and size - size == 0:
        return 0.0
    return number(count_nonfinite(x))


def pooled(passes: Iterable[ForwardPass]) -> dict[CallKey, CallReading]:
    """The readings of the passes that were backpropagated, micro-batches together."""
    result: dict[CallKey, CallReading] = {}
    for forward_pass in passes:
        if not forward_pass.backpropagated:
            continue
        for key, reading in forward_pass.counted.items():
            if key in result:
                result[key].pool(reading)
            else:
                result[key] = reading
    return result
