"""When checks are due, of how many rows: often at first, seldom later, and never for more than a small share of a run.

plan = plan_checks(steps=690, batch_rows=128, rows=1437)   # of a run whose length is known: from that alone
schedule = Schedule(plan.steps)
if schedule.due(step):
    with schedule.timed(step): ...
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple

MANY = (0.0, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
FEW = (0.0, 0.1, 0.2, 0.5, 0.8, 1.0)
"""Parts of a run after which it is checked. Rules want two checks by a fifth of it, and three later (overfitting)."""
MOST_ROWS, FEWEST_ROWS = 1024, 256
SHARE = 0.015
"""Checks may take this share of what the training steps take; less than `FEW` of `FEWEST_ROWS` there never are."""
_FIXED_STEPS = 8.0  # that a check takes as long as besides its passes; of large networks less
_PASSES_A_STEP = 3  # of each row: forward, and backward twice as long

FIRST, REGULAR = 10, 1000
TIME_SHARE, FREE_S = 0.015, 0.4
"""Where nobody knows how long a run is to be, checks may take this share of its processor time so far, or so many
seconds of it. Time on the clock would make what is checked depend on what else the machine does."""


class Plan(NamedTuple):
    """What is checked of a run."""

    steps: tuple[int, ...]
    rows: int  # of the training rows, and as many of the validation rows; as far as there are so many
    gradient_rows: int  # of them, the first ones: gradients are taken of these
    at_once: int  # rows of a pass without gradients


def plan_checks(
    steps: int,
    batch_rows: int,
    rows: int,
    *,
    validates: bool = True,
    normalizes: bool = False,
    every: int | None = None,
) -> Plan:
    """Of a run of so many steps, with `batch_rows` each: a function of these numbers, so that it can be repeated.

    `every` replaces the steps after step 0 by multiples of it, and the last. `normalizes`: whether norm layers hold
    running statistics, so that training rows are passed with them as well.
    """
    passes = 1.5 + validates + normalizes  # of each row: of a quarter of them backward, too

    def cost(rows: int) -> float:
        """Of a check, in training steps."""
        return _FIXED_STEPS + rows * passes / (_PASSES_A_STEP * batch_rows)

    if every is not None:
        due = sorted({*range(0, steps, every), steps})
    else:
        fewest = min(FEWEST_ROWS, rows)
        parts = MANY if len(MANY) * cost(fewest) <= SHARE * steps else FEW
        due = sorted({round(part * steps) for part in parts})
    affordable = [n for n in range(MOST_ROWS, FEWEST_ROWS, -64) if len(due) * cost(min(n, rows)) <= SHARE * steps]
    chosen = affordable[0] if affordable else FEWEST_ROWS
    gradient_rows = min(chosen // 4, max(64, batch_rows))  # the memory of a training step is enough
    return Plan(tuple(due), chosen, gradient_rows, max(64, min(256, 4 * batch_rows)))


class Schedule:
    """The steps of a plan; without one step 0, 10, 20, 40, … and from 1,280 on every 1,000th, as time allows."""

    def __init__(self, steps: Collection[int] | None = None) -> None:
        self.seconds = 0.0
        self.last = -1  # step that was checked
        self._steps = None if steps is None else frozenset(steps)
        self._next = FIRST
        self._began_s, self._busy_s = time.process_time(), 0.0

    def due(self, step: int) -> bool:
        """Whether to check after so many updates; asked once for each step."""
        if step <= self.last:
            return False
        if self._steps is not None:
            return step in self._steps
        return step == 0 or (self._next_reached(step) and self._affordable())

    def _next_reached(self, step: int) -> bool:
        while self._next <= self.last:
            self._advance()
        if step < self._next:
            return False
        self._advance()
        return True

    def _advance(self) -> None:
        self._next += min(self._next, REGULAR)

    def _affordable(self) -> bool:
        return self._busy_s < max(FREE_S, TIME_SHARE * (time.process_time() - self._began_s))

    @contextmanager
    def timed(self, step: int) -> Iterator[None]:
        """The check happens inside."""
        start, busy = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.last = step
            self.seconds += time.perf_counter() - start
            self._busy_s += time.process_time() - busy
