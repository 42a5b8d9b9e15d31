"""Which layer calls read which outputs, told by the autograd graph while a forward pass builds it.

find_fed(("hidden", 1), output, fed)     # in the forward hook: what reached this output, through whatever lies between
wiring = Wiring.of(fed, layers, row_names)
wiring.readers["hidden"]                 # the rows that read its output
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor
from torch.autograd.graph import Node

from nnvis.probe.layers import Layer
from nnvis.probe.readings import CallKey

_MARK = "nnvis"


@dataclass(frozen=True)
class Wiring:
    """How the rows of a network hang together."""

    readers: Mapping[str, set[str]] = field(default_factory=dict)  # by row; a row that is missing was in no graph
    tied: Mapping[str, set[str]] = field(default_factory=dict)  # by layer: those that own one of its parameters too

    @classmethod
    def of(cls, fed: Mapping[CallKey, set[CallKey]], layers: Sequence[Layer], rows: Mapping[CallKey, str]) -> Wiring:
        """`fed`: by call, the calls whose outputs it read; `rows`: their names in the record."""
        readers: dict[str, set[str]] = {rows[key]: set() for key in fed if key in rows}
        for key, sources in fed.items():
            for source in sources & rows.keys():
                readers.setdefault(rows[source], set()).add(rows.get(key, key[0]))
        owners: dict[int, set[str]] = {}
        for layer in layers:
            for parameter in layer.parameters:
                owners.setdefault(id(parameter), set()).add(layer.name)
        tied = {layer.name: set().union(*(owners[id(p)] for p in layer.parameters)) for layer in layers}
        return cls(readers, tied)


def find_fed(call: CallKey, output: Tensor | None, fed: dict[CallKey, set[CallKey]]) -> None:
    """Note the calls that `output` was computed from, and leave this call's name on its graph node for later ones."""
    node = None if output is None else output.grad_fn
    if node is None:
        return
    found, seen = fed.setdefault(call, set()), {node}
    unread = [node]
    while unread:
        current = unread.pop()
        if (source := _notes(current).get(_MARK)) is not None:
            found.add(source)
            continue
        for before, _ in current.next_functions:
            if before is not None and before not in seen:
                seen.add(before)
                unread.append(before)
    found.discard(call)  # the state that a recurrent loop carries from pass to pass
    _notes(node)[_MARK] = call


def _notes(node: Node) -> dict[str, CallKey]:
    """What can be written on a graph node, and goes when the graph goes."""
    return node.metadata  # pyright: ignore[reportReturnType] (its stub says method)
