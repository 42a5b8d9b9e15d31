"""The words in which a run is told: series, layers, histograms, findings. Plain numpy, no torch.

run = nnvis.load_run("runs/digits-mlp/1-seed0")
run.scalars["loss/val"].values            # (T,)
run.layers["grad_norm"].at(step=0)        # (L,)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.integer]
BoolArray = NDArray[np.bool_]

ABSENCE_REASONS: tuple[str, ...] = (
    "",  # 0: present
    "not recorded",  # the layer was not known yet, or no longer
    "not called",
    "no backward pass",
    "frozen",
    "no gradient",
    "non-tensor output",
    "non-float output",
    "empty output",
    "not applicable",
    "not measured",
    "not in an optimizer",
    "compiled",
    "several backward passes",  # through one forward pass: their gradients add up, their norms do not
    "recomputed",  # within the backward pass, so that it is not known which call a gradient is of
    "no plain tensor",  # sparse, nested, or batched by vmap
)
"""Why a value is absent. The position is the code written to the log: append only, never reorder."""
ABSENCE_CODES = {reason: code for code, reason in enumerate(ABSENCE_REASONS)}

LAYER_QUANTITIES: dict[str, str] = {
    "activation_mean": "mean of the layer's output over the batch",
    "activation_std": "standard deviation of the layer's output over the batch",
    "activation_absmax": "largest magnitude in the layer's output",
    "zero_fraction": "share of outputs that are exactly 0, in [0, 1]; nonlinearities only",
    "dead_fraction": "share of units that are 0 for the whole batch, in [0, 1]; nonlinearities only",
    "saturated_fraction": "share of outputs within 3% of the range from a bound, in [0, 1]; bounded nonlinearities",
    "activation_grad_norm": "L2 norm of the loss's gradient with respect to the layer's output",
    "activation_grad_rms": "root mean square of the loss's gradient with respect to the layer's output",
    "weight_norm": "L2 norm of the layer's own parameters",
    "grad_norm": "L2 norm of the gradient of the layer's own parameters, before clipping",
    "grad_rms": "root mean square of the gradient of the layer's own parameters, before clipping",
    "update_norm": "L2 norm of the change that this step made to the layer's own parameters",
    "update_ratio": "update_norm / weight_norm",
    "activation_nonfinite": "number of NaN and Inf in the layer's output",
    "activation_grad_nonfinite": "number of NaN and Inf in the gradient with respect to the layer's output",
    "grad_nonfinite": "number of NaN and Inf in the gradient of the layer's own parameters",
    "input_nonfinite": "number of NaN and Inf in the layer's first input; written where there are some",
}
"""Every per-layer quantity and what it means (design: one row for each measured optimizer step)."""

DIAGNOSIS_QUANTITIES: dict[str, str] = {
    "diagnosis_activation_norm": "(L, P) rms over a probe batch's rows of the L2 norm of a row's output",
    "diagnosis_activation_grad_norm": "(L, P) the same of the loss's gradient with respect to the output",
    "diagnosis_parameter_grad_norm": "(L,) L2 norm of the gradient of a layer's own parameters over the gradient rows",
    "diagnosis_slope_quantiles": "(L, 21) quantiles over a nonlinearity's units of the mean slope over the largest",
    "diagnosis_flat_fraction": "(L,) share of a nonlinearity's units whose slope is exactly 0 at every row",
    "diagnosis_duplicate_fraction": "(L,) share of a layer's units with a twin, weights before and behind alike",
    "diagnosis_output_range": "(2,) smallest and largest output",
    "diagnosis_batch_loss": "(2,) the loss as it was called, of the gradient rows at once, and of half of them",
    "diagnosis_row_loss": "(N,) the loss of each fixed row; NaN everywhere where the loss has no rows",
    "diagnosis_row_loss_eval": "(N,) the same in eval mode, of networks with running statistics; with val rows only",
    "diagnosis_row_loss_val": "(M,) the same of the validation rows, in eval mode",
    "diagnosis_row_loss_constant": "(N,) of the best predictor that does not see the inputs; once",
    "diagnosis_row_loss_linear": "(N,) of a linear baseline, cross-validated on the fixed rows; once",
    "diagnosis_row_loss_neighbour": "(N,) 0 where a row's nearest neighbour has its class, else 1; once",
    "diagnosis_recall": "(K,) share of each class's rows that are right",
    "diagnosis_branch_factor": "(F,) what the learning rate was multiplied by in each branch; 0: no step was made",
    "diagnosis_branch_rate": "(F,) the learning rates that this makes",
    "diagnosis_branch_row_loss": "(F, N) the loss of each fixed row at a branch's end",
    "diagnosis_branch_batch_loss": "(F, T) the loss of each of a branch's batches, before its update",
    "diagnosis_sharpness": "(2,) learning rate times the largest curvature, preconditioned; the limit of stability",
    "diagnosis_heart_row_loss": "(H,) the loss of each of a few rows that the network was to learn by heart",
    "diagnosis_heart_row_loss_least": "(H,) that a perfect output would get: the entropy of soft targets, else 0",
    "diagnosis_heart_row_loss_constant": "(H,) of the best output that is the same for all of these rows",
    "diagnosis_heart_steps": "(2,) how many steps that took; how many were allowed",
    "diagnosis_nonfinite": "(3,) NaN and Inf among the outputs, the losses and the gradients",
}
"""What a check measures on its fixed rows: N rows, of them up to 256 in P probe batches for gradients; L layers."""

HISTOGRAM_QUANTITIES: dict[str, str] = {
    "activation": "values of the layer's output",
    "activation_grad": "values of the loss's gradient with respect to the layer's output",
    "grad": "values of the gradient of the layer's own parameters",
}


def _histogram_edges() -> FloatArray:
    magnitudes = 10.0 ** np.array([-24.0, -16, -12, -10, -8, -6, -5, -4, -3, -2, -1, 0, 1, 2, 6])
    bits = magnitudes.astype(np.float32).view(np.uint32)
    magnitudes = ((bits + 0x8000) & 0xFFFF0000).view(np.float32).astype(np.float64)
    return np.concatenate([[-np.inf], -magnitudes[::-1], [0.0], magnitudes, [np.inf]])


HISTOGRAM_EDGES: FloatArray = _histogram_edges()
"""(33,) edges of the 32 histogram bins: by magnitude with sign, so that 1e-20 is as visible as 1.

