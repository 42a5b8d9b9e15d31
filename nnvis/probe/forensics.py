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
            ("backward", "operation"): "NaN or Inf came out of its backward pass, or of what lies before it",
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
    if "grad_norm" in measurement.layers:  # a compiled model shows its parameters only
        rows += [name for name in measurement.layers["grad_norm"].layers if name not in {r.split("#")[0] for r in rows}]
    for row in rows:
        if row in outputs:
            source = "parameters" if row.split("#")[0] in parameters else "inputs" if row in inputs else "operation"
            return FirstNonfinite(measurement.step, "forward", row, source)
    reached, own = _bad(measurement, "activation_grad_nonfinite"), _bad(measurement, "grad_nonfinite")
    arrived = measurement.layers.get("activation_grad_norm")
    with_gradient = (
        {n for n, code in zip(arrived.layers, arrived.reason_codes, strict=True) if not code} if arrived else set()
    )
    behind = ""  # the layer that the gradient came through before
    for row in reversed(rows):
        if row in reached:
            return FirstNonfinite(measurement.step, "backward", behind or row, "operation" if behind else "inputs")
        if row.split("#")[0] in own:
            return FirstNonfinite(measurement.step, "backward", row, "operation")
        if row in with_gradient:
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
