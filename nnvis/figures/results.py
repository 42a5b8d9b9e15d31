"""What a study's figures say of its results: the deciding metric of every variant, as `nnvis.comparison` judges it.

results = Results.of(study)
results.metric                     # "accuracy/val"
results.order                      # variants, the best first; those without a result last
results.say("relu")                # "95.3% [94.1, 96.4]"
results.sentence()                 # of the verdict, about the metric
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nnvis.comparison import Comparison, Difference, Outcome, Pair, compare, difference, in_words
from nnvis.comparison.paired import CONFIDENCE
from nnvis.figures.words import listing
from nnvis.record.study import Study

INTERVAL_WORDS = f"in brackets: its {CONFIDENCE:.0%} interval"
_SPLITS = {"train": "training", "val": "validation", "test": "test"}


def interval(values: Mapping[int, float]) -> Difference:
    """The mean over the seeds with its t interval: the difference from 0."""
    return difference(values, dict.fromkeys(values, 0.0))


def said(mean: Difference, metric: str) -> str:
    """`0.31 [0.28, 0.34]`; without brackets where there is no interval."""
    words = in_words(mean.mean, metric)
    if not mean.judged:
        return words
    low, high = (in_words(edge, metric).removesuffix("%") for edge in (mean.low, mean.high))
    return f"{words} [{low}, {high}]"


def metric_name(metric: str) -> str:
    """`validation accuracy`."""
    name, _, split = metric.partition("/")
    return f"{_SPLITS.get(split, split)} {name}" if split else name


@dataclass(frozen=True)
class Results:
    """The deciding metric of all variants."""

    comparison: Comparison
    metric: str  # "" where no run has ended with one

    @classmethod
    def of(cls, study: Study) -> Results:
        comparison = compare(study)
        return cls(comparison, next(iter(comparison.rankings), ""))

    def __getitem__(self, variant: str) -> Outcome:
        return self.comparison.outcomes[variant]

    @property
    def ranked(self) -> tuple[str, ...]:
        """The variants with a value, the best first."""
        return self.comparison.rankings[self.metric].order if self.metric else ()

    @property
    def order(self) -> tuple[str, ...]:
        """All of them; without a value last."""
        return (*self.ranked, *(variant for variant in self.comparison.outcomes if variant not in self.ranked))

    @property
    def next_best(self) -> Pair | None:
        """The best and the one after it."""
        return next(iter(self.comparison.rankings[self.metric].pairs), None) if self.metric else None

    def mean(self, variant: str) -> Difference:
        """Over the seeds that finished, with its interval, cut to what an accuracy can be; NaN of none."""
        mean = interval(self[variant].values.get(self.metric, {}))
        return replace(mean, low=max(mean.low, 0.0), high=min(mean.high, 1.0)) if self._share and mean.judged else mean

    @property
    def _share(self) -> bool:
        return self.metric.startswith("accuracy")

    def say(self, variant: str) -> str:
        """`95.3% [94.1, 96.4]`; `no result`."""
        return said(self.mean(variant), self.metric) if variant in self.ranked else "no result"

    def words(self, value: float) -> str:
        """A value of the metric."""
        return in_words(value, self.metric)

    def sentence(self, metric: str = "") -> str:
        """The verdict's first one about the metric, with a space before it; nothing where there is none."""
        about = metric or self.metric
        return next((f" {line}" for line in self.comparison.sentences if about and about in line), "")

    @property
    def lost(self) -> str:
        """`; high diverges`, of the variants of which no run finished; or nothing."""
        lost = [v for v in self.order if self[v].diverged and v not in self.ranked]
        return f"; {listing(lost)} diverge{'s' * (len(lost) == 1)}" if lost else ""

    @property
    def headline(self) -> str:
        """Who ends best, and who worst."""
        if not self.ranked:
            return f"No run has ended with a result{self.lost}"
        best, worst = self.ranked[0], self.ranked[-1]
        text = f"{best} ends at {self.words(self.mean(best).mean)} {metric_name(self.metric)}"
        if best != worst:
            text += ", " if len(self.ranked) == 2 else f"; last of {len(self.ranked)}, "
            if broken := len(self[worst].diverged):
                text += f"{worst} diverges in {broken} of {len(self[worst].seen)} seeds"
            else:
                text += f"{worst} at {self.words(self.mean(worst).mean)}"
        return text + self.lost
