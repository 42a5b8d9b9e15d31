"""Which remedies are proved: paired over seeds, a lower final validation loss, and the symptom gone. Pure numbers.

    effects = effects_of(outcomes_of(study), "unchanged", {"norm=batch": "vanishing_gradients"})
    effects["norm=batch"].proved, .difference.mean, .p_holm, .shown_after

A remedy is proved if its validation loss is lower than the unchanged config's (one-sided p, adjusted by Holm for the
number of remedies, below LEVEL), if its symptom is neither an error nor a warning in any of its runs, and if no run of
it is missing.

**Early stopping** picks the weights that do best on the validation rows: on them it is never worse than without, so
they prove nothing. It is judged by the test rows; a config without any cannot have it proved.

**The difference is that of the logarithms**, so that it is a factor: the losses of sick runs spread over decades, and
one run that is far worse than the rest would hide in its own spread that all of them are. Units drop out.

**A run that diverged** has no validation loss: it is worse than any number. A remedy that diverges in any seed is not
proved. Where the unchanged config does, it is a matter of counting: say a remedy did nothing. Then the two runs of a
seed are two draws from the same distribution, so that the first diverges and the second does not with a probability of
at most q (1 - q) <= 1/4, whatever q is, and the remedy comes out ahead in any way with one of at most 1/2. So a remedy
that is ahead in all n seeds, in k of them or more because the unchanged one diverged, does so by luck with at most

    sum over j >= k of C(n, j) a^j (1/2 - a)^(n - j)  <=  2^-n P(Binomial(n, 1/2) >= k)

(the sum grows with a, which is at most 1/4). All of five seeds: 1/1024, enough for up to ten remedies; of four 1/256;
of three 1/64, which proves nothing. A sign test (2^-n) would throw away that diverging is no toss of a coin. Where two
finite pairs are left there is a t test as well, and twice the smaller p counts.

**A second round** of remedies, chosen by what the first has shown, is tried where that proves nothing. All p values are
adjusted for as many remedies as both rounds have (`among`), before the second begins: what it may try is paid for in
advance. Its runs are new and did not choose it; the unchanged config's are the same, and where nothing was proved
against them they look rather better than they are.

**LEVEL** is one-sided and for all remedies of a run together: if none of them helps, one is called proved in 1% of runs
at most. The seed of the run that was diagnosed is among the seeds, though it was picked for being ill; the tests of
this file draw that, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtrc

from nnvis.comparison.outcomes import Outcome
from nnvis.comparison.paired import Difference, difference, holm

LEVEL = 0.01
"""One-sided, of all remedies of a run together."""
METRIC, UNSEEN_METRIC = "loss/val", "loss/test"
"""What remedies are judged by, and what those are that pick their weights by the first."""
_LEAST = 1e-12  # a loss below that is that: 0 has no logarithm
_CONSTANT = "diagnosis_row_loss_constant"


@dataclass(frozen=True)
class Effect:
    """What one remedy did, against the unchanged config with the same seeds."""

    variant: str
    symptom: str  # that it is to cure
    metric: str  # that it is judged by
    difference: Difference  # of ln(final loss), remedy - unchanged, where both are finite: below 0 is better
    before: float  # geometric mean of the unchanged config's losses over those seeds, NaN without any
    after: float  # geometric mean of the remedy's losses over all seeds in which it has one
    rescued: tuple[int, ...]  # seeds in which the unchanged config diverged, and the remedy did not
    lost: tuple[int, ...]  # seeds in which the remedy diverged
    p: float  # one-sided, of "it does not lower the loss"; 1 where that cannot be told
    p_holm: float  # adjusted for the number of remedies that may be tried, in both rounds
    shown_before: tuple[int, ...]  # seeds in which the unchanged config shows the symptom
    shown_after: tuple[int, ...]  # seeds in which the remedy does
    ill: tuple[int, ...]  # seeds in which the remedy's run has an error of any kind
    seen: tuple[int, ...]  # seeds in which the remedy was run to an end
    missing: tuple[int, ...]  # seeds in which it has no result
    seconds_ratio: float  # median over the seeds that both finished, of the remedy's time over the unchanged one's

    @property
    def factor(self) -> tuple[float, float, float]:
        """What the loss is multiplied by, and its 95% interval (NaN without one)."""
        gap = self.difference
        mean, low, high = np.exp([gap.mean, gap.low, gap.high]).tolist()
        return mean, low, high

    @property
    def better(self) -> bool:
        """Whether the loss is lower beyond chance."""
        return self.p_holm < LEVEL

    @property
    def gone(self) -> bool:
        """Whether no run shows the symptom."""
        return bool(self.seen) and not self.shown_after

    @property
    def proved(self) -> bool:
        """Whether it is better, the symptom gone, and no run missing."""
        return self.better and self.gone and not self.missing


def effects_of(
    outcomes: Mapping[str, Outcome], unchanged: str, symptoms: Mapping[str, str], among: int = 0
) -> dict[str, Effect]:
    """By variant, in the order of `symptoms` (variant -> what it is to cure).

    `among`: how many remedies may be tried in all, where that is more than there are by now.
    """
    base = outcomes[unchanged]
    metrics = {variant: judged_by(outcomes[variant]) for variant in symptoms}
    losses = {variant: _losses(outcomes[variant], base, metric) for variant, metric in metrics.items()}
    p_values = {variant: p_better(own, _losses(base, base, metrics[variant])) for variant, own in losses.items()}
    adjusted = dict(zip(p_values, adjusted_for([*p_values.values()], among), strict=True))
    return {
        variant: _effect(
            outcomes[variant], base, symptom, metrics[variant], losses[variant], p_values[variant], adjusted[variant]
        )
        for variant, symptom in symptoms.items()
    }


def adjusted_for(p_values: Sequence[float], among: int) -> list[float]:
    """By Holm, as if there were `among` remedies: those that are not tried yet count as the worst."""
    waiting = [1.0] * (among - len(p_values))
    return holm([*p_values, *waiting]).tolist()[: len(p_values)]


def judged_by(outcome: Outcome) -> str:
    """The loss of rows that did not choose the weights."""
    return UNSEEN_METRIC if outcome.overrides.get("training.early_stopping") else METRIC


def p_better(own: Mapping[int, float], unchanged: Mapping[int, float]) -> float:
    """One-sided p of "losses `own` are not lower than `unchanged`", both by seed, +Inf for a run that diverged.

    The paired t test, and where the unchanged one diverged the count that is explained above. 1 where nothing can be
    told: fewer than two pairs, differences that are all the same, an own run that diverged.
    """
    seeds = [
        seed for seed in own if seed in unchanged and not math.isnan(own[seed]) and not math.isnan(unchanged[seed])
    ]
    if not seeds or any(math.isinf(own[seed]) for seed in seeds):
        return 1.0
    gap = _log_difference(own, unchanged)
    tests = [gap.p / 2 if gap.mean < 0 else 1 - gap.p / 2] if gap.judged else []
    rescued = sum(math.isinf(unchanged[seed]) for seed in seeds)
    if rescued:
        ahead = all(own[seed] < unchanged[seed] for seed in seeds)
        tests.append(p_of_rescue(rescued, len(seeds)) if ahead else 1.0)
    return min(1.0, len(tests) * min(tests)) if tests else 1.0


def p_of_rescue(rescued: int, seeds: int) -> float:
    """The most that luck gives to a remedy ahead in all seeds, in so many or more since the unchanged run diverged."""
    return 0.5**seeds * (float(bdtrc(rescued - 1, seeds, 0.5)) if rescued else 1.0)


def _effect(
    own: Outcome, base: Outcome, symptom: str, metric: str, losses: Mapping[int, float], p: float, p_holm: float
) -> Effect:
    before = _losses(base, base, metric)
    gap = _log_difference(losses, before)
    seconds = [
        own.values["seconds"][seed] / base.values["seconds"][seed]
        for seed in own.finished
        if seed in base.finished and base.values["seconds"].get(seed)
    ]
    return Effect(
        variant=own.variant,
        symptom=symptom,
        metric=metric,
        difference=gap,
        before=typical(before[seed] for seed in gap.seeds),
        after=typical(losses.values()),
        rescued=tuple(seed for seed in own.finished if seed in base.diverged),
        lost=own.diverged,
        p=p,
        p_holm=p_holm,
        shown_before=base.shows(symptom),
        shown_after=own.shows(symptom),
        ill=tuple(sorted({seed for seeds in own.errors.values() for seed in seeds})),
        seen=own.seen,
        missing=tuple(own.missing),
        seconds_ratio=float(np.median(seconds)) if seconds else math.nan,
    )


def _log_difference(own: Mapping[int, float], unchanged: Mapping[int, float]) -> Difference:
    """Of ln(own) - ln(unchanged) over the seeds in which both are finite."""
    own_log, unchanged_log = ({seed: _log(loss) for seed, loss in each.items()} for each in (own, unchanged))
    return difference(own_log, unchanged_log)


def _log(loss: float) -> float:
    return math.log(max(loss, _LEAST)) if math.isfinite(loss) else loss


def typical(losses: Iterable[float]) -> float:
    """The geometric mean of the finite ones; NaN without any."""
    logs = [_log(loss) for loss in losses if math.isfinite(loss)]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def _losses(outcome: Outcome, base: Outcome, metric: str) -> dict[int, float]:
    """By seed, in the units of the unchanged config; Inf for a run that diverged.

    Standardised targets are other units: such a loss is multiplied by what the best constant answer costs in the old
    units over what it costs in the new ones: exact for squared and absolute errors, about so for Huber's loss.
    """
    losses = {seed: loss * _unit(outcome, base, seed) for seed, loss in outcome.values.get(metric, {}).items()}
    return {**losses, **dict.fromkeys(outcome.diverged, math.inf)}


def _unit(outcome: Outcome, base: Outcome, seed: int) -> float:
    if "data.standardize_targets" not in outcome.overrides:
        return 1.0
    costs = [_constant_loss(each, seed) for each in (base, outcome)]
    return costs[0] / costs[1] if costs[1] else math.nan


def _constant_loss(outcome: Outcome, seed: int) -> float:
    """The mean loss of the best answer that ignores the inputs, on the fixed rows; NaN where it is not known."""
    checks = outcome.runs[seed].checks if seed in outcome.runs else ()
    known = [check.values[_CONSTANT] for check in checks if _CONSTANT in check.values]
    return float(np.mean(known[0])) if known else math.nan
