"""A few rows learned by heart: what a network that is put together rightly can do, whatever else it cannot.

values = learn_by_heart(checker)             # arrays by quantity, to go into the check of step 0

Adam at two rates, without dropout and decay, so that the optimizer and the learning rate of the training have no part
in it. Everything is put back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nnvis.probe.branches import add_gradients
from nnvis.probe.checks import Checker, Rows, tensors
from nnvis.probe.curvature import NotKnown
from nnvis.probe.untouched import gradients_kept, on_the_side
from nnvis.record.vocabulary import FloatArray

ROWS, STEPS = 16, 300
RATES = (1e-3, 1e-2)
KNOWN = 0.05
"""Rows are known by heart where their loss is below this share of the way from the least to the constant output's."""
_LOOK_EVERY = 10


def learn_by_heart(checker: Checker) -> dict[str, FloatArray]:
    """What 16 of the fixed rows lose after at most 300 full-batch steps, by the better of two rates.

    Of rows with the same inputs the first one is taken: they may have different targets. Raises NotKnown where
    nothing can be asked: too few rows, nothing to train, or nothing that a constant output would not get right.
    """
    rows = _distinct(checker.rows)
    parameters = [parameter for parameter in checker.trained.parameters() if parameter.requires_grad]
    if len(rows) < ROWS:
        raise NotKnown(f"{ROWS} rows that differ are needed to be learned by heart, there are {len(rows)}")
    if not parameters:
        raise NotKnown("there is nothing to train")
    with on_the_side(checker.trained):
        constant, least = checker.bounds(rows)
    if constant is None or not np.isfinite(constant).all() or not constant.mean() > 0:
        raise NotKnown("what the best constant output would get is 0, or not known for this loss")
    floor, tries = (0.0 if least is None else float(least.mean())), []
    goal = floor + KNOWN * (float(constant.mean()) - floor)
    for rate in RATES:
        tries.append(_learn(checker, rows, parameters, rate, goal))
        if tries[-1][1] < STEPS:
            break
    losses, steps = min(tries, key=lambda found: float(np.nan_to_num(found[0].mean(), nan=math.inf)))
    return {
        "diagnosis_heart_row_loss": losses,
        "diagnosis_heart_row_loss_constant": constant,
        **({} if least is None else {"diagnosis_heart_row_loss_least": least}),
        "diagnosis_heart_steps": np.array([steps, STEPS], float),
    }


def _distinct(rows: Rows) -> Rows:
    """At most 16, no two of which have the same inputs."""
    inputs = [tensor.detach().cpu() for tensor in tensors(rows.inputs) if tensor.dim()]
    first: dict[bytes, int] = {}
    for row in range(len(rows)):
        first.setdefault(b"".join(_bytes(part[row]) for part in inputs), row)
        if len(first) == ROWS:
            break
    return rows.pick(torch.tensor([*first.values()]))


def _bytes(tensor: Tensor) -> bytes:
    """Of its numbers; numpy has no bfloat16."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _learn(
    checker: Checker, rows: Rows, parameters: Sequence[Tensor], rate: float, goal: float
) -> tuple[FloatArray, int]:
    """(H,) the losses at the end, and the steps that were made."""
    optimizer = torch.optim.Adam(parameters, lr=rate)  # pyright: ignore[reportArgumentType]
    made = 0
    with gradients_kept(parameters), on_the_side(checker.trained), torch.enable_grad():
        losses = checker.row_losses(rows)
        while made < STEPS and not losses.mean() < goal:
            for _ in range(_LOOK_EVERY):
                loss = checker.loss(rows)
                if not loss.requires_grad:
                    return losses, STEPS
                optimizer.zero_grad()
                add_gradients(loss, parameters, dense=True)
                optimizer.step()
            made += _LOOK_EVERY
            losses = checker.row_losses(rows)
    return losses, made
