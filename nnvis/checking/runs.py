"""Other learning rates, tried from where a run's training stands: its last checkpoint.

run = branch_run(load_run("runs/digits-mlp/1-seed0"))    # the same run, with what came out in a check of that step
nnvis.diagnose(run)
"""

from __future__ import annotations

from dataclasses import replace

from nnvis.config import Config, load_config
from nnvis.errors import InputError
from nnvis.record import Check, Run
from nnvis.training.checkpoints import load_checkpoint
from nnvis.training.setup import branch, build_batches, build_checker, checks_of, place, prepared
from nnvis.training.state import State


def branch_run(run: Run, *, trust: bool = False) -> Run:
    """The run with one check more: of its last checkpoint, with branches. Nothing of it is written.

    Raises InputError where no config built the run, where it has saved no checkpoint, or where its data or device are
    not there.
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
        learner.load_state_dict(checkpoint)
        plan, placed = checks_of(config, splits, learner), place(splits, learner)
        if plan is None or learner.scaler is not None:
            why = "fp16's gradients are scaled" if plan else "it has too few rows"
            raise InputError(f"{run.path}: no learning rate can be tried: {why}")
        checker = build_checker(splits, learner, placed, plan, run.checks[0].facts if run.checks else None)
        check = checker.check(state.step)
        tried = branch(checker, learner, placed["train"], build_batches(config, splits), state)
    known = next((one.values for one in run.checks if one.step == check.step), check.values)
    return replace(check, values={**known, **tried})
