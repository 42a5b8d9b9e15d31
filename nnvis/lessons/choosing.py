"""What `--weight linear1:3,0` and `--neuron linear1:3` mean in a network, and what is taken where they are left out.

layer, row, col = chosen_weight("linear1:3,0", passes)
neuron_of(passes, "linear1", 3), weight_of(network, loss_function, …)
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from nnvis.config.problems import among
from nnvis.errors import InputError
from nnvis.figures.passes import Neuron, Stage, WeightFactors
from nnvis.lessons.passes import LossFunction, Passes, curve, loss_of
from nnvis.record.vocabulary import FloatArray

_STEP = 1e-6  # of a finite difference, relative to weights above 1: about the cube root of float64's rounding error


def chosen(passes: Passes, weight: str | None, neuron: str | None) -> tuple[str, int, int] | None:
    """(layer, row, column) of the weight to take apart; its row is the neuron unless that is asked for by itself.

    Left out, it is the weight of the largest gradient: of the neuron, if one is asked for, else of the first Linear
    layer. None for a network without Linear layers. Raises InputError.
    """
    if weight is not None:
        layer, (row, col) = _read("--weight", weight, 2, passes)
        return layer, row, col
    linear = _linear(passes)
    if neuron is not None:
        layer, (row,) = _read("--neuron", neuron, 1, passes)
        return layer, row, int(np.argmax(_size(linear[layer][0])[row]))
    if not linear:
        return None
    layer, calls = next(iter(linear.items()))
    row, col = np.unravel_index(np.argmax(_size(calls[0])), calls[0].z.shape[-1:] + calls[0].x.shape[-1:])
    return layer, int(row), int(col)


def chosen_neuron(passes: Passes, neuron: str) -> tuple[str, int]:
    """(layer, index) of what `--neuron` asks for. Raises InputError."""
    layer, (index,) = _read("--neuron", neuron, 1, passes)
    return layer, index


def neuron_of(passes: Passes, layer: str, index: int) -> Neuron:
    """The full sum of one unit of a Linear layer, at its first call and the first step of a sequence."""
    stage = _linear(passes)[layer][0]
    assert stage.weight is not None
    place = (0,) * (stage.z.ndim - 1)
    z, activation = float(stage.z[(*place, index)]), passes.activations.get(stage.name)
    reach = max(4.0, 1.25 * abs(z))
    return Neuron(
        layer=layer,
        index=index,
        x=stage.x[place],
        w=stage.weight[index],
        b=0.0 if stage.bias is None else float(stage.bias[index]),
        z=z,
        a=float(stage.a[(*place, index)]),
        activation=stage.activation,
        curve=curve(activation or nn.Identity(), -reach, reach),
    )


def weight_of(
    network: nn.Module,
    loss_function: LossFunction,
    inputs: Tensor,
    targets: Tensor,
    passes: Passes,
    place: tuple[str, int, int],
    lr: float,
) -> WeightFactors:
    """The factors of one weight's derivative, its checks, and what a step of plain SGD does. `network` is put back.

    Raises InputError where the loss does not depend on the layer, or the layer is frozen.
    """
    layer, row, col = place
    calls = _linear(passes)[layer]
    gradient = calls[0].weight_gradient
    if gradient is None or any(call.grad_a is None for call in calls):
        raise InputError(f"--weight {layer}:{row},{col}: no gradient arrives there: {layer} is frozen or unused")
    parameter = dict(network.named_parameters())[f"{layer}.weight"]
    loss = lambda: loss_of(network, loss_function, inputs, targets)  # noqa: E731
    w, g = float(parameter[row, col].detach()), float(gradient[row, col])
    h = _STEP * max(1.0, abs(w))
    with torch.no_grad():
        losses: list[float] = []
        for change in (h, -h, -lr * g):
            parameter[row, col] = w + change
            losses.append(loss())
        parameter[row, col] = w
        before = {name: value.clone() for name, value in network.named_parameters()}
        for name, value in network.named_parameters():
            if name in passes.gradients:
                value -= lr * torch.from_numpy(passes.gradients[name])
        loss_all = loss()
        for name, value in network.named_parameters():
            value.copy_(before[name])
    pooled = lambda values: np.concatenate([each.reshape(-1) for each in values])  # noqa: E731
    return WeightFactors(
        layer=layer,
        row=row,
        col=col,
        w=w,
        x=pooled([call.x[..., col] for call in calls]),
        z=pooled([call.z[..., row] for call in calls]),
        a=pooled([call.a[..., row] for call in calls]),
        slope=pooled([call.slope[..., row] for call in calls]),
        grad_a=pooled([call.grad_a[..., row] for call in calls if call.grad_a is not None]),
        activation=calls[0].activation,
        autograd=g,
        difference=(losses[0] - losses[1]) / (2 * h),
        step=h,
        rounding=16 * float(np.finfo(np.float64).eps) * max(abs(passes.loss), 1.0) / h,
        lr=lr,
        loss=passes.loss,
        loss_alone=losses[2],
        loss_all=loss_all,
    )


def _linear(passes: Passes) -> dict[str, list[Stage]]:
    """The calls of each Linear layer by its name."""
    found: dict[str, list[Stage]] = {}
    for stage in passes.stages:
        if stage.weight is not None:
            found.setdefault(stage.name.partition("#")[0], []).append(stage)
    return found


def _size(stage: Stage) -> FloatArray:
    return (
        np.zeros((stage.z.shape[-1], stage.x.shape[-1]))
        if stage.weight_gradient is None
        else abs(stage.weight_gradient)
    )


def _read(option: str, text: str, numbers: int, passes: Passes) -> tuple[str, Sequence[int]]:
    """A layer's name and the indices in it. Raises InputError that tells the choices."""
    linear = _linear(passes)
    if not linear:
        raise InputError(f"{option} {text}: this network has no Linear layer, and only those are taken apart")
    example = f"{next(iter(linear))}:" + ("0,0" if numbers == 2 else "0")
    match = re.fullmatch(r"(.+):(\d+)" + r"\s*,\s*(\d+)" * (numbers - 1), text)
    if not match:
        form = "LAYER:ROW,COL" if numbers == 2 else "LAYER:INDEX"
        raise InputError(f"{option} {text}: expected {form}, such as {example}")
    layer, *indices = match.groups()
    if layer not in linear:
        other = next((block.kind for block in passes.blocks if block.name == layer), None)
        what = (
            f"{layer} is a {other}, and only Linear layers are taken apart" if other else f"there is no layer {layer}"
        )
        raise InputError(f"{option} {text}: {what}{among(layer, list(linear))}")
    shape = (linear[layer][0].z.shape[-1], linear[layer][0].x.shape[-1])
    for name, index, size in zip(("row", "column"), map(int, indices), shape, strict=False):
        if index >= size:
            name = name if numbers == 2 else "index"
            raise InputError(f"{option} {text}: {layer} has no {name} {index}; choose 0 to {size - 1}")
    return layer, [int(index) for index in indices]
