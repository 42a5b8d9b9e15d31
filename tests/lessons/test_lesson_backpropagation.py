"""Derivatives as the lesson on backpropagation gets them, held against plain autograd and numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch.nn.functional as F
from rich.console import Console

from nnvis.lessons import explain
from nnvis.lessons.tour import open_lesson
from nnvis.lessons.tour.backpropagation import CLAIMS, chain_rule, experiment, finite_differences, left_of
from nnvis.lessons.tour.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(open_lesson("backpropagation"), tmp_path, Console(quiet=True))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_three_ways_to_a_derivative(stage: Stage, seed: int) -> None:
    subject = stage.open(seed=seed)
    by_hand, nudged = chain_rule(explain(subject).passes), finite_differences(subject)
    model, train = subject.model.double(), subject.splits.train
    F.cross_entropy(model(train.inputs[:1].double()), train.targets[:1]).backward()
    assert set(by_hand) == set(nudged) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(by_hand[name], parameter.grad.numpy(), rtol=1e-11, atol=1e-16)
        np.testing.assert_allclose(nudged[name], parameter.grad.numpy(), atol=1e-8)


def test_what_is_left_of_the_gradient(stage: Stage) -> None:
    """Two layers of one product each: δ₁ = (W₂ᵀ δ₂) · a₁ (1 − a₁)."""
    layers = explain(stage.open("model.hidden=[6, 6]")).passes.stages
    second = layers[1]
    assert second.weight is not None
    assert second.delta is not None
    first = (second.weight.T @ second.delta) * layers[0].a * (1 - layers[0].a)
    assert left_of(layers) == pytest.approx(np.linalg.norm(first) / np.linalg.norm(second.delta), rel=1e-12)


@pytest.mark.parametrize("seed", [0, 3])
def test_what_the_lesson_claims_holds_for_other_seeds(stage: Stage, seed: int) -> None:
    numbers = experiment(stage, seed)
    assert [claim.holds(numbers) for claim in CLAIMS] == [True] * 3
    assert numbers["product"] == pytest.approx(numbers["grad_a"] * numbers["slope"] * numbers["x"], rel=1e-12)
    assert numbers["weights"] == 2 * 4 + 4 + 4 * 3 + 3 + 3 * 2 + 2
