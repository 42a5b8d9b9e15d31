"""How good a model is on a split, told without leaving a trace in its training.

evaluate(learner, split)     # {"loss": 0.31, "accuracy": 0.92}
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn

from nnvis.training.learner import Learner, Placed
from nnvis.training.randomness import untouched

_BYTES_A_BATCH = 2**17
_ROWS_AT_LEAST, _LARGE_ROWS_AT_LEAST = 256, 32


def evaluate(learner: Learner, split: Placed) -> dict[str, float]:
    """Mean loss over all rows of the split, and accuracy in [0, 1] for classification.

    In eval mode and without gradients. Batch statistics, random numbers and each module's own mode stay as they were.
    """
    losses, correct, sizes = [], [], []
    with evaluating(learner.model), _drawing_leaves_no_trace(learner.precision.device), torch.no_grad():
        size = _batch_size(learner, split)
        for inputs, targets in zip(split.inputs.split(size), split.targets.split(size), strict=True):
            outputs, loss = learner.loss(inputs, targets, learner.model)
            losses.append(loss)
            sizes.append(len(inputs))
            if learner.objective.classifies:
                correct.append(learner.objective.correct(outputs, targets))
    means = torch.stack(losses).tolist()  # the device is waited for here
    metrics = {"loss": sum(mean * size for mean, size in zip(means, sizes, strict=True)) / len(split)}
    if correct:
        metrics["accuracy"] = sum(torch.stack(correct).tolist()) / len(split)
    return metrics


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every module is in the mode that it was in (a frozen part may stay in eval mode)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _drawing_leaves_no_trace(device: torch.device) -> AbstractContextManager[None]:
    """torch's generators go on afterwards as if nothing had been drawn (python's and numpy's cost 5 times as much)."""
    return torch.random.fork_rng(devices=[]) if device.type == "cpu" else untouched(device)


def _batch_size(learner: Learner, split: Placed) -> int:
    """Rows at a time: small batches are slow, large ones would take more memory than training does.

    Of large rows a CPU takes fewer than training does, and is no slower: what they leave fits where training's was.
    """
    size = learner.settings.batch_size
    if size == "full":
        return len(split)
    fitting = _BYTES_A_BATCH // max(split.inputs[0].nbytes, 1)
    least = min(size, _LARGE_ROWS_AT_LEAST) if learner.precision.device.type == "cpu" else size
    return max(least, min(max(2 * size, _ROWS_AT_LEAST), fitting))
