"""Writes nnvis/config/torch_table.json: what torch's optimizers, schedulers and layers take.

    python tests/config/make_torch_table.py          # after an upgrade of torch; a test says when it is due

The table lets a config be checked without importing torch. An argument is `[types, default]`,
`[types]` when it has to be given. Types are joined with `|`: `int`, `float`, `bool`, `str`, `null`,
`'a choice'`, `int[2]` (two of them), `int[]` (any number of them), `int?[]` (null allowed among them).
"""

from __future__ import annotations

import collections.abc
import inspect
import json
import types
import typing
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules import activation
from torch.optim import lr_scheduler

TABLE = Path(__file__).parents[2] / "nnvis" / "config" / "torch_table.json"

NOT_DATA = {"self", "args", "kwargs", "params", "optimizer", "last_epoch", "device", "dtype"}
NOT_DATA |= {"return_indices", "scale_fn"}
"""Arguments that a config cannot give."""

NOT_OFFERED = {"inplace", "differentiable", "capturable", "sparse", "batch_first"}
"""Arguments that bring nothing here and break what reads a layer's input, a gradient or a batch."""

FROM_INPUT = {  # the argument that follows from the layer's input
    "Linear": "in_features",
    "Conv": "in_channels",
    "BatchNorm": "num_features",
    "InstanceNorm": "num_features",
    "GroupNorm": "num_channels",
    "LayerNorm": "normalized_shape",
    "RMSNorm": "normalized_shape",
    "RNN": "input_size",
    "LSTM": "input_size",
    "GRU": "input_size",
    "MultiheadAttention": "embed_dim",
    "TransformerEncoderLayer": "d_model",
    "Embedding": "num_embeddings",
}

UNANNOTATED = {  # where the signature says less than the documentation
    ("MultiheadAttention", "embed_dim"): "int",
    ("MultiheadAttention", "num_heads"): "int",
    ("MultiheadAttention", "kdim"): "int|null",
    ("MultiheadAttention", "vdim"): "int|null",
    ("TransformerEncoderLayer", "activation"): "'relu'|'gelu'",
    ("RNNCell", "nonlinearity"): "'tanh'|'relu'",
    ("GELU", "approximate"): "'none'|'tanh'",
    ("Upsample", "mode"): "'nearest'|'nearest-exact'|'linear'|'bilinear'|'bicubic'|'trilinear'|'area'",
    ("EmbeddingBag", "mode"): "'sum'|'mean'|'max'",
    ("LBFGS", "line_search_fn"): "'strong_wolfe'|null",
    ("Muon", "adjust_lr_fn"): "'original'|'match_rms_adamw'|null",
}

