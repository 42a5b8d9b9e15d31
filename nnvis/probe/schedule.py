"""When checks are due: often at first, seldom later, and never for more than a small share of the time.

schedule = Schedule(total_steps=690)
if schedule.due(step):
    with schedule.timed(step): ...
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

FRACTIONS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
FIRST, REGULAR = 10, 1000
SHARE, FREE_S = 0.015, 0.4
"""Checks may take this share of the time, or so many seconds of a short run; the last one comes on top."""


class Schedule:
    """Step 0, then parts of a run whose length is known; else steps 10, 20, 40, … and from 1,280 on every 1,000th."""

    def __init__(self, total_steps: int | None = None, every: int | None = None) -> None:
        """`every` replaces the steps after step 0 by multiples of it."""
        self.seconds = 0.0
        self.last = -1  # step that was checked
        self._every = every
        self._steps = {round(part * total_steps) for part in FRACTIONS} if total_steps else None
        self._total = total_steps
        self._next = FIRST
        self._began_s = time.perf_counter()

    def due(self, step: int) -> bool:
        """Whether to check after so many updates; asked once for each step."""
        return step > self.last and self._planned(step) and (step in (0, self._total) or self._affordable())

    def _planned(self, step: int) -> bool:
        if step == 0 or step == self._total:
            return True
        if self._every is not None:
            return step % self._every == 0
        if self._steps is not None:
            return step in self._steps
        while self._next <= self.last:
            self._advance()
        if step < self._next:
            return False
        self._advance()
        return True

    def _advance(self) -> None:
        self._next += min(self._next, REGULAR)

    def _affordable(self) -> bool:
        return self.seconds < max(FREE_S, SHARE * (time.perf_counter() - self._began_s))

    @contextmanager
    def timed(self, step: int) -> Iterator[None]:
        """The check happens inside."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.last = step
            self.seconds += time.perf_counter() - start
