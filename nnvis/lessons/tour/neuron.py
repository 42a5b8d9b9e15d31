"""One neuron, followed on paper: inputs 1.0 and 0.5, weights 0.3 and 0.7, bias 0.1."""

from __future__ import annotations

import math

import torch
from torch import nn

from nnvis.figures.neuron import neuron_sum
from nnvis.figures.passes import Neuron
from nnvis.figures.taught import neuron_planes
from nnvis.lessons.explaining import explain
from nnvis.lessons.tour.stage import Claim, Numbers, Stage

WEIGHTS, BIAS = (0.3, 0.7), 0.1


def experiment(stage: Stage) -> Numbers:
    """The sum and the activation; what each weight moves; what the sigmoid does to a large sum."""
    neuron = _computed(stage, WEIGHTS, BIAS)
    steep = _computed(stage, tuple(4 * w for w in WEIGHTS), 4 * BIAS)
    large = _computed(stage, tuple(100 * w for w in WEIGHTS), 100 * BIAS)
    stage.draw("neuron", neuron_sum(neuron))
    stage.draw("plane", neuron_planes({"as on paper": neuron, "weights and bias × 4": steep}))
    return {
        "product1": neuron.terms[0],
        "product2": neuron.terms[1],
        "z": neuron.z,
        "a": neuron.a,
        "push1": _computed(stage, (WEIGHTS[0] + 0.1, WEIGHTS[1]), BIAS).z - neuron.z,
        "push2": _computed(stage, (WEIGHTS[0], WEIGHTS[1] + 0.1), BIAS).z - neuron.z,
        "a_steep": steep.a,
        "z_large": large.z,
        "a_large": large.a,
    }


def _computed(stage: Stage, weights: tuple[float, ...], bias: float) -> Neuron:
    """What the network of the lesson's config computes with these parameters."""
    subject = stage.open()
    subject.model.double()  # 0.3 is another number in float32
    layer = subject.model.get_submodule("linear1")
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([weights], dtype=torch.float64))
        layer.bias.fill_(bias)
    neuron = explain(subject).neuron
    assert neuron
    return neuron


CLAIMS = (
    Claim(
        "z = 0.3 · 1.0 + 0.7 · 0.5 + 0.1 = {z}, and a = σ({z}) = {a:2}.",
        lambda n: math.isclose(n["z"], 0.75) and math.isclose(n["a"], 1 / (1 + math.exp(-0.75))),
    ),
    Claim(
        "The same change of a weight moves the sum by {push1} at the input 1.0 and by {push2} at the input 0.5.",
        lambda n: math.isclose(n["push1"], 0.1 * 1.0) and math.isclose(n["push2"], 0.1 * 0.5),
    ),
    Claim(
        "With weights and bias a hundred times as large the sum is {z_large}, and a is {a_large}: σ is flat there.",
        lambda n: math.isclose(n["z_large"], 100 * n["z"]) and math.isclose(n["a_large"], 1),
    ),
)
