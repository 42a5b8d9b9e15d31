"""What a check finds by trying: a few rows learned by heart, and a few steps at several learning rates.

check = look_deep(checker, check, lambda: branches_of(checker, optimizer, rows))

Nothing changes by it: see `nnvis.probe.by_heart` and `nnvis.probe.branches`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch

from nnvis.errors import InputError, out_of_memory
from nnvis.probe.branches import STEPS, Batches, Step, try_rates
from nnvis.probe.by_heart import learn_by_heart
from nnvis.probe.checks import Checker, Rows
from nnvis.probe.curvature import NotKnown
from nnvis.record import Check
from nnvis.record.vocabulary import FloatArray

BATCH_ROWS = 32
"""Of a step, where nobody says how the model is to be trained."""


def look_deep(checker: Checker, check: Check, branches: Callable[[], dict[str, FloatArray]] | str) -> Check:
    """`branches` tries learning rates, or says why none are. What could not be tried costs no more than that: the fact
    `not_tried` has the reason."""
    values, reasons = dict(check.values), {}
    attempts: dict[str, Callable[[], dict[str, FloatArray]] | str] = {
        "heart": lambda: learn_by_heart(checker),
        "rates": branches,
    }
    for what, attempt in attempts.items():
        try:
            if isinstance(attempt, str):
                raise NotKnown(attempt)
            values |= attempt()
        except NotKnown as reason:
            reasons[what] = str(reason)
        except Exception as error:
            if isinstance(error, InputError) or out_of_memory(error):
                raise
            reasons[what] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return replace(check, values=values, facts={**check.facts, "not_tried": reasons})


def branches_of(checker: Checker, optimizer: torch.optim.Optimizer, rows: Rows) -> dict[str, FloatArray]:
    """Of an optimizer whose batches nobody has told: 32 rows a step, in an order that is always the same."""
    return try_rates(checker, optimizer, _batches(rows))


def _batches(rows: Rows) -> Batches:
    size = min(BATCH_ROWS, len(rows))

    def given() -> Iterable[Step]:
        generator, made = torch.Generator().manual_seed(0), 0
        while True:
            for order in torch.randperm(len(rows), generator=generator).split(size):
                if len(order) < size:
                    continue  # a lone row, which batch norm cannot take
                yield [rows.pick(order)]
                made += 1
                if made == STEPS:
                    return

    return given
