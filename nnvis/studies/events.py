"""What is told of a study's runs while they train; plain data, for it crosses between processes.

Of each run: Progress, Progress, … and Ended; Said where there is something to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Event:
    """Something about one run."""

    variant: str
    seed: int

    @property
    def key(self) -> tuple[str, int]:
        return self.variant, self.seed


@dataclass(frozen=True)
class Progress(Event):
    """How far a run is."""

    step: int
    total_steps: int
    loss: float
    symptom: str  # of the last finding that became certain; "" before


@dataclass(frozen=True)
class Said(Event):
    """A warning."""

    text: str


@dataclass(frozen=True)
class Ended(Event):
    """How a run went."""

    status: str  # as in summary.json
    run: Path | None  # its directory; None where it did not come so far
    reason: str = ""  # of a failure, or how it diverged
