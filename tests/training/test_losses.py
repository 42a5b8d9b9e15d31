"""Losses against numpy, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nnvis.config.schema import Loss
from nnvis.errors import InputError
from nnvis.training.losses import build_objective, resolve_loss

LOGITS = np.array([[2.0, -1.0, 0.5], [0.1, 0.2, 3.0], [1.0, 1.0, -4.0], [0.0, 5.0, 0.0]])
CLASSES = np.array([0, 2, 2, 0])
ANSWERS = np.array([[0.5, -1.0], [2.0, 0.0], [0.1, 4.0]])
NUMBERS = np.array([[0.0, -1.5], [1.0, 1.0], [0.1, 1.0]])


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def cross_entropy(smoothing: float = 0.0) -> float:
    log_p = log_softmax(LOGITS)
    right = -log_p[np.arange(4), CLASSES].mean()
    return float((1 - smoothing) * right + smoothing * -log_p.mean())


def huber(delta: float) -> float:
    miss = np.abs(ANSWERS - NUMBERS)
    return float(np.where(miss <= delta, miss**2 / 2, delta * (miss - delta / 2)).mean())


def loss_of(loss: dict[str, Any], outputs: np.ndarray, targets: np.ndarray, size: int) -> float:
    objective = build_objective(Loss.model_validate(loss), size)
    prepared = objective.prepare(torch.from_numpy(targets), torch.float64)
    return objective.function(torch.from_numpy(outputs), prepared).item()


@pytest.mark.parametrize(
    ("loss", "outputs", "targets", "size", "expected"),
    [
        ({"kind": "cross_entropy"}, LOGITS, CLASSES, 3, cross_entropy()),
        ({"kind": "cross_entropy", "label_smoothing": 0.2}, LOGITS, CLASSES, 3, cross_entropy(0.2)),
        ({"kind": "mean_squared_error"}, ANSWERS, NUMBERS, 2, ((ANSWERS - NUMBERS) ** 2).mean()),
        ({"kind": "mean_absolute_error"}, ANSWERS, NUMBERS, 2, np.abs(ANSWERS - NUMBERS).mean()),
        ({"kind": "huber"}, ANSWERS, NUMBERS, 2, huber(1.0)),
        ({"kind": "huber", "delta": 0.4}, ANSWERS, NUMBERS, 2, huber(0.4)),
    ],
)
def test_loss_is_the_mean_over_rows(
    loss: dict[str, Any], outputs: np.ndarray, targets: np.ndarray, size: int, expected: float
) -> None:
    assert loss_of(loss, outputs, targets, size) == pytest.approx(expected, rel=1e-12)


def test_binary_cross_entropy_takes_one_logit() -> None:
    logits, labels = np.array([[1.5], [-2.0], [0.3]]), np.array([1, 0, 0])
    p = 1 / (1 + np.exp(-logits[:, 0]))
    expected = -np.log(np.where(labels == 1, p, 1 - p)).mean()
    assert loss_of({"kind": "binary_cross_entropy"}, logits, labels, 2) == pytest.approx(expected, rel=1e-12)


def test_right_answers_are_counted() -> None:
    many = build_objective(Loss.model_validate({"kind": "cross_entropy"}), 3)
    assert many.correct(torch.from_numpy(LOGITS), torch.from_numpy(CLASSES)).item() == 2
    two = build_objective(Loss.model_validate({"kind": "binary_cross_entropy"}), 2)
    labels = two.prepare(torch.tensor([1, 0, 1, 0]), torch.float32)
    assert two.correct(torch.tensor([[0.1], [-3.0], [-0.1], [9.0]]), labels).item() == 2


def test_default_follows_the_task() -> None:
    assert resolve_loss(None, "classification").kind == "cross_entropy"
    assert resolve_loss(None, "regression").kind == "mean_squared_error"


def test_misfits_are_refused() -> None:
    with pytest.raises(InputError, match=r"^loss: huber is for regression, these data are for classification; try"):
        resolve_loss(Loss.model_validate({"kind": "huber"}), "classification")
    with pytest.raises(InputError, match="needs 2 classes, the data have 3"):
        build_objective(Loss.model_validate({"kind": "binary_cross_entropy"}), 3)
