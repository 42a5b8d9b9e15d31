"""The noise of a batch's gradient, the paths that it makes, and what it saves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure

from nnvis.figures.landscape import descent_batches
from nnvis.figures.taught import Curve, Panel, panels
from nnvis.figures.words import number
from nnvis.lessons.descent import basin_of, descend, first_plane, window
from nnvis.lessons.landscape import Landscape, landscape_of, seen_of, surface_of
from nnvis.lessons.tour.stage import Claim, Numbers, Stage
from nnvis.record import Run
from nnvis.record.vocabulary import FloatArray

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
DRAWS = 200  # batches of each size
BATCHES: dict[str, int | None] = {"full": None, "few": 16, "one": 1}
NAMES = {"full": "all rows", "few": "16 rows", "one": "1 row"}
UPDATES = 60
POINTS = 41  # along each side of the map


def experiment(stage: Stage, seed: int = 0) -> Numbers:
    """Noise by batch size at the start; three descents in a plane; three trainings of all weights with three seeds."""
    subject = stage.open(seed=seed)
    scene = landscape_of(subject, statistics="fixed")
    noise = noise_of(row_gradients(scene), seed)
    slope = float(np.polyfit(np.log(SIZES), np.log(noise), 1)[0])
    plane = first_plane(scene)
    basin = basin_of(scene, plane)
    rate = 0.5 / max(basin.curvature_at_start, basin.curvature_at_lowest)
    descents = [
        descend(scene, plane, rate, label=NAMES[name], updates=UPDATES, batch=batch, seed=seed)
        for name, batch in BATCHES.items()
    ]
    surface = surface_of(scene, plane, *window(basin, descents), POINTS, lambda done, total: None)
    runs = {name: [_train(stage, batch, seed + i) for i in range(3)] for name, batch in BATCHES.items()}
    stage.draw("noise", _noise(noise, slope))
    stage.draw("paths", descent_batches(surface, descents, seen_of(subject, scene)))
    stage.draw("epochs", _epochs({name: each[0] for name, each in runs.items()}))
    numbers: Numbers = {
        "noise_one": noise[0],
        "noise_few": noise[SIZES.index(16)],
        "noise_most": noise[-1],
        "most": SIZES[-1],
        "slope": slope,
        "updates": UPDATES,
        "rows": scene.rows,
        "epochs": runs["full"][0].summary["epochs"],
        "lead_few": min(_loss(full) / _loss(few) for full, few in zip(runs["full"], runs["few"], strict=True)),
        "lead_one": min(_loss(full) / _loss(one) for full, one in zip(runs["full"], runs["one"], strict=True)),
    }
    for name, each in zip(BATCHES, descents, strict=True):
        numbers[f"length_{name}"] = length_of(each.points)
        numbers[f"rows_{name}"] = each.updates * each.rows
        numbers[f"steps_{name}"] = runs[name][0].summary["steps"]
        numbers[f"loss_{name}"] = _loss(runs[name][0])
    return numbers


def row_gradients(scene: Landscape) -> FloatArray:
    """The gradient of every row's loss at the start: (rows, weights)."""
    return np.stack([scene.slope_at(scene.weights, torch.tensor([i]))[1].numpy() for i in range(scene.rows)])


def noise_of(gradients: FloatArray, seed: int) -> FloatArray:
    """How far the mean gradient of B rows, drawn at random with replacement, is from that of all: (sizes,).

    Root mean square over batches, as a share of the length of the mean gradient of all rows.
    """
    random, whole = np.random.default_rng(seed), gradients.mean(0)
    noise = []
    for size in SIZES:
        batches = gradients[random.integers(len(gradients), size=(DRAWS, size))].mean(1)
        noise.append(np.sqrt(((batches - whole) ** 2).sum(1).mean()))
    return np.array(noise) / np.linalg.norm(whole)


def length_of(points: FloatArray) -> float:
    """How long a path (T, 2) is, over the straight line between its ends."""
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum() / np.linalg.norm(points[-1] - points[0]))


def _train(stage: Stage, batch: int | None, seed: int) -> Run:
    size = "full" if batch is None else batch
    return stage.train(f"name=batches-{size}", f"training.batch_size={size}", seed=seed)


def _loss(run: Run) -> float:
    return run.summary["metrics"]["train"]["loss"]


def _noise(noise: FloatArray, slope: float) -> Figure:
    sizes = np.array(SIZES, dtype=float)
    curves = [Curve(sizes, noise, "measured"), Curve(sizes, noise[0] / np.sqrt(sizes), "1/√B")]
    return panels(
        f"Four times the rows halve the noise of the gradient: it falls with slope {number(slope)}, 1/√B with −0.5",
        f"Root mean square distance of the gradient of B rows from that of all, over the length of the latter; {DRAWS} "
        "batches of each size, drawn with replacement, at the weights that training starts with.",
        [Panel("", "rows in a batch, B", "noise / gradient", curves, log_x=True, log_y=True)],
    )


def _epochs(runs: dict[str, Run]) -> Figure:
    curves: Sequence[Curve] = [
        Curve(series.steps / run.summary["steps"] * run.summary["epochs"], series.values, NAMES[name])
        for name, run in runs.items()
        for series in [run.scalars["loss/epoch"]]
    ]
    return panels(
        f"After the same number of rows: loss {number(_loss(runs['full']))} with all rows a step, "
        f"{number(_loss(runs['few']))} with 16, {number(_loss(runs['one']))} with one",
        "The mean loss of each epoch's steps. One of three seeds.",
        [Panel("", "epochs", "training loss", curves)],
    )


CLAIMS = (
    Claim(
        "The noise of the gradient falls as 1/√B: on log axes with a slope of {slope:3}.",
        lambda n: abs(n["slope"] + 0.5) < 0.03,
    ),
    Claim(
        "The fewer rows an update sees, the more it wanders: paths of {length_full:2}, {length_few:2} and "
        "{length_one:2} times the straight line between their ends.",
        lambda n: n["length_few"] > 1.5 * n["length_full"] and n["length_one"] > 1.5 * n["length_few"],
    ),
    Claim(
        "For the same number of rows, small batches get further: in the worst of three seeds the loss of full batch is "
        "{lead_few:2} times that of batches of 16, and {lead_one:2} times that of single rows.",
        lambda n: n["lead_few"] > 1.1 and n["lead_one"] > 1.1,
    ),
)
