"""The learning rate, judged by branches: what the same few steps from the same state do at other rates. Needs no torch.

    for trial in trials(run): print(trial.step, trial.verdict, trial.best.rate)
    learning_rate_too_low(run), learning_rate_too_high(run)

A branch is better where the fixed rows lose less at its end, row by row: all branches take the same batches. What they
cannot tell is what comes after their twenty steps, and these favour extremes: a smaller rate because it stops the noise
(Wu et al. 2018), a larger one because every start is steep. So a branch is a symptom only where the difference is large
against the loss of the best constant output, and a finding only with a consequence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from nnvis.diagnosis.evidence import (
    BUDGET_SHARE,
    CONFIDENCE,
    NOT_BEGUN,
    Interval,
    NotJudged,
    broken,
    budget,
    checks,
    consequence,
    constant_loss,
    ended,
    fact,
    not_begun,
    over_rows,
    planned_rate,
    require_rows,
    row_losses,
    what_follows,
)
from nnvis.diagnosis.fit import rising_loss
from nnvis.diagnosis.remedies import BEST_TRIED, remedies
from nnvis.record.run import Run
from nnvis.record.vocabulary import Check, Finding, FloatArray, Remedy

LEAST = 0.05
"""Of the best constant output's loss: what a better branch gains more, or a worse one loses, at least."""
TIMES = 3.0
"""A rate is too low, or too high, where another one comes so many times as far."""
UNKNOWN_BUDGET = 1000
"""Steps that a training is taken to have before anybody has said."""


@dataclass(frozen=True)
class Branch:
    """The steps at one learning rate."""

    factor: float  # of the rate in use
    rate: float
    losses: FloatArray  # (N,) of the fixed rows at its end
    gain: float  # of the mean over the state before, as a share of the scale; -inf where it is not finite

    @property
    def loss(self) -> float:
        """The mean over the fixed rows."""
        return float(self.losses.mean())


@dataclass(frozen=True)
class Trial:
    """All branches from one state."""

    step: int  # updates completed before
    steps: int  # of each branch
    start: FloatArray  # (N,) the fixed rows before
    branches: tuple[Branch, ...]  # by rising rate
    scale: float  # of the loss: that of the best constant output
    sharpness: float  # learning rate times curvature over the limit of stability; NaN where not known

    @cached_property
    def current(self) -> Branch:
        """At the rate in use."""
        return min(self.branches, key=lambda branch: abs(math.log(branch.factor)))

    @cached_property
    def best(self) -> Branch:
        """The one whose rows lose least; of equals the rate in use."""
        return min(self.branches, key=lambda branch: (-branch.gain, abs(math.log(branch.factor))))

    def ahead(self, branch: Branch) -> Interval:
        """By how much it is better than the rate in use, as a share of the scale, paired by row.

        99% for all rates that were tried together (Bonferroni): it may be the best of them.
        """
        if not math.isfinite(self.current.gain):
            return Interval(*[math.inf if math.isfinite(branch.gain) else 0.0] * 3)
        level = (1 - CONFIDENCE) / max(len(self.branches) - 1, 1)
        return over_rows((self.current.losses - branch.losses) / self.scale, 1 - level)

    @property
    def climbs(self) -> bool:
        """Whether the rate in use leads up, or to what is not finite."""
        if not math.isfinite(self.current.gain):
            return True
        return over_rows((self.current.losses - self.start) / self.scale).low > 0 and -self.current.gain > LEAST

    @property
    def verdict(self) -> str:
        """`too low`, `too high` or `about right`, for so few steps."""
        best, now = self.best, self.current
        ahead = self.ahead(best)
        far = ahead.low > 0 and ahead.mean >= LEAST and best.gain > 0 and best.gain >= TIMES * now.gain
        if far and best.factor > 1 and math.isfinite(now.gain):
            return "too low"
        return "too high" if self.climbs or (far and ahead.mean >= 2 * LEAST) else "about right"

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "step": self.step,
            "steps": self.steps,
            "verdict": self.verdict,
            "rate": self.current.rate,
            "best_rate": self.best.rate,
            "loss_before": float(self.start.mean()),
            "losses": {f"{branch.rate:.6g}": branch.loss for branch in self.branches},
            "sharpness": self.sharpness,
        }

    def __str__(self) -> str:
        now, best = self.current, self.best
        text = f"{self.steps} steps from step {self.step:,} on bring the loss from {self.start.mean():.4g} to "
        text += _shown(now)
        if best is not now:
            text += f" at the learning rate in use ({now.rate:.3g}) and to {_shown(best)} at {best.rate:.3g}"
            if math.isfinite(now.gain) and len(best.losses) > 1:
                ahead = self.ahead(best)
                text += (
                    f" (better by {ahead.mean:.0%} of the best constant output's loss, 99% interval {ahead.low:.0%} to "
                    f"{ahead.high:.0%} for all rates together)"
                )
            return text
        return f"{text} at the learning rate in use ({now.rate:.3g}), the best of those tried"


