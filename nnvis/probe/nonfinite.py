"""Where the first NaN or Inf came from, asked once the loss is no longer finite.

found = locate_nonfinite(model, lambda: criterion(model(inputs), targets))
found.direction, found.layer        # "forward", "hidden3.linear"
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from nnvis.probe.layers import Layer, find_layers, first_tensor


@dataclass(frozen=True)
class Nonfinite:
    """The first place where a value was not finite.

    `direction` "forward": the layer's output (its parameters were finite). "backward": the gradient of the layer's
    parameters, the first one in backward order. "update": the parameters themselves, though their gradients are finite.
    """

    direction: Literal["forward", "backward", "update"]
    layer: str  # "inputs" or "loss" where no layer is to blame
    detail: str  # a sentence part: what was found

    @property
    def source(self) -> Literal["inputs", "operation"]:
        """What brought it: the inputs, or the layer's own operation on finite numbers."""
        return "inputs" if self.layer == "inputs" else "operation"

    def __str__(self) -> str:
        return f"first in the {self.direction} pass, at {self.layer}: {self.detail}"


def locate_nonfinite(model: nn.Module, forward: Callable[[], Tensor]) -> Nonfinite:
    """Find the first non-finite value, given gradients that are still in `.grad` and a `forward` that can be run again.

    A backward pass overflows from the output towards the input: every layer before the culprit is spoilt with it, so
    the culprit is the last layer in forward order whose gradient is not finite.
    """
    layers = find_layers(model)
    trace = _trace_forward(layers, forward)
    in_order = {layer.name: layer for layer, _, _ in trace.calls} | {layer.name: layer for layer in layers}
    for name, layer in reversed(in_order.items()):
        grads = [p.grad for p in layer.parameters if p.grad is not None]
        if not all(_finite(grad) for grad in grads):
            return Nonfinite("backward", name, f"the gradient of its {_shapes(layer)} holds NaN or Inf")
    for name, layer in in_order.items():
        if not all(_finite(p) for p in layer.parameters):
            return Nonfinite("update", name, "its parameters overflowed though their gradients were finite")
    for layer, inputs_finite, output_finite in trace.calls:
        if not inputs_finite:
            return Nonfinite("forward", "inputs", f"NaN or Inf reached {layer.name} from outside of the layers")
        if not output_finite:
            return Nonfinite("forward", layer.name, f"{layer.kind} made NaN or Inf of finite inputs and parameters")
    return Nonfinite("forward", "loss", "every layer's output is finite, the loss is not")


@dataclass
class _Trace:
    calls: list[tuple[Layer, bool, bool]]  # in the order in which they ran: layer, inputs finite, output finite


def _trace_forward(layers: list[Layer], forward: Callable[[], Tensor]) -> _Trace:
    by_module = {layer.module: layer for layer in layers}
    trace = _Trace([])

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        if module in by_module:
            trace.calls.append((by_module[module], _finite(first_tensor(inputs)), _finite(first_tensor(output))))

    handle = register_module_forward_hook(hook)
    try:
        with torch.no_grad():
            forward()
    finally:
        handle.remove()
    return trace


def _finite(x: Tensor | None) -> bool:
    return x is None or bool(torch.isfinite(x.detach()).all())


def _shapes(layer: Layer) -> str:
    return " and ".join(name for name, _ in layer.module.named_parameters(recurse=False))
