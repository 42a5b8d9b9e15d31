"""Other learning rates, tried from where a run's training stands: its last checkpoint.

run = branch_run(load_run("runs/digits-mlp/1-seed0"))    # the same run, with what came out in a check of that step
nnvis.diagnose(run)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nnvis.config import Config, load_config
from nnvis.errors import InputError
from nnvis.record import Check, Run
from nnvis.training.checkpoints import load_checkpoint
from nnvis.training.learner import Learner
from nnvis.training.setup import branch, build_batches, build_checker, checks_of, place, prepared
from nnvis.training.state import State


def branch_run(run: Run, *, trust: bool = False) -> Run:
    """The run with one check more: of its last checkpoint, with branches. Nothing of it is written.

    Raises InputError where no config built the run, where it has saved no checkpoint, where its data or device are not
    there, or where data or checkpoint are no longer those of its config.
    """
    if not run.config:
        raise InputError(
            f"{run.path}: no config built this run's model, so that no learning rate can be tried from here; "
            "try nnvis.check(model, loss_fn, inputs, targets, deep=True, optimizer=optimizer) on your own"
        )
    config = load_config(run.path / "config.yaml", trust=trust)
    checkpoint = load_checkpoint(run.path / "checkpoints" / "last.pt")
    check = _branched(run, config, checkpoint)
    others = [one for one in run.checks if one.step != check.step]
    return replace(run, checks=tuple(sorted([*others, check], key=lambda one: one.step)))


def _branched(run: Run, config: Config, checkpoint: dict) -> Check:
    state = State.from_dict(checkpoint)
    with prepared(config.model_copy(update={"diagnosis": type(config.diagnosis)()})) as (config, splits, learner):
        _load(learner, checkpoint, run)
        plan, placed = checks_of(config, splits, learner), place(splits, learner)
        if plan is None or learner.scaler is not None:
            why = "fp16's gradients are scaled" if plan else "it has too few rows"
            raise InputError(f"{run.path}: no learning rate can be tried: {why}")
        checker = build_checker(splits, learner, placed, plan, run.checks[0].facts if run.checks else None)
        check = checker.check(state.step)
        _require_same_data(run, check)
        tried = branch(checker, learner, placed["train"], build_batches(config, splits), state)
    known = next((one.values for one in run.checks if one.step == check.step), check.values)
    return replace(check, values={**known, **tried})


def _load(learner: Learner, checkpoint: dict, run: Run) -> None:
    try:
        learner.load_state_dict(checkpoint)
    except (RuntimeError, ValueError, KeyError) as error:
        raise InputError(
            f"{run.path}: checkpoints/last.pt does not fit the network or optimizer of config.yaml; "
            "was one of them changed after training?"
        ) from error


def _require_same_data(run: Run, check: Check) -> None:
    """The fixed rows are as many as they were, and at a step that was checked they lose what they lost."""
    if not run.checks:
        return
    then = next((one for one in run.checks if one.step == check.step), run.checks[0])
    before, now = (one.values["diagnosis_row_loss"] for one in (then, check))
    same = then.step == check.step
    if before.shape != now.shape or (same and not np.allclose(before, now, rtol=0.01, atol=1e-3, equal_nan=True)):
        raise InputError(f"{run.path}: its data are no longer those that it was trained on")
