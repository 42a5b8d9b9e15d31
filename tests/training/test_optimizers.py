"""Torch's optimizers and schedulers by name: known learning rates, and torch's own sentences for what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nnvis.config import schema, torch_table
from nnvis.errors import InputError
from nnvis.training.checkpoints import load_checkpoint, save_checkpoint
from nnvis.training.optimizers import Schedule, build_optimizer, build_schedule

REQUIRED: dict[str, dict[str, Any]] = {
    "CosineAnnealingLR": {"T_max": 4},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "CyclicLR": {"base_lr": 0.1, "max_lr": 1.0},
    "ExponentialLR": {"gamma": 0.5},
    "MultiStepLR": {"milestones": [1, 3]},
    "OneCycleLR": {"max_lr": 1.0},
    "StepLR": {"step_size": 2},
}


def scheduled(kind: str, *, steps: int = 6, epochs: int = 6, **section: Any) -> tuple[torch.optim.Optimizer, Schedule]:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0, momentum=0.9)
    section = {"kind": kind, **REQUIRED.get(kind, {}), **section}
    schedule = schema.Schedule.model_validate(section)
    return optimizer, build_schedule(schedule, optimizer, steps=steps, epochs=epochs, validates=True)


def rates(optimizer: torch.optim.Optimizer, schedule: Schedule, epochs: int, steps_per_epoch: int) -> list[float]:
    """The learning rate of every step."""
    found = []
    for _ in range(epochs):
        for _ in range(steps_per_epoch):
            found.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            schedule.after_step()
        schedule.after_epoch(1.0)  # a loss that never improves
    return found


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"kind": "constant"}, [1, 1, 1, 1, 1, 1]),
        ({"kind": "StepLR", "gamma": 0.1}, [1, 1, 1, 1, 0.1, 0.1]),
        ({"kind": "StepLR", "gamma": 0.1, "interval": "step"}, [1, 1, 0.1, 0.1, 0.01, 0.01]),
        ({"kind": "ExponentialLR", "interval": "step"}, [1, 0.5, 0.25, 0.125, 0.0625, 0.03125]),
        ({"kind": "ReduceLROnPlateau", "patience": 0}, [1, 1, 1, 1, 0.1, 0.1]),
        ({"kind": "CosineAnnealingLR", "T_max": 2}, [1, 1, 0.5, 0.5, 0, 0]),
    ],
)
def test_known_rates(section: dict[str, Any], expected: list[float]) -> None:
    optimizer, schedule = scheduled(**section)
    assert rates(optimizer, schedule, epochs=3, steps_per_epoch=2) == pytest.approx(expected, abs=1e-12)


def test_one_cycle_spans_the_run() -> None:
    optimizer, schedule = scheduled("OneCycleLR", steps=10, interval="step", max_lr=2.0, final_div_factor=50.0)
    found = rates(optimizer, schedule, epochs=5, steps_per_epoch=2)
    assert found[0] == pytest.approx(2.0 / 25)
    assert max(found) == pytest.approx(2.0)
    assert found[-1] == pytest.approx(2.0 / 25 / 50)


@pytest.mark.parametrize("kind", sorted(torch_table().schedulers))
def test_every_scheduler_goes_through_a_checkpoint(kind: str, tmp_path: Path) -> None:
    optimizer, schedule = scheduled(kind)
    rates(optimizer, schedule, epochs=2, steps_per_epoch=1)
    save_checkpoint(tmp_path / "last.pt", {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()})
    saved = load_checkpoint(tmp_path / "last.pt")
    again, schedule_again = scheduled(kind)
    again.load_state_dict(saved["optimizer"])
    schedule_again.load_state_dict(saved["schedule"])
    again.step()  # or torch warns of a scheduler that moves before its optimizer
    assert rates(again, schedule_again, 4, 1) == rates(optimizer, schedule, 4, 1)


@pytest.mark.parametrize(
    ("kind", "arguments", "sentence"),
    [
        ("SGD", {"lr": 0.1, "nesterov": True}, "Nesterov momentum requires a momentum and zero dampening"),
        ("Adam", {"lr": 0.1, "fused": True, "foreach": True}, "`fused` and `foreach` cannot be `True` together"),
        ("Adam", {"colour": 1}, "unexpected keyword argument 'colour'"),
    ],
)
def test_torch_refuses_in_its_own_words(kind: str, arguments: dict[str, Any], sentence: str) -> None:
    section = schema.Optimizer.model_construct(kind=kind, arguments=arguments)
    with pytest.raises(InputError, match=sentence) as caught:
        build_optimizer(section, nn.Linear(1, 1))
    assert str(caught.value).startswith(f"optimizer: {kind}: ")


def test_schedules_that_cannot_work_are_refused() -> None:
    with pytest.raises(InputError, match=r"^schedule: OneCycleLR ends after 4 moves, the run makes 6"):
        scheduled("OneCycleLR", total_steps=4)
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters())
    plateau = schema.Schedule.model_validate({"kind": "ReduceLROnPlateau"})
    with pytest.raises(InputError, match="needs a validation loss"):
        build_schedule(plateau, optimizer, steps=1, epochs=1, validates=False)
