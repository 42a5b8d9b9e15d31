"""Three learning rates on one landscape, and the limit at which a minimum no longer holds a descent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from nnvis.figures.landscape import Descent, descent_rates
from nnvis.figures.taught import Curve, Panel, panels
from nnvis.figures.words import number
from nnvis.lessons.descent import Basin, basin_of, descend, first_plane, hessian_at, window
from nnvis.lessons.landscape import Landscape, Plane, landscape_of, seen_of, surface_of
from nnvis.lessons.tour.stage import Claim, Numbers, Stage
from nnvis.record.vocabulary import FloatArray

POINTS = 41  # along each side of the map
NEAR = 1e-5  # of the way to the lowest point: where its neighbourhood is a quadratic
SHARES = (0.95, 1.05)  # of the limit
UPDATES = 40
RATES = {"too small": 0.004, "good": 0.8, "too large": 10.0}  # of the limit
_CHOSEN = "Too small is 0.4% of that, good 80%, too large ten times as much."


def experiment(stage: Stage, seed: int = 0) -> Numbers:
    """Descents in the plane of the first gradient; descents beside the lowest point, around the limit 2/λ."""
    subject = stage.open(seed=seed)
    scene = landscape_of(subject, statistics="fixed")
    plane = first_plane(scene)
    basin = basin_of(scene, plane)
    curvature, steepest = sharpest(scene, plane, basin)
    rates = [
        descend(scene, plane, share * 2 / curvature, label=label, limit=1e3 * float(np.linalg.norm(basin.lowest)))
        for label, share in RATES.items()
    ]
    surface = surface_of(scene, plane, *window(basin, rates), POINTS, lambda done, total: None)
    near = [distances(scene, plane, basin.lowest, steepest, share * 2 / curvature) for share in SHARES]
    stage.draw("rates", descent_rates(surface, rates, seen_of(subject, scene), basin[2:], _CHOSEN))
    stage.draw("losses", _losses(rates, basin))
    stage.draw("limit", _limit(near, 2 / curvature))
    numbers: Numbers = {}
    for name, each in zip(("small", "good", "large"), rates, strict=True):
        numbers[name], numbers[f"{name}_loss"] = each.rate, each.losses[-1]
    return numbers | {
        "first": rates[0].losses[0],
        "updates": rates[1].updates,
        "higher": rates[2].losses[-1] / rates[1].losses[-1],
        "lowest": basin.loss,
        "curvature": curvature,
        "limit": 2 / curvature,
        "near_updates": UPDATES,
        "below": near[0][-1],
        "below_theory": abs(1 - 2 * SHARES[0]) ** UPDATES,
        "above": near[1][-1],
        "above_theory": abs(1 - 2 * SHARES[1]) ** UPDATES,
    }


def sharpest(scene: Landscape, plane: Plane, basin: Basin) -> tuple[float, FloatArray]:
    """The largest curvature at the lowest point of the plane, and its direction (2,)."""
    values, vectors = np.linalg.eigh(hessian_at(scene, plane, basin.lowest, 1e-4 * float(np.linalg.norm(basin.lowest))))
    return float(values[-1]), vectors[:, -1]


def distances(scene: Landscape, plane: Plane, lowest: FloatArray, direction: FloatArray, rate: float) -> FloatArray:
    """The distance (UPDATES + 1,) from the lowest point of a descent that starts near it, over its first one."""
    away = NEAR * float(np.linalg.norm(lowest)) * direction
    beside = Plane(plane.at(lowest + away), plane.directions)
    path = descend(scene, beside, rate, label="", updates=UPDATES).points + away
    return np.linalg.norm(path, axis=1) / np.linalg.norm(away)


def _losses(rates: Sequence[Descent], basin: Basin) -> Figure:
    curves = [Curve(np.arange(len(each.losses), dtype=float), each.losses, f"lr {number(each.rate)}") for each in rates]
    return panels(
        f"After {rates[1].updates} updates the good rate is at {number(float(rates[1].losses[-1]))}, the small one "
        f"still at {number(float(rates[0].losses[-1]))}",
        f"The loss of all training rows. The lowest point found in the plane has {number(basin.loss)}.",
        [Panel("", "update", "loss", curves, log_y=True)],
    )


def _limit(near: Sequence[FloatArray], limit: float) -> Figure:
    updates = np.arange(UPDATES + 1, dtype=float)
    curves = [Curve(updates, each, f"{share:g} of the limit") for share, each in zip(SHARES, near, strict=True)]
    return panels(
        f"Below lr = {number(limit)} the minimum holds a descent, above it throws it out",
        f"The distance from the lowest point over the first one, {number(NEAR)} of the way from the start. The limit "
        "is 2 over the largest curvature there.",
        [Panel("", "update", "distance / first", curves, log_y=True)],
    )


CLAIMS = (
    Claim(
        "After {updates} updates the good rate ({good}) has come from {first} to {good_loss}; the small one ({small}) "
        "is still at {small_loss}, and the large one ({large}) ends at {large_loss}, {higher:3} times as high as "
        "the good one.",
        lambda n: n["good_loss"] < 0.9 * n["small_loss"] < 0.9 * n["first"] and not n["higher"] <= 2,
    ),
    Claim(
        "A minimum of curvature {curvature} holds a descent up to lr = 2/{curvature} = {limit}: 5% below it {below} of "
        "the distance is left after {near_updates} updates, 5% above it {above}.",
        lambda n: n["below"] < 0.1 and n["above"] > 10,
    ),
)
