"""One sample through a network and back, every number kept, in float64.

    network = laid_open(model)                                   # a copy to work on: float64, eval mode
    passes = both_passes(network, loss_function, inputs, targets)     # a batch of one
    passes.loss, passes.stages[0].z, passes.stages[0].delta

In eval mode dropout is off and batch norm uses its running statistics: one sample has none of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nnvis.figures.passes import Block, Stage
from nnvis.models.chain import Residual
from nnvis.probe.layers import Layer, find_layers, first_tensor
from nnvis.record.vocabulary import FloatArray

LossFunction = Callable[[Tensor, Tensor], Tensor]
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_SAME = 1e-9  # relative: two ways to compute one number in float64


@dataclass(frozen=True)
class Passes:
    """The forward and the backward pass of one sample."""

    loss: float
    inputs: FloatArray  # without the batch, as are all
    outputs: FloatArray
    targets: FloatArray
    output_gradient: FloatArray  # ∂L/∂outputs
    blocks: tuple[Block, ...]  # every call of every layer, in their order
    stages: tuple[Stage, ...]  # of these, the calls of layers with weights
    skips: tuple[tuple[int, int], ...]  # the first and the last block of each residual part
    unseen: tuple[str, ...]  # layers that did not run, or put out no tensor
    gradients: dict[str, FloatArray]  # ∂L/∂parameter by its name; frozen and unused ones are left out
    activations: dict[str, nn.Module]  # by the name of the stage that each belongs to


@dataclass
class _Call:
    """What a hook saw."""

    name: str
    layer: Layer
    arrived: Tensor | None
    left: Tensor
    inputs: FloatArray | None  # copies: what comes later may work in place
    outputs: FloatArray


def laid_open(model: nn.Module) -> nn.Module:
    """A copy on the CPU in float64 and eval mode, with no layer that works in place."""
    network = copy.deepcopy(model).cpu().double().eval()
    for module in network.modules():
        if getattr(module, "inplace", False) is True:
            vars(module)["inplace"] = False  # the values are the same, and those before it stay
    return network


def in_float64(tensor: Tensor) -> Tensor:
    """Numbers in float64; token ids and class numbers as they are."""
    return tensor.double() if tensor.is_floating_point() else tensor


def both_passes(network: nn.Module, loss_function: LossFunction, inputs: Tensor, targets: Tensor) -> Passes:
    """Forward and backward pass of a batch of one, inputs (1, ...) and targets (1,) or (1, K).

    `network` is from `laid_open`; nothing about it changes. `loss_function(outputs, targets)` is 0-d.
    """
    layers = find_layers(network)
    inputs, targets = in_float64(inputs), in_float64(targets)
    calls: list[_Call] = []
    with ExitStack() as hooks, torch.enable_grad():
        for layer in layers:
            handle = layer.module.register_forward_hook(_keeper(layer, calls), with_kwargs=True)
            hooks.callback(handle.remove)
        fed = inputs.clone().requires_grad_(inputs.is_floating_point())
        outputs = network(fed)
        loss = loss_function(outputs, targets)
    owned = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    wanted = [outputs, *(call.left for call in calls), *owned.values()]
    tracked = [tensor for tensor in wanted if tensor.requires_grad]
    found = iter(torch.autograd.grad(loss, tracked, allow_unused=True) if tracked else ())
    whole, *rest = [next(found) if tensor.requires_grad else None for tensor in wanted]
    of_calls, of_parameters = rest[: len(calls)], rest[len(calls) :]
    gradients = {name: _plain(g) for name, g in zip(owned, of_parameters, strict=True) if g is not None}
    alone = [None if g is None else _one(g) for g in of_calls]
    ran = {call.layer.name for call in calls}
    stages = _stages(calls, alone, gradients)
    return Passes(
        loss=float(loss.detach()),
        inputs=_one(inputs),
        outputs=_one(outputs),
        targets=_one(targets),
        output_gradient=np.zeros_like(_one(outputs)) if whole is None else _one(whole),
        blocks=tuple(_block(call, gradient) for call, gradient in zip(calls, alone, strict=True)),
        stages=tuple(stage for stage, _ in stages),
        skips=tuple(_skips(network, calls)),
        unseen=tuple(layer.name for layer in layers if layer.name not in ran),
        gradients=gradients,
        activations={stage.name: module for stage, module in stages if module is not None},
    )


def loss_of(network: nn.Module, loss_function: LossFunction, inputs: Tensor, targets: Tensor) -> float:
    """The loss of a batch of one, nothing kept."""
    with torch.no_grad():
        return float(loss_function(network(in_float64(inputs)), in_float64(targets)))


def curve(activation: nn.Module, low: float, high: float, points: int = 401) -> tuple[FloatArray, FloatArray]:
    """An elementwise activation between `low` and `high`: (points,), (points,)."""
    z = torch.linspace(low, high, points, dtype=torch.float64)
    with torch.no_grad():
        return z.numpy(), _plain(activation(z))


def steepest(activation: nn.Module) -> float | None:
    """The largest |slope| of an elementwise activation, looked for at 80,001 places from −20 to 20 (0 among them).

    None for one with parameters of its own (PReLU): its slopes are not one number.
    """
    if next(activation.parameters(), None) is not None:
        return None
    return float(np.abs(_slope(activation, torch.linspace(-20, 20, 80_001, dtype=torch.float64))).max())


def _keeper(layer: Layer, calls: list[_Call]) -> Callable[..., None]:
    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        arrived, left = first_tensor([*args, *kwargs.values()]), first_tensor(output)
        if left is None or not left.is_floating_point():
            return
        times = sum(call.layer is layer for call in calls)
        name = layer.name if not times else f"{layer.name}#{times + 1}"
        calls.append(_Call(name, layer, arrived, left, None if arrived is None else _one(arrived), _one(left)))

    return keep


def _stages(
    calls: list[_Call], gradients: list[FloatArray | None], of_parameters: dict[str, FloatArray]
) -> list[tuple[Stage, nn.Module | None]]:
    """The calls of layers with weights, each with the activation that takes what it puts out, if one does."""
    stages: list[tuple[Stage, nn.Module | None]] = []
    steepest_of: dict[nn.Module, float | None] = {}
    for at, (call, delta) in enumerate(zip(calls, gradients, strict=True)):
        module = call.layer.module
        if not has_weights(module) or call.inputs is None:
            continue
        z = a = call.outputs
        slope, grad_a, activation, most = np.ones_like(z), delta, None, 1.0
        behind = _activation_behind(calls, at)
        if behind is not None and delta is not None and (arrives := gradients[behind]) is not None:
            f = calls[behind].layer.module
            slope_of_f = _slope(f, torch.from_numpy(z[None]))[0]
            # Where z goes elsewhere as well (a skip connection), ∂L/∂z is more than what comes back through f.
            if _same(arrives, slope_of_f, delta):
                a, slope, grad_a, activation = calls[behind].outputs, slope_of_f, arrives, f
                if f not in steepest_of:
                    steepest_of[f] = steepest(f)
                most = steepest_of[f]
        linear = isinstance(module, nn.Linear)
        stage = Stage(
            name=call.name,
            kind=call.layer.kind,
            activation="" if activation is None else type(activation).__name__,
            x=call.inputs,
            z=z,
            a=a,
            slope=slope,
            grad_a=grad_a,
            delta=delta,
            weight=_plain(module.weight) if linear else None,
            bias=_plain(module.bias) if linear and module.bias is not None else None,
            weight_gradient=of_parameters.get(f"{call.layer.name}.weight") if linear else None,
            steepest=most,
        )
        stages.append((stage, activation))
    return stages


def _skips(network: nn.Module, calls: list[_Call]) -> list[tuple[int, int]]:
    """Where a `Residual` begins and ends among the calls. (Additions in other modules' own code are not seen.)"""
    places = []
    for name, module in network.named_modules():
        inside = [i for i, call in enumerate(calls) if call.name.startswith(f"{name}.")]
        if isinstance(module, Residual) and inside:
            places.append((inside[0], inside[-1]))
    return places


def _activation_behind(calls: list[_Call], at: int) -> int | None:
    """Which call is that of an elementwise activation, takes this one's output as it is, and keeps its shape."""
    for i in range(at + 1, len(calls)):
        call = calls[i]
        if call.arrived is calls[at].left:
            return i if call.layer.nonlinearity and call.outputs.shape == calls[at].outputs.shape else None
    return None


def _same(arrives: FloatArray, slope: FloatArray, delta: FloatArray) -> bool:
    """Whether what arrives times the slope is delta, up to rounding, wherever both are finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        product = arrives * slope
    finite = np.isfinite(product) & np.isfinite(delta)
    largest = np.abs(delta[finite]).max(initial=0)
    return bool(np.allclose(product[finite], delta[finite], rtol=_SAME, atol=_SAME * largest))


def has_weights(module: nn.Module) -> bool:
    """Whether it owns a matrix, and is no norm."""
    own = module.parameters(recurse=False)
    return not isinstance(module, NORMS) and any(parameter.dim() > 1 for parameter in own)


def _slope(activation: nn.Module, z: Tensor) -> FloatArray:
    """∂a/∂z at each place, by autograd."""
    z = z.detach().clone().requires_grad_()
    with torch.enable_grad():
        return _plain(torch.autograd.grad(activation(z).sum(), z)[0])


def _block(call: _Call, gradient: FloatArray | None) -> Block:
    values = call.outputs
    return Block(
        name=call.name,
        kind=call.layer.kind,
        inputs=None if call.inputs is None else call.inputs.shape,
        outputs=values.shape,
        parameters=sum(parameter.numel() for parameter in call.layer.parameters),
        activates=call.layer.nonlinearity,
        rms=_rms(values),
        low=float(values.min()),
        high=float(values.max()),
        gradient_rms=None if gradient is None else _rms(gradient),
    )


def _rms(values: FloatArray) -> float:
    largest = float(np.abs(values).max(initial=0))  # tiny values must not vanish when they are squared
    return largest * float(np.sqrt(np.mean((values / largest) ** 2))) if 0 < largest < np.inf else largest


def _one(tensor: Tensor) -> FloatArray:
    """A copy as numpy, without the batch of one."""
    values = _plain(tensor)
    return values[0] if values.ndim and len(values) == 1 else values


def _plain(tensor: Tensor) -> FloatArray:
    return tensor.detach().numpy().copy()
