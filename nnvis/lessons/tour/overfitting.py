"""A large network, few rows, wrong labels: the gap, and four remedies, judged by rows that picked nothing."""

from __future__ import annotations

import math

import numpy as np

from nnvis.data import load_splits
from nnvis.figures.course import Curves
from nnvis.figures.curves import learning_curves
from nnvis.figures.study_curves import overfitting
from nnvis.lessons.tour.stage import Claim, Numbers, Stage
from nnvis.lessons.tour.variants import SEED, result, side_by_side

NOISE, EPOCHS, STEPS = 0.3, 150, 1050  # 7 batches an epoch
VARIANTS = {
    "large": (),
    "weight decay": ("optimizer.weight_decay=5.0",),
    "dropout": ("model.dropout=0.5",),
    "early stopping": ("training.early_stopping.patience=5",),
    "more data": ("data.train_size=null", "training.epochs=null", f"training.steps={STEPS}"),
}
SHORT = dict(zip(VARIANTS, ("large", "decay", "dropout", "stopping", "more"), strict=True))
REMEDIES = [*SHORT.values()][1:]


def experiment(stage: Stage) -> Numbers:
    """When the gap opens and how wide it gets; what each remedy costs on the training rows and gains on the others."""
    study = side_by_side(stage, VARIANTS)
    runs = {short: study.runs[variant][SEED] for variant, short in SHORT.items()}
    stage.draw("curves", learning_curves(runs["large"]))
    stage.draw("overfitting", overfitting(study).figure)
    val = runs["large"].scalars["loss/val"]
    best = int(np.argmin(val.values))
    train_end, val_end = (result(runs["large"], "loss", split) for split in ("train", "val"))
    everything = load_splits(stage.config("data.train_size=null").data, stage.config().seed)
    assert everything.test is not None
    test_rows, accuracy = len(everything.test), result(runs["large"], "accuracy", "test")
    numbers: Numbers = {
        "onset": int(Curves.of(runs["large"]).clock.at(val.steps[best : best + 1]).item()),
        "val_best": float(val.values[best]),
        "val_end": val_end,
        "train_end": train_end,
        "gap": val_end - train_end,
        "train_accuracy": result(runs["large"], "accuracy", "train"),
        "test_accuracy": accuracy,
        "wrong": wrong_labels(stage),
        "rows": len(everything.train),
        "test_rows": test_rows,
        "error": 1.96 * math.sqrt(accuracy * (1 - accuracy) / test_rows),
    }
    for short, run in runs.items():
        numbers |= {f"{short}_{split}": result(run, "loss", split) for split in ("train", "val", "test")}
        numbers[f"{short}_accuracy"] = result(run, "accuracy", "test")
    return numbers


def wrong_labels(stage: Stage) -> int:
    """How many of the training rows are labelled wrong."""
    noisy, clean = (
        load_splits(stage.config(*change).data, stage.config().seed) for change in ((), ("data.label_noise=0.0",))
    )
    return int((noisy.train.targets != clean.train.targets).sum())


CLAIMS = (
    Claim(
        "It learns every row by heart ({train_accuracy:%}), {wrong} wrong labels among them.",
        lambda n: n["train_accuracy"] > 0.99 and n["wrong"] == round(NOISE * 200),
    ),
    Claim(
        "The validation loss is best at epoch {onset}, long before the end; it rises from {val_best:3} to {val_end:3}.",
        lambda n: n["onset"] < EPOCHS / 3 and n["val_end"] > 1.1 * n["val_best"],
    ),
    Claim(
        "Each remedy has a higher training loss than the large network ({large_train:2}) and a lower test loss: "
        "{decay_test:3}, {dropout_test:3}, {stopping_test:3} and {more_test:3} in place of {large_test:3}.",
        lambda n: all(
            n[f"{remedy}_train"] > n["large_train"] and n[f"{remedy}_test"] < n["large_test"] for remedy in REMEDIES
        ),
    ),
)
