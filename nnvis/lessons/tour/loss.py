"""A neuron that is wrong and sure of it, trained with the squared error and with cross entropy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from nnvis.figures.functions import loss_functions
from nnvis.figures.taught import Curve, Panel, panels
from nnvis.figures.words import number, percent
from nnvis.lessons.subject import Subject, open_subject
from nnvis.lessons.tour.stage import Claim, Numbers, Stage
from nnvis.record import Run
from nnvis.record.vocabulary import FloatArray

CROSS_ENTROPY = (
    "name=cross-entropy",
    "data.task=classification",
    "loss=binary_cross_entropy",
    "model.layers=[{Linear: 1}]",  # this loss takes the logit: its sigmoid is in it
)
WRONG = -8.0  # z of a confident 0 where 1 is right

LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "squared error": lambda z: (torch.sigmoid(z) - 1) ** 2,
    "cross entropy": lambda z: F.binary_cross_entropy_with_logits(z, torch.ones_like(z), reduction="none"),
}
"""Of an answer whose target is 1, by the weighted sum z."""


def experiment(stage: Stage, seed: int = 0) -> Numbers:
    """Two trainings from the same start; what each loss pulls with at a confidently wrong answer."""
    squared, entropy = stage.train(seed=seed), stage.train(*CROSS_ENTROPY, seed=seed)
    pulls = {name: float(slopes(loss, np.array([WRONG]))[0]) for name, loss in LOSSES.items()}
    stage.draw("sides", _sides(pulls))
    stage.draw("training", _training(squared, entropy))
    stage.draw("functions", loss_functions())
    losses, error = squared.scalars["loss/train"].values, np.array([4.0])
    of_error = {"square": F.mse_loss, "absolute": F.l1_loss, "huber": F.huber_loss}
    return {
        "a": float(torch.sigmoid(torch.tensor(WRONG, dtype=torch.float64))),
        "pull_ce": pulls["cross entropy"],
        "pull_mse": pulls["squared error"],
        "weaker": pulls["cross entropy"] / pulls["squared error"],
        "updates": squared.summary["steps"],
        "mse_first": losses[0],
        "mse_last": losses[-1],
        "right_mse": _right(open_subject(squared.path), 0.5),
        "right_ce": _right(open_subject(entropy.path), 0.0),
        **{
            f"pull_{name}": float(slopes(lambda e, loss=loss: loss(e, torch.zeros_like(e), reduction="sum"), error)[0])
            for name, loss in of_error.items()
        },
    }


def slopes(loss: Callable[[Tensor], Tensor], places: FloatArray) -> FloatArray:
    """The derivative of a loss, element by element, at places (N,), by autograd."""
    at = torch.tensor(places, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(loss(at).sum(), at)[0].numpy()


def _right(subject: Subject, border: float) -> float:
    """The share of training rows on the right side of a border of the output."""
    train = subject.splits.train
    with torch.no_grad():
        says = subject.model(train.inputs)[:, 0] > border
    return float((says == (train.targets.reshape(-1) > 0.5)).double().mean())


def _sides(pulls: dict[str, float]) -> Figure:
    z = np.linspace(-10, 10, 401)
    with torch.no_grad():
        values = [Curve(z, loss(torch.tensor(z)).numpy(), name) for name, loss in LOSSES.items()]
    derivatives = [Curve(z, slopes(loss, z), name) for name, loss in LOSSES.items()]
    return panels(
        f"Sure and wrong, at z = −8: cross entropy pulls with {number(pulls['cross entropy'])}, "
        f"the squared error with {number(pulls['squared error'])}",
        "One answer a = sigmoid(z) whose target is 1: far to the left confidently wrong, to the right right.",
        [Panel("loss", "z", "", values), Panel("derivative by z", "z", "", derivatives)],
        share_y=False,
    )


def _training(squared: Run, entropy: Run) -> Figure:
    curves = [
        Curve(series.steps.astype(float), series.values / series.values[0], name)
        for name, run in (("squared error", squared), ("cross entropy", entropy))
        for series in [run.scalars["loss/train"]]
    ]
    left = [float(curve.y[-1]) for curve in curves]
    return panels(
        f"From the same wrong start the squared error keeps {percent(left[0])} of its loss, cross entropy "
        f"{percent(left[1])}",
        "The loss of all training rows over its first value. One run each; nothing in them is random.",
        [Panel("", "update", "loss / first loss", curves)],
    )


CLAIMS = (
    Claim(
        "At a confidently wrong answer (z = −8, target 1) cross entropy pulls with {pull_ce}, which is a − t; the "
        "squared error with {pull_mse}.",
        lambda n: (
            abs(n["pull_ce"] - (n["a"] - 1)) < 1e-12
            and abs(n["pull_mse"] - 2 * (n["a"] - 1) * n["a"] * (1 - n["a"])) < 1e-12
        ),
    ),
    Claim(
        "From the same wrong start, after {updates} updates with the same learning rate, {right_ce:%} of the points "
        "are right with cross entropy and {right_mse:%} with the squared error.",
        lambda n: n["right_ce"] > 0.95 and n["right_mse"] < 0.5,
    ),
    Claim(
        "At an error of 4 the squared error pulls with {pull_square}, absolute error and Huber with {pull_absolute}.",
        lambda n: n["pull_square"] == 8 and n["pull_absolute"] == n["pull_huber"] == 1,
    ),
)
