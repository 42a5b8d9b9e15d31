"""Descent in a plane: what numpy gets for a linear model, and what theory says of learning rates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnvis import experiment
from nnvis.errors import InputError
from nnvis.lessons import open_subject
from nnvis.lessons.descent import (
    basin_of,
    by_batch,
    by_rate,
    descend,
    first_plane,
    hessian_at,
    rates_of,
    slope_in,
    starting,
    window,
)
from nnvis.lessons.landscape import Landscape, Plane, landscape_of, losses_at

MOONS = ["model.hidden=[5, 4]", "data.samples=100"]


@pytest.fixture
def quadratic() -> tuple[Landscape, np.ndarray, np.ndarray]:
    """Linear regression without bias on 12 rows of 3: (landscape, X, y)."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    targets = torch.randn(12, 1, generator=generator, dtype=torch.float64)
    network = nn.Linear(3, 1, bias=False).double().eval()
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.4, -0.3, 0.2]]))
    weights = network.weight.detach().reshape(-1).clone()
    return Landscape(network, F.mse_loss, inputs, targets, weights), inputs.numpy(), targets.numpy()[:, 0]


def test_the_plane_of_the_first_two_steps(quadratic: tuple[Landscape, np.ndarray, np.ndarray]) -> None:
    """On a quadratic they lie in it exactly."""
    scene, X, y = quadratic  # noqa: N806
    plane = first_plane(scene)
    torch.testing.assert_close(plane.directions @ plane.directions.T, torch.eye(2).double(), rtol=0, atol=1e-12)
    w, lr = scene.weights.numpy().copy(), 0.1
    found = descend(scene, plane, lr, label="", updates=2)
    for k in (1, 2):
        w = w - lr * 2 / 12 * X.T @ (X @ w - y)
        np.testing.assert_allclose(plane.at(found.points[k]).numpy(), w, atol=1e-8)
    assert found.points[1, 0] > 0  # downhill is to the right


@pytest.mark.parametrize("batch", [None, 5, 1])
def test_paths_recomputed_with_numpy(batch: int | None, quadratic: tuple[Landscape, np.ndarray, np.ndarray]) -> None:
    scene, X, y = quadratic  # noqa: N806
    plane = Plane(scene.weights, torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]], dtype=torch.float64))
    found = descend(scene, plane, 0.05, label="some", updates=7, batch=batch, seed=4)
    D, w0, c = plane.directions.numpy(), scene.weights.numpy(), np.zeros(2)  # noqa: N806
    random, order = np.random.default_rng(4), []
    for k in range(7):
        rows = list(range(12))
        if batch:
            if len(order) < batch:
                order = list(random.permutation(12))
            rows, order = order[:batch], order[batch:]
        r = X[rows] @ (w0 + c @ D) - y[rows]
        c = c - 0.05 * D @ (2 / len(rows) * X[rows].T @ r)
        np.testing.assert_allclose(found.points[k + 1], c, rtol=1e-10)
        all_rows = X @ (w0 + c @ D) - y
        assert found.losses[k + 1] == pytest.approx(all_rows @ all_rows / 12, rel=1e-10)
    assert (found.updates, found.rows, found.label) == (7, batch or 12, "some")


def test_curvature_of_a_quadratic(quadratic: tuple[Landscape, np.ndarray, np.ndarray]) -> None:
    scene, X, y = quadratic  # noqa: N806
    plane = first_plane(scene)
    D = plane.directions.numpy()  # noqa: N806
    H = 2 / 12 * D @ X.T @ X @ D.T  # noqa: N806
    np.testing.assert_allclose(hessian_at(scene, plane, np.array([0.3, -2.0]), 1e-3), H, rtol=1e-8)
    basin = basin_of(scene, plane)
    lowest = -np.linalg.solve(H, 2 / 12 * D @ X.T @ (X @ scene.weights.numpy() - y))
    assert np.linalg.norm(lowest) < max(float(scene.weights.norm()), 1)  # else the bound would be found
    np.testing.assert_allclose(basin.lowest, lowest, atol=1e-5)
    sharpest = np.linalg.eigvalsh(H)[-1]
    assert basin[2:] == pytest.approx((sharpest, sharpest), rel=1e-6)
    assert rates_of(basin) == pytest.approx((0.02 / sharpest, 1 / sharpest, 3 / sharpest), rel=1e-6)
    small, good, large = by_rate(scene, plane, basin)
    assert (np.diff(small.losses) < 0).all()
    assert (np.diff(good.losses) <= 1e-15).all()
    assert (np.diff(large.losses)[5:] > 0).all()  # thrown out
    assert good.losses[-1] < small.losses[-1] < large.losses[-1]
    assert good.losses[-1] == pytest.approx(basin.loss, rel=1e-3)


def test_every_path_lies_on_what_is_drawn() -> None:
    scene = landscape_of(open_subject("moons_mlp", MOONS), statistics="fixed")
    plane = first_plane(scene)
    basin = basin_of(scene, plane)
    full, few, single = by_batch(scene, plane, basin, seed=1)
    assert [each.rows for each in (full, few, single)] == [80, 20, 1]
    assert full.rate == few.rate == single.rate == rates_of(basin)[1] / 4
    for each in (full, few, single):
        np.testing.assert_array_equal(each.losses, losses_at(scene, plane, each.points))
        assert each.updates == 60
    x, y = window(basin, [full])
    assert (full.points > [x[0], y[0]]).all()
    assert (full.points < [x[1], y[1]]).all()
    point, h = np.array([0.2, 0.1]), 1e-6
    _, slope = slope_in(scene, plane, point)
    for axis, each in enumerate(np.eye(2)):
        up, down = losses_at(scene, plane, np.stack([point + h * each, point - h * each]))
        assert slope[axis] == pytest.approx((up - down) / (2 * h), rel=1e-6)


def test_a_path_that_is_lost_ends_early(quadratic: tuple[Landscape, np.ndarray, np.ndarray]) -> None:
    scene, _, _ = quadratic
    plane = first_plane(scene)
    found = descend(scene, plane, 1e3, label="", limit=1e6)
    assert found.updates < 10
    x, y = window(basin_of(scene, plane), [found])
    assert max(map(abs, [*x, *y])) < 100


def test_it_begins_where_training_began(tmp_path: Path) -> None:
    run = experiment.train(
        "moons_mlp", [*MOONS, "training.epochs=1", "snapshots.count=2"], runs=tmp_path, quiet=True, figures=False
    )
    subject = open_subject(run.path)
    begun = starting(subject)
    assert begun.run is None
    first = subject.snapshots()[0].model
    assert all(torch.equal(value, first[name]) for name, value in begun.model.state_dict().items())
    assert starting(begun) is begun


def test_where_no_descent_begins() -> None:
    flat = Landscape(
        nn.Linear(2, 1, bias=False).double(),
        F.mse_loss,
        torch.zeros(4, 2).double(),
        torch.ones(4, 1).double(),
        torch.ones(2).double(),
    )
    with pytest.raises(InputError, match="the gradient at the start is 0: no descent begins there"):
        first_plane(flat)
    lost = Landscape(flat.network, F.mse_loss, flat.inputs + torch.inf, flat.targets, flat.weights)
    with pytest.raises(InputError, match="is not finite"):
        first_plane(lost)
