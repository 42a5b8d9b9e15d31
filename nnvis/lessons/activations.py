"""What the parts of a network put out for many rows, in float64; each is measured as it comes, so that little is kept.

network = laid_open(subject.model)
parts = parts_of(network, inputs[:1])                  # linear1 → tanh1, linear2 → tanh2, output
found = measured(network, inputs, parts, lambda part, values: values.std(0))     # {"linear1": (16,), …}

A part is a layer with weights, and what follows it at once: norms, an activation, dropout (off in eval mode). With
`whole`, a residual block or a transformer layer is one part, so that what it adds to is there as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from nnvis.lessons.passes import NORMS, has_weights, in_float64
from nnvis.models.chain import Residual
from nnvis.models.recurrent import last_state
from nnvis.models.transformer import mean_over_steps
from nnvis.probe.layers import NONLINEARITIES, find_layers, first_tensor
from nnvis.record.vocabulary import FloatArray

T = TypeVar("T")
_WHOLE = (Residual, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_FOLLOWS = (*NORMS, *NONLINEARITIES, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.Identity)
_CHUNK = 4096  # rows at a time


@dataclass(frozen=True)
class Part:
    """A layer, with what follows it at once."""

    name: str  # of the layer; of its second call "linear1#2"
    module: nn.Module
    activation: str  # the class of the last activation that follows; "" for none
    end: nn.Module  # whose output is the part's
    call: int  # which call of that module it is, from 0
    shape: tuple[int, ...]  # of what it puts out, without the batch
    last: bool  # whether that is the network's output

    @property
    def label(self) -> str:
        """`linear1, tanh`."""
        return f"{self.name}, {self.activation.lower()}" if self.activation else self.name


@dataclass
class _Call:
    name: str
    module: nn.Module
    number: int
    arrived: Tensor | None
    left: Tensor


def parts_of(network: nn.Module, row: Tensor, *, whole: bool = True) -> list[Part]:
    """The parts in the order in which they run; `row` is a batch (1, ...), `network` from `laid_open`."""
    calls: list[_Call] = []
    modules = _modules(network, whole)

    def keep(module: nn.Module, number: int, args: Any, output: Any) -> None:
        left = _tensor(output)
        if left is not None and left.is_floating_point():
            calls.append(_Call(modules[module], module, number, first_tensor(args), left))

    outputs = _run(network, row, modules, keep)
    parts: list[Part] = []
    for at, call in enumerate(calls):
        if has_weights(call.module) or isinstance(call.module, _WHOLE):
            chain = _chain(calls, at)
            end = chain[-1]
            named = [type(each.module).__name__ for each in chain[1:] if isinstance(each.module, NONLINEARITIES)]
            name = call.name if not call.number else f"{call.name}#{call.number + 1}"
            activation = named[-1] if named else ""
            shape = tuple(end.left.shape[1:])
            parts.append(Part(name, call.module, activation, end.module, end.number, shape, end.left is outputs))
    return parts


def measured(
    network: nn.Module, inputs: Tensor, parts: Sequence[Part], measure: Callable[[Part, Tensor], T]
) -> dict[str, T]:
    """What `measure(part, values (N, ...))` makes of each part, by its name; a part without N rows is left out."""
    wanted = {(part.end, part.call): part for part in parts}
    found: dict[str, T] = {}

    def keep(module: nn.Module, number: int, args: Any, output: Any) -> None:
        part, values = wanted.get((module, number)), _tensor(output)
        if part and values is not None and len(values) == len(inputs):
            found[part.name] = measure(part, values)

    _run(network, inputs, [part.end for part in parts], keep)
    return found


def outputs_of(network: nn.Module, inputs: Tensor) -> Tensor:
    """(N, ...): what a network from `laid_open` puts out, some rows at a time."""
    with torch.no_grad():
        return torch.cat([network(in_float64(rows)) for rows in inputs.split(_CHUNK)])


def vectors(part: Part, values: Tensor, lengths: Tensor | None = None) -> FloatArray:
    """(N, D): a vector a row. Of recurrent layers the last step, of others over sequences the mean over the steps.

    Of images (N, C, H, W) all values. `lengths` (N,) are those of texts: what comes after is padding, and left out.
    """
    if isinstance(part.module, nn.RNNBase) and values.dim() == 3:
        return last_state(values, lengths, part.module.bidirectional).numpy()
    if values.dim() == 3 and not isinstance(part.module, nn.modules.conv._ConvNd):
        padding = None if lengths is None else torch.arange(values.shape[1]) >= lengths[:, None]
        return mean_over_steps(values, padding).numpy()
    return values.reshape(len(values), -1).numpy()


def _run(
    network: nn.Module,
    inputs: Tensor,
    modules: Iterable[nn.Module],
    keep: Callable[[nn.Module, int, Any, Any], None],
) -> Tensor:
    """The network's outputs; every call of the modules is given to `keep(module, number, arguments, output)`."""
    times: Counter[nn.Module] = Counter()

    def see(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        keep(module, times[module], [*args, *kwargs.values()], output)
        times[module] += 1

    with ExitStack() as hooks, torch.no_grad():
        for module in set(modules):
            hooks.callback(module.register_forward_hook(see, with_kwargs=True).remove)
        return network(in_float64(inputs))


def _modules(network: nn.Module, whole: bool) -> dict[nn.Module, str]:
    """The layers with their names; with `whole`, blocks in place of the layers in them."""
    blocks = {module: name for name, module in network.named_modules() if whole and isinstance(module, _WHOLE)}
    found = {layer.module: layer.name for layer in find_layers(network)} | blocks
    within = tuple(f"{block}." for block in blocks.values())
    return {module: name for module, name in found.items() if not name.startswith(within)}


def _chain(calls: Sequence[_Call], at: int) -> list[_Call]:
    """A call, and those that take its output as it is, one after the other."""
    chain = [calls[at]]
    for call in calls[at + 1 :]:
        if call.arrived is not chain[-1].left or not isinstance(call.module, _FOLLOWS):
            break
        chain.append(call)
    return chain


def _tensor(output: Any) -> Tensor | None:
    """The tensor of an output; of packed sequences (N, T, H), padded again."""
    packed = next(
        (each for each in (output if type(output) is tuple else [output]) if type(each) is PackedSequence), None
    )
    return pad_packed_sequence(packed, batch_first=True)[0] if packed is not None else first_tensor(output)


def finite(values: FloatArray) -> bool:
    """Whether there is no NaN and no Inf."""
    return bool(np.isfinite(values).all())


def evenly(n: int, most: int) -> list[int]:
    """Which of `n` are taken: all, or `most` of them evenly spaced, the first and the last among them."""
    return [int(i) for i in np.linspace(0, n - 1, min(n, most)).round()]
