"""What the lesson on activations computes, held against numpy; its trainings run with `-m slow`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from torch import nn

from nnvis.lessons.planes import plane_of
from nnvis.lessons.tour import open_lesson
from nnvis.lessons.tour.activations import collapse_error, slope_at
from nnvis.lessons.tour.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(open_lesson("activations"), tmp_path, Console(quiet=True))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_linear_layers_collapse_into_one_and_others_do_not(stage: Stage, seed: int) -> None:
    assert collapse_error(stage.open("model.activation=identity", seed=seed)) < 1e-14
    assert collapse_error(stage.open("model.activation=tanh", seed=seed)) > 0.05


@pytest.mark.parametrize("z", [-3.0, 0.5, 5.0])
def test_slopes(z: float) -> None:
    a = 1 / (1 + np.exp(-z))
    assert slope_at(nn.Sigmoid(), z) == pytest.approx(a * (1 - a), rel=1e-12)
    assert slope_at(nn.Tanh(), z) == pytest.approx(1 - np.tanh(z) ** 2, rel=1e-9)
    assert slope_at(nn.ReLU(), z) == (z > 0)


def test_the_regions_are_the_networks_probabilities(stage: Stage) -> None:
    subject = stage.open()
    plane, scaling = plane_of(subject), subject.splits.input_scaling
    at = np.stack(np.meshgrid(plane.x, plane.y), axis=-1).reshape(-1, 2)
    at = (at - scaling.mean.numpy()) / scaling.std.numpy() if scaling else at
    w1, b1, w2, b2, w3, b3 = (p.detach().double().numpy() for p in subject.model.parameters())
    logits = np.tanh(np.tanh(at @ w1.T + b1) @ w2.T + b2) @ w3.T + b3
    second = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    np.testing.assert_allclose(plane.values[1].ravel(), second, rtol=1e-12)
    for places, side in zip(plane.rows[0].points.T, (plane.x, plane.y), strict=True):
        assert side[0] < places.min() < places.max() < side[-1]
    assert plane.rows[0].total == len(subject.splits.train) == len(plane.rows[0].points)


def test_what_is_being_done_is_one_line_however_narrow_the_terminal(tmp_path: Path) -> None:
    out, words = io.StringIO(), "training name, seed 0: model={kind: mlp, depth: 20, width: 64} optimizer.lr=0.1"
    Stage(open_lesson("activations"), tmp_path, Console(file=out, width=40)).say(words)
    assert out.getvalue() == f"{words}\n"
