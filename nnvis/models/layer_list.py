"""layers: a network spelled out as torch.nn layers; sizes that follow from the input are inferred.

    layers: [{Conv2d: [8, 3]}, ReLU, Flatten, {Linear: 10}]          # conv1, relu1, flatten1, linear1

Each layer is first tried on torch's `meta` device, where tensors have shapes but no values: nothing is
computed, no random number is drawn, and a layer that does not fit is refused before its weights exist.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn

from nnvis.config.schema import Layers, TorchLayer
from nnvis.errors import InputError
from nnvis.models.chain import Chain, Residual, label, stem
from nnvis.models.inferred_sizes import complete_arguments, layer_class, require_accepted
from nnvis.models.shapes import shown

_ROWS = 7919
"""Rows of the batch that is tried: a prime, so that no layer takes it for channels or merges it unnoticed."""


def layer_list(section: Layers, input_shape: tuple[int, ...], vocabulary_size: int) -> Chain:
    """The layers in a row. Raises InputError that names the first layer which does not fit what arrives."""
    dtype = torch.int64 if vocabulary_size else torch.get_default_dtype()
    batch = torch.empty(_ROWS, *input_shape, dtype=dtype, device="meta")
    layers, _ = _build_all(section.layers, batch, "model.layers", vocabulary_size)
    return Chain(layers)


def _build_all(
    entries: list[TorchLayer], batch: Tensor, path: str, vocabulary_size: int
) -> tuple[dict[str, nn.Module], Tensor]:
    """Named layers, and what comes out of the last one."""
    layers: dict[str, nn.Module] = {}
    seen: Counter[str] = Counter()
    for index, entry in enumerate(entries):
        layer, batch = _build(entry, batch, f"{path}.{index}", vocabulary_size)
        short = stem(entry.kind)
        seen[short] += 1
        layers[label(short, seen[short])] = layer
    return layers, batch


def _build(entry: TorchLayer, batch: Tensor, path: str, vocabulary_size: int) -> tuple[nn.Module, Tensor]:
    if entry.kind not in ("sequential", "residual"):
        return _torch_layer(entry, batch, f"{path}: {entry.kind}", vocabulary_size)
    layers, outputs = _build_all(entry.children, batch, f"{path}.{entry.kind}", vocabulary_size)
    if entry.kind == "sequential":
        return Chain(layers), outputs
    if outputs.shape != batch.shape:
        raise InputError(
            f"{path}: residual adds its input {shown(batch.shape[1:])} to its output {shown(outputs.shape[1:])}; "
            "let its last layer give the input's shape"
        )
    return Residual(layers), outputs


def _torch_layer(entry: TorchLayer, batch: Tensor, where: str, vocabulary_size: int) -> tuple[nn.Module, Tensor]:
    kind = layer_class(entry.kind, where)
    require_accepted(kind, batch, where)
    arguments = complete_arguments(kind, entry.arguments, batch, vocabulary_size, where)
    arrives = shown(batch.shape[1:])
    try:
        with torch.device("meta"):
            outputs = Chain({"trial": kind(**arguments)})(batch)
        layer = kind(**arguments)
    except Exception as error:  # torch raises nearly every type for arguments and shapes that do not fit
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].replace(str(_ROWS), "N")
        raise InputError(f"{where}: {reason}; {arrives} arrives") from error
    if not isinstance(outputs, Tensor) or outputs.shape[:1] != (_ROWS,):
        raise InputError(f"{where}: merges the rows of the batch; dim 0 must stay as it is; {arrives} arrives")
    if 0 in outputs.shape:
        raise InputError(f"{where}: leaves nothing of {arrives}: {shown(outputs.shape[1:])}")
    return layer, outputs
