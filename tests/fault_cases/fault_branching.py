"""Other learning rates, tried in a fault case as `diagnosis: {branches: true}` does in a config's run, and rows learned
by heart as `nnvis check --deep` does: `branch_case(case, seed, folder)` leaves branches.npz beside the record there.

The record's own training is repeated to a fifth of its steps, without being watched, to the same states. A check of the
fixed rows is made where rates are tried, and all of it is kept, so that rules can change afterwards.

run = with_branches(nnvis.load_run(folder), folder)      # the record with these checks in it
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from fault_data import Data, make_data
from fault_facts import Case
from fault_parts import build_loss, build_model, build_optimizer
from fault_training import PROBE_ROWS

from nnvis.checking.deep import look_deep
from nnvis.probe.branches import STEPS, try_rates
from nnvis.probe.checks import Checker, Rows
from nnvis.record import Check, Run
from nnvis.record.files import plain
from nnvis.training.setup import branch_steps

FILE = "branches.npz"
MOST_SECONDS = 30.0  # of processor time: no state is tried after that


def branch_case(case: Case, seed: int, folder: Path) -> float:
    """Writes the file; returns the seconds that checks and branches took."""
    data = make_data(case, seed)
    torch.manual_seed(seed)
    model, loss_fn = build_model(case, data.inputs), build_loss(case)
    optimizer, schedule = build_optimizer(case, model)
    checker = Checker(model, loss_fn, Rows(data.inputs[:PROBE_ROWS], data.targets[:PROBE_ROWS]))
    batches, due = _Batches(case, data, seed), branch_steps(case.steps)
    arrays: dict[str, np.ndarray] = {}
    facts: dict[str, dict] = {}
    began_s, tried_s = time.process_time(), 0.0
    with warnings.catch_warnings(action="ignore"):  # nnvis tells of NaN where there is NaN
        for step in range(max(due) + 1):
            if step in due:
                started_s = time.process_time()
                check = checker.check(step)
                rates = partial(try_rates, checker, optimizer, batches.coming)
                check = replace(check, values=check.values | rates()) if step else look_deep(checker, check, rates)
                arrays |= {f"{step}/{name}": value for name, value in check.values.items()}
                facts[str(step)] = plain(check.facts)
                tried_s += time.process_time() - started_s
                if step == max(due) or time.process_time() - began_s > MOST_SECONDS:
                    break
            (rows,) = batches.take()
            optimizer.zero_grad()
            loss_fn(model(rows.inputs), rows.targets).backward()
            optimizer.step()
            schedule.step()
    np.savez(folder / FILE, facts=np.array(json.dumps(facts)), **arrays)  # pyright: ignore[reportArgumentType]
    return tried_s


class _Batches:
    """Those of `train_case`: what comes can be looked at before it is taken."""

    def __init__(self, case: Case, data: Data, seed: int) -> None:
        self._data, self._size = data, case.batch_size
        self._order = torch.Generator().manual_seed(seed)
        self._waiting: list[torch.Tensor] = []

    def coming(self) -> Iterator[list[Rows]]:
        self._fill(STEPS)
        return (self._rows(batch) for batch in islice(self._waiting, STEPS))

    def take(self) -> list[Rows]:
        self._fill(1)
        return self._rows(self._waiting.pop(0))

    def _fill(self, count: int) -> None:
        while len(self._waiting) < count:
            self._waiting += torch.randperm(len(self._data.inputs), generator=self._order).split(self._size)

    def _rows(self, batch: torch.Tensor) -> list[Rows]:
        return [Rows(self._data.inputs[batch], self._data.targets[batch])]


def with_branches(run: Run, folder: Path) -> Run:
    """The record with the checks of the file; as it is where there is none."""
    if not (folder / FILE).exists():
        return run
    with np.load(folder / FILE) as file:
        facts = json.loads(str(file["facts"]))
        checks = {int(step): Check(int(step), {}, facts[step]) for step in facts}
        for name in file.files:
            step, _, quantity = name.partition("/")
            if quantity:
                checks[int(step)].values[quantity] = file[name]
    for check in run.checks:
        known = checks.get(check.step)
        values = {**known.values, **check.values} if known else check.values
        checks[check.step] = replace(check, values=values)
    return replace(run, checks=tuple(checks[step] for step in sorted(checks)))
