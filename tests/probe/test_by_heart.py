"""Rows learned by heart: networks that can, those that cannot, and nothing changed."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nnvis.probe.by_heart import KNOWN, ROWS, STEPS, learn_by_heart
from nnvis.probe.checks import Checker, Rows
from nnvis.probe.curvature import NotKnown


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def network(*end: nn.Module, outputs: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(), nn.Linear(32, outputs), *end)


def learned(
    model: nn.Module, loss_fn: nn.Module, inputs: Tensor, targets: Tensor
) -> tuple[np.ndarray, np.ndarray, float] | None:
    checker = Checker(model, loss_fn, Rows(inputs, targets))
    checker.check(0)
    found = learn_by_heart(checker)
    if not found:
        return None
    kinds = ("row_loss", "row_loss_constant", "steps")
    losses, constant, steps = (found[f"diagnosis_heart_{kind}"] for kind in kinds)
    assert steps[1] == STEPS
    return losses, constant, float(steps[0])


def test_random_labels_are_learned_by_a_network_that_is_put_together_rightly() -> None:
    inputs, targets = torch.randn(100, 6), torch.randint(3, (100,))
    result = learned(network(), nn.CrossEntropyLoss(), inputs, targets)
    assert result is not None
    losses, constant, steps = result
    assert len(losses) == len(constant) == ROWS
    assert losses.mean() < KNOWN * constant.mean()
    assert steps < STEPS
    values = learned(network(outputs=1), nn.MSELoss(reduction="sum"), inputs, torch.randn(100, 1))
    assert values is not None
    assert values[0].mean() < KNOWN * values[1].mean()


def test_the_constant_is_that_of_those_rows() -> None:
    targets = torch.randint(3, (40,))
    inputs = torch.cat([targets[:, None].float(), torch.randn(40, 5)], dim=1)
    checker = Checker(network(), nn.CrossEntropyLoss(), Rows(inputs, targets))
    checker.check(0)
    classes = checker.rows.targets[:ROWS].numpy()
    shares = np.bincount(classes) / ROWS
    found = learn_by_heart(checker)["diagnosis_heart_row_loss_constant"]
    assert found == pytest.approx(-np.log(shares[classes]))


def test_what_blocks_the_gradient_or_does_not_fit_the_targets_is_not_learned() -> None:
    inputs, targets = torch.randn(100, 6), torch.randint(2, (100, 1)).float()
    blocked = learned(network(nn.Softmax(1), outputs=1), nn.BCELoss(), inputs, targets)
    assert blocked is not None
    assert blocked[0].mean() > 0.9 * blocked[1].mean()
    assert blocked[2] == STEPS
    beyond = learned(network(nn.ReLU(), outputs=1), nn.MSELoss(), inputs, targets - 2)
    assert beyond is not None
    assert beyond[0].mean() > 0.9 * beyond[1].mean()


def test_rows_with_the_same_inputs_count_once() -> None:
    inputs = torch.randn(ROWS, 6).repeat(4, 1)
    targets = torch.randint(3, (4 * ROWS,))  # of the same inputs several
    result = learned(network(), nn.CrossEntropyLoss(), inputs, targets)
    assert result is not None
    assert result[0].mean() < KNOWN * result[1].mean()
    with pytest.raises(NotKnown, match="16 rows that differ are needed to be learned by heart, there are 15"):
        learned(network(), nn.CrossEntropyLoss(), inputs[: ROWS - 1], targets[: ROWS - 1])


def test_nothing_changes() -> None:
    model, inputs, targets = network(), torch.randn(100, 6), torch.randint(3, (100,))
    nn.functional.cross_entropy(model(inputs), targets).backward()
    before, gradients = copy.deepcopy(model.state_dict()), [p.grad for p in model.parameters()]
    checker = Checker(model, nn.CrossEntropyLoss(), Rows(inputs, targets))
    checker.check(0)
    state = torch.get_rng_state()
    assert learn_by_heart(checker)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    assert all(module.training for module in model.modules())


def least_of(loss_fn: nn.Module, targets: Tensor, outputs: int = 3) -> np.ndarray | None:
    checker = Checker(network(outputs=outputs), loss_fn, Rows(torch.randn(len(targets), 6), targets))
    checker.check(0)
    least = learn_by_heart(checker).get("diagnosis_heart_row_loss_least")
    return None if least is None else np.sort(least)  # the rows are taken in another order


def test_the_least_is_the_entropy_of_soft_targets() -> None:
    shares = torch.rand(16, 3).double().softmax(dim=1).float()
    p = shares.double().numpy()
    assert least_of(nn.CrossEntropyLoss(), shares) == pytest.approx(np.sort(-(p * np.log(p)).sum(axis=1)), rel=1e-5)
    both = -(p * np.log(p) + (1 - p) * np.log(1 - p)).mean(axis=1)
    assert least_of(nn.BCEWithLogitsLoss(), shares) == pytest.approx(np.sort(both), rel=1e-5)
    assert least_of(nn.CrossEntropyLoss(), torch.arange(16) % 3) == pytest.approx(np.zeros(16))
    assert least_of(nn.MSELoss(), torch.randn(16, 3)) == pytest.approx(np.zeros(16))
    assert least_of(nn.CrossEntropyLoss(label_smoothing=0.1), torch.arange(16) % 3) is None


def test_inputs_that_numpy_has_no_numbers_for() -> None:
    model = network().to(torch.bfloat16)
    assert learned(model, nn.CrossEntropyLoss(), torch.randn(40, 6).bfloat16(), torch.arange(40) % 3) is not None


def test_sparse_gradients() -> None:
    model = nn.Sequential(nn.Embedding(40, 8, sparse=True), nn.Flatten(), nn.Linear(8, 3))
    result = learned(model, nn.CrossEntropyLoss(), torch.arange(40)[:, None], torch.randint(3, (40,)))
    assert result is not None
    assert result[0].mean() < KNOWN * result[1].mean()
