"""What was read of one step: of each layer call (`CallReading`), pooled over the passes that were backpropagated.

A `ForwardPass` holds the readings of one forward pass of the root. Passes without a backward pass do not count,
and several passes before one optimizer step (micro-batches) are pooled.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self
from weakref import ref

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nnvis.probe.histograms import Sample, sample
from nnvis.probe.layers import Layer, tensors_in
from nnvis.probe.statistics import (
    ABSENT,
    GRAD_SIZE,
    INPUTS_NONFINITE,
    NO_GRADIENT,
    NO_SUMS,
    NONFINITE,
    SATURATED,
    UNITS,
    Counts,
    Moments,
    Number,
    Sums,
    both_counts,
    count_nonfinite,
    is_finite,
    is_plain,
    number,
    output_sums,
    squared_norm,
    unit_sums,
)
from nnvis.record.vocabulary import ABSENCE_CODES

_Hook = Callable[[Tensor], Tensor | None]
_OURS = -1  # among the hooks of a tensor, whose other keys count from 0
CallKey = tuple[str, int]  # a layer's name, and which of its calls within one forward pass: 1, 2, ...
_NO_GRADIENT = ABSENCE_CODES["no gradient"]


Gradient = tuple[int, Number, Number]
"""Size, sum of squares, and number of NaN and Inf of ∂loss/∂output, as it came (scaled, if a GradScaler scales)."""


class CallReading:
    """Of one call of one layer."""

    absence = ""  # why nothing was read of its output
    spoilt = False  # whether it may hold NaN or Inf: they were counted, or are on a device
    samples: tuple[Sample, ...] = ()  # for the histogram
    grad_samples: tuple[Sample, ...] = ()
    followed = False  # whether its gradient is waited for
    gradient_absence = ""  # why there cannot be one

    def __init__(
        self, layer: Layer, sums: Sums, counts: Counts | None = None, shape: tuple[int, ...] | None = None
    ) -> None:
        """`counts` after nonlinearities; `shape` of the output."""
        self.layer, self.sums, self.counts, self.shape = layer, sums, counts, shape

    @classmethod
    def absent(cls, layer: Layer, why: str) -> Self:
        """Of an output of which nothing can be read."""
        sums: Sums = [*NO_SUMS]
        sums[ABSENT] = sums[NO_GRADIENT] = ABSENCE_CODES[why]
        reading = cls(layer, sums)
        reading.absence = why
        return reading

    @property
    def has_gradient(self) -> bool:
        return not self.sums[NO_GRADIENT]

    def gradient_arrived(self, gradient: Gradient, samples: tuple[Sample, ...]) -> None:
        """Of one backward pass."""
        if self.gradient_absence or not self.sums[NO_GRADIENT]:
            self.lose_gradient("several backward passes")
        else:
            self.sums[GRAD_SIZE:ABSENT] = gradient
            self.sums[NO_GRADIENT] = 0
            self.grad_samples = samples

    def lose_gradient(self, why: str) -> None:
        self.gradient_absence, self.grad_samples = why, ()
        self.sums[GRAD_SIZE:ABSENT] = NO_SUMS[GRAD_SIZE:ABSENT]
        self.sums[NO_GRADIENT] = ABSENCE_CODES[self.absence or why or "no gradient"]

    def pool(self, other: CallReading) -> None:
        """Add what another micro-batch's call of the same layer showed."""
        if self.absence or other.absence:
            return
        sums, others = [*self.sums], other.sums
        sums[:UNITS] = Moments(*sums[:UNITS]).merge(Moments(*others[:UNITS]))
        if self.counts is not None and other.counts is not None:
            self.counts = both_counts(self.counts, other.counts)
            sums[UNITS:SATURATED] = unit_sums(self.counts)
        for place in (SATURATED, INPUTS_NONFINITE):
            sums[place] = sums[place] + others[place]
        self.sums, self.spoilt = sums, self.spoilt or other.spoilt
        self.samples += other.samples
        if why := self.gradient_absence or other.gradient_absence:
            self.lose_gradient(why)
        elif other.has_gradient:
            place = slice(GRAD_SIZE, ABSENT)
            pairs = zip(sums[place], others[place], strict=True)
            sums[place] = [one + more for one, more in pairs] if self.has_gradient else others[place]
            sums[NO_GRADIENT] = 0
            self.grad_samples += other.grad_samples


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
        node = output.grad_fn
        if node is None or output._backward_hooks is not None:
            self.handles.append(output.register_hook(hook))
            return
        output._backward_hooks = hooks = OrderedDict({_OURS: hook})
        node._register_hook_dict(output)
        self.hooks.append(ref(hooks))

    def unhook(self) -> None:
        """No gradient of its outputs is waited for any more."""
        for handle in self.handles:
            handle.remove()
        for known in self.hooks:
            if (hooks := known()) is not None:
                hooks.pop(_OURS, None)

    def read_inputs(self, module: nn.Module, reading: CallReading, inputs: Any) -> None:
        """NaN and Inf in what a layer was given, if there may be some in what it put out."""
        before = self.inputs_nonfinite.pop(module, None)
        if reading.spoilt:
            reading.sums[INPUTS_NONFINITE] = nonfinite_among(inputs) if before is None else before

    @property
    def counted(self) -> dict[CallKey, CallReading]:
        """Of parts, without the calls that were not backpropagated: what they were for raised an error, perhaps."""
        if not self.of_parts:
            return self.readings
        counted, calls = {}, {}
        for (layer, _), reading in self.readings.items():
            if reading.has_gradient or reading.gradient_absence or not reading.followed:
                calls[layer] = calls.get(layer, 0) + 1
                counted[layer, calls[layer]] = reading
        return counted

    def unfollowed(self, name: str) -> list[CallReading]:
        """The calls of a layer whose gradients are not waited for."""
        return [reading for (layer, _), reading in self.readings.items() if layer == name and not reading.followed]


