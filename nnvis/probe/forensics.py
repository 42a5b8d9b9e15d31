"""Where NaN and Inf came from, told from what was measured; nothing is run again.

found = first_nonfinite(measurement, network)
found.direction, found.layer, found.source      # "backward", "hidden3.linear", "operation"
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nnvis.record.vocabulary import LayerInfo, Measurement


@dataclass(frozen=True)
class FirstNonfinite:
    """The first value of a measured step that was not finite.

    `source` is what brought it: the layer's `inputs` (or, backward, the gradient that reached it from outside of the
    layers), its `parameters`, or its own `operation` on finite numbers.
    """

    step: int
    direction: Literal["forward", "backward", "update"]
    layer: str
    source: Literal["inputs", "parameters", "operation"]

    def __str__(self) -> str:
        what = {
            ("forward", "inputs"): "NaN or Inf reached it from outside of the layers",
            ("forward", "parameters"): "its parameters were not finite any more",
            ("forward", "operation"): "it made NaN or Inf of finite inputs and parameters",
            ("backward", "inputs"): "the gradient that reached it was not finite, and no layer behind it made that",
            ("backward", "operation"): "its backward pass made NaN or Inf of a finite gradient",
            ("update", "operation"): "the optimizer made NaN or Inf of finite gradients",
        }
        return f"step {self.step}, {self.direction} pass, {self.layer}: {what[self.direction, self.source]}"


def first_nonfinite(measurement: Measurement, network: Sequence[LayerInfo]) -> FirstNonfinite | None:
    """The first NaN or Inf in the order of computation: forward, backward, update. None where all is finite.

    The backward pass goes through the layers of `network` from last to first.
    """
    parameters = _bad(measurement, "weight_norm")
    outputs, inputs = _bad(measurement, "activation_nonfinite"), _bad(measurement, "input_nonfinite")
    rows = [info.name for info in network]
    for row in rows:
        if row in outputs:
            source = "parameters" if row.split("#")[0] in parameters else "inputs" if row in inputs else "operation"
            return FirstNonfinite(measurement.step, "forward", row, source)
    reached, own = _bad(measurement, "activation_grad_nonfinite"), _bad(measurement, "grad_nonfinite")
    behind = ""  # the layer that the gradient came through before
    for row in reversed(rows):
        if row in reached:
            return FirstNonfinite(measurement.step, "backward", behind or row, "operation" if behind else "inputs")
        if row.split("#")[0] in own:
            return FirstNonfinite(measurement.step, "backward", row, "operation")
        behind = row
    moved = _bad(measurement, "update_norm") | parameters
    for row in rows:
        if row.split("#")[0] in moved:
            return FirstNonfinite(measurement.step, "update", row, "operation")
    return None


def _bad(measurement: Measurement, quantity: str) -> set[str]:
    """The layers whose count is above 0, or whose norm is NaN or Inf."""
    found = measurement.layers.get(quantity)
    if found is None:
        return set()
    counts = quantity.endswith("nonfinite")
    values = np.nan_to_num(found.values, nan=0.0) > 0 if counts else ~np.isfinite(found.values)
    return {name for name, bad, code in zip(found.layers, values, found.reason_codes, strict=True) if bad and not code}
