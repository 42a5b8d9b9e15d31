"""One network started in four ways: with units that are alike, with weights too small, too large, and by He."""

from __future__ import annotations

import math

import numpy as np

from nnvis.figures import passes
from nnvis.figures.depth import forward_values
from nnvis.figures.reading import chance_loss, layer_table, nonlinearities
from nnvis.figures.study_curves import learning_curves
from nnvis.figures.study_flow import signal_propagation
from nnvis.lessons.explaining import explain
from nnvis.lessons.subject import open_subject
from nnvis.lessons.tour.stage import Claim, Numbers, Stage
from nnvis.lessons.tour.variants import SEED, diverged_at, growth_per_layer, result, side_by_side, titled
from nnvis.record import Run

SMALL, LARGE = 0.02, 0.5
STARTS = {
    "He": (),
    "constant": ("model.init={kind: constant, value: 0.02}",),
    "too small": (f"model.init={{kind: normal, std: {SMALL}}}",),
    "too large": (f"model.init={{kind: normal, std: {LARGE}}}",),
}


def experiment(stage: Stage) -> Numbers:
    """Whether units became different, how the signal went through depth, and what was learned."""
    study = side_by_side(stage, STARTS)
    he, constant, small, large = (study.runs[start][SEED] for start in STARTS)
    stage.draw(
        "copies", titled(forward_values(_lit(constant)), "From a constant start all units of a layer are copies")
    )
    stage.draw("different", titled(forward_values(_lit(he)), "From a random start every unit is another"))
    stage.draw("signal", signal_propagation(study).figure)
    stage.draw("curves", learning_curves(study).figure)
    return {
        "spread_constant": largest_difference(constant),
        "spread_he": largest_difference(he),
        "accuracy_constant": result(constant, "accuracy", "val"),
        "accuracy_he": result(he, "accuracy", "val"),
        "accuracy_small": result(small, "accuracy", "val"),
        "expected_small": SMALL * math.sqrt(64 / 2),
        "expected_large": LARGE * math.sqrt(64 / 2),
        "factor_small": growth_per_layer(small),
        "factor_he": growth_per_layer(he),
        "factor_large": growth_per_layer(large),
        "signal_small": _signal_at_the_end(small),
        "signal_he": _signal_at_the_end(he),
        "signal_large": _signal_at_the_end(large),
        "loss_large": float(large.scalars["loss/train"].values[0]),
        "guessing": chance_loss(he) or math.nan,
        "steps_large": diverged_at(large),
    }


def _lit(run: Run) -> tuple[passes.Stage, ...]:
    """The stages of the first training row at which no layer is 0 as a whole, with the weights after training."""
    subject = open_subject(run.path)
    rows = (explain(subject, sample=row).passes.stages for row in range(len(subject.splits.train)))
    return next((stages for stages in rows if all(stage.a.any() for stage in stages)), explain(subject).passes.stages)


def largest_difference(run: Run) -> float:
    """Between the weights of any two units of a hidden layer, after training."""
    weights = [w.detach().double().numpy() for w in run.load_model().parameters() if w.dim() == 2][:-1]
    return float(max(np.ptp(w, axis=0).max() for w in weights))


def _signal_at_the_end(run: Run) -> float:
    """Its spread at the last nonlinearity, before any training."""
    return float(nonlinearities(run, layer_table(run, "activation_std")).values[0, -1])


CLAIMS = (
    Claim(
        "Units that start alike stay alike: after training no two of a layer differ by more than {spread_constant}.",
        lambda n: n["spread_constant"] == 0 < n["spread_he"],
    ),
    Claim(
        "From a constant start the network reads {accuracy_constant:%} of the digits, from He's {accuracy_he:%}.",
        lambda n: n["accuracy_constant"] < 0.4 and n["accuracy_he"] > 0.85,
    ),
    Claim(
        "Each layer multiplies the signal by about spread · √(64/2): expected {expected_small:2}, 1 and "
        "{expected_large:2}, measured {factor_small:2}, {factor_he:2} and {factor_large:2}.",
        lambda n: all(
            0.8 < n[f"factor_{start}"] / expected < 1.25
            for start, expected in (("small", n["expected_small"]), ("he", 1.0), ("large", n["expected_large"]))
        ),
    ),
    Claim(
        "Weights that are too small learn nothing ({accuracy_small:%}), those that are too large diverge "
        "(at step {steps_large}).",
        lambda n: n["accuracy_small"] < 0.2 and n["steps_large"] <= 10,
    ),
)
