"""Metrics of a split are exact, and telling them leaves no trace."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from nnvis.config import Config
from nnvis.data import Splits
from nnvis.training import evaluation
from nnvis.training.evaluation import evaluate
from nnvis.training.learner import Learner

Configured = Callable[..., Config]
LearnerFor = Callable[[Config], tuple[Learner, Splits]]


def test_mean_over_rows_whatever_the_batches(
    configured: Configured, learner_for: LearnerFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "_BYTES_A_BATCH", 0)
    learner, splits = learner_for(configured(training={"batch_size": 7, "device": "cpu", "precision": "float64"}))
    train = learner.place(splits.train)
    assert len(train) % 7 == 6  # of batches of 7, the last one is shorter
    with torch.no_grad():
        logits = learner.model(train.inputs)
    assert evaluate(learner, train) == {
        "loss": pytest.approx(F.cross_entropy(logits, train.targets).item(), rel=1e-12),
        "accuracy": pytest.approx((logits.argmax(1) == train.targets).double().mean().item()),
    }


def test_regression_has_no_accuracy(configured: Configured, learner_for: LearnerFor) -> None:
    learner, splits = learner_for(configured(data={"kind": "plane", "samples": 20}))
    assert evaluate(learner, learner.place(splits.train)).keys() == {"loss"}


def test_evaluation_leaves_no_trace(configured: Configured, learner_for: LearnerFor) -> None:
    model = {"kind": "mlp", "hidden": [5], "norm": "batch", "dropout": 0.5}
    learner, splits = learner_for(configured(model=model))
    train = learner.place(splits.train)
    frozen = next(module for module in learner.model.modules() if isinstance(module, torch.nn.BatchNorm1d)).eval()
    weights = {name: value.clone() for name, value in learner.model.state_dict().items()}
    random = torch.get_rng_state()
    learner.model.register_forward_hook(lambda *_: torch.rand(1) and None)  # a model that draws in eval mode too
    first, second = evaluate(learner, train), evaluate(learner, train)
    assert first == second  # no dropout
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(weights[name], value) for name, value in learner.model.state_dict().items())
    assert [m for m in learner.model.modules() if not m.training] == [frozen]
    assert all(p.grad is None for p in learner.model.parameters())
