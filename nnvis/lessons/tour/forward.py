"""A row goes through a network, before and after training, and every number is computed again."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import log_softmax

from nnvis.figures.depth import forward_values
from nnvis.figures.nodes import network_nodes
from nnvis.figures.passes import Stage as Layer
from nnvis.lessons.explaining import Explanation, explain
from nnvis.lessons.passes import laid_open
from nnvis.lessons.subject import Subject, open_subject
from nnvis.lessons.tour.stage import Claim, Numbers, Stage
from nnvis.record.vocabulary import FloatArray


def experiment(stage: Stage, seed: int = 0) -> Numbers:
    """One row's forward pass with the first and with the last weights; the batch against its rows one by one."""
    run = stage.train(seed=seed)
    start, end = stage.open(seed=seed), open_subject(run.path)
    before, after = explain(start), explain(end)
    stage.draw("network", network_nodes(before.passes.inputs, before.passes.stages))
    stage.draw("before", forward_values(before.passes.stages))
    stage.draw("after", forward_values(after.passes.stages))
    p0, p1 = _probabilities(before)
    target = int(before.passes.targets)
    return {
        "logit0": before.passes.outputs[0],
        "logit1": before.passes.outputs[1],
        "p0": p0,
        "p1": p1,
        "target": target,
        "p_before": _probabilities(before)[target],
        "p_after": _probabilities(after)[target],
        "loss_before": before.passes.loss,
        "loss_apart": max(abs(each.passes.loss + np.log(_probabilities(each)[target])) for each in (before, after)),
        "layers_apart": max(_apart(each.passes.inputs, each.passes.stages) for each in (before, after)),
        "weights": sum(parameter.numel() for parameter in start.model.parameters()),
        "steps": run.summary["steps"],
        "rows": len(start.splits.train),
        "accuracy_before": _accuracy(start),
        "accuracy_after": _accuracy(end),
        "batch_difference": _batch_difference(end),
    }


def _probabilities(found: Explanation) -> FloatArray:
    return np.exp(log_softmax(found.passes.outputs))


def _apart(x: FloatArray, layers: tuple[Layer, ...]) -> float:
    """The largest difference between the network's z and W·x + b, layer by layer, each from the one before."""
    worst = 0.0
    for layer in layers:
        assert layer.weight is not None
        assert layer.bias is not None
        z = layer.weight @ x + layer.bias
        worst = max(worst, float(np.abs(layer.z - z).max()))
        x = np.tanh(z)
    return worst


def _accuracy(subject: Subject) -> float:
    train = subject.splits.train
    with torch.no_grad():
        return float((subject.model(train.inputs).argmax(1) == train.targets).float().mean())


def _batch_difference(subject: Subject) -> float:
    network, inputs = laid_open(subject.model), subject.splits.train.inputs.double()
    with torch.no_grad():
        alone = torch.cat([network(row[None]) for row in inputs])
        return float((network(inputs) - alone).abs().max())


CLAIMS = (
    Claim(
        "Each layer is z = W·x + b and a = tanh(z) of the layer before, and nothing else: computed again by hand, "
        "the numbers are the same but for rounding; the largest difference is {layers_apart:1}.",
        lambda n: n["layers_apart"] < 1e-12,
    ),
    Claim(
        "The loss of a row is −log of the probability that its own class gets: before training "
        "−log({p_before}) = {loss_before}. The two differ by {loss_apart:1}.",
        lambda n: n["loss_apart"] < 1e-12,
    ),
    Claim(
        "Training changes the weights, not the arithmetic: {accuracy_before:%} of the rows are right before it, "
        "{accuracy_after:%} after.",
        lambda n: n["accuracy_after"] > 0.95 > 0.9 > n["accuracy_before"],
    ),
)
