"""How weights start: `initialise(model, Init(kind="kaiming_normal"))`.

Drawn anew are the weight matrices and kernels of linear, convolutional, recurrent and attention layers; their
biases start at 0. Matrices that torch keeps stacked (the gates of an LSTM, query/key/value) are drawn one by
one, since the formulas hold for one map. Norms and embeddings keep torch's start, and `default` all of it.

| kind               | standard deviation                                          | source                       |
|--------------------|-------------------------------------------------------------|------------------------------|
| xavier_*           | gain · √(2 / (fan_in + fan_out))                            | Glorot & Bengio 2010, eq. 16 |
| kaiming_*          | gain of the nonlinearity / √fan                             | He et al. 2015, eq. 10, 14   |
| orthogonal         | rows or columns of length `gain`, orthogonal to one another | Saxe et al. 2014             |
| normal, constant   | as written                                                  |                              |

kaiming's gain is torch's (`nn.init.calculate_gain`) for the model's first activation; √2 where torch has none for
it; 1 in a network without activation layers, which the recurrent ones are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nnvis.config.schema import Init
from nnvis.models.activations import ACTIVATIONS

_WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
_TORCH_NAMES = {"Sigmoid": "sigmoid", "Tanh": "tanh", "SELU": "selu", "Identity": "linear"}


@torch.no_grad()
def initialise(model: nn.Module, init: Init) -> None:
    """Draws the weights anew in place, from torch's global generator."""
    if init.kind == "default":
        return
    nonlinearity = _nonlinearity(model)
    for layer in model.modules():
        if isinstance(layer, _WEIGHTED):
            for name, parameter in layer.named_parameters(recurse=False):
                if "bias" in name:
                    nn.init.zeros_(parameter)
                else:
                    for matrix in parameter.split(_rows(layer, parameter)):
                        _draw(matrix, init, nonlinearity, swap_fans=getattr(layer, "transposed", False))


def _rows(layer: nn.Module, parameter: Tensor) -> int:
    """Rows of one of the matrices that are stacked in the parameter."""
    if isinstance(layer, nn.MultiheadAttention):
        return layer.embed_dim
    if isinstance(layer, nn.RNNBase | nn.RNNCellBase):
        return layer.hidden_size
    return len(parameter)


def _draw(weight: Tensor, init: Init, nonlinearity: dict[str, Any], swap_fans: bool) -> None:
    gain = 1.0 if init.gain is None else init.gain
    # A transposed convolution keeps its weight as (inputs, outputs, …), torch's fans take it for the reverse.
    fan = "fan_in" if (init.mode == "fan_in") != swap_fans else "fan_out"
    match init.kind:
        case "xavier_uniform":
            nn.init.xavier_uniform_(weight, gain)
        case "xavier_normal":
            nn.init.xavier_normal_(weight, gain)
        case "kaiming_uniform":
            nn.init.kaiming_uniform_(weight, mode=fan, **nonlinearity)
        case "kaiming_normal":
            nn.init.kaiming_normal_(weight, mode=fan, **nonlinearity)
        case "orthogonal":
            nn.init.orthogonal_(weight, gain)
        case "normal":
            nn.init.normal_(weight, std=init.std)
        case "constant":
            nn.init.constant_(weight, init.value)


def _nonlinearity(model: nn.Module) -> dict[str, Any]:
    """`nonlinearity` and slope `a` for torch's kaiming functions."""
    kinds = tuple(ACTIVATIONS.values())
    match next((layer for layer in model.modules() if isinstance(layer, kinds)), nn.Identity()):
        case nn.LeakyReLU(negative_slope=slope):
            return {"nonlinearity": "leaky_relu", "a": slope}
        case nn.PReLU(weight=slopes):
            return {"nonlinearity": "leaky_relu", "a": slopes.mean().item()}
        case layer:
            return {"nonlinearity": _TORCH_NAMES.get(type(layer).__name__, "relu")}
