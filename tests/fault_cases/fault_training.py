"""A fault case is trained by a plain loop that nnvis watches: `train_case(case, seed, folder)` leaves a record there.

Beside the record lies outcome.json: what became of the run, measured by this loop and not by nnvis. It tells whether a
fault had a consequence at this size; the diagnosis does not read it.
"""

from __future__ import annotations

import json
import math
import shutil
import time
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from fault_data import Data, make_data
from fault_facts import Case
from fault_parts import OF_CLASSES, SUMMED, Loss, build_loss, build_model, build_optimizer, gives_logits
from torch import Tensor, nn

import nnvis

CHECKS = 20  # evaluations of a run, besides the one before it
MOST_SECONDS = 20.0  # of processor time, for one run: a net, all of them need less
STEPS_AFTER_NONFINITE = 50
PROBE_ROWS = 1024


@dataclass(frozen=True)
class Outcome:
    """What became of a run. Losses are means over rows; a score is the accuracy, or R² where targets are numbers."""

    case: str
    seed: int
    planned: int  # steps
    null: float  # loss of the best constant answer for the training rows
    steps: list[int] = field(default_factory=list)  # updates completed at each evaluation
    train: list[float] = field(default_factory=list)
    val: list[float] = field(default_factory=list)  # empty where there are no validation rows
    train_score: list[float] = field(default_factory=list)
    val_score: list[float] = field(default_factory=list)
    nonfinite: int | None = None  # the first step whose loss was not finite

    @property
    def score(self) -> float:
        """At the end, on validation rows where there are some."""
        return (self.val_score or self.train_score)[-1]


def read_outcome(folder: Path) -> Outcome:
    return Outcome(**json.loads((folder / "outcome.json").read_text()))


def train_case(case: Case, seed: int, folder: Path) -> Outcome:
    """Train it anew; a folder that exists is removed first."""
    shutil.rmtree(folder, ignore_errors=True)
    data = make_data(case, seed)
    torch.manual_seed(seed)
    model, loss_fn = build_model(case, data.inputs), build_loss(case)
    optimizer, schedule = build_optimizer(case, model)
    order = torch.Generator().manual_seed(seed)
    outcome = Outcome(case.id, seed, case.steps, best_constant_loss(case, data.targets))
    evaluate_at = set(np.linspace(0, case.steps, CHECKS + 1).round().astype(int))
    probe_data = data.inputs[:PROBE_ROWS], data.targets[:PROBE_ROWS]
    val_data = (data.val_inputs, data.val_targets) if len(data.val_inputs) else None
    began_s, nonfinite, batches = time.process_time(), None, iter(())
    with (
        warnings.catch_warnings(action="ignore"),  # nnvis tells of NaN where there is NaN
        nnvis.watch(
            model, optimizer, log_dir=folder, loss_fn=loss_fn, probe_data=probe_data, val_data=val_data
        ) as probe,
    ):
        for step in range(case.steps + 1):
            out_of_time = time.process_time() - began_s > MOST_SECONDS
            over = step == case.steps or out_of_time
            if nonfinite is not None and step - nonfinite > STEPS_AFTER_NONFINITE:
                over = True
            if step in evaluate_at or over:
                with torch.no_grad():
                    _evaluate(case, model, loss_fn, data, step, outcome)
                if outcome.val:
                    probe.log(val_loss=outcome.val[-1], val_accuracy=outcome.val_score[-1])
            if over:
                break
            batch = next(batches, None)
            if batch is None:
                batches = iter(torch.randperm(len(data.inputs), generator=order).split(case.batch_size))
                batch = next(batches)
            optimizer.zero_grad()
            loss = loss_fn(model(data.inputs[batch]), data.targets[batch])
            loss.backward()
            optimizer.step()
            schedule.step()
            probe.log(loss=loss)
            if nonfinite is None and not math.isfinite(loss.item()):
                nonfinite = step
    outcome = Outcome(**{**asdict(outcome), "nonfinite": nonfinite})
    (folder / "outcome.json").write_text(json.dumps(asdict(outcome)))
    return outcome


def best_constant_loss(case: Case, targets: Tensor) -> float:
    """The least mean loss over rows (nats, or squared or absolute units) of an answer that ignores the inputs."""
    if case.loss in OF_CLASSES:
        shares = torch.bincount(targets).double() / len(targets)
        return float(-torch.special.xlogy(shares, shares).sum())
    targets = targets.double()
    if case.loss == "binary_crossentropy":
        mean = targets.mean(0)
        return float(-(torch.special.xlogy(mean, mean) + torch.special.xlogy(1 - mean, 1 - mean)).mean())
    if case.loss == "mae":
        return float((targets - targets.quantile(0.5, dim=0)).abs().mean())
    squared = float(targets.var(0, correction=0).mean()) if targets.dim() == 2 else float(targets.var(correction=0))
    return squared / 2 if case.loss == "half_mse" else squared


def _evaluate(case: Case, model: nn.Module, loss_fn: Loss, data: Data, step: int, outcome: Outcome) -> None:
    model.eval()
    parts = [("train", data.inputs[:2000], data.targets[:2000])]
    if len(data.val_inputs):
        parts.append(("val", data.val_inputs, data.val_targets))
    outcome.steps.append(step)
    for part, inputs, targets in parts:
        outputs = model(inputs)
        loss = float(loss_fn(outputs, targets)) / (len(targets) if case.loss in SUMMED else 1)
        losses, scores = (outcome.train, outcome.train_score) if part == "train" else (outcome.val, outcome.val_score)
        losses.append(loss)
        scores.append(_score(case, outputs, targets))
    model.train()


def _score(case: Case, outputs: Tensor, targets: Tensor) -> float:
    if case.task == "multiclass":
        classes = targets if case.loss in OF_CLASSES else targets.argmax(-1)
        return float((outputs.argmax(-1) == classes).double().mean())
    if case.task == "binary":
        return float(((outputs > (0 if gives_logits(case) else 0.5)) == (targets > 0.5)).double().mean())
    outputs = outputs.sigmoid() if gives_logits(case) else outputs
    error = (outputs.double() - targets.double()).square().mean()
    return 1 - float(error / (targets.double() - targets.double().mean(0)).square().mean())
