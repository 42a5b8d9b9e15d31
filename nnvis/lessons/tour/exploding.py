"""Twenty layers that each make signal and gradient 1.4 times as large, and three ways to mend it."""

from __future__ import annotations

import math

from nnvis.figures.reading import chance_loss
from nnvis.figures.study_curves import learning_curves
from nnvis.figures.study_flow import signal_propagation
from nnvis.figures.study_weights import clip_factor
from nnvis.lessons.tour.stage import Claim, Numbers, Stage
from nnvis.lessons.tour.variants import SEED, diverged_at, growth_per_layer, result, side_by_side

SPREAD, WIDTH, DEPTH = 0.25, 64, 20
VARIANTS = {
    "too large": (),
    "clipping": ("training.clip_grad_norm=10.0",),
    "He": ("model.init=kaiming_uniform",),
    "layer norm": ("model.norm=layer",),
}

UNCLIPPED = {name: change for name, change in VARIANTS.items() if name != "clipping"}  # clipping starts as it does


def experiment(stage: Stage) -> Numbers:
    """The factor a layer, forward and back, what it comes to, and what each remedy makes of it."""
    study = side_by_side(stage, VARIANTS)
    sick, clipped, he, norm = (study.runs[variant][SEED] for variant in VARIANTS)
    stage.draw("signal", signal_propagation(side_by_side(stage, UNCLIPPED)).figure)
    stage.draw("curves", learning_curves(study).figure)
    stage.draw("clipping", clip_factor(study).figure)
    expected, factor = SPREAD * math.sqrt(WIDTH / 2), growth_per_layer(sick)
    factor_back = 1 / growth_per_layer(sick, "activation_grad_rms")
    return {
        "expected": expected,
        "factor": factor,
        "factor_back": factor_back,
        "factor_he": growth_per_layer(he),
        "growth_expected": expected ** (DEPTH - 1),
        "growth": factor ** (DEPTH - 1),
        "growth_back": factor_back ** (DEPTH - 1),
        "loss_start": float(sick.scalars["loss/train"].values[0]),
        "guessing": chance_loss(he) or math.nan,
        "gradient_start": float(sick.scalars["grad_norm/total"].values[0]),
        "steps": diverged_at(sick),
        "clip_first": float(clipped.scalars["clip_factor"].values[0]),
        "accuracy_clipping": result(clipped, "accuracy", "val"),
        "accuracy_he": result(he, "accuracy", "val"),
        "accuracy_norm": result(norm, "accuracy", "val"),
    }


CLAIMS = (
    Claim(
        "Expected are ×{expected:3} a layer; measured are ×{factor:3} forward and ×{factor_back:3} back.",
        lambda n: all(0.85 < n[name] / n["expected"] < 1.15 for name in ("factor", "factor_back")),
    ),
    Claim(
        "Over the depth that is ×{growth:2}, and training diverges within 10 steps (at step {steps}).",
        lambda n: n["growth"] > 100 and n["steps"] <= 10,
    ),
    Claim(
        "Each remedy trains: clipping {accuracy_clipping:%}, He {accuracy_he:%}, layer norm {accuracy_norm:%}.",
        lambda n: min(n["accuracy_clipping"], n["accuracy_he"], n["accuracy_norm"]) > 0.4,
    ),
    Claim(
        "Removing the cause (He {accuracy_he:%}, layer norm {accuracy_norm:%}) is worth more than clipping "
        "({accuracy_clipping:%}).",
        lambda n: min(n["accuracy_he"], n["accuracy_norm"]) > n["accuracy_clipping"],
    ),
)
