"""What learns, and how: a model with its objective, optimizer, schedule and number format; and one step of it.

passes = learner.passes(split, batches)     # forward and backward; gradients of the mean over all rows
learner.clip(passes, split)
learner.update()                            # False where GradScaler skipped it
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_

from nnvis.config import schema
from nnvis.data import Split
from nnvis.training.batches import Rows, take
from nnvis.training.devices import Precision
from nnvis.training.gradients import clip_factor, gradients_of, total_norm
from nnvis.training.losses import Objective
from nnvis.training.optimizers import Schedule


class NonfiniteError(ArithmeticError):
    """A number that training cannot go on with. Carries the batch to run again in search of its source."""

    def __init__(self, what: str, inputs: Tensor, targets: Tensor, *, gradients_are_new: bool = False) -> None:
        """`gradients_are_new`: whether `.grad` holds the step in progress, and not the one before it."""
        super().__init__(what)
        self.inputs, self.targets, self.gradients_are_new = inputs, targets, gradients_are_new


@dataclass(frozen=True)
class Placed:
    """A split on the device, as the model and the objective take it."""

    inputs: Tensor  # (N, ...)
    targets: Tensor  # (N,) or (N, K)

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass
class Passes:
    """What the forward and backward passes of one step showed."""

    rows: int
    loss: float = 0.0  # mean over the rows
    outputs: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # detached outputs and targets, a pair a batch
    grad_norm: float | None = None  # before clipping; known where gradients are clipped by norm
    clip_factor: float | None = None


@dataclass(frozen=True)
class Learner:
    """Everything about a model that training changes, and what changes it."""

    model: nn.Module
    forward: nn.Module  # the model, or what torch.compile made of it
    objective: Objective
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    precision: Precision
    scaler: torch.amp.GradScaler | None
    settings: schema.Training
    architecture: Mapping[str, Any]  # what building the model took beside its config

    @property
    def deciding_metric(self) -> str:
        """The tag by which the best weights are chosen."""
        stopping = self.settings.early_stopping
        return f"{stopping.metric if stopping else 'loss'}/val"

    def place(self, split: Split) -> Placed:
        """A split on this learner's device."""
        targets = self.objective.prepare(self.precision.place(split.targets), self.precision.dtype)
        return Placed(self.precision.place(split.inputs), targets)

    def loss(self, inputs: Tensor, targets: Tensor, model: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """The outputs (B, C), and the mean loss over the batch (0-d)."""
        outputs = self.precision.run(model, inputs)
        return outputs, self.objective.function(outputs, targets)

    def passes(self, split: Placed, batches: tuple[Rows, ...], *, again: bool = False) -> Passes:
        """Forward and backward passes over the batches of a step, however large each is.

        The gradients of the step before are cleared only when the first new loss is known to be finite: if it is
        not, they tell where that came from (`again`: this very step, which a closure evaluates several times).
        Raises NonfiniteError.
        """
        sizes = [len(split) if rows is None else len(rows) for rows in batches]
        step = Passes(rows=sum(sizes))
        for rows, size in zip(batches, sizes, strict=True):
            inputs, targets = take(split.inputs, rows), take(split.targets, rows)
            outputs, loss = self.loss(inputs, targets, self.forward)
            value = loss.item()  # the device is waited for here
            if not math.isfinite(value):
                raise NonfiniteError(
                    f"the loss is {value}", inputs, targets, gradients_are_new=again or bool(step.outputs)
                )
            if not step.outputs:
                self.optimizer.zero_grad()
            share = size / step.rows
            if share != 1:
                loss = loss * share
            (self.scaler.scale(loss) if self.scaler else loss).backward()
            step.loss += share * value
            step.outputs.append((outputs.detach(), targets))
        return step

    def clip(self, step: Passes, split: Placed) -> None:
        """Clip the gradients as the settings ask. Raises NonfiniteError before a norm that is not spoils them all."""
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        if self.settings.clip_grad_norm is not None:
            parameters = list(self.model.parameters())
            norm = total_norm(gradients_of(parameters))
            step.grad_norm = norm.item()  # the device is waited for here
            if math.isfinite(step.grad_norm):
                step.clip_factor = clip_factor(step.grad_norm, self.settings.clip_grad_norm)
                clip_grads_with_norm_(parameters, self.settings.clip_grad_norm, norm)
            elif not self.scaler:  # which would skip the step
                rows = slice(0, step.rows)
                what = f"the norm of the gradients is {step.grad_norm}"
                raise NonfiniteError(what, split.inputs[rows], split.targets[rows], gradients_are_new=True)
        if self.settings.clip_grad_value is not None:
            clip_grad_value_(self.model.parameters(), self.settings.clip_grad_value)

    def clip_gradients(self, parameters: list[Tensor]) -> None:
        """Clip the `.grad` of these as `clip` does that of the model."""
        if self.settings.clip_grad_norm is not None:
            clip_grad_norm_(parameters, self.settings.clip_grad_norm)
        if self.settings.clip_grad_value is not None:
            clip_grad_value_(parameters, self.settings.clip_grad_value)

    def update(self) -> bool:
        """Let the optimizer move the parameters. Returns False where GradScaler found an overflow and skipped it."""
        if self.scaler is None:
            self.optimizer.step()
            return True
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return self.scaler.get_scale() >= scale

    def state_dict(self) -> dict[str, Any]:
        """Everything that training changes, by the names it has in a checkpoint."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else {},
            "architecture": dict(self.architecture),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint, which holds more than that."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.scaler and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
