"""A config, checked before it is trained: its network and its data as training would start them.

run, found = check_config(load_config("digits_mlp"))
"""

from __future__ import annotations

from pathlib import Path

from nnvis.config import Config
from nnvis.config.dumping import plain
from nnvis.diagnosis import Diagnosis, diagnose_beforehand
from nnvis.errors import InputError
from nnvis.probe.checks import LEAST_ROWS
from nnvis.record import Run
from nnvis.training.setup import build_checker, checks_of, place, prepared


def check_config(config: Config) -> tuple[Run, Diagnosis]:
    """What is wrong before the first step: the check that training makes at step 0, and no more.

    Returns a run that holds this check alone, in memory, for telling. Global state (random numbers, threads) is put
    back. Raises InputError for what cannot be trained.
    """
    with prepared(config) as (config, splits, learner):
        plan = checks_of(config.model_copy(update={"diagnosis": type(config.diagnosis)()}), splits, learner)
        if plan is None:
            raise InputError(f"{config.name}: a check needs at least {LEAST_ROWS} rows, got {len(splits.train)}")
        check = build_checker(splits, learner, place(splits, learner), plan).check(0)
    run = Run.of_checks(Path(config.name), [check], config=plain(config))
    return run, diagnose_beforehand(run)
