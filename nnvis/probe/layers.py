"""Which modules are layers, and what kind of layer each is.

A layer is a leaf module, or a module that owns parameters directly. Statistics are chosen by its kind:
zeros and dead units are counted after nonlinearities only, saturation where an output is bounded on both sides.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nnvis.config.problems import among
from nnvis.errors import InputError

_NOT_ELEMENTWISE = (nn.MultiheadAttention, nn.Softmax, nn.Softmin, nn.Softmax2d, nn.LogSoftmax)
NONLINEARITIES: tuple[type[nn.Module], ...] = tuple(
    kind
    for kind in vars(nn.modules.activation).values()
    if isinstance(kind, type) and issubclass(kind, nn.Module) and kind not in (nn.Module, *_NOT_ELEMENTWISE)
)
NON_NEGATIVE = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid, nn.Softplus)
_CONVOLUTIONS = nn.modules.conv._ConvNd
_FEATURES_LAST = (nn.Linear, nn.Bilinear, nn.Flatten, nn.Embedding, nn.RNNBase, nn.MultiheadAttention)


@dataclasses.dataclass(frozen=True)
class Layer:
    """What the probe knows of a module before it runs."""

    name: str
    module: nn.Module
    parameters: tuple[nn.Parameter, ...]  # the module's own
    nonlinearity: bool
    bounds: tuple[float, float] | None  # of the output, where both exist
    non_negative: bool  # whether outputs are never below 0

    @property
    def kind(self) -> str:
        return type(self.module).__name__


def find_layers(model: nn.Module, patterns: Sequence[str | type[nn.Module]] = ("*",)) -> list[Layer]:
    """The layers of a model whose names match one of the globs, or that are of one of the types.

    In the order of `named_modules()`. Raises InputError for a pattern that matches none.
    """
    named = [(name, module) for name, module in _named_modules(model) if _is_layer(module)]
    names = [name for name, _ in named]
    for pattern in patterns:
        if named and not any(_matches(name, module, pattern) for name, module in named):
            if isinstance(pattern, str):
                raise InputError(f"capture.layers: {pattern!r} matches no layer{among(pattern, names)}")
            kinds = sorted({type(module).__name__ for _, module in named})
            raise InputError(f"layers: no layer is a {pattern.__name__}; there are {', '.join(kinds)}")
    return [
        Layer(
            name=name,
            module=module,
            parameters=tuple(module.parameters(recurse=False)),
            nonlinearity=isinstance(module, NONLINEARITIES),
            bounds=output_bounds(module),
            non_negative=isinstance(module, NON_NEGATIVE),
        )
        for name, module in named
        if any(_matches(name, module, pattern) for pattern in patterns)
    ]


def _matches(name: str, module: nn.Module, pattern: str | type[nn.Module]) -> bool:
    return fnmatchcase(name, pattern) if isinstance(pattern, str) else isinstance(module, pattern)


def output_bounds(module: nn.Module) -> tuple[float, float] | None:
    """The range of a nonlinearity that is bounded on both sides."""
    match module:
        case nn.ReLU6():
            return 0.0, 6.0
        case nn.Hardtanh():
            return float(module.min_val), float(module.max_val)
        case nn.Sigmoid() | nn.Hardsigmoid():
            return 0.0, 1.0
        case nn.Tanh() | nn.Softsign():
            return -1.0, 1.0
    return None


def unit_dim(module: nn.Module, output: Any, before: int) -> int:
    """The dimension of a module's output that its units lie in; they stay where they were `before` for most kinds.

    After convolutions 1, or 0 without a batch; else -1, the last.
    """
    convolves = _is_convolution(type(module))
    if convolves is None:
        return before
    return int(output.dim() > len(module.kernel_size) + 1) if convolves and isinstance(output, Tensor) else -1  # pyright: ignore[reportArgumentType]


def unit_dim_of(dims: int, unit_dim: int) -> int:
    """That dimension of a tensor that may have fewer (after a global pooling, say)."""
    return unit_dim if 0 <= unit_dim < dims else dims - 1


@functools.cache
def _is_convolution(kind: type[nn.Module]) -> bool | None:
    """None where the units stay where they were."""
    if issubclass(kind, _CONVOLUTIONS):
        return True
    return False if issubclass(kind, _FEATURES_LAST) else None


def first_tensor(output: Any) -> Tensor | None:
    """The first floating or complex tensor, else the first tensor, of an output: in tuples, dicts, dataclasses too."""
    if isinstance(output, Tensor):
        return output
    found = list(tensors_in(output))
    numeric = [t for t in found if t.is_floating_point() or t.is_complex()]
    return next(iter(numeric or found), None)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor of a nest of tuples, lists, dicts and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from tensors_in(getattr(value, field.name))


def coverage(unseen: Mapping[str, str], most: int = 10) -> str:
    """Layers and why they were not seen, as a line for people: `not measured: head (not called), stem (frozen)`."""
    named = [f"{name} ({reason})" for name, reason in unseen.items()]
    more = f" and {len(named) - most} more, which summary.json will name" if len(named) > most else ""
    return f"not measured: {', '.join(named[:most])}{more}"


def _named_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """`named_modules()`, with the root under its class's name, without the prefixes of `torch.compile` and of DDP."""
    root = model
    while (
        inner := getattr(root, "_orig_mod", root.module if isinstance(root, DistributedDataParallel) else None)
    ) is not None:
        root = inner
    for name, module in root.named_modules():
        yield name.replace("._orig_mod", "") or type(root).__name__, module


def _is_layer(module: nn.Module) -> bool:
    return next(module.children(), None) is None or next(module.parameters(recurse=False), None) is not None


def is_compiled(parts: Iterable[nn.Module]) -> bool:
    """Whether one of a model's parts went through `torch.compile`, so that forward hooks would be traced."""
    return any(part._compiled_call_impl is not None or is_wrapper(part) for part in parts)


def is_wrapped(parts: Collection[nn.Module]) -> bool:
    """Whether somebody holds a `torch.compile`d wrapper around one of a model's parts."""
    if "torch._dynamo" not in sys.modules:
        return False
    return any(isinstance(one, dict) and one.get("_orig_mod") in parts for one in gc.get_referrers(*parts))


def is_wrapper(module: object) -> bool:
    """Whether this is what `torch.compile` makes of a module."""
    return type(module).__name__ == "OptimizedModule"
