"""The chain rule by hand, by autograd and by finite differences; and the gradient on its way through depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure

from nnvis.figures.depth import gradient_factors, norm
from nnvis.figures.neuron import weight_chain
from nnvis.figures.passes import Stage as Layer
from nnvis.figures.taught import Curve, Panel, panels
from nnvis.figures.words import number
from nnvis.lessons.explaining import explain
from nnvis.lessons.passes import Passes, both_passes, laid_open, loss_of
from nnvis.lessons.subject import Subject
from nnvis.lessons.tour.stage import Claim, Numbers, Stage
from nnvis.record.vocabulary import FloatArray

DEPTHS = (2, 4, 8, 16)
ROWS = 10
STEP = 1e-6  # of a finite difference


def experiment(stage: Stage, seed: int = 0) -> Numbers:
    """One weight's derivative and all of them, each in three ways; how much of δ a layer leaves, for several depths."""
    subject = stage.open(seed=seed)
    explanation = explain(subject)
    weight, passes = explanation.weight, explanation.passes
    assert weight
    left = {depth: [_left(stage, depth, "sigmoid", seed + i) for i in range(3)] for depth in DEPTHS}
    deepest = DEPTHS[-1]
    left_tanh = min(_left(stage, deepest, "tanh", seed + i) for i in range(3))
    deep = explain(_deep(stage, deepest, "sigmoid", seed)).passes.stages
    factors = [share ** (1 / (deepest - 1)) for share in left[deepest]]
    stage.draw("chain", weight_chain(weight))
    stage.draw("depth", gradient_factors(deep))
    stage.draw("depths", _by_depth(left))
    return {
        "grad_a": weight.grad_a[0],
        "slope": weight.slope[0],
        "x": weight.x[0],
        "product": weight.product,
        "difference": weight.difference,
        "weights": sum(gradient.size for gradient in passes.gradients.values()),
        "by_hand": _largest_error(passes, chain_rule(passes)),
        "by_difference": _largest_error(passes, finite_differences(subject)),
        "steepest": max(float(layer.slope.max()) for layer in deep[:-1]),
        "deepest": deepest,
        "between": deepest - 1,
        "left": float(np.median(left[deepest])),
        "textbook": 0.25 ** (deepest - 1),
        "factor_low": min(factors),
        "factor_high": max(factors),
        "factor_tanh": left_tanh ** (1 / (deepest - 1)),
    }


def chain_rule(passes: Passes) -> dict[str, FloatArray]:
    """Backpropagation by hand through a chain of sigmoid layers with cross entropy at its end: ∂L/∂parameter."""
    layers = passes.stages
    exponentials = np.exp(passes.outputs - passes.outputs.max())
    delta = exponentials / exponentials.sum() - np.eye(len(exponentials))[int(passes.targets)]
    found: dict[str, FloatArray] = {}
    for layer, before in zip(reversed(layers), [*reversed(layers[:-1]), None], strict=True):
        found[f"{layer.name}.weight"], found[f"{layer.name}.bias"] = np.outer(delta, layer.x), delta
        if before is not None:
            assert layer.weight is not None
            delta = layer.weight.T @ delta * before.a * (1 - before.a)
    return found


def finite_differences(subject: Subject) -> dict[str, FloatArray]:
    """∂L/∂parameter of the first training row by nudging every parameter up and down."""
    network, train = laid_open(subject.model), subject.splits.train
    loss = lambda: loss_of(network, subject.objective.function, train.inputs[:1], train.targets[:1])  # noqa: E731
    found: dict[str, FloatArray] = {}
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            flat, slopes = parameter.view(-1), np.empty(parameter.numel())
            for i in range(len(flat)):
                value, losses = float(flat[i]), []
                for nudged in (value + STEP, value - STEP):
                    flat[i] = nudged
                    losses.append(loss())
                flat[i] = value
                slopes[i] = (losses[0] - losses[1]) / (2 * STEP)
            found[name] = slopes.reshape(parameter.shape)
    return found


def left_of(layers: Sequence[Layer]) -> float:
    """The norm of the first hidden layer's δ over that of the last hidden layer."""
    first, last = layers[0].delta, layers[-2].delta
    assert first is not None
    assert last is not None
    return norm(first) / norm(last)


def _largest_error(passes: Passes, found: dict[str, FloatArray]) -> float:
    """The largest difference to autograd's derivatives."""
    return max(float(np.abs(found[name] - gradient).max()) for name, gradient in passes.gradients.items())


def _deep(stage: Stage, depth: int, activation: str, seed: int) -> Subject:
    layers = ("model.hidden=null", f"model.depth={depth}", "model.width=16", f"model.activation={activation}")
    return stage.open(*layers, seed=seed)


def _left(stage: Stage, depth: int, activation: str, seed: int) -> float:
    """`left_of` a network of this depth before training, the geometric mean over rows."""
    subject = _deep(stage, depth, activation, seed)
    network, train = laid_open(subject.model), subject.splits.train
    row = lambda i: (train.inputs[i : i + 1], train.targets[i : i + 1])  # noqa: E731
    shares = [left_of(both_passes(network, subject.objective.function, *row(i)).stages) for i in range(ROWS)]
    return float(np.exp(np.mean(np.log(shares))))


def _by_depth(left: dict[int, list[float]]) -> Figure:
    depths = np.array(DEPTHS, dtype=float)
    seeds = [Curve(depths, np.array(each), f"seed {i}") for i, each in enumerate(zip(*left.values(), strict=True))]
    textbook = Curve(depths, 0.25 ** (depths - 1), "0.25ᴸ⁻¹")
    return panels(
        f"Of the last hidden layer's gradient the first gets {number(float(np.median(left[DEPTHS[-1]])))} "
        f"through {DEPTHS[-1]} sigmoid layers",
        f"‖δ‖ of the first hidden layer over that of the last, before training: geometric mean over {ROWS} rows, and "
        "0.25 for each layer between them.",
        [Panel("", "hidden layers L", "‖δ first‖ / ‖δ last‖", [*seeds, textbook], log_y=True)],
    )


CLAIMS = (
    Claim(
        "The chain rule by hand gives autograd's {weights} derivatives, and so do finite differences; the largest "
        "errors are {by_hand:1} and {by_difference:1}.",
        lambda n: n["by_hand"] < 1e-14 and n["by_difference"] < 1e-8,
    ),
    Claim(
        "Layer by layer the gradient falls about as the textbook says: {factor_low:2} to {factor_high:2} a layer, "
        "beside 0.25.",
        lambda n: n["factor_low"] > 0.15 and n["factor_high"] < 0.3,
    ),
    Claim(
        "Through {deepest} such layers {left} is left; tanh leaves {factor_tanh:2} a layer in the worst of three "
        "seeds.",
        lambda n: n["left"] < 1e-7 and n["factor_tanh"] > 2 * n["factor_high"],
    ),
)
