"""Torch's optimizers and schedulers by torch's names and arguments.

optimizer = build_optimizer(config.optimizer, model)
schedule = build_schedule(config.schedule, optimizer, steps=690, epochs=30, validates=True)
schedule.after_step()                      # moves the learning rate if its interval is "step"
schedule.after_epoch(val_loss)             # ... if it is "epoch"; ReduceLROnPlateau looks at the loss
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from nnvis.config import schema
from nnvis.errors import InputError


def build_optimizer(section: schema.Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of the model's parameters. Raises InputError with torch's own words for what torch refuses."""
    return _built("optimizer", torch.optim, section, model.parameters())


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step evaluates the loss several times (LBFGS)."""
    return isinstance(optimizer, torch.optim.LBFGS)


@dataclass(frozen=True)
class Schedule:
    """The learning rate over time: a scheduler of torch, or none (constant)."""

    scheduler: LRScheduler | None = None
    interval: str = "epoch"

    def after_step(self) -> None:
        """An optimizer step has been made."""
        if self.scheduler and self.interval == "step":
            self.scheduler.step()

    def after_epoch(self, val_loss: float | None) -> None:
        """An epoch has ended, with this validation loss."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            assert val_loss is not None  # build_schedule has made sure of it
            self.scheduler.step(val_loss)
        elif self.scheduler and self.interval == "epoch":
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return self.scheduler.state_dict() if self.scheduler else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.scheduler:
            self.scheduler.load_state_dict(state)


def build_schedule(
    section: schema.Schedule, optimizer: torch.optim.Optimizer, *, steps: int, epochs: int, validates: bool
) -> Schedule:
    """The schedule of a run of so many steps and whole epochs. `validates`: whether there is a validation loss.

    OneCycleLR spans the run if its length is left out. Raises InputError with torch's own words for what torch refuses.
    """
    if section.kind == "constant":
        return Schedule()
    moves = steps if section.interval == "step" else epochs
    if section.kind == "OneCycleLR" and not {"total_steps", "epochs"} & section.arguments.keys():
        section = section.model_copy(update={"arguments": {**section.arguments, "total_steps": max(moves, 1)}})
    scheduler = _built("schedule", torch.optim.lr_scheduler, section, optimizer)
    if isinstance(scheduler, OneCycleLR) and scheduler.total_steps < moves:
        raise InputError(
            f"schedule: OneCycleLR ends after {scheduler.total_steps} moves, the run makes {moves} "
            f"(one every {section.interval}); leave total_steps out to span the run"
        )
    if isinstance(scheduler, ReduceLROnPlateau) and not validates:
        raise InputError("schedule: ReduceLROnPlateau needs a validation loss; set data.val_fraction above 0")
    return Schedule(scheduler, section.interval)


def _built(path: str, module: Any, section: schema.Optimizer | schema.Schedule, *subject: Any) -> Any:
    builder: Callable[..., Any] | None = getattr(module, section.kind, None)
    if builder is None:
        raise InputError(f"{path}.kind: this torch ({torch.__version__}) has no {section.kind}")
    try:
        return builder(*subject, **section.arguments)
    except (TypeError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(f"{path}: {section.kind}: {error}") from error
