"""Every torch activation by its class name, as a fresh layer.

activation(TorchLayer(kind="LeakyReLU", arguments={"negative_slope": 0.2}))
"""

from __future__ import annotations

import inspect

from torch import nn
from torch.nn.modules import activation as torch_activations

from nnvis.config.schema import TorchLayer
from nnvis.errors import InputError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    name: getattr(nn, name) for name in (*torch_activations.__all__, "Identity") if name != "MultiheadAttention"
}
"""Classes by name: all that torch has, and Identity (a linear network) beside them."""


def activation(entry: TorchLayer) -> nn.Module:
    """A new activation layer. Those that work along a dimension (softmax, GLU) take dim 1, the units.

    Raises InputError for arguments that torch refuses.
    """
    layer = ACTIVATIONS[entry.kind]
    along_units = {"dim": 1} if "dim" in inspect.signature(layer).parameters else {}
    try:
        return layer(**{**along_units, **entry.arguments})
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise InputError(f"model.activation: {entry.kind}: {error}") from error


def widening(entry: TorchLayer) -> int:
    """How many times wider the layer before the activation has to be: 2 for GLU, which halves its input."""
    return 2 if entry.kind == "GLU" else 1
