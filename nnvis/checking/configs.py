"""A config, checked before it is trained: its network and its data as training would start them.

run, found = check_config(load_config("digits_mlp"))
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from nnvis.checking.deep import look_deep
from nnvis.config import Config
from nnvis.config.dumping import plain
from nnvis.diagnosis import Diagnosis, diagnose_beforehand
from nnvis.errors import InputError
from nnvis.probe.checks import LEAST_ROWS
from nnvis.record import Run
from nnvis.training.setup import branch, build_batches, build_checker, checks_of, length_of, place, prepared
from nnvis.training.state import State


def check_config(config: Config, *, deep: bool = False) -> tuple[Run, Diagnosis]:
    """What is wrong before the first step: the check that training makes at step 0, and no more.

    `deep`: a few rows are to be learned by heart as well, and the first steps are tried at other learning rates.
    Returns a run that holds this check alone, in memory, for telling. Global state (random numbers, threads) is put
    back. Raises InputError for what cannot be trained.
    """
    with prepared(config) as (config, splits, learner):
        plan = checks_of(config.model_copy(update={"diagnosis": type(config.diagnosis)()}), splits, learner)
        if plan is None:
            raise InputError(f"{config.name}: a check needs at least {LEAST_ROWS} rows, got {len(splits.train)}")
        placed, batches = place(splits, learner), build_batches(config, splits)
        checker = build_checker(splits, learner, placed, plan)
        check = checker.check(0)
        if deep:
            branches = partial(branch, checker, learner, placed["train"], batches, State())
            check = look_deep(checker, check, "fp16's gradients are scaled" if learner.scaler else branches)
        steps, _ = length_of(config).total(batches.steps_per_epoch)
    run = Run.of_checks(Path(config.name), [check], config=plain(config), summary={"budget": steps})
    return run, diagnose_beforehand(run)
