"""Branches against the same steps written out, and nothing of the training changed by them."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nnvis.probe.branches import FACTORS, STEPS, try_rates
from nnvis.probe.checks import Checker, Rows

ROWS, FEATURES, SIZE = 200, 6, 16


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def numbers() -> tuple[Tensor, Tensor]:
    inputs = torch.randn(ROWS, FEATURES)
    return inputs, inputs @ torch.randn(FEATURES, 1) + 0.1 * torch.randn(ROWS, 1)


def steps_of(inputs: Tensor, targets: Tensor, parts: int = 1) -> Any:
    orders = [torch.randperm(ROWS)[:SIZE] for _ in range(STEPS)]

    def given() -> Iterator[list[Rows]]:
        for order in orders:
            yield [Rows(inputs[part], targets[part]) for part in order.split(SIZE // parts)]

    return given


def branches(model: nn.Module, optimizer: torch.optim.Optimizer, **options: Any) -> dict[float, np.ndarray]:
    inputs, targets = numbers()
    checker = Checker(model, nn.MSELoss(), Rows(inputs, targets))
    checker.check(0)
    found = try_rates(checker, optimizer, steps_of(inputs, targets), **options)
    return dict(zip(found["diagnosis_branch_factor"].tolist(), found["diagnosis_branch_row_loss"], strict=True))


def test_linear_regression_against_numpy() -> None:
    inputs, targets = numbers()
    model, rate = nn.Linear(FEATURES, 1, bias=False), 0.03
    steps = steps_of(inputs, targets)
    checker = Checker(model, nn.MSELoss(), Rows(inputs, targets))
    checker.check(0)
    found = try_rates(checker, torch.optim.SGD(model.parameters(), lr=rate), steps)
    x, y = checker.rows.inputs.double().numpy(), checker.rows.targets.double().numpy()
    assert found["diagnosis_branch_factor"].tolist()[:6] == pytest.approx([0, *FACTORS])
    assert found["diagnosis_branch_rate"].tolist() == pytest.approx((rate * found["diagnosis_branch_factor"]).tolist())
    for place, factor in enumerate(found["diagnosis_branch_factor"]):
        weight, course = model.weight.detach().double().numpy().copy(), []
        for (batch,) in steps():
            a, b = batch.inputs.double().numpy(), batch.targets.double().numpy()
            error = a @ weight.T - b
            course.append(float((error**2).mean()))
            weight -= factor * rate * 2 * (error * a).mean(axis=0, keepdims=True)
        assert found["diagnosis_branch_row_loss"][place] == pytest.approx(
            ((x @ weight.T - y) ** 2)[:, 0], rel=1e-3, abs=1e-6
        )
        if factor:
            assert found["diagnosis_branch_batch_loss"][place] == pytest.approx(course, rel=1e-3)


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.05, "momentum": 0.9},
    "Adam": {"lr": 0.01},
    "AdamW": {"lr": torch.tensor(0.01)},
    "RMSprop": {"lr": 0.01, "momentum": 0.5},
    "Adagrad": {"lr": 0.05},
    "LBFGS": {"lr": 0.1},
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_branch_is_what_a_copy_of_the_training_does(kind: str) -> None:
    """Of a state in the middle: momentum, averages and counters go on; gradients are clipped; dropout is the same."""
    inputs, targets = numbers()
    model = nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 1))
    optimizer = getattr(torch.optim, kind)(model.parameters(), **OPTIMIZERS[kind])
    steps = steps_of(inputs, targets)
    loss_fn, clip = nn.MSELoss(), lambda parameters: nn.utils.clip_grad_norm_(parameters, 0.5)

    def train(model: nn.Module, optimizer: Any, limit: int = STEPS) -> None:
        for (batch,), _ in zip(steps(), range(limit), strict=False):

            def evaluate(batch: Rows = batch) -> Tensor:
                optimizer.zero_grad()
                loss = loss_fn(model(batch.inputs), batch.targets)
                loss.backward()
                clip(list(model.parameters()))
                return loss

            optimizer.step(evaluate)

    train(model, optimizer, 3)
    checker = Checker(model, loss_fn, Rows(inputs, targets))
    checker.check(0)
    state = torch.get_rng_state()
    found = try_rates(checker, optimizer, steps, clip=clip)
    for factor in (1 / 3, 1.0):
        torch.set_rng_state(state)
        copied = copy.deepcopy(model)
        other = getattr(torch.optim, kind)(copied.parameters(), **OPTIMIZERS[kind])
        other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        for group in other.param_groups:
            group["lr"] = group["lr"] * factor
        train(copied, other)
        rows = checker.rows
        losses = (copied.eval()(rows.inputs) - rows.targets).square()[:, 0].detach().double().numpy()
        place = found["diagnosis_branch_factor"].tolist().index(factor)
        assert found["diagnosis_branch_row_loss"][place] == pytest.approx(losses, rel=1e-4, abs=1e-7)


def test_batches_of_one_step_are_pooled() -> None:
    inputs, targets = numbers()
    model = nn.Linear(FEATURES, 1)
    checker = Checker(model, nn.MSELoss(), Rows(inputs, targets))
    checker.check(0)
    found = []
    for parts in (1, 4):
        torch.manual_seed(1)
        found.append(try_rates(checker, torch.optim.SGD(model.parameters(), lr=0.03), steps_of(inputs, targets, parts)))
    one, four = (each["diagnosis_branch_row_loss"] for each in found)
    assert one == pytest.approx(four, rel=1e-3)


def held(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Everything that training goes on from, copied."""
    return copy.deepcopy(
        {
            "model": model.state_dict(),
            "modes": [module.training for module in model.modules()],
            "optimizer": optimizer.state_dict(),
            "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
            "torch": torch.get_rng_state(),
            "python": random.getstate(),
            "numpy": np.random.get_state(legacy=False)["state"],  # pyright: ignore[reportCallIssue, reportArgumentType]  # noqa: NPY002
        }
    )


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_nothing_of_the_training_changes(kind: str) -> None:
    model = nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer = getattr(torch.optim, kind)(model.parameters(), **OPTIMIZERS[kind])
    inputs, targets = numbers()

    def evaluate() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        return loss

    optimizer.step(evaluate)
    stepped: list[int] = []
    optimizer.register_step_post_hook(lambda *_: stepped.append(1))
    before, grads = held(model, optimizer), [parameter.grad for parameter in model.parameters()]
    places = [parameter.data_ptr() for parameter in model.parameters()]
    found = branches(model, optimizer)
    torch.set_rng_state(before["torch"])  # drawn by the data of `branches`
    assert len(found) >= 6
    assert same(held(model, optimizer), before)
    assert all(p.grad is g for p, g in zip(model.parameters(), grads, strict=True))
    assert [parameter.data_ptr() for parameter in model.parameters()] == places
    assert not stepped


