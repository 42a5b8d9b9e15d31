"""What is minimised: a loss by name, how many outputs it needs, and what counts as right.

    objective = build_objective(Loss(kind="huber"), target_size=3)
    objective.output_size                                # 3: what the model must put out for each row
    targets = objective.prepare(split.targets, dtype)    # once, before training
    objective.function(outputs, targets)                 # 0-d, the mean over the rows

To add a loss, give it a name in the config's `Loss` and a line in `_FUNCTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from nnvis.config.schema import Loss
from nnvis.errors import InputError

LossFunction = Callable[[Tensor, Tensor], Tensor]

_DEFAULTS = {"classification": "cross_entropy", "regression": "mean_squared_error"}
_FUNCTIONS: dict[str, Callable[[Loss], LossFunction]] = {
    "cross_entropy": lambda loss: partial(F.cross_entropy, label_smoothing=loss.label_smoothing),
    "binary_cross_entropy": lambda _: F.binary_cross_entropy_with_logits,
    "mean_squared_error": lambda _: F.mse_loss,
    "mean_absolute_error": lambda _: F.l1_loss,
    "huber": lambda loss: partial(F.huber_loss, delta=loss.delta),
}


@dataclass(frozen=True)
class Objective:
    """A loss with what it asks of the model and of the targets."""

    kind: str
    output_size: int  # values that the model puts out for each row
    function: LossFunction  # (outputs, prepared targets) -> 0-d mean over the rows

    @property
    def classifies(self) -> bool:
        """Whether rows can be right or wrong."""
        return self.kind.endswith("cross_entropy")

    def prepare(self, targets: Tensor, dtype: torch.dtype) -> Tensor:
        """The targets as `function` takes them: (N,) int64, or (N, K) of `dtype`."""
        if self.kind == "cross_entropy":
            return targets
        return targets.to(dtype).reshape(len(targets), self.output_size)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """0-d: how many rows are right, the largest logit (binary: the sign of the logit) taken as the answer."""
        if self.kind == "binary_cross_entropy":
            return ((outputs > 0) == (targets > 0.5)).sum()
        return (outputs.argmax(dim=1) == targets).sum()


def resolve_loss(section: Loss | None, task: str) -> Loss:
    """The loss that is meant: cross entropy for classification, mean squared error for regression if left out."""
    loss = section or Loss.model_validate({"kind": _DEFAULTS[task]})
    if loss.task != task:  # the config could not know: the data are the user's own
        raise InputError(f"loss: {loss.kind} is for {loss.task}, these data are for {task}; try {_DEFAULTS[task]}")
    return loss


def build_objective(loss: Loss, target_size: int) -> Objective:
    """The objective for data with so many classes, or so many target values a row. Raises InputError."""
    binary = loss.kind == "binary_cross_entropy"
    if binary and target_size != 2:
        raise InputError(f"loss: binary_cross_entropy needs 2 classes, the data have {target_size}; use cross_entropy")
    return Objective(loss.kind, 1 if binary else target_size, _FUNCTIONS[loss.kind](loss))
