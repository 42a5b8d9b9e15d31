"""What the graph of a pass says about a network: which layers follow each other, and what stands before the loss.

graph = Graph(outputs, {layer.grad_fn: "fc1", ...})
graph.pairs                   # [("fc1", "fc2")]: one affine layer right after another, nothing in between
graph.output_activations      # ("softmax", "relu"): nearest to the loss first
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

_TRANSPARENT = (
    "View", "UnsafeView", "ReshapeAlias", "Reshape", "T", "Transpose", "Permute", "Squeeze", "Unsqueeze", "Expand",
    "Clone", "Alias", "ToCopy", "AsStrided", "Flatten", "Contiguous",
)  # fmt: skip
_PICKS = ("Select", "Slice", "Index", "Narrow", "Split", "SplitWithSizes", "Unbind", "Gather", "Clamp")
"""What leaves an output's values as they are, though not all of them."""
_ACTIVATIONS = (
    "softmax", "logsoftmax", "sigmoid", "tanh", "relu", "leakyrelu", "elu", "gelu", "silu", "softplus", "exp",
    "hardtanh", "prelu", "logsigmoid", "hardsigmoid", "hardswish", "mish", "softsign", "threshold",
)  # fmt: skip
_MOST_NODES = 20_000


class Graph:
    """The autograd graph between a network's outputs and its parameters."""

    def __init__(self, outputs: Tensor, affine: Mapping[Any, str]) -> None:
        self._affine = affine
        self.operations: dict[str, int] = {}
        self.predecessors: dict[str, set[str]] = {}
        self.pairs: list[tuple[str, str]] = []
        self.output_activations: tuple[str, ...] = ()
        if outputs.grad_fn is None:
            return
        self.output_activations = self._activations_before(outputs.grad_fn)
        self._walk(outputs.grad_fn)
        self._affine = {}  # a node keeps what it has saved

    def _walk(self, root: Any) -> None:
        seen, waiting = {root}, [root]
        while waiting and len(seen) < _MOST_NODES:
            node = waiting.pop()
            name = _name(node)
            if name != "AccumulateGrad":
                self.operations[name] = self.operations.get(name, 0) + 1
            for following, _ in node.next_functions:
                if following is not None and following not in seen:
                    seen.add(following)
                    waiting.append(following)
        for node, layer in self._affine.items():
            nearest, directly = self._before(node)
            self.predecessors.setdefault(layer, set()).update(nearest)
            self.pairs += [(before, layer) for before in directly]

    def _before(self, start: Any) -> tuple[set[str], set[str]]:
        """The affine layers that come next on the way to the inputs; and those with nothing in between."""
        nearest: set[str] = set()
        directly: set[str] = set()
        inside = [(node, True) for node, _ in start.next_functions if node is not None]
        seen: set[Any] = set()
        while inside and len(seen) < _MOST_NODES:
            node, transparent = inside.pop()
            if (node, transparent) in seen:
                continue
            seen.add((node, transparent))
            if node in self._affine:
                nearest.add(self._affine[node])
                if transparent:
                    directly.add(self._affine[node])
                continue
            # the operation of a layer on inputs of three dimensions lies below a view, which is the layer's node
            still = transparent and _name(node) in (*_TRANSPARENT, "Addmm", "Mm", "Convolution", "Linear")
            inside += [(following, still) for following, _ in node.next_functions if following is not None]
        return nearest, directly

    def _activations_before(self, node: Any) -> tuple[str, ...]:
        found: list[str] = []
        while node is not None and node not in self._affine and len(found) < 4:
            name = _name(node)
            if name.lower() in _ACTIVATIONS:
                found.append(name.lower())
            elif name not in (*_TRANSPARENT, *_PICKS):
                break
            node = next((following for following, _ in node.next_functions if following is not None), None)
        return tuple(found)


def _name(node: Any) -> str:
    """`Relu` of `ReluBackward0`."""
    return node.name().rpartition("::")[2].partition("Backward")[0].lstrip("_")