NOT_USABLE = {
    "DataParallel": "takes a module",
    "Sequential": "is written `sequential: [...]`",
    "Module": "is the base of all layers",
    "LambdaLR": "takes a function, which YAML cannot hold",
    "MultiplicativeLR": "takes a function, which YAML cannot hold",
    "ChainedScheduler": "takes other schedulers, which this table has no form for",
    "SequentialLR": "takes other schedulers, which this table has no form for",
    "LRScheduler": "is the base of all schedulers",
    "Optimizer": "is the base of all optimizers",
    "SparseAdam": "takes sparse gradients only",
    "LSTMCell": "is one step of a recurrence and needs its state; use LSTM",
    "SyncBatchNorm": "needs several processes; use BatchNorm1d, 2d or 3d",
    "RNNBase": "is the base of RNN, LSTM and GRU",
    "RNNCellBase": "is the base of the recurrent cells",
    "TransformerEncoder": "takes a layer as argument; list several TransformerEncoderLayer",
}
TWO_INPUTS = (
    "Bilinear CosineSimilarity PairwiseDistance MaxUnpool1d MaxUnpool2d MaxUnpool3d Transformer TransformerDecoder"
)
NOT_USABLE |= dict.fromkeys(f"{TWO_INPUTS} TransformerDecoderLayer".split(), "takes more than one input")
NOT_USABLE |= dict.fromkeys(
    ["Container", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"], "is a container"
)


def table() -> dict[str, Any]:
    """The whole table, as it is written to the file."""
    optimizers = _classes(torch.optim, torch.optim.Optimizer)
    schedulers = _classes(lr_scheduler, lr_scheduler.LRScheduler)
    modules = _classes(nn, nn.Module)
    unusable = {name: reason for name in modules if (reason := _why_not(name))}
    unusable |= {name: reason for name, reason in NOT_USABLE.items() if name in optimizers | schedulers}
    layers = {name: cls for name, cls in modules.items() if name not in unusable}
    return {
        "torch": ".".join(torch.__version__.split(".")[:2]),
        "optimizers": {name: _parameters(cls) for name, cls in optimizers.items() if name not in unusable},
        "schedulers": {name: _parameters(cls) for name, cls in schedulers.items() if name not in unusable},
        "layers": {name: _parameters(cls) for name, cls in layers.items()},
        "inferred": {name: argument for name in layers if (argument := _inferred(name))},
        "activations": _activations(),
        "unusable": unusable,
    }


def _activations() -> dict[str, str]:
    """Names of torch's functions -> activation classes; lower case where there is no function."""
    classes = [*set(activation.__all__) - {"MultiheadAttention"}, "Identity"]
    functions = {name.replace("_", ""): name for name in dir(nn.functional) if not name.endswith("_")}
    return {functions.get(name.lower(), name.lower()): name for name in sorted(classes)}


def text() -> str:
    """The file's text: one class a line."""

    def section(value: Any) -> str:
        if not isinstance(value, dict):
            return json.dumps(value)
        rows = ",\n".join(f"  {json.dumps(key)}: {json.dumps(row)}" for key, row in value.items())
        return "{\n" + rows + "\n }"

    return "{\n" + ",\n".join(f' "{key}": {section(value)}' for key, value in table().items()) + "\n}\n"


def _classes(module: types.ModuleType, base: type) -> dict[str, Any]:
    return {
        name: cls
        for name, cls in sorted(vars(module).items())
        if inspect.isclass(cls) and issubclass(cls, base) and not name.startswith("_")
    }


def _why_not(name: str) -> str:
    if name.startswith("Lazy"):
        return f"infers its input size, as all layers here do; use {name.removeprefix('Lazy')}"
    if "Loss" in name:
        return "is a loss; see `loss`"
    return NOT_USABLE.get(name, "")


def _inferred(name: str) -> str | None:
    return FROM_INPUT.get(name) or next(
        (FROM_INPUT[stem] for stem in ("Conv", "BatchNorm", "InstanceNorm") if name.startswith(stem)),
        {"GRUCell": "input_size", "RNNCell": "input_size", "EmbeddingBag": "num_embeddings"}.get(name),
    )


def _parameters(cls: Any) -> dict[str, list[Any]]:
    if cls in (nn.RNN, nn.LSTM, nn.GRU):  # their own signature is (*args, **kwargs)
        not_its_own = {"mode"} if cls is nn.LSTM else {"mode", "proj_size"}
        entries = {name: entry for name, entry in _parameters(nn.RNNBase).items() if name not in not_its_own}
        return entries | ({"nonlinearity": ["'tanh'|'relu'", "tanh"]} if cls is nn.RNN else {})
    signature = inspect.signature(cls.__init__)
    hints = _hints(cls)
    return {
        name: _entry(cls.__name__, parameter, hints.get(name, inspect.Parameter.empty))
        for name, parameter in signature.parameters.items()
        if name not in NOT_DATA | NOT_OFFERED and not name.startswith("_")
    }


def _hints(cls: Any) -> dict[str, Any]:
    names = vars(typing) | vars(collections.abc) | {"Tensor": torch.Tensor, "Optimizer": torch.optim.Optimizer}
    return typing.get_type_hints(cls.__init__, localns=names)


def _entry(kind: str, parameter: inspect.Parameter, hint: Any) -> list[Any]:
    default = parameter.default
    types_ = UNANNOTATED.get((kind, parameter.name)) or _types(hint, default)
    if default is parameter.empty:
        return [types_]
    if default is None and "null" not in types_:
        types_ += "|null"
    return [types_, "relu" if default is nn.functional.relu else default]


def _types(hint: Any, default: Any) -> str:
    if hint is inspect.Parameter.empty:
        return type(default).__name__
    names = dict.fromkeys(name for option in _options(hint) for name in _names(option))
    if "str" in names and "int" in names:  # the padding of convolutions
        names = dict.fromkeys(["'valid'", "'same'", *(name for name in names if name != "str")])
    return "|".join(names)


def _options(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _names(hint: Any) -> list[str]:
    """The table's words for one option of a type; none for what a config cannot hold."""
    plain = {int: "int", float: "float", bool: "bool", str: "str", type(None): "null", torch.Size: "int[]", Any: "any"}
    if hint in plain:
        return [plain[hint]]
    if typing.get_origin(hint) is typing.Literal:
        return [repr(choice) for choice in typing.get_args(hint)]
    if typing.get_origin(hint) in (tuple, list, collections.abc.Iterable, collections.abc.Sequence):
        items = [item for item in typing.get_args(hint) if item is not ...]
        elements = list(dict.fromkeys(name for item in items for option in _options(item) for name in _names(option)))
        (element,) = [name for name in elements if name != "null"]
        any_length = typing.get_origin(hint) is not tuple or ... in typing.get_args(hint)
        return [f"{element}{'?' * ('null' in elements)}[{'' if any_length else len(items)}]"]
    return []


if __name__ == "__main__":
    TABLE.write_text(text(), encoding="utf-8")
