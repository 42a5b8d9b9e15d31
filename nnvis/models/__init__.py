"""The model section of a config becomes a `torch.nn.Module`.

    model = build_model(config.model, input_shape=(1, 8, 8), output_size=10)
    model(torch.zeros(5, 1, 8, 8)).shape       # (5, 10)

Weights are drawn from torch's global generator, which the caller seeds. Modules have names that read
well in figures and are registered in the order in which they run: `linear1`, `relu1`, …, `output`.
To add a kind of network: its section in `nnvis.config.schema`, a builder here, a line in `_untrained`.
"""

from __future__ import annotations

from typing import assert_never

from torch import nn

from nnvis.config.schema import Cnn, Layers, Mlp, Model, PythonModel, Rnn, Transformer
from nnvis.models.feedforward import cnn, mlp
from nnvis.models.imported import imported_model
from nnvis.models.initialisation import initialise
from nnvis.models.layer_list import layer_list
from nnvis.models.output_check import check_output
from nnvis.models.recurrent import RecurrentNetwork
from nnvis.models.transformer import TransformerNetwork

__all__ = ["build_model"]


def build_model(
    section: Model, input_shape: tuple[int, ...], output_size: int, *, vocabulary_size: int = 0
) -> nn.Module:
    """A network for inputs (N, *input_shape) with outputs (N, output_size), on the CPU, in training mode.

    `output_size` is the number of classes for cross entropy, 1 for binary cross entropy, and the number of
    targets for regression. With a `vocabulary_size` above 0 the inputs are token ids (N, T), 0 is padding.

    Raises InputError where the network does not fit the data, saying which layer, and which shape arrived.
    """
    model = _untrained(section, tuple(input_shape), output_size, vocabulary_size)
    if not isinstance(section, PythonModel):
        initialise(model, section.init)
    check_output(model, section.kind, tuple(input_shape), output_size, vocabulary_size)
    return model


def _untrained(section: Model, input_shape: tuple[int, ...], output_size: int, vocabulary_size: int) -> nn.Module:
    match section:
        case Mlp():
            return mlp(section, input_shape, output_size, vocabulary_size)
        case Cnn():
            return cnn(section, input_shape, output_size, vocabulary_size)
        case Rnn():
            return RecurrentNetwork(section, input_shape, output_size, vocabulary_size)
        case Transformer():
            return TransformerNetwork(section, input_shape, output_size, vocabulary_size)
        case Layers():
            return layer_list(section, input_shape, vocabulary_size)
        case PythonModel():
            return imported_model(section)
        case _:
            assert_never(section)