def trials(run: Run) -> tuple[Trial, ...]:
    """By step. Raises NotJudged where there are none, or where the losses of single rows tell nothing."""
    found = tried_rates(run)
    if not found:
        raise NotJudged("no other learning rate was tried (diagnosis.branches in the config, or --deep)")
    require_rows(run)
    return found


def tried_rates(run: Run) -> tuple[Trial, ...]:
    """The same, none where there are none."""
    return tuple(trial for check in run.checks if (trial := _trial(run, check)) is not None)


def _trial(run: Run, check: Check) -> Trial | None:
    factors, rates = (check.values.get(f"diagnosis_branch_{name}") for name in ("factor", "rate"))
    losses, courses = (check.values.get(f"diagnosis_branch_{name}_loss") for name in ("row", "batch"))
    if factors is None or rates is None or losses is None or courses is None or not np.isfinite(losses[0]).all():
        return None
    start = losses[0]
    try:
        scale = float(np.abs(constant_loss(run)).mean())
    except NotJudged:
        scale = float(np.abs(start).mean())
    scale = scale or 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        gains = [float((start - rows).mean()) / scale if np.isfinite(rows).all() else -math.inf for rows in losses]
    branches = [Branch(*one) for one in zip(factors.tolist(), rates.tolist(), losses, gains, strict=True)][1:]
    sharpness = check.values.get("diagnosis_sharpness")
    ratio = math.nan if sharpness is None else float(sharpness[0] / sharpness[1])
    return Trial(check.step, courses.shape[1], start, tuple(branches), scale, ratio)


# ---------------------------------------------------------------- too low


def learning_rate_too_low(run: Run, *, pace: float = 3.0) -> list[Finding]:
    """A few steps at 3 or more times the learning rate come 3 times as far, and the run so far was slow or stuck.

    Paired per row (99%) and by 5% of the best constant output's loss, in every state of the run that was tried from a
    twentieth of its budget on. An error where there is no progress over that output and two states say so; a
    warning where there is none and one state does, or where the larger rate
    comes on at 3 times the pace that the run had so far; else a note. Not judged where a schedule has the
    rate at less than half of its height. Wrong where training is to be slow: behind trained weights, say.
    """
    tried = trials(run)
    later = [trial for trial in tried if trial.step > 0]
    if not later:
        raise NotJudged(NOT_BEGUN)
    last = later[-1]
    _require_full_rate(run, last)
    total = budget(run)
    if not ended(run) and (total is None or last.step < round(BUDGET_SHARE * total)):
        raise NotJudged("no other learning rate has been tried yet after a fifth of the run")
    if last.verdict != "too low":
        return []
    without, unknown = consequence(run)
    lasts = all(trial.verdict == "too low" for trial in later)
    harms = without or _pace(run, last) >= pace
    severity = "info" if not (lasts and harms) else "error" if without and len(later) > 1 else "warning"
    comes = f", at {_pace(run, last):.3g} times the pace of the run so far" if math.isfinite(_pace(run, last)) else ""
    return [_too_low(run, severity, later if lasts else [last], f"{comes}{what_follows(without, unknown)}")]


def _pace(run: Run, trial: Trial) -> float:
    """How fast the best branch gains, in times of what the run gained a step so far."""
    first = checks(run)[0]
    gained = float(row_losses(first).mean() - trial.start.mean()) / trial.scale
    steps = trial.step - first.step
    if not math.isfinite(gained) or gained <= 0 or steps <= 0:
        return math.inf
    return (trial.best.gain / trial.steps) / (gained / steps)


def too_low_at_the_start(run: Run) -> list[Finding]:
    """Before training: at this rate the whole run does not come as far as a few steps at a larger one.

    Even if every step gained as much as the first ones do: a warning. A note where that is not so. A run of unknown
    length is taken to have 1,000 steps. Wrong for networks that stand still at first and then gain more a step, and
    where the rate is meant to warm up by other means than a schedule.
    """
    trial = _first(run)
    _require_full_rate(run, trial)
    if trial.verdict != "too low":
        return []
    steps = budget(run) or UNKNOWN_BUDGET
    whole = max(trial.current.gain, 0.0) * steps / trial.steps
    if whole >= trial.best.gain:
        return [_too_low(run, "info", [trial], f"; {steps:,} steps at the rate in use may do as well")]
    return [_too_low(run, "warning", [trial], f"; if every step gained as much, {steps:,} would not come as far")]


