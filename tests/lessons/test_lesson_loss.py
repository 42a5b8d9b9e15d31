"""What the lesson on losses computes, by numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from nnvis.lessons.tour import open_lesson
from nnvis.lessons.tour.loss import CLAIMS, LOSSES, experiment, slopes
from nnvis.lessons.tour.stage import Stage


def test_losses_and_their_slopes() -> None:
    z = np.array([-8.0, -1.0, 0.0, 2.5])
    a = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(LOSSES["squared error"](torch.tensor(z)), (a - 1) ** 2, rtol=1e-12)
    np.testing.assert_allclose(LOSSES["cross entropy"](torch.tensor(z)), -np.log(a), rtol=1e-12)
    np.testing.assert_allclose(slopes(LOSSES["squared error"], z), 2 * (a - 1) * a * (1 - a), rtol=1e-12)
    np.testing.assert_allclose(slopes(LOSSES["cross entropy"], z), a - 1, rtol=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_trainings_by_hand(seed: int, tmp_path: Path) -> None:
    """One neuron, 40 rows, plain gradient descent. (Nothing is random but the order within the one batch.)"""
    lesson = open_lesson("loss")
    numbers = experiment(Stage(lesson, tmp_path, Console(quiet=True)), seed)
    assert all(claim.holds(numbers) for claim in CLAIMS)
    x1, x2, t = np.loadtxt(lesson.files[0], delimiter=",", skiprows=1, unpack=True)
    for name in ("mse", "ce"):
        w, b, losses = np.array([-4.0, -4.0]), 0.0, []
        for _ in range(200):
            a = 1 / (1 + np.exp(-(w[0] * x1 + w[1] * x2 + b)))
            losses.append(np.mean((a - t) ** 2))
            pull = 2 * (a - t) * a * (1 - a) if name == "mse" else a - t
            w, b = w - 0.5 * np.array([np.mean(pull * x1), np.mean(pull * x2)]), b - 0.5 * np.mean(pull)
        right = np.mean((w[0] * x1 + w[1] * x2 + b > 0) == (t > 0.5))
        assert numbers[f"right_{name}"] == pytest.approx(right, abs=1e-9)
        if name == "mse":
            assert (numbers["mse_first"], numbers["mse_last"]) == pytest.approx((losses[0], losses[-1]), rel=1e-5)
