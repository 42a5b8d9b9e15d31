"""Curvature and the limit of the learning rate, on a landscape that numpy knows: linear regression is a quadratic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import nn

from nnvis.lessons.descent import basin_of
from nnvis.lessons.landscape import Landscape, Plane
from nnvis.lessons.tour import open_lesson
from nnvis.lessons.tour.gradient_descent import CLAIMS, UPDATES, distances, experiment, sharpest
from nnvis.lessons.tour.stage import Stage


@pytest.mark.parametrize("share", [0.6, 0.95, 1.05])
def test_distances_on_a_quadratic(share: float) -> None:
    x = np.random.default_rng(3).normal(size=(40, 2)) * [1.0, 3.0]
    y = x @ [0.5, -0.9] + 0.3 * np.random.default_rng(4).normal(size=40)
    network = nn.Linear(2, 1, bias=False).double().eval()
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.4, -0.3]]))
    weights = network.weight.detach().reshape(-1).clone()
    scene = Landscape(network, F.mse_loss, torch.from_numpy(x), torch.from_numpy(y[:, None]), weights)
    plane = Plane(weights, torch.eye(2).double())
    basin = basin_of(scene, plane)
    best = np.linalg.lstsq(x, y, rcond=None)[0]
    np.testing.assert_allclose(plane.at(basin.lowest).numpy(), best, atol=1e-6)
    hessian = 2 / 40 * x.T @ x
    curvature, steepest = sharpest(scene, plane, basin)
    assert curvature == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=1e-6)
    np.testing.assert_allclose(hessian @ steepest, curvature * steepest, rtol=1e-5, atol=1e-5)
    found = distances(scene, plane, best - weights.numpy(), steepest, share * 2 / curvature)
    np.testing.assert_allclose(found, np.abs(1 - 2 * share) ** np.arange(UPDATES + 1), rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("seed", [1, 3])
def test_what_the_lesson_claims_holds_for_other_seeds(seed: int, tmp_path: Path) -> None:
    numbers = experiment(Stage(open_lesson("gradient_descent"), tmp_path, Console(quiet=True)), seed)
    assert [claim.holds(numbers) for claim in CLAIMS] == [True] * len(CLAIMS)
    for where in ("below", "above"):
        assert numbers[where] == pytest.approx(numbers[f"{where}_theory"], rel=0.02)
