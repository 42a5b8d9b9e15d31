"""What a run's learning curves say: stuck, diverged, overfitting, still improving, levelled off.

curves = Curves.of(run)
curves.best, curves.onset        # indices into curves.val
verdict(curves)                  # the sentence with the numbers
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnvis.figures.facts import (
    best,
    first_nonfinite,
    late,
    never_learned,
    overfitting_onset,
    running_median,
    still_improving,
)
from nnvis.figures.reading import Clock, NoData, chance_loss, series
from nnvis.figures.words import number, percent
from nnvis.record.run import Run
from nnvis.record.vocabulary import FloatArray, Series


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

    @classmethod
    def of(cls, run: Run) -> Curves:
        """Raises NoData for a run without any loss."""
        batches, train, val = (series(run, f"loss/{name}") for name in ("train", "epoch", "val"))
        if len(train.steps) < 2:
            train = Series(batches.steps, running_median(batches.values, max(3, len(batches.values) // 20)))
        if not len(train.steps):
            raise NoData(f"{run.name}: no loss in the record")
        accuracy, accuracy_val = series(run, "accuracy/epoch"), series(run, "accuracy/val")
        return cls(Clock.of(run), batches, train, val, accuracy, accuracy_val, chance_loss(run))

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
    def broken(self) -> tuple[int, float] | None:
        """Step and value of the first NaN or Inf in any of the losses."""
        hits = [(s.steps[i], s.values[i]) for s in self.all[:3] if (i := first_nonfinite(s.values)) is not None]
        return min(hits, key=lambda hit: hit[0], default=None)

    @property
    def stuck(self) -> bool:
        """Whether the training loss never left its start, or what guessing gets."""
        observed = [s.values for s in (self.batches, self.train) if len(s.values)]
        first = observed[0][:1]
        return never_learned(np.concatenate([first, self.train.values]), self.chance)

    @property
    def has_accuracy(self) -> bool:
        """Whether there is any accuracy to draw."""
        return len(self.accuracy.steps) + len(self.accuracy_val.steps) > 0

    @property
    def all(self) -> tuple[Series, ...]:
        """All series, the losses first."""
        return (self.batches, self.train, self.val, self.accuracy, self.accuracy_val)

    def losses(self) -> FloatArray:
        """All finite losses."""
        values = np.concatenate([s.values for s in self.all[:3]])
        return values[np.isfinite(values)]


def last_finite(s: Series) -> float:
    """The newest finite value; NaN without one."""
    finite = s.values[np.isfinite(s.values)]
    return float(finite[-1]) if len(finite) else float("nan")


def verdict(curves: Curves) -> str:
    """The message of the curves, with its numbers."""
    val, clock = curves.val.values, curves.clock
    end = clock.say(float(clock.at(curves.train.steps)[-1]))
    start, final = float(curves.train.values[0]), last_finite(curves.train)
    if curves.broken:
        step, value = curves.broken
        return f"Diverged: the loss turned {number(value)} at step {step:,}"
    if curves.stuck:
        guess = f" (guessing gets {number(curves.chance)})" if curves.chance is not None else ""
        return f"It did not learn: the loss never left {number(final)}{guess}"
    if final > 3 * start > 0:
        return f"Diverging: the training loss grew from {number(start)} to {number(final)} by {end}"
    if curves.best is None:
        return f"Training loss goes from {number(start)} to {number(final)} by {end} (no validation)"
    when, lowest = clock.say(float(clock.at(curves.val.steps)[curves.best])), number(val[curves.best])
    quality = _quality(curves)
    if len(val) < 3:
        return f"Validation loss {lowest} at {end}{quality}"
    if curves.onset is not None:
        return f"Overfitting: validation loss is best at {when} ({lowest}), then rises to {number(late(val))}{quality}"
    if still_improving(val):
        return f"Still improving at {end}: validation loss {lowest}{quality}"
    return f"Validation loss levels off: {lowest} at best, at {when} of {end.split()[-1]}{quality}"


def _quality(curves: Curves) -> str:
    """The best accuracy, where there is one."""
    at = best(curves.accuracy_val.values, largest=True)
    return "" if at is None else f"; accuracy {percent(curves.accuracy_val.values[at])} at best"
