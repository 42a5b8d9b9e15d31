"""What a run's learning curves say: stuck, diverged, overfitting, still improving, levelled off.

curves = Curves.of(run)
curves.best, curves.onset        # indices into curves.val
verdict(curves)                  # the sentence with the numbers
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnvis.figures.facts import (
    best,
    first_nonfinite,
    never_learned,
    overfitting_onset,
    running_median,
    still_improving,
)
from nnvis.figures.reading import Clock, NoData, chance_loss, series
from nnvis.figures.words import number, percent
from nnvis.record.run import Run
from nnvis.record.vocabulary import FloatArray, IntArray, Series


@dataclass(frozen=True)
class Curves:
    """A run's losses and accuracies in time, and what they say."""

    clock: Clock
    batches: Series  # loss of single training batches
    train: Series  # by epoch, or a running median of the batches where there are no epochs
    val: Series
    accuracy: Series
    accuracy_val: Series
    chance: float | None  # loss of guessing, nats
    broken: tuple[int, str] | None  # step at which the loss was first NaN or Inf, and which of them

    @classmethod
    def of(cls, run: Run) -> Curves:
        """Raises NoData for a run without any loss."""
        losses = batches, train, val = tuple(series(run, f"loss/{name}") for name in ("train", "epoch", "val"))
        if len(train.steps) < 2:
            train = Series(batches.steps, running_median(batches.values, len(batches.values) // 20))
        if not len(train.steps):
            raise NoData(f"{run.name}: no loss in the record")
        accuracy, accuracy_val = series(run, "accuracy/epoch"), series(run, "accuracy/val")
        broken = _broken(losses, run.summary)
        return cls(Clock.of(run), batches, train, val, accuracy, accuracy_val, chance_loss(run), broken)

    @property
    def train_at_val(self) -> FloatArray:
        """(T,) training loss at the times of validation."""
        return np.interp(self.val.steps, self.train.steps, self.train.values)

    @property
    def best(self) -> int | None:
        """Index of the best validation."""
        return best(self.val.values)

    @property
    def onset(self) -> int | None:
        """Index of the validation after which the run overfits."""
        return overfitting_onset(self.train_at_val, self.val.values)

    @property
    def stuck(self) -> bool:
        """Whether the training loss never left its start, or what guessing gets."""
        return never_learned(np.append(self.start, self.train.values), self.chance)

    @property
    def start(self) -> float:
        """The first loss: of the first batch, before any update, where that was measured."""
        return float((self.batches if len(self.batches.values) else self.train).values[0])

    @property
    def has_accuracy(self) -> bool:
        """Whether there is any accuracy to draw."""
        return len(self.accuracy.steps) + len(self.accuracy_val.steps) > 0

    @property
    def all(self) -> tuple[Series, ...]:
        """All series, the losses first."""
        return (self.batches, self.train, self.val, self.accuracy, self.accuracy_val)

    @property
    def last_step(self) -> IntArray:
        """(1,) the newest step of all."""
        ends = [int(s.steps[-1]) for s in self.all if len(s.steps)] + [self.broken[0] if self.broken else 0]
        return np.array([max(ends)])

    def losses(self, *, batches: bool) -> FloatArray:
        """All finite losses, with or without those of single batches."""
        values = np.concatenate([s.values for s in self.all[0 if batches else 1 : 3]])
        return values[np.isfinite(values)]


def _broken(losses: Iterable[Series], summary: Mapping[str, Any]) -> tuple[int, str] | None:
    hits = [(int(s.steps[i]), number(s.values[i])) for s in losses if (i := first_nonfinite(s.values)) is not None]
    if not hits and summary.get("status") == "diverged" and "steps" in summary:
        hits = [(int(summary["steps"]), "NaN or Inf")]  # the run stopped before that loss was written
    return min(hits, default=None)


def last_finite(s: Series) -> float:
    """The newest finite value; NaN without one."""
    finite = s.values[np.isfinite(s.values)]
    return float(finite[-1]) if len(finite) else float("nan")


def verdict(curves: Curves) -> str:
    """The message of the curves, with its numbers."""
    val, clock = curves.val.values, curves.clock
    end = clock.say(float(clock.at(curves.train.steps)[-1]))
    start, final = curves.start, last_finite(curves.train)
    grown = f"grew from {number(start)} to {number(final)}" if final > 3 * start > 0 else ""
    if curves.broken:
        step, what = curves.broken
        return f"Diverged: the loss {f'{grown}, then ' if grown else ''}turned {what} at step {step:,}"
    if grown:
        return f"Diverged: the loss {grown} by {end}"
    if curves.stuck:
        guess = f" (guessing gets {number(curves.chance)})" if curves.chance is not None else ""
        return f"It did not learn: the loss never left {number(final)}{guess}"
    if curves.best is None:
        return f"Training loss goes from {number(start)} to {number(final)} by {end} (no validation)"
    when, lowest = clock.say(float(clock.at(curves.val.steps)[curves.best])), number(val[curves.best])
    quality = _quality(curves)
    if len(val) < 3:
        return f"Validation loss {lowest} by {end}{quality}"
    if curves.onset is not None:
        risen = number(last_finite(curves.val))  # as at the end of the curve
        return f"Overfitting: validation loss is best at {when} ({lowest}), then rises to {risen}{quality}"
    if still_improving(val):
        return f"Still improving at {end}: validation loss {lowest}{quality}"
    return f"Validation loss levels off ({lowest} at {when} of {end.split()[-1]}){quality}"


def _quality(curves: Curves) -> str:
    """The best accuracy, where there is one."""
    at = best(curves.accuracy_val.values, largest=True)
    return "" if at is None else f"; best accuracy {percent(curves.accuracy_val.values[at])}"
