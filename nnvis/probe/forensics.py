"""Where NaN and Inf came from, told from what was measured; nothing is run again.

found = first_nonfinite(measurement, network, wiring)
found.direction, found.layer, found.source      # "backward", "hidden3.linear", "operation"
growth("backward", "hidden3.linear", recent)    # "its activation_grad_norm: 0.31 (step 10), 4e+12 (20), nan (30)"
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nnvis.probe.wiring import Wiring
from nnvis.record.vocabulary import LayerInfo, Measurement


@dataclass(frozen=True)
class FirstNonfinite:
    """The first value of a measured step that was not finite.

    `source` is what brought it: the layer's `inputs` (or, backward, the gradient that reached it from outside of the
    layers), its `parameters`, or its own `operation` on finite numbers. The layer is "loss" where every layer's output
    is finite and the loss is not (`operation`), or where the step was not measured (`unknown`).
    """

    step: int
    direction: Literal["forward", "backward", "update"]
    layer: str
    source: Literal["inputs", "parameters", "operation", "unknown"]
    also: tuple[str, ...] = ()  # layers that it may have been as well: they read the same output, or share parameters

    @property
    def detail(self) -> str:
        """What was found, a part of a sentence."""
        what = {
            ("forward", "inputs"): "NaN or Inf reached it from outside of the layers",
            ("forward", "parameters"): "its parameters were not finite any more",
            ("loss", "operation"): "every layer's output is finite, the loss is not",
            ("forward", "operation"): "it made NaN or Inf of finite inputs and parameters",
            ("loss", "unknown"): "the step was not measured, so that no layer can be named; every=1 measures each",
            ("backward", "inputs"): "the gradient that reached it was not finite, and no layer behind it made that",
            ("backward", "operation"): "NaN or Inf came out of its backward pass, or of what lies before it",
            ("update", "operation"): "the optimizer made NaN or Inf of finite gradients",
        }
        return what[self.layer if self.layer == "loss" else self.direction, self.source]

    def __str__(self) -> str:
        name = f"{self.layer} (or {', '.join(self.also)})" if self.also else self.layer
        return f"step {self.step}, {self.direction} pass, {name}: {self.detail}"


def first_nonfinite(
    measurement: Measurement, network: Sequence[LayerInfo], wiring: Wiring | None = None
) -> FirstNonfinite | None:
    """The first NaN or Inf in the order of computation: forward, backward, update. None where all is finite.

    The layers of `network` are in the order in which they ran. Without `wiring` each is taken to read its neighbour.
    """
    outputs, parameters = _bad(measurement, "activation_nonfinite"), _bad(measurement, "weight_norm")
    reached, own = _bad(measurement, "activation_grad_nonfinite"), _bad(measurement, "grad_nonfinite")
    moved = _bad(measurement, "update_norm") | parameters
    if not (outputs or reached or own or moved):
        return None
    wiring = wiring or Wiring()
    rows = [info.name for info in network]
    if "grad_norm" in measurement.layers:  # a compiled model shows its parameters only
        rows += [name for name in measurement.layers["grad_norm"].layers if name not in {_layer(row) for row in rows}]
    inputs = _bad(measurement, "input_nonfinite")
    spoilt = set().union(*(wiring.readers.get(row, ()) for row in outputs))  # by another's output
    for row in sorted(outputs, key=lambda row: (row in spoilt, rows.index(row))):
        source = "parameters" if _layer(row) in parameters else "inputs" if row in inputs else "operation"
        return FirstNonfinite(measurement.step, "forward", row, source)
    finite = _present(measurement, "activation_grad_norm") - reached
    if found := _first_backward(measurement.step, rows, wiring, finite, reached, own):
        return found
    for row in rows:
        if _layer(row) in moved:
            return FirstNonfinite(measurement.step, "update", row, "operation")
    return None


def _first_backward(
    step: int, rows: Sequence[str], wiring: Wiring, finite: set[str], reached: set[str], own: set[str]
) -> FirstNonfinite | None:
    """From the loss to the inputs: it was made by a layer with a finite gradient that reads one with a bad gradient.

    Of the rows, some got a `finite` gradient with respect to their output, some were `reached` by a bad one; the layers
    in `own` have bad ones with respect to their parameters.
    """
    behind: list[str] = []  # where nothing is known of the graph: the layer that ran after this one
    for row in reversed(rows):
        tied = [other for other in rows if _layer(other) in wiring.tied.get(_layer(row), {_layer(row)})]
        if row in reached:
            makers = [other for other in rows if other in wiring.readers[row]] if row in wiring.readers else behind
        elif _layer(row) in own and not reached.intersection(tied):
            makers = tied
        else:
            behind = [row] if row in finite else behind
            continue
        makers = [other for other in makers if other in finite or (other == row and row not in reached)]
        if not makers:
            return FirstNonfinite(step, "backward", row, "inputs")
        *also, last = makers
        return FirstNonfinite(step, "backward", last, "operation", tuple(also))
    return None


_TOLD = {"forward": "activation_absmax", "backward": "activation_grad_norm", "update": "update_norm"}
_HISTORY = ("activation_absmax", "activation_grad_norm", "grad_norm", "weight_norm", "update_norm")


def growth(direction: str, layer: str, recent: Iterable[Measurement]) -> str:
    """How large a layer's outputs were at the last measured steps, or its gradient where that broke first."""
    recent = list(recent)
    for quantity in (_TOLD[direction], "grad_norm"):
        if told := [f"{value} (step {one.step})" for one in recent if (value := _value(one, quantity, layer))]:
            return f"its {quantity}: {', '.join(told)}"
    return ""


def history(layer: str, recent: Iterable[Measurement]) -> str:
    """The same and more as a table in Markdown: a line for each measured step."""
    rows = [("step", *_HISTORY), ("---",) * (1 + len(_HISTORY))]
    rows += [(str(one.step), *(_value(one, quantity, layer) for quantity in _HISTORY)) for one in recent]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _value(measurement: Measurement, quantity: str, row: str) -> str:
    """A layer's number as people read it, "" if it was not measured; parameters have one for all calls."""
    present = _present(measurement, quantity)
    for name in (row, _layer(row)):
        if name in present:
            found = measurement.layers[quantity]
            return f"{found.values[found.layers.index(name)]:.3g}"
    return ""


def _layer(row: str) -> str:
    return row.split("#")[0]


def _present(measurement: Measurement, quantity: str) -> set[str]:
    """The layers that were measured."""
    found = measurement.layers.get(quantity)
    if found is None:
        return set()
    return {name for name, code in zip(found.layers, found.reason_codes, strict=True) if not code}


def _bad(measurement: Measurement, quantity: str) -> set[str]:
    """The layers whose count is above 0, or whose norm is NaN or Inf."""
    found = measurement.layers.get(quantity)
    if found is None:
        return set()
    counts = quantity.endswith("nonfinite")
    values = found.values > 0 if counts else ~np.isfinite(found.values)  # (a count that is missing is NaN: not above 0)
    if not values.any():
        return set()
    return {name for name, bad, code in zip(found.layers, values, found.reason_codes, strict=True) if bad and not code}