def _too_low(run: Run, severity: str, tried: Sequence[Trial], text: str) -> Finding:
    last = tried[-1]
    return Finding(
        symptom="learning_rate_too_low",
        severity=severity,
        layers=(),
        first_step=tried[0].step,
        value=last.ahead(last.best).mean,
        threshold=LEAST,
        evidence=f"{last}{text}{_stability(last)}",
        causes=("the learning rate is too low",),
        remedies=(*_best_tried(run, last), *remedies("learning_rate_too_low")),
    )


def _require_full_rate(run: Run, trial: Trial, *, share: float = 0.5) -> None:
    planned = planned_rate(run)
    if trial.current.rate < share * planned:
        raise NotJudged(
            f"the schedule had the learning rate at {trial.current.rate:.3g} of {planned:.3g} where others were tried"
        )


# ---------------------------------------------------------------- too high


def learning_rate_too_high(run: Run) -> list[Finding]:
    """The loss of the fixed training rows lies above its best by over 3 standard errors, at two checks in a row.

    Or the learning rate leads up, or nowhere, in branches from two states of the run while a lower one leads down. One
    state is enough where the run makes no progress, or its loss is no longer finite, and then it is an error; else it
    is a note. Branches confirm the first, too. See `rising_loss` for its limits; branches are judged at 99%, paired by
    row, and by 5% (10% where both lead down) of the best constant output's loss.
    """
    try:
        tried = trials(run)
    except NotJudged:
        return rising_loss(run)
    try:
        found = rising_loss(run)
    except NotJudged:
        found = []
    high = [trial for trial in tried if trial.verdict == "too high"]
    if found:
        told = _best_tried(run, high[-1]) if high else ()
        return [
            replace(one, evidence=one.evidence + _confirmed(high, tried), remedies=(*told, *one.remedies))
            for one in found
        ]
    if not high or not_begun(run):
        return []
    without, unknown = consequence(run)
    lasts = len(high) > 1 and high[-1] is tried[-1]
    severity = "error" if without or broken(run) else "warning" if lasts else "info"
    return [_too_high(run, severity, high, what_follows(without, unknown))]


def _confirmed(high: Sequence[Trial], tried: Sequence[Trial]) -> str:
    if high:
        return f"; {high[-1]}{_stability(high[-1])}"
    return f"; branches do not confirm it: {tried[-1]}"


def too_high_at_the_start(run: Run) -> list[Finding]:
    """Before training: a few steps at this rate lead up, or not as far as a lower one by far.

    An error where the loss is no longer finite, or lies at 10 times that of the best constant output: no training comes
    back from there by itself. Else a warning: large rates may climb at first and find a flat place (Lewkowycz et al.
    2020).
    """
    trial = _first(run)
    if trial.verdict != "too high":
        return []
    now = trial.current
    harm = not math.isfinite(now.gain) or now.loss > 10 * max(trial.scale, float(trial.start.mean()))
    return [_too_high(run, "error" if harm else "warning", [trial], "")]


def _too_high(run: Run, severity: str, tried: Sequence[Trial], text: str) -> Finding:
    last = tried[-1]
    return Finding(
        symptom="learning_rate_too_high",
        severity=severity,
        layers=(),
        first_step=tried[0].step,
        value=last.current.factor / last.best.factor,
        threshold=1.0,
        evidence=f"{last}{text}{_stability(last)}",
        causes=("the learning rate is too high",),
        remedies=(*(_best_tried(run, last) if last.best.factor < 1 else ()), *remedies("learning_rate_too_high")),
    )


def _best_tried(run: Run, trial: Trial) -> tuple[Remedy, ...]:
    """The rate that came out best; nothing where none was good.

    As the config has to say it: a schedule multiplies what the optimizer is given.
    """
    if not trial.best.gain > 0:
        return ()
    why = f"of those tried from step {trial.step:,} on it came the farthest in {trial.steps} steps"
    told = (run.config.get("optimizer") or {}).get("lr")
    rate = told * trial.best.factor if isinstance(told, int | float) else trial.best.rate
    return (Remedy(BEST_TRIED, why, {"optimizer.lr": float(f"{rate:.3g}")}),)


def _first(run: Run) -> Trial:
    if not tried_rates(run):
        raise NotJudged((fact(run, "not_tried") or {}).get("rates", NOT_BEGUN))
    return trials(run)[0]


def _stability(trial: Trial) -> str:
    """The curvature in support."""
    if not math.isfinite(trial.sharpness):
        return ""
    return f"; learning rate times curvature is {trial.sharpness:.2g} of what steps can bear"


def _shown(branch: Branch) -> str:
    return f"{branch.loss:.4g}" if math.isfinite(branch.gain) else "what is not finite"
