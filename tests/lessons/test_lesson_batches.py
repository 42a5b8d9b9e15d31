"""The noise of a batch's gradient as the lesson measures it; its trainings run with `-m slow`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch.nn.functional as F
from rich.console import Console

from nnvis.lessons.landscape import landscape_of
from nnvis.lessons.tour import open_lesson
from nnvis.lessons.tour.batches import SIZES, length_of, noise_of, row_gradients
from nnvis.lessons.tour.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(open_lesson("batches"), tmp_path, Console(quiet=True))


def test_gradients_of_single_rows(stage: Stage) -> None:
    subject = stage.open("data.samples=50")
    found = row_gradients(landscape_of(subject, statistics="fixed"))
    model, train = subject.model.double(), subject.splits.train
    for row in (0, 7, slice(None)):
        rows = slice(row, row + 1) if isinstance(row, int) else row
        model.zero_grad()
        F.cross_entropy(model(train.inputs[rows].double()), train.targets[rows]).backward()
        whole = np.concatenate([parameter.grad.reshape(-1).numpy() for parameter in model.parameters()])
        np.testing.assert_allclose(found[rows].mean(0), whole, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_noise_is_what_statistics_say(stage: Stage, seed: int) -> None:
    """The mean of B independent draws has 1/B of the variance of one draw."""
    gradients = row_gradients(landscape_of(stage.open(seed=seed), statistics="fixed"))
    whole = gradients.mean(0)
    spread = np.sqrt(((gradients - whole) ** 2).sum(1).mean()) / np.linalg.norm(whole)
    noise = noise_of(gradients, seed)
    np.testing.assert_allclose(noise, spread / np.sqrt(SIZES), rtol=0.12)  # of 200 batches each
    assert np.polyfit(np.log(SIZES), np.log(noise), 1)[0] == pytest.approx(-0.5, abs=0.03)


def test_the_length_of_a_path() -> None:
    assert length_of(np.array([[1.0, 0.0], [1.0, 3.0], [5.0, 3.0]])) == 7 / 5
