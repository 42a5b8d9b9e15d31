"""One network for each kind of data, and the same questions asked of all."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from nnvis.data import Splits, load_splits
from nnvis.figures.curves import learning_curves
from nnvis.figures.facts import first_to_last
from nnvis.lessons.tour.stage import Claim, Numbers, Stage
from nnvis.lessons.tour.variants import result
from nnvis.record import Run

KINDS = ("image", "text", "series", "table")


def experiment(stage: Stage) -> Numbers:
    """Each network beside the best answer that ignores its input; its gradient, its pace, its gap."""
    numbers: Numbers = {}
    for kind in KINDS:
        run = stage.train(of=kind)
        splits = load_splits(stage.config(of=kind).data, stage.config(of=kind).seed)
        stage.draw(kind, learning_curves(run))
        numbers |= {f"{kind}_{name}": value for name, value in answers(run, splits).items()}
        if splits.classes:
            numbers[f"{kind}_accuracy"] = result(run, "accuracy", "val")
        if kind == "series":
            numbers["series_rows"] = len(splits.train)
        if kind == "table" and splits.val:
            numbers |= {"table_rows": len(splits.val), "table_one": 1 / len(splits.val)}
    return numbers


def answers(run: Run, splits: Splits) -> Numbers:
    """To the four questions."""
    guess, val = guessing(splits), result(run, "loss", "val")
    norms, pace = run.layers["grad_norm"], run.layers["update_ratio"]
    return {
        "guess": guess,
        "val": val,
        "left": val / guess,
        "ratio": first_to_last(norms.values[0][norms.present[0]]),
        "pace": float(np.median(pace.values[pace.present])),
        "gap": val - result(run, "loss", "train"),
    }


def guessing(splits: Splits) -> float:
    """The validation loss of the best constant answer: the frequencies of the training classes, or the mean target."""
    assert splits.val is not None
    train, val = splits.train.targets, splits.val.targets
    if not splits.classes:
        return float(((val.double() - train.double().mean(dim=0)) ** 2).mean())
    frequencies = torch.bincount(train, minlength=len(splits.classes)).double() / len(train)
    return float(functional.nll_loss(frequencies.log().expand(len(val), -1), val))


CLAIMS = (
    Claim(
        "Each is better than the best answer that ignores the input; of its loss are left {image_left:%}, "
        "{text_left:%}, {series_left:%} and {table_left:%}.",
        lambda n: all(n[f"{kind}_left"] < 0.6 for kind in KINDS),
    ),
    Claim(
        "The first layer's gradient is within a factor of 100 of the last one's: {image_ratio:2}, {text_ratio:2}, "
        "{series_ratio:2} and {table_ratio:2}.",
        lambda n: all(0.01 < n[f"{kind}_ratio"] < 100 for kind in KINDS),
    ),
    Claim(
        "The median step is between 10⁻⁴ and 10⁻¹ of the weights: {image_pace:1}, {text_pace:1}, {series_pace:1} and "
        "{table_pace:1}.",
        lambda n: all(1e-4 < n[f"{kind}_pace"] < 1e-1 for kind in KINDS),
    ),
)
