"""One step: gradients of the mean over all rows, clipped as asked, in every number format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nnvis.config import Config
from nnvis.data import Splits
from nnvis.training.evaluation import evaluate
from nnvis.training.learner import Learner, NonfiniteError, Placed

Configured = Callable[..., Config]
LearnerFor = Callable[[Config], tuple[Learner, Splits]]


def prepared(configured: Configured, learner_for: LearnerFor, **training: Any) -> tuple[Learner, Placed]:
    sections = {"training": {"device": "cpu", **training}, "data": {"kind": "spirals", "samples": 30, "classes": 3}}
    learner, splits = learner_for(configured(**sections))
    return learner, learner.place(splits.train)


def gradients(learner: Learner) -> list[Tensor]:
    return [p.grad.clone() for p in learner.model.parameters() if p.grad is not None]


@pytest.mark.parametrize("sizes", [[8, 8, 8], [16, 5, 3], [23, 1]])
def test_accumulated_gradients_are_those_of_one_big_batch(
    configured: Configured, learner_for: LearnerFor, sizes: list[int]
) -> None:
    learner, train = prepared(configured, learner_for, precision="float64")
    whole = learner.passes(train, (torch.arange(24),))
    expected = gradients(learner)
    parts = learner.passes(train, torch.arange(24).split(sizes))
    assert (parts.rows, parts.loss) == (24, pytest.approx(whole.loss, rel=1e-12))
    torch.testing.assert_close(gradients(learner), expected, rtol=1e-10, atol=1e-14)


def test_clipping_by_norm_is_torchs(configured: Configured, learner_for: LearnerFor) -> None:
    learner, train = prepared(configured, learner_for, clip_grad_norm=0.01)
    passes = learner.passes(train, (None,))
    before = gradients(learner)
    norm = torch.cat([g.flatten() for g in before]).norm().item()
    learner.clip(passes, train)
    assert passes.grad_norm == pytest.approx(norm, rel=1e-6)
    assert passes.clip_factor == pytest.approx(0.01 / norm, rel=1e-4)
    torch.testing.assert_close(gradients(learner), [g * 0.01 / norm for g in before], rtol=1e-3, atol=0)


def test_clipping_by_value(configured: Configured, learner_for: LearnerFor) -> None:
    learner, train = prepared(configured, learner_for, clip_grad_value=1e-3)
    learner.clip(learner.passes(train, (None,)), train)
    assert max(g.abs().max().item() for g in gradients(learner)) == pytest.approx(1e-3)


def test_large_gradients_are_clipped_though_their_float32_norm_overflows(
    configured: Configured, learner_for: LearnerFor
) -> None:
    learner, train = prepared(configured, learner_for, clip_grad_norm=1.0)
    passes = learner.passes(train, (None,))
    for parameter in learner.model.parameters():
        parameter.grad = torch.full_like(parameter, 1e30)
    learner.clip(passes, train)
    count = sum(p.numel() for p in learner.model.parameters())
    assert passes.grad_norm == pytest.approx(1e30 * count**0.5)
    assert torch.cat([g.flatten() for g in gradients(learner)]).norm().item() == pytest.approx(1.0, rel=1e-4)


def test_a_norm_that_is_not_finite_spoils_nothing(configured: Configured, learner_for: LearnerFor) -> None:
    learner, train = prepared(configured, learner_for, clip_grad_norm=1.0)
    passes = learner.passes(train, (None,))
    first, *rest = learner.model.parameters()
    first.grad = torch.full_like(first, torch.inf)
    before = [p.grad.clone() for p in rest if p.grad is not None]
    with pytest.raises(NonfiniteError, match="the norm of the gradients is inf"):
        learner.clip(passes, train)
    assert all(torch.equal(p.grad, b) for p, b in zip(rest, before, strict=True) if p.grad is not None)


def test_a_loss_that_is_not_finite_leaves_the_last_gradients(configured: Configured, learner_for: LearnerFor) -> None:
    learner, train = prepared(configured, learner_for)
    learner.passes(train, (None,))
    before = gradients(learner)
    broken = Placed(train.inputs * torch.nan, train.targets)
    with pytest.raises(NonfiniteError, match="the loss is nan"):
        learner.passes(broken, (None,))
    assert all(torch.equal(a, b) for a, b in zip(gradients(learner), before, strict=True))


@pytest.mark.parametrize(
    ("precision", "parameters", "close"), [("float64", torch.float64, 1e-6), ("bf16", torch.float32, 3e-2)]
)
def test_number_formats(
    configured: Configured, learner_for: LearnerFor, precision: str, parameters: torch.dtype, close: float
) -> None:
    reference, train = prepared(configured, learner_for)
    learner, same = prepared(configured, learner_for, precision=precision)
    passes = learner.passes(same, (None,))
    outputs, _ = passes.outputs[0]
    assert {p.dtype for p in learner.model.parameters()} == {parameters}
    assert outputs.dtype == parameters  # what the loss is computed in
    assert passes.loss == pytest.approx(reference.passes(train, (None,)).loss, rel=close)
    assert learner.update()
    assert evaluate(learner, same)["loss"] < passes.loss


def test_fp16_skips_a_step_that_overflows(configured: Configured, learner_for: LearnerFor) -> None:
    learner, train = prepared(configured, learner_for, precision="fp16", clip_grad_norm=100.0)
    assert learner.scaler
    before = [p.clone() for p in learner.model.parameters()]
    learner.scaler.load_state_dict(learner.scaler.state_dict() | {"scale": 2.0**40})
    learner.clip(learner.passes(train, (None,)), train)
    assert not learner.update()
    assert all(torch.equal(a, b) for a, b in zip(learner.model.parameters(), before, strict=True))
    learner.scaler.load_state_dict(learner.scaler.state_dict() | {"scale": 2.0**10})
    passes = learner.passes(train, (None,))
    learner.clip(passes, train)
    assert learner.update()
    assert 0 < (passes.grad_norm or 0) < 10  # at its true scale


def test_lbfgs_learns(configured: Configured, learner_for: LearnerFor) -> None:
    optimizer = {"kind": "LBFGS", "line_search_fn": "strong_wolfe"}
    learner, splits = learner_for(configured(optimizer=optimizer))
    train = learner.place(splits.train)
    start = evaluate(learner, train)["loss"]
    learner.optimizer.step(lambda: learner.passes(train, (None,)).loss)
    assert evaluate(learner, train)["loss"] < 0.9 * start
