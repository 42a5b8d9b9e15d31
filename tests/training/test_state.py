"""What makes an evaluation the best one, and random numbers that are put back."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from nnvis.training.checkpoints import load_checkpoint, save_checkpoint
from nnvis.training.randomness import random_state, restore_random_state, seeded
from nnvis.training.state import State

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("values", "higher_is_better", "min_delta", "best", "waited"),
    [
        ([3, 2, 2, 1], False, 0, 1, 0),
        ([3, 2, 2, 2.5], False, 0, 2, 2),
        ([3, 2.95, 2.85], False, 0.1, 2.85, 0),  # many small gains are a large one
        ([3, 2.95, 2.92], False, 0.1, 2.92, 2),  # the best is kept though the gain is too small to wait longer
        ([0.1, 0.3, 0.2], True, 0, 0.3, 1),
        ([math.nan, 5, math.nan], False, 0, 5, 1),
    ],
)
def test_best_evaluation(
    values: list[float], higher_is_better: bool, min_delta: float, best: float, waited: int
) -> None:
    state = State()
    for epoch, value in enumerate(values):
        state.epoch = epoch
        state.note_evaluation(value, higher_is_better=higher_is_better, min_delta=min_delta)
    assert (state.best_value, state.waited) == (best, waited)
    assert values[state.best_epoch] == best


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), torch.rand(1).item()  # noqa: NPY002


def test_random_numbers_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    draw()
    save_checkpoint(tmp_path / "last.pt", {"random": random_state(CPU)})
    expected = [draw() for _ in range(3)]
    restore_random_state(load_checkpoint(tmp_path / "last.pt")["random"], CPU)
    assert [draw() for _ in range(3)] == expected


def test_seeded_leaves_the_generators_as_they_were() -> None:
    state = random_state(CPU)
    expected = draw()
    restore_random_state(state, CPU)
    with seeded(7, CPU):
        first = draw()
    with seeded(7, CPU):
        assert draw() == first
    assert draw() == expected
