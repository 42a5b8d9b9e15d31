"""Where the first non-finite number came from: layer, direction and step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nnvis.config import Config
from nnvis.data import Splits
from nnvis.training.divergence import DivergedError, diverged
from nnvis.training.learner import Learner, NonfiniteError

LearnerFor = Callable[[Config], tuple[Learner, Splits]]
Spoil = Callable[[Learner], None]


def spoilt_gradient(learner: Learner) -> None:
    """linear1's gradient overflows in the backward pass of the step, and spoils its weights in the update."""
    first = next(learner.model.parameters())
    first.grad = torch.full_like(first, torch.nan)


def huge_step(learner: Learner) -> None:
    learner.optimizer.param_groups[0]["lr"] = 1e38
    for parameter in learner.model.parameters():
        parameter.grad = torch.full_like(parameter, 10.0)


def huge_weights(learner: Learner) -> None:
    with torch.no_grad():
        for parameter in learner.model.get_submodule("output").parameters():
            parameter.fill_(3e38)


def error_after(learner: Learner, splits: Splits, spoil: Spoil) -> DivergedError:
    train = learner.place(splits.train)
    learner.passes(train, (None,))
    spoil(learner)
    learner.update()
    with pytest.raises(NonfiniteError) as caught:
        learner.passes(train, (None,))
    return diverged(learner, 5, caught.value, Path("runs/x"))


@pytest.mark.parametrize(
    ("spoil", "direction", "layer", "step"),
    [
        (spoilt_gradient, "backward", "linear1", 4),
        (huge_step, "update", "linear1", 4),
        (huge_weights, "forward", "output", 5),
    ],
)
def test_the_source_is_named(
    configured: Callable[..., Config], learner_for: LearnerFor, spoil: Spoil, direction: str, layer: str, step: int
) -> None:
    error = error_after(*learner_for(configured()), spoil)
    assert (error.source.found.direction, error.source.found.layer, error.source.step) == (direction, layer, step)
    assert str(error).startswith("diverged at step 5: the loss is nan; ") or spoil is huge_weights
    assert f"at step {step}, first in the {direction} pass, at {layer}: " in str(error)
    assert str(error).endswith("or set training.clip_grad_norm: 1.0; the record: runs/x")


def test_gradients_of_the_step_in_progress_are_its_own(
    configured: Callable[..., Config], learner_for: LearnerFor
) -> None:
    learner, splits = learner_for(configured(training={"clip_grad_norm": 1.0, "device": "cpu"}))
    train = learner.place(splits.train)
    passes = learner.passes(train, (None,))
    spoilt_gradient(learner)
    with pytest.raises(NonfiniteError) as caught:
        learner.clip(passes, train)
    error = diverged(learner, 5, caught.value, Path("runs/x"))
    assert (error.source.step, error.source.found.direction, error.source.found.layer) == (5, "backward", "linear1")
    assert str(error).endswith("lower optimizer.lr (it is 0.1); the record: runs/x")
