"""What a study's figures say of its outcomes: the deciding metric of every variant, the best first, as judged by
`nnvis.comparison`.

results = Outcomes.of(study)
results.metric                               # "accuracy/val"
[o.variant for o in results.ranked]
results.say("relu")                          # "95.3% [94.1, 96.4]"
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nnvis.comparison.outcomes import Outcome, deciding_metrics, higher_is_better, outcomes
from nnvis.comparison.paired import CONFIDENCE, Difference, difference
from nnvis.figures.words import listing, number, percent
from nnvis.record.study import Study

INTERVAL_WORDS = f", in brackets its {CONFIDENCE:.0%} interval"
_SPLITS = {"train": "training", "val": "validation", "test": "test"}


def interval(values: Mapping[int, float]) -> Difference:
    """The mean over the seeds with its t interval: the difference from 0."""
    return difference(values, dict.fromkeys(values, 0.0))


def said(mean: Difference, words: Callable[[float], str]) -> str:
    """`0.31 [0.28, 0.34]`; without brackets where there is no interval."""
    if not mean.judged:
        return words(mean.mean)
    low, high = words(mean.low), words(mean.high)
    return f"{words(mean.mean)} [{low.removesuffix('%')}, {high.removesuffix('%')}]"


def words_of(metric: str) -> Callable[[float], str]:
    """How its values are written."""
    return percent if metric.startswith("accuracy") else number


def metric_name(metric: str) -> str:
    """`validation accuracy`."""
    name, _, split = metric.partition("/")
    return f"{_SPLITS.get(split, split)} {name}" if split else name


@dataclass(frozen=True)
class Outcomes:
    """The deciding metric of all variants."""

    metric: str
    ranked: list[Outcome]  # the best mean first; those without a finished run last

    @classmethod
    def of(cls, study: Study, metric: str = "") -> Outcomes:
        """Of `metric`, or of the one that decides: "" where no run has ended with one."""
        metric = metric or next(iter(deciding_metrics(study)), "")
        sign = -1 if higher_is_better(metric) else 1

        def rank(outcome: Outcome) -> tuple[bool, float]:
            mean = outcome.mean(metric)
            return math.isnan(mean), 0.0 if math.isnan(mean) else sign * mean

        return cls(metric, sorted(outcomes(study).values(), key=rank))

    def mean(self, outcome: Outcome) -> Difference:
        """The metric's mean over the seeds that finished, with its interval."""
        return interval(outcome.values.get(self.metric, {}))

    @property
    def known(self) -> list[Outcome]:
        """Those with a finished run."""
        return [outcome for outcome in self.ranked if outcome.values.get(self.metric)]

    def say(self, variant: str) -> str:
        """`95.3% [94.1, 96.4]`; `no result`."""
        outcome = next(o for o in self.ranked if o.variant == variant)
        return said(self.mean(outcome), words_of(self.metric)) if outcome in self.known else "no result"

    @property
    def headline(self) -> str:
        """Who ends best, and who worst."""
        lost = [o.variant for o in self.ranked if o.diverged and not o.values.get(self.metric)]
        also = f"; {listing(lost)} diverge{'s' * (len(lost) == 1)}" if lost else ""
        if not self.known:
            return f"No run has ended with a result{also}"
        words = words_of(self.metric)
        best, worst = self.known[0], self.known[-1]
        text = f"{best.variant} ends at {words(best.mean(self.metric))} {metric_name(self.metric)}"
        if len(self.known) == 2:
            text += f", {worst.variant} at {words(worst.mean(self.metric))}"
        elif len(self.known) > 2:
            text += f"; last of {len(self.known)} is {worst.variant} at {words(worst.mean(self.metric))}"
        return text + also
