"""A deep sigmoid network beside its ReLU twin: the factors of the gradient, and who learns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import nn

from nnvis.figures.curves import learning_curves_compared
from nnvis.figures.depth import Flow, flow_of, gradient_factors, norm
from nnvis.figures.passes import Stage as Layer
from nnvis.lessons.tour.stage import Claim, Numbers, Stage
from nnvis.lessons.tour.variants import result
from nnvis.record import Run
from nnvis.record.vocabulary import FloatArray

RELU = ("name=relu", "model.activation=relu", "model.init=kaiming_uniform")


def experiment(stage: Stage) -> Numbers:
    """The gradient's way back through both networks before training, and what each of them has learned."""
    sigmoid, relu = (stage.explain(*overrides).passes.stages for overrides in ((), RELU))
    stage.draw("sigmoid", gradient_factors(sigmoid))
    stage.draw("relu", gradient_factors(relu))
    runs = stage.train(), stage.train(*RELU)
    stage.draw("curves", learning_curves_compared(*runs))
    flow, (slopes, weights) = flow_of(sigmoid), factors_by_hand(sigmoid)
    moved = movements(runs[0], stage.open().model)
    return {
        "textbook": float(flow.textbook[0]),
        "slopes_product": float(slopes.prod()),
        "weights_product": float(weights.prod()),
        "product": float((slopes * weights).prod()),
        "ratio": _ratio(flow),
        "ratio_relu": _ratio(flow_of(relu)),
        "slope": _mean(slopes),
        "weights": _mean(weights),
        "factor": _mean(slopes * weights),
        "steps": int(runs[0].summary["steps"]),
        "accuracy_sigmoid": result(runs[0], "accuracy", "val"),
        "accuracy_relu": result(runs[1], "accuracy", "val"),
        "moved_first": moved[0],
        "moved_last": moved[-1],
    }


def movements(run: Run, start: nn.Module) -> list[float]:
    """How far training has moved each layer's weights from where they started, as a share of their size there."""
    ways = zip(run.load_model().parameters(), start.parameters(), strict=True)
    pairs = [(w.detach().double(), w0.detach().double()) for w, w0 in ways if w0.dim() == 2]
    return [float((w - w0).norm() / w0.norm()) for w, w0 in pairs]


def factors_by_hand(layers: Sequence[Layer]) -> tuple[FloatArray, FloatArray]:
    """What the slopes leave and what the weights pass back, from W and z through sigmoids alone: (L − 1,) each.

    Only the last layer's δ is autograd's.
    """
    delta, slopes, weights = layers[-1].delta, [], []
    for layer, after in zip(layers[-2::-1], layers[:0:-1], strict=True):
        assert delta is not None
        assert after.weight is not None
        arrives, a = after.weight.T @ delta, 1 / (1 + np.exp(-layer.z))
        weights.append(norm(arrives) / norm(delta))
        delta = arrives * a * (1 - a)
        slopes.append(norm(delta) / norm(arrives))
    return np.array(slopes), np.array(weights)


def _ratio(flow: Flow) -> float:
    return float(flow.norms[0] / flow.norms[-1])


def _mean(factors: FloatArray) -> float:
    """The geometric mean over the layers."""
    return float(np.exp(np.log(factors).mean()))


CLAIMS = (
    Claim(
        "The slopes leave {slopes_product:2} of the gradient, and the weights do not make up for it: they pass back "
        "{weights_product:2}.",
        lambda n: n["slopes_product"] * n["weights_product"] < 1e-9,
    ),
    Claim(
        "Slopes times weights, layer by layer by hand ({product:2}), is what autograd gives the first ({ratio:2}).",
        lambda n: math.isclose(n["product"], n["ratio"], rel_tol=1e-9),
    ),
    Claim(
        "Through the ReLU twin the first layer gets {ratio_relu:2} of the last one's gradient.",
        lambda n: 0.05 < n["ratio_relu"] < 20,
    ),
    Claim(
        "The sigmoid network is left guessing ({accuracy_sigmoid:%}); its twin learns ({accuracy_relu:%}).",
        lambda n: n["accuracy_sigmoid"] < 0.2 and n["accuracy_relu"] > 0.75,
    ),
    Claim(
        "The first layer hardly moves ({moved_first:2} of its size), the last one does ({moved_last:2}).",
        lambda n: n["moved_first"] < 1e-6 < 1e-3 < n["moved_last"],
    ),
)