def read_output(layer: Layer, output: Tensor | None, unit_dim: int) -> CallReading:
    """All that is read of one output, but for its histogram; with the reason where nothing can be."""
    if output is None:
        return CallReading.absent(layer, "non-tensor output")
    units = unit_dim if layer.nonlinearity else None
    try:
        found = output_sums(output, units, layer.bounds, layer.non_negative)
    except (RuntimeError, NotImplementedError):
        if is_plain(output):
            raise
        found = None
    if found is None:
        return CallReading.absent(layer, _why_unread(output))
    sums, counts = found
    sums[NO_GRADIENT] = _NO_GRADIENT
    reading = CallReading(layer, sums, counts, output.shape)
    reading.spoilt = sums.__class__ is list and not (sums[NONFINITE].__class__ is float and sums[NONFINITE] == 0)
    return reading


def _why_unread(output: Tensor) -> str:
    if not is_plain(output):
        return "no plain tensor"
    return "empty output" if output.is_floating_point() or output.is_complex() else "non-float output"


def nonfinite_among(inputs: Any) -> Number:
    """NaN and Inf in all tensors that a layer is given: positional, by keyword, nested."""
    given = [t.detach() for t in tensors_in(inputs) if t.is_floating_point() or t.is_complex()]
    return sum((number(count_nonfinite(t)) for t in given), 0.0)


def read_gradient(gradient: Tensor) -> Gradient:
    """All that is read of the gradient with respect to one output, but for its histogram."""
    x = gradient.detach() if gradient.requires_grad else gradient
    try:
        squares = squared_norm(x)
        return x.numel(), squares, 0.0 if is_finite(squares) else number(count_nonfinite(x))
    except (RuntimeError, NotImplementedError):
        if is_plain(x):
            raise
        return 1, math.nan, math.nan  # of autograd.grad(is_grads_batched=True), which leaves no gradient behind


def samples_of(x: Tensor) -> tuple[Sample, ...]:
    """Of an output or its gradient, for the histogram."""
    return (sample(x),) if is_plain(x) and x.numel() else ()


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
