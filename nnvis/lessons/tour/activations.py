"""One network on XOR without an activation, with tanh and with ReLU; and what activations do to the gradient."""

from __future__ import annotations

from functools import reduce

import numpy as np
import torch
from torch import nn

from nnvis.figures.functions import activation_functions
from nnvis.figures.planes import regions_compared
from nnvis.figures.words import percent
from nnvis.lessons.passes import laid_open, steepest
from nnvis.lessons.planes import plane_of
from nnvis.lessons.subject import Subject, open_subject
from nnvis.lessons.tour.stage import Claim, Numbers, Stage
from nnvis.record import Run
from nnvis.record.vocabulary import FloatArray

KINDS = {"identity": "no activation", "tanh": "tanh", "relu": "ReLU"}


def experiment(stage: Stage, seed: int = 0) -> Numbers:
    """Three activations, three seeds from `seed` on; the product of the linear maps; slopes by autograd."""
    runs = {
        kind: [stage.train(f"name={kind}", f"model.activation={kind}", seed=seed + i) for i in range(3)]
        for kind in KINDS
    }
    right = {kind: [_accuracy(run) for run in each] for kind, each in runs.items()}
    linear = open_subject(runs["identity"][0].path)
    shown = {
        f"{name}: {percent(right[kind][0])} right": plane_of(open_subject(runs[kind][0].path))
        for kind, name in KINDS.items()
    }
    best = percent(max(right["identity"]))
    title = f"Without an activation: a straight line, {best} right in the best of three seeds"
    stage.draw("regions", regions_compared(title, "One of three seeds.", shown))
    stage.draw("functions", activation_functions())
    numbers: Numbers = {
        "identity": max(right["identity"]),
        "tanh": min(right["tanh"]),
        "relu": min(right["relu"]),
        "weights": sum(parameter.numel() for parameter in linear.model.parameters()),
        "collapsed": collapse_error(linear),
    }
    for name, function in (("sigmoid", nn.Sigmoid()), ("tanh", nn.Tanh()), ("relu", nn.ReLU())):
        numbers[f"{name}_most"], numbers[f"{name}_far"] = steepest(function) or 0.0, slope_at(function, 5.0)
    return numbers


def collapse_error(subject: Subject) -> float:
    """How far the product of a network's linear maps is from the network, at its training rows."""
    network, x = laid_open(subject.model), subject.splits.train.inputs.double().numpy()
    layers = [
        (layer.weight.detach().numpy(), layer.bias.detach().numpy())
        for layer in network.modules()
        if isinstance(layer, nn.Linear)
    ]
    weight, bias = reduce(_behind, layers)
    with torch.no_grad():
        outputs = network(torch.from_numpy(x)).numpy()
    return float(np.abs(outputs - (x @ weight.T + bias)).max())


def slope_at(function: nn.Module, z: float) -> float:
    """The derivative of an activation at z, by autograd."""
    at = torch.tensor(z, dtype=torch.float64, requires_grad=True)
    return float(torch.autograd.grad(function(at), at)[0])


def _behind(
    first: tuple[FloatArray, FloatArray], second: tuple[FloatArray, FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """W and b of two linear maps as one."""
    return second[0] @ first[0], second[0] @ first[1] + second[1]


def _accuracy(run: Run) -> float:
    return run.summary["metrics"]["train"]["accuracy"]


CLAIMS = (
    Claim(
        "Without an activation a network is one linear map, and XOR stays unlearned: {identity:%} right in the best of "
        "three seeds. With one, the worst of three gets {tanh:%} (tanh) and {relu:%} (ReLU).",
        lambda n: n["identity"] < 0.75 and min(n["tanh"], n["relu"]) > 0.93,
    ),
    Claim(
        "The product of the weight matrices gives the network's outputs; the largest difference is {collapsed:1}.",
        lambda n: n["collapsed"] < 1e-12,
    ),
    Claim(
        "The slope of sigmoid is {sigmoid_most} at most, that of tanh and ReLU {tanh_most}; at z = 5 sigmoid has "
        "{sigmoid_far} left, tanh {tanh_far}, ReLU all of it.",
        lambda n: (
            n["sigmoid_most"] == 0.25
            and n["tanh_most"] == n["relu_most"] == n["relu_far"] == 1
            and n["tanh_far"] < n["sigmoid_far"] < 0.01
        ),
    ),
)
