"""Whether what a study expects came out.

    check = evaluate(expectation, outcomes)
    check.holds, check.measured

A pair that was named beforehand is judged by its own 95% interval: there is nothing to correct for. Where it differs by
the same in every seed, so that there is no interval, three seeds are enough to say so.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass

from nnvis.comparison.outcomes import Outcome, higher_is_better
from nnvis.comparison.paired import Difference, difference
from nnvis.comparison.verdict import gap_in_words, in_words, share_in_words
from nnvis.config.expectations import Expectation
from nnvis.words import plural

_SEEDS = 3  # in which a difference is the same, for it to be told without an interval
_RELATIONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@dataclass(frozen=True)
class Checked:
    """One line of `expect`, held against the runs."""

    text: str
    holds: bool | None  # None: the runs cannot tell
    measured: str  # the numbers


def evaluate(line: Expectation, outcomes: Mapping[str, Outcome]) -> Checked:
    """Holds one expectation against what came out."""
    outcome = outcomes[line.variant]
    match line.kind:
        case "beats" | "no_difference":
            holds, measured = _compared(line, outcome, outcomes[line.other or ""])
        case "mean":
            holds, measured = _mean(line, outcome)
        case "shows" | "diverges":
            seeds = outcome.shows(line.symptom or "") if line.kind == "shows" else outcome.diverged
            holds, measured = _at_least(line.count or 1, len(seeds), outcome), share_in_words(seeds, outcome)
        case "shows_no" | "never_diverges":
            seeds = outcome.shows(line.symptom or "") if line.kind == "shows_no" else outcome.diverged
            holds = False if seeds else None if outcome.missing else True
            measured = share_in_words(seeds, outcome)
    if outcome.missing:
        measured += f", {plural(len(outcome.missing), 'seed')} missing"
    return Checked(line.text, holds, measured)


def _compared(line: Expectation, one: Outcome, other: Outcome) -> tuple[bool | None, str]:
    """By the paired interval; a diverged run is worse than any other."""
    metric = line.metric or ""
    gap = difference(one.values.get(metric, {}), other.values.get(metric, {}))
    gap = gap if higher_is_better(metric) else gap.reversed
    lost, won = len(one.diverged), len(other.diverged)
    how = ": " if gap.constant and not gap.mean else " better by "
    measured = f"{metric}{how}{gap_in_words(gap, metric)}" if gap.seeds else f"no shared seed has {metric}"
    if lost or won:
        measured += f"; diverged in {share_in_words(one.diverged, one)}, {other.variant} in {won} of {len(other.seen)}"
    outlives, outlived, side = _outlives(one, other), _outlives(other, one), _side(gap)
    if line.kind == "beats":
        if outlives or side is not None:
            return (side == 1 or (outlives and side != -1)) and lost <= won, measured
    elif outlives or outlived or side is not None:
        return not side and lost == won, measured
    return None, measured


def _side(gap: Difference) -> int | None:
    """Of 0, on which the difference lies: 1 or -1, 0 where it may be none; None where that cannot be told."""
    if gap.judged:
        return (gap.low > 0) - (gap.high < 0)
    if gap.constant and (not gap.mean or len(gap.seeds) >= _SEEDS):
        return (gap.mean > 0) - (gap.mean < 0)
    return None


def _outlives(one: Outcome, other: Outcome) -> bool:
    """Whether one never diverges, and the other in most seeds."""
    return not one.diverged and len(other.diverged) >= max(2, len(other.seen) // 2 + 1)


def _mean(line: Expectation, outcome: Outcome) -> tuple[bool | None, str]:
    """A diverged run is no good: what asks for a good mean fails with it."""
    metric, value = line.metric or "", outcome.mean(line.metric or "")
    diverged = f"; diverged in {share_in_words(outcome.diverged, outcome)}" if outcome.diverged else ""
    asks_for_good = (line.relation in (">", ">=")) == higher_is_better(metric)
    quality = metric.startswith(("accuracy", "loss"))
    if outcome.diverged and quality and asks_for_good:
        return False, f"{metric} {in_words(value, metric)} over the others{diverged}"
    if math.isnan(value):
        return None, f"{metric}: no value{diverged}"
    count = len(outcome.values[metric])
    bound = math.nan if line.value is None else line.value
    holds = _RELATIONS[line.relation or "<"](value, bound)
    return bool(holds), f"{metric} {in_words(value, metric)} over {plural(count, 'seed')}{diverged}"


def _at_least(asked: int, shown: int, outcome: Outcome) -> bool | None:
    if shown >= asked:
        return True
    return None if shown + len(outcome.missing) >= asked else False
