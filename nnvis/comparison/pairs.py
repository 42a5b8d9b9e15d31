"""Which variant is the best, and how far the others are behind.

ranking = rankings(outcomes, ("accuracy/val", "loss/val"))["accuracy/val"]
ranking.order                                              # the best first
ranking.pairs[0].difference.low, ranking.pairs[0].shown    # the best against the second
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnvis.comparison.outcomes import Outcome, higher_is_better
from nnvis.comparison.paired import Difference, difference, holm

LEVEL = 0.05


@dataclass(frozen=True)
class Pair:
    """A variant and another on one metric."""

    metric: str
    variant: str
    other: str
    difference: Difference  # variant - other
    p_holm: float  # of all pairs of variants on all metrics that are judged: the best was not known beforehand

    @property
    def shown(self) -> bool:
        """Whether the two differ beyond what chance makes of so many pairs."""
        return self.p_holm < LEVEL

    @property
    def ahead(self) -> bool:
        """Whether the variant is the better one."""
        return self.difference.mean != 0 and (self.difference.mean > 0) == higher_is_better(self.metric)


@dataclass(frozen=True)
class Ranking:
    """The variants on one metric, the best first."""

    metric: str
    order: tuple[str, ...]  # without those that have no value
    pairs: tuple[Pair, ...]  # of the first one with each other, in order
    comparisons: int  # that the p values are adjusted for


def rankings(outcomes: Mapping[str, Outcome], metrics: Sequence[str]) -> dict[str, Ranking]:
    """By metric. A variant that diverges in a larger share of its seeds is never before one that does so in less."""
    found = {
        (metric, a, b): difference(outcomes[a].values.get(metric, {}), outcomes[b].values.get(metric, {}))
        for metric in metrics
        for a, b in itertools.combinations(outcomes, 2)
    }
    adjusted = dict(zip(found, holm([gap.p for gap in found.values()]).tolist(), strict=True))
    comparisons = int(np.count_nonzero([gap.judged for gap in found.values()]))

    def pair(metric: str, a: str, b: str) -> Pair:
        if (metric, a, b) in found:
            return Pair(metric, a, b, found[metric, a, b], adjusted[metric, a, b])
        return Pair(metric, a, b, found[metric, b, a].reversed, adjusted[metric, b, a])

    ranked = {}
    for metric in metrics:
        order = ranked_by(outcomes, metric)
        ranked[metric] = Ranking(
            metric, order, tuple(pair(metric, order[0], other) for other in order[1:]), comparisons
        )
    return ranked


def ranked_by(outcomes: Mapping[str, Outcome], metric: str) -> tuple[str, ...]:
    """The variants that have a value, the best first: by the share of diverged seeds, then by the mean.

    The mean is over the seeds that all of them have, where there are any: unequal seeds are not compared.
    """
    named = [name for name, outcome in outcomes.items() if outcome.values.get(metric)]
    shared = set.intersection(*({*outcomes[name].values[metric]} for name in named)) if named else set()
    sign = -1 if higher_is_better(metric) else 1

    def place(name: str) -> tuple[float, float]:
        mean = outcomes[name].mean(metric, tuple(shared) or None)
        return diverged_share(outcomes[name]), math.inf if math.isnan(mean) else sign * mean

    return tuple(sorted(named, key=place))


def diverged_share(outcome: Outcome) -> float:
    """Of the seeds with a result, in [0, 1]; 0 without any."""
    return len(outcome.diverged) / len(outcome.seen) if outcome.seen else 0.0
