"""Where training stands: all that a crash must not lose beside tensors and random numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self


@dataclass
class State:
    """One run's progress. Small and plain: it goes into every checkpoint as it is."""

    step: int = 0  # optimizer updates completed
    epoch: int = 0  # whole epochs completed
    batch: int = 0  # steps of the running epoch that lie behind, those that GradScaler skipped included
    seconds: float = 0.0  # of training, over all resumes
    skipped: int = 0  # steps in a row that GradScaler skipped
    # the running epoch so far
    rows: int = 0
    loss_sum: float = 0.0  # over these rows
    correct: int = 0
    # evaluations
    evaluated_at: int = 0  # step of the last one
    best_value: float = math.nan  # of the metric that decides; NaN before the first evaluation
    best_epoch: int = 0
    best_step: int = 0
    patience_value: float = math.nan  # the last one that was better than that before it by more than min_delta
    waited: int = 0  # evaluations since then
    # the record
    log_bytes: int = 0  # length of the event log that belongs to this state
    steps_measured: int = 0
    probe_seconds: float = 0.0

    def add(self, rows: int, loss: float) -> None:
        """A step's rows and their mean loss join the epoch."""
        self.rows += rows
        self.loss_sum += rows * loss

    def clear_epoch(self) -> None:
        """The next epoch begins."""
        self.rows, self.loss_sum, self.correct = 0, 0.0, 0

    def note_evaluation(self, value: float, *, higher_is_better: bool, min_delta: float = 0.0) -> bool:
        """Whether `value` is the best so far; counts the evaluations since one was better by more than `min_delta`."""
        sign = 1 if higher_is_better else -1

        def gain(over: float) -> float:
            return math.inf if math.isnan(over) and not math.isnan(value) else sign * (value - over)

        if gain(self.patience_value) > min_delta:
            self.patience_value, self.waited = value, 0
        else:
            self.waited += 1
        better = gain(self.best_value) > 0
        if better:
            self.best_value, self.best_epoch, self.best_step = value, self.epoch, self.step
        return better

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From a checkpoint, which holds more than the state."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})