Powers of ten, rounded to the 8 binary digits of a bfloat16 (0.01 is 0.01001). A bin holds the values whose magnitude
is at least that of its edge nearer to 0, and below that of the other. Zero, NaN and Inf are counted apart.
"""


@dataclass(frozen=True)
class Series:
    """A scalar over time."""

    steps: IntArray  # (T,) optimizer updates completed
    values: FloatArray  # (T,)

    @property
    def last(self) -> float:
        """The newest value; NaN where there is none."""
        return float(self.values[-1]) if len(self.values) else float("nan")


@dataclass(frozen=True)
class LayerSeries:
    """A quantity of every layer over time. A measured NaN is present; a gap is not, and has a reason."""

    steps: IntArray  # (T,)
    layers: tuple[str, ...]  # L names in the order in which the layers first ran
    values: FloatArray  # (T, L), NaN where absent
    present: BoolArray  # (T, L)
    reason_codes: IntArray  # (T, L) positions in ABSENCE_REASONS

    @property
    def reasons(self) -> NDArray[np.str_]:
        """(T, L) why a value is absent; "" where it is present."""
        return np.array(ABSENCE_REASONS)[self.reason_codes]

    def at(self, step: int) -> FloatArray:
        """(L,) the values measured at the last measured step that is not after `step` (the first one if none)."""
        row = int(np.searchsorted(self.steps, step, side="right")) - 1
        return self.values[max(row, 0)]


@dataclass(frozen=True)
class HistogramSeries:
    """Counts of values by magnitude, of a sample of at most 1024 values a layer and step."""

    steps: IntArray  # (T,)
    layers: tuple[str, ...]  # L
    edges: FloatArray  # (B + 1,)
    counts: IntArray  # (T, L, B)
    zeros: IntArray  # (T, L) values that are exactly 0
    nonfinite: IntArray  # (T, L) NaN and Inf


@dataclass(frozen=True)
class LayerInfo:
    """One row of the network's table, in the order in which the layers first ran."""

    name: str  # its `named_modules()` name; `name#2` for a second call within one forward pass
    kind: str  # the class's name, "Linear"
    output_shape: tuple[int, ...] | None  # without the batch dimension; None where the output is no tensor
    parameters: int  # number of own parameters
    trainable: int  # of these, those that require a gradient
    group: str = ""  # nonlinearity, normalization, ... ; "" for others


@dataclass(frozen=True)
class Measurement:
    """One measured step as it is written: what the probe hands to the log."""

    step: int  # updates completed before it
    layers: dict[str, LayerValues]  # by quantity
    histograms: dict[str, LayerCounts] = field(default_factory=dict)  # by quantity; empty at most steps
    scalars: dict[str, float] = field(default_factory=dict)
    wall_time: float | None = None  # seconds since 1970; None: when it is written


class LayerValues(NamedTuple):
    """A quantity of every layer at one step."""

    layers: tuple[str, ...]  # L
    values: FloatArray  # (L,) float64; NaN where absent
    reason_codes: IntArray  # (L,) 0 where present


@dataclass(frozen=True)
class LayerCounts:
    """Histogram counts of every layer at one step."""

    layers: tuple[str, ...]  # L
    counts: IntArray  # (L, B + 2): the bins, then zeros, then NaN and Inf


@dataclass(frozen=True)
class Check:
    """What the rules of diagnosis need, measured on fixed rows between two steps."""

    step: int  # updates completed
    values: dict[str, FloatArray]  # by quantity of DIAGNOSIS_QUANTITIES
    facts: dict[str, Any]  # structure and data, as JSON: `layers` (L names), `loss`, `output`, `inputs`, `targets`, …

    @property
    def layers(self) -> tuple[str, ...]:
        """L names in the order in which the layers ran: the rows of (L, …) arrays."""
        return tuple(layer["name"] for layer in self.facts.get("layers", ()))


@dataclass(frozen=True)
class Remedy:
    """What to change, and why."""

    title: str
    why: str
    overrides: dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """Something wrong with a run, with its evidence."""

    symptom: str
    severity: str  # info, warning or error
    layers: tuple[str, ...]
    first_step: int
    value: float
    threshold: float
    evidence: str  # a sentence with the numbers
    causes: tuple[str, ...] = ()  # likeliest first
    figure: str = ""
    remedies: tuple[Remedy, ...] = ()