def test_random_numbers_are_those_of_before_and_the_same_in_every_branch() -> None:
    class Noisy(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            noise = torch.rand(()) + random.random() + float(np.random.rand())  # noqa: NPY002
            drawn.append(float(noise))
            return super().forward(input)

    drawn: list[float] = []
    inputs, targets = numbers()
    model = Noisy(FEATURES, 1)
    checker, steps = Checker(model, nn.MSELoss(), Rows(inputs, targets)), steps_of(inputs, targets)
    checker.check(0)
    before = torch.get_rng_state(), random.getstate()
    drawn.clear()
    try_rates(checker, torch.optim.SGD(model.parameters(), lr=0.01), steps)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    firsts = [number for number in drawn if number == drawn[0]]
    assert len(firsts) >= len(FACTORS)


def test_a_failed_branch_puts_everything_back() -> None:
    inputs, targets = numbers()
    model = nn.Linear(FEATURES, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    checker, steps = Checker(model, nn.MSELoss(), Rows(inputs, targets)), steps_of(inputs, targets)
    checker.check(0)
    before = held(model, optimizer)

    def broken() -> Iterator[list[Rows]]:
        yield from list(steps())[:3]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        try_rates(checker, optimizer, broken)
    assert same(held(model, optimizer), before)


def test_what_lies_beyond_ten_times_is_tried_where_the_best_lies_at_an_end() -> None:
    low = branches(nn.Linear(FEATURES, 1), torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1))
    assert sorted(low) == pytest.approx([0, *FACTORS])  # nothing moves: no rate is better
    model = nn.Linear(FEATURES, 1)
    low = branches(model, torch.optim.SGD(model.parameters(), lr=1e-4))
    means = {factor: rows.mean() for factor, rows in low.items()}
    assert min(means, key=means.__getitem__) in (100.0, 1000.0)
    assert max(means) == 10 * min(means, key=means.__getitem__)
    high = branches(model, torch.optim.SGD(model.parameters(), lr=1000.0))
    finite = {factor: rows.mean() for factor, rows in high.items() if factor and np.isfinite(rows).all()}
    assert min(high, key=lambda factor: factor or 9) == pytest.approx(1e-4)
    assert finite[min(finite)] < high[0.0].mean()


def test_smaller_rates_are_tried_wherever_the_best_of_bad_ones_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 0.1 times the rate the loss is higher than at a third: it is not the lowest that comes off best."""
    ends = {0.0: 3.2, 0.1: 2348.0, 1 / 3: 16.7, 1.0: math.nan, 3.0: math.nan, 10.0: math.nan, 0.01: 5.0, 0.001: 1.0}

    def made(trial: Any, factor: float) -> None:
        place = min(ends, key=lambda known: abs(known - factor))
        trial._rows[factor], trial._courses[factor] = np.full(4, ends[place]), [1.0]

    monkeypatch.setattr("nnvis.probe.branches._Trial.branch", made)
    found = branches(nn.Linear(FEATURES, 1), torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1))
    assert sorted(found) == pytest.approx([0, 0.001, 0.01, *FACTORS])
    ends[0.0] = math.inf  # then no rate can lead down
    ends.update(dict.fromkeys((0.1, 1 / 3), math.inf))
    found = branches(nn.Linear(FEATURES, 1), torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1))
    assert sorted(found) == pytest.approx([0, *FACTORS])


def test_parameters_outside_of_the_model_are_put_back() -> None:
    inputs, targets = numbers()
    model, scale = nn.Linear(FEATURES, 1), nn.Parameter(torch.ones(1))
    checker = Checker(model, lambda o, t: (scale * o - t).square().mean(), Rows(inputs, targets))
    checker.check(0)
    steps = steps_of(inputs, targets)
    try_rates(checker, torch.optim.SGD([*model.parameters(), scale], lr=0.01), steps)
    assert scale.item() == 1
    assert scale.grad is None


def test_memory_that_runs_out_is_no_missing_derivative(monkeypatch: pytest.MonkeyPatch) -> None:
    def curvature(error: Exception) -> None:
        def raising(*_: object) -> float:
            raise error

        monkeypatch.setattr("nnvis.probe.branches.largest_curvature", raising)
        model = nn.Linear(FEATURES, 1)
        branches(model, torch.optim.SGD(model.parameters(), lr=0.1))

    curvature(RuntimeError("derivative for aten::flash_attention_backward is not implemented"))
    for error in (torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: not enough")):
        with pytest.raises(RuntimeError, match=r"memory|Allocator"):
            curvature(error)
