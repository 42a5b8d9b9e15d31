"""What a check finds by trying: a few rows learned by heart, and a few steps at several learning rates.

check = look_deep(checker, check, lambda: branches_of(checker, optimizer, rows))

Nothing changes by it: see `nnvis.probe.by_heart` and `nnvis.probe.branches`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch

from nnvis.probe.branches import STEPS, Batches, Step, try_rates
from nnvis.probe.by_heart import learn_by_heart
from nnvis.probe.checks import Checker, Rows
from nnvis.record import Check
from nnvis.record.vocabulary import FloatArray

BATCH_ROWS = 32
"""Of a step, where nobody says how the model is to be trained."""


def look_deep(checker: Checker, check: Check, branches: Callable[[], dict[str, FloatArray]] | None) -> Check:
    """`branches` tries learning rates; None where there is no optimizer."""
    tried = branches() if branches else {}
    return replace(check, values={**check.values, **learn_by_heart(checker), **tried})


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
