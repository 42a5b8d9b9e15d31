"""Layers in a row under readable names, with or without a skip connection.

Chain({"linear1": nn.Linear(2, 8), "relu1": nn.ReLU(), "output": nn.Linear(8, 3)})
Residual({"linear": nn.Linear(8, 8), "relu": nn.ReLU()})       # adds its input
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_SHORT_NAMES = {"MultiheadAttention": "attention", "TransformerEncoderLayer": "encoder"}


class Chain(nn.Module):
    """Runs its layers in order. Of a tuple that a layer returns (recurrent layers do) the first entry goes on."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.order = tuple(layers)
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = inputs
        for name in self.order:
            outputs = run(self._modules[name], outputs)  # pyright: ignore[reportArgumentType]  # quicker than getattr
            if isinstance(outputs, tuple):
                outputs = outputs[0]
        return outputs


class Residual(Chain):
    """A chain plus its input; `projection` maps the input where the chain changes its size (He et al. 2016)."""

    def __init__(self, layers: Mapping[str, nn.Module], projection: nn.Module | None = None) -> None:
        super().__init__(layers)
        self.projection = projection

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = super().forward(inputs)
        return outputs + (inputs if self.projection is None else self.projection(inputs))


def run(layer: nn.Module, inputs: Any) -> Any:
    """What a layer gives. Recurrent ones stay in float32 on a CPU: many lack the kernels that autocast asks for."""
    if not isinstance(layer, _RECURRENT) or not torch.is_autocast_enabled("cpu"):
        return layer(inputs)
    with torch.autocast("cpu", enabled=False):
        return layer(inputs.float())


def stem(kind: str) -> str:
    """The short name of a torch class: `Conv2d` -> "conv", `LeakyReLU` -> "leakyrelu"."""
    return _SHORT_NAMES.get(kind) or re.sub(r"[123]d$", "", kind).lower()


def label(stem: str, number: int) -> str:
    """A module's name: "relu" and 1 -> "relu1", "relu6" and 1 -> "relu6_1"."""
    return f"{stem}_{number}" if stem[-1].isdigit() else f"{stem}{number}"
