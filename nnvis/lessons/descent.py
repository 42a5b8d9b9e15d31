"""Gradient descent that can be seen: with two trained parameters, the coordinates in a plane of all weights.

landscape = landscape_of(starting(subject), statistics="fixed")
plane = first_plane(landscape)                              # along the first gradient, and where it turns to
descend(landscape, plane, rate=0.1, updates=40)             # (41, 2): every point lies in the plane
hessian_at(landscape, plane, (0.0, 0.0))                    # (2, 2): the curvature there
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import scipy.optimize
import torch

from nnvis.errors import InputError
from nnvis.figures.landscape import Descent
from nnvis.lessons.landscape import Landscape, Plane, losses_at, window_of
from nnvis.lessons.subject import Subject, open_subject
from nnvis.record.vocabulary import FloatArray

UPDATES = 60
BATCH = 32
_STEP = 1e-5  # of the finite difference that turns the first gradient, relative to the weights' length
_NEARBY = 1e-3  # of that for curvature, relative to the way to the lowest point: over kinks of ReLU as well
_FAR = 1e6  # times the way to the lowest point: a descent that gets there is lost


class Basin(NamedTuple):
    """Where descent in a plane leads to, and how curved the way is."""

    lowest: FloatArray  # (2,)
    loss: float
    curvature_at_start: float  # the largest one, by its size
    curvature_at_lowest: float


def starting(subject: Subject) -> Subject:
    """The same network as training starts it."""
    if subject.run is None:
        return subject
    return replace(open_subject(subject.run / "config.yaml", trust=True), run=None)  # it has been run before


def first_plane(landscape: Landscape) -> Plane:
    """The plane through the weights along the gradient g and along H·g, as far as that leaves g; orthonormal.

    To second order gradient descent takes its first two steps in it: −lr·g, then −lr·(g − lr·H·g). x runs downhill.
    Raises InputError where the gradient is 0 or not finite.
    """
    _, gradient = landscape.slope_at(landscape.weights)
    length = float(gradient.norm())
    if not np.isfinite(length) or length == 0:
        what = "is 0" if length == 0 else "is not finite"
        raise InputError(f"descent: the gradient at the start {what}: no descent begins there")
    along = -gradient / length
    step = _STEP * (1 + float(landscape.weights.norm()))
    ahead, behind = (landscape.slope_at(landscape.weights + sign * step * along)[1] for sign in (1, -1))
    across = _rest(behind - ahead, along)
    if across is None:  # straight downhill: any direction across will do
        across = _rest(torch.randn(len(along), generator=torch.Generator().manual_seed(0), dtype=torch.float64), along)
    if across is None:
        raise InputError("descent: a network of one weight has no plane to descend in")
    return Plane(landscape.weights, torch.stack([along, across]))


def slope_in(
    landscape: Landscape, plane: Plane, point: FloatArray, rows: torch.Tensor | None = None
) -> tuple[float, FloatArray]:
    """The loss at a point (2,) of the plane, and its gradient (2,) with respect to the coordinates."""
    loss, gradient = landscape.slope_at(plane.at(point), rows)
    return loss, (plane.directions @ gradient).numpy()


def hessian_at(landscape: Landscape, plane: Plane, point: FloatArray, step: float) -> FloatArray:
    """The curvature (2, 2) in the plane: central differences of the gradient, `step` to each side."""
    rows = [
        slope_in(landscape, plane, point + step * each)[1] - slope_in(landscape, plane, point - step * each)[1]
        for each in np.eye(2)
    ]
    found = np.stack(rows) / (2 * step)
    return (found + found.T) / 2


def basin_of(landscape: Landscape, plane: Plane) -> Basin:
    """The lowest point that is found from the origin (L-BFGS, no farther away than the weights are long).

    Raises InputError where the origin is itself a lowest point.
    """
    start, reach = np.zeros(2), max(float(landscape.weights.norm()), 1.0)
    found = scipy.optimize.minimize(
        lambda point: slope_in(landscape, plane, point),
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(-reach, reach)] * 2,
        options={"maxiter": 200, "ftol": 1e-14, "gtol": 1e-9},
    )
    way = float(np.linalg.norm(found.x))
    if not np.isfinite(found.fun) or way == 0:
        raise InputError("descent: no point lower than the start was found")
    sharpest = [
        float(np.abs(np.linalg.eigvalsh(hessian_at(landscape, plane, point, _NEARBY * way))).max())
        for point in (start, found.x)
    ]
    if not np.isfinite(sharpest).all() or min(sharpest) <= 0:
        raise InputError("descent: the landscape has no curvature to choose a learning rate by")
    return Basin(found.x, float(found.fun), *sharpest)


def rates_of(basin: Basin) -> tuple[float, float, float]:
    """Too small, good and too large a learning rate: 0.02 and 1 over the largest curvature, and 3 over that at the
    lowest point: above 2 a quadratic with this curvature throws every descent out (LeCun et al. 1998, section 4).
    """
    largest = max(basin.curvature_at_start, basin.curvature_at_lowest)
    return 0.02 / largest, 1 / largest, 3 / basin.curvature_at_lowest


def descend(
    landscape: Landscape,
    plane: Plane,
    rate: float,
    *,
    label: str,
    updates: int = UPDATES,
    batch: int | None = None,
    seed: int = 0,
    limit: float = np.inf,
) -> Descent:
    """Plain gradient descent from the origin of the plane, on all rows or on batches of them.

    Batches are drawn anew each epoch, without replacement; rows that fill no batch wait for another epoch. It ends
    early where it is farther than `limit` from the origin, or nowhere.
    """
    points, order = [np.zeros(2)], np.empty(0, dtype=int)
    random = np.random.default_rng(seed)
    for _ in range(updates):
        rows = None
        if batch is not None:
            if len(order) < batch:
                order = random.permutation(landscape.rows)
            rows, order = torch.from_numpy(order[:batch]), order[batch:]
        points.append(points[-1] - rate * slope_in(landscape, plane, points[-1], rows)[1])
        if not np.linalg.norm(points[-1]) < limit:
            break
    path = np.stack(points)
    return Descent(label, rate, batch or landscape.rows, path, losses_at(landscape, plane, path))


def by_rate(landscape: Landscape, plane: Plane, basin: Basin) -> list[Descent]:
    """Too small, good, too large."""
    limit = _FAR * float(np.linalg.norm(basin.lowest))
    return [
        descend(landscape, plane, rate, label=label, limit=limit)
        for label, rate in zip(("too small", "good", "too large"), rates_of(basin), strict=True)
    ]


def by_batch(landscape: Landscape, plane: Plane, basin: Basin, seed: int = 0) -> list[Descent]:
    """Full batch, mini-batches, single rows, all with a quarter of the good rate, for the same number of updates."""
    rate, limit = rates_of(basin)[1] / 4, _FAR * float(np.linalg.norm(basin.lowest))
    few = min(BATCH, max(landscape.rows // 4, 1))
    kinds = {"full batch": None, f"batches of {few}": few, "single samples": 1}
    return [
        descend(landscape, plane, rate, label=label, batch=batch, seed=seed, limit=limit)
        for label, batch in kinds.items()
    ]


def window(basin: Basin, descents: Sequence[Descent]) -> tuple[FloatArray, FloatArray]:
    """The ends (2,) of both axes: around the start, the lowest point and the paths, as far as these stay near.

    A path that leaves for more than twice the way to the lowest point is followed no farther.
    """
    reach = 2 * float(np.linalg.norm(basin.lowest))
    points = np.concatenate([np.zeros((1, 2)), basin.lowest[None], *(each.points for each in descents)])
    points = points[np.isfinite(points).all(axis=1)]
    near = np.linalg.norm(points - basin.lowest, axis=1) <= reach
    return window_of(points[near], margin=0.15)


def _rest(vector: torch.Tensor, along: torch.Tensor) -> torch.Tensor | None:
    """What is left of a vector (P,) without its part along a unit vector, as a unit vector; None if nothing is."""
    rest = vector - (vector @ along) * along
    rest = rest - (rest @ along) * along  # rounding
    length = float(rest.norm())
    if not np.isfinite(length) or length <= 1e-6 * float(vector.norm()):
        return None
    return rest / length
