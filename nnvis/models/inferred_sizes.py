"""What follows from the shape that arrives at a layer of a list, and which shapes a layer takes.

    complete_arguments("Linear", {"out_features": 10}, batch, 0, where)     # in_features from a batch (N, …, F)

Inferred when left out: the size of the input, an Embedding's number of tokens, the shape of a LayerNorm (all of an
image's, else the last dimension). Recurrent and attention layers are batch first, as everything here is; attention
is self-attention. Softmax and its kin act on the units: dim 1 of an image, else the last.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
from torch import Tensor, nn

from nnvis.config import torch_table
from nnvis.errors import InputError
from nnvis.models.shapes import shown


class SelfAttention(nn.MultiheadAttention):
    """Attention of a sequence to itself: (N, T, F) -> (N, T, F)."""

    def forward(self, inputs: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().forward(inputs, inputs, inputs, need_weights=False)[0]


_SEQUENTIAL = (nn.RNNBase, nn.MultiheadAttention, nn.TransformerEncoderLayer)
_CHANNELS = ("in_channels", "num_features", "num_channels")
"""Arguments that are the size of dim 1; the others are the last dimension's."""
_LAYOUTS = {"1": "(N, C, L)", "2": "(N, C, H, W)", "3": "(N, C, D, H, W)"}


def layer_class(kind: str, where: str) -> type[nn.Module]:
    """The torch.nn class of that name, SelfAttention for MultiheadAttention. Raises InputError where there is none."""
    if kind == "MultiheadAttention":
        return SelfAttention
    found = getattr(nn, kind, None)
    if found is None:
        raise InputError(f"{where}: torch {torch.__version__} has no such layer")
    return found


def require_accepted(kind: type[nn.Module], batch: Tensor, where: str) -> None:
    """Raises InputError for token ids where no embedding is, and for too many or too few dimensions.

    torch would take one too few for a single row without a batch dimension, and go on.
    """
    if not batch.is_floating_point() and not issubclass(kind, nn.Embedding | nn.EmbeddingBag):
        raise InputError(f"{where}: takes numbers, but token ids of text arrive; begin with `- Embedding: 32`")
    layouts = _layouts(kind)
    if layouts and batch.ndim not in [layout.count(",") + 1 for layout in layouts]:
        raise InputError(f"{where}: takes {' or '.join(layouts)}, but {shown(batch.shape[1:])} arrives")


def complete_arguments(
    kind: type[nn.Module], given: dict[str, Any], batch: Tensor, vocabulary_size: int, where: str
) -> dict[str, Any]:
    """The arguments with those that follow from the batch. Raises InputError where what is given contradicts them."""
    inferred: dict[str, Any] = {}
    if issubclass(kind, _SEQUENTIAL):
        inferred["batch_first"] = True
    parameters = inspect.signature(kind).parameters
    if "inplace" in parameters:
        inferred["inplace"] = False  # it would change what a residual block adds, and what is measured
    if "dim" in parameters and parameters["dim"].default is None:
        inferred["dim"] = 1 if batch.ndim >= 4 else -1
    name = torch_table().inferred.get(kind.__name__ if kind is not SelfAttention else "MultiheadAttention")
    if name == "num_embeddings":
        _require_tokens(given.get(name, vocabulary_size), vocabulary_size, where)
        return {name: vocabulary_size} | given
    if name == "normalized_shape":
        return {name: list(batch.shape[1:] if batch.ndim >= 4 else batch.shape[-1:])} | given
    if name:
        inferred[name] = batch.shape[1 if name in _CHANNELS else -1]
    for fixed in given.keys() & (inferred.keys() - {"dim"}):
        if given[fixed] != inferred[fixed]:
            raise InputError(
                f"{where}: {fixed} is {given[fixed]}, but must be {inferred[fixed]} for the {shown(batch.shape[1:])} "
                "that arrives; leave it out, it is inferred"
            )
    return inferred | given


def _require_tokens(size: int, vocabulary_size: int, where: str) -> None:
    if not vocabulary_size:
        raise InputError(f"{where}: takes token ids of text, but the data are numbers")
    if size < vocabulary_size:
        raise InputError(
            f"{where}: num_embeddings is {size}, but the vocabulary has {vocabulary_size} tokens; "
            "leave it out, it is inferred"
        )


def _layouts(kind: type[nn.Module]) -> list[str]:
    """Shapes that the layer takes; empty for any."""
    if issubclass(kind, _SEQUENTIAL):
        return ["(N, T, F)"]
    if issubclass(kind, nn.RNNCellBase):
        return ["(N, F)"]
    if issubclass(kind, nn.EmbeddingBag):
        return ["(N, T)"]
    spatial = re.search(r"([123])d$", kind.__name__)
    layouts = [_LAYOUTS[spatial[1]]] if spatial else []
    return ["(N, C)", *layouts] if kind is nn.BatchNorm1d else layouts
