"""Rules about the loss: does it learn at all, enough, too much; is the learning rate too high; a wrong start."""

from __future__ import annotations

import contextlib
import math

import numpy as np

from nnvis.diagnosis.evidence import (
    FEWEST_ROWS,
    FEWEST_STEPS,
    Interval,
    NotJudged,
    at_start,
    broken,
    checks,
    consequence,
    constant_loss,
    ended,
    fact,
    interval,
    last_two,
    linear_loss,
    newest_step,
    require_late,
    require_rows,
    row_losses,
    stuck,
    what_follows,
)
from nnvis.diagnosis.remedies import remedies
from nnvis.record.run import Run
from nnvis.record.vocabulary import Check, Finding


def not_learning(run: Run) -> list[Finding]:
    """No progress over the best predictor that does not see the inputs, at two checks in a row after 20% of the budget.

    A paired test on the fixed rows (99%): the gain is below 1% of that predictor's loss, or below up to 5% where a
    linear baseline shows that more is easy. Wrong where nothing can be learned from the inputs, and for networks that
    stand still for long before they learn.
    """
    if (fact(run, "loss", "scale") or 1.0) < 0:
        raise NotJudged("the loss has the wrong sign: what is better by it is worse")
    found = stuck(run)
    if found is None:
        return []
    linear = linear_loss(run)
    constant = constant_loss(run)
    easy = ""
    if linear is not None:
        gain = interval((constant - linear) / float(np.abs(constant).mean()))
        easy = (
            f"; a linear baseline gains {gain.mean:.0%}" if gain.low > 0 else "; a linear baseline gains nothing either"
        )
    return [
        Finding(
            symptom="not_learning",
            severity="error",
            layers=(),
            first_step=found.since,
            value=found.last.gain.mean,
            threshold=0.01,
            evidence=f"no progress since step {found.since:,}: {found}{easy}",
            causes=_causes_of_not_learning(run),
            remedies=remedies("not_learning"),
        )
    ]


def underfitting(run: Run, *, margin: float = 0.05) -> list[Finding]:
    """At the end the network does worse than a linear baseline on the same rows, at two checks in a row.

    A warning: it has learned something, or else `not_learning` says more. The baseline is cross-validated and sees at
    most 64 principal components; the test is paired (99%), the margin a share of the best constant output's loss. Wrong
    for networks that are not meant to see what the baseline sees.
    """
    checks(run)
    require_late(run)
    if not ended(run):
        raise NotJudged("the run has not ended")
    linear = linear_loss(run)
    if linear is None:
        raise NotJudged("there is no linear baseline for these inputs and this loss")
    require_rows(run)
    constant = constant_loss(run)
    scale = float(np.abs(constant).mean())
    worse = [interval((row_losses(check) - linear) / scale) for check in last_two(run)]
    if not all(w.low > margin for w in worse):
        return []
    last = last_two(run)[1]
    return [
        Finding(
            symptom="underfitting",
            severity="warning",
            layers=(),
            first_step=last_two(run)[0].step,
            value=worse[-1].mean,
            threshold=margin,
            evidence=(
                f"at step {last.step:,} the loss is {row_losses(last).mean():.4g}, a linear baseline gets "
                f"{linear.mean():.4g} on the same rows (difference {_percent(worse[-1])} of the best constant output's)"
            ),
            causes=_causes_of_underfitting(run),
            remedies=remedies("underfitting"),
        )
    ]


def overfitting(run: Run, *, level: float = 0.01, least: float = 0.1, of_constant: float = 0.02) -> list[Finding]:
    """The loss of the validation rows lies above its best, row by row, at two checks in a row, while training goes on.

    Paired per row (one-sided, p < 0.01 at each), and by at least a tenth of the best one and 2% of the
    best constant output's: smaller rises are significant, but nobody's fault. Not the gap between the two losses. A
    note where early stopping puts the best weights back.
    """
    with_val = [check for check in checks(run) if "diagnosis_row_loss_val" in check.values and check.step > 0]
    if not with_val:
        raise NotJudged("no validation rows were looked at after step 0 (nnvis.watch takes them as val_data)")
    if len(with_val) < 3:
        raise NotJudged(f"{len(with_val)} checks of validation rows: three are needed")
    losses = np.array([check.values["diagnosis_row_loss_val"] for check in with_val])
    if losses.shape[1] < FEWEST_ROWS:
        raise NotJudged(f"only {losses.shape[1]} validation rows: at least {FEWEST_ROWS} are needed")
    means = losses.mean(axis=1)
    if not np.isfinite(means).any():
        raise NotJudged("the validation rows have no finite loss")
    best = int(np.nanargmin(np.where(np.isfinite(means), means, np.inf)))
    if best > len(with_val) - 3:
        return []
    # in eval mode as well: running statistics that lag behind are no fault of the weights
    training = [
        float(check.values.get("diagnosis_row_loss_eval", row_losses(check)).mean())
        for check in (with_val[best], with_val[-1])
    ]
    if not training[1] < training[0]:
        return []
    rises = [interval(losses[i] - losses[best], 1 - 2 * level) for i in (-2, -1)]
    scale = _scale(run)
    enough = max(least * abs(means[best]), of_constant * scale)
    if not all(rise.low > 0 and rise.mean > enough for rise in rises):
        return []
    since = len(with_val) - 2
    while since - 1 > best and interval(losses[since - 1] - losses[best], 1 - 2 * level).low > 0:
        since -= 1
    put_back = bool((run.config.get("training") or {}).get("early_stopping"))
    return [
        Finding(
            symptom="overfitting",
            severity="info" if put_back else "error",
            layers=(),
            first_step=with_val[since].step,
            value=rises[-1].mean / abs(means[best]),
            threshold=least,
            evidence=(
                f"the loss of {losses.shape[1]:,} validation rows was best at step {with_val[best].step:,} "
                f"({means[best]:.4g}) and is {means[-1]:.4g} at step {with_val[-1].step:,}: +{rises[-1].mean:.3g} a "
                f"row (98% interval {rises[-1].low:.3g} to {rises[-1].high:.3g}), while the training loss fell from "
                f"{training[0]:.4g} to {training[1]:.4g}" + ("; the best weights were put back" if put_back else "")
            ),
            causes=("more freedom than the training rows can fill", "noise in the labels", "training goes on too long"),
            remedies=remedies("overfitting"),
        )
    ]


def rising_loss(run: Run, *, errors: float = 3.0, rise: float = 0.1) -> list[Finding]:
    """`learning_rate_too_high` by the record alone: fixed training rows lie above their best, at two checks in a row.

    By over 3 standard errors, paired per row, and by a tenth of the best constant output's loss: gradient descent with
    a step that is small enough comes down on the rows it is trained on (Nesterov 2004: lr < 2 / curvature). An error
    where the loss is worse than a constant output's too, or is no longer finite. Wrong where rows were trained on and
    then no longer, or the learning rate is meant to grow.
    """
    seen = checks(run)
    if len(seen) < 3:
        raise NotJudged(f"{len(seen)} check{'s' * (len(seen) != 1)}: three are needed")
    scale = _scale(run)
    losses = [row_losses(check) for check in seen]
    means = np.array([np.abs(rows.mean()) if np.isfinite(rows).all() else math.inf for rows in losses])
    is_broken = broken(run)
    finite = np.flatnonzero(np.isfinite(means))
    if not len(finite):
        raise NotJudged("no check had a finite loss")
    best = int(finite[means[finite].argmin()])
    grown = [i for i in finite if i > best and _above(losses[i], losses[best], errors, rise * scale)]
    last_finite = int(finite[-1])
    if is_broken:
        grew = last_finite in grown or _large_updates(run)
        if not grew:
            return []
    elif len(grown) < 2 or not {len(seen) - 2, len(seen) - 1} <= set(grown):
        return []
    elif newest_step(run) < FEWEST_STEPS:
        raise NotJudged(f"only {newest_step(run)} steps")
    constant = None
    with contextlib.suppress(NotJudged):
        constant = float(constant_loss(run).mean())
    worse = constant is not None and all(means[i] > constant + rise * scale for i in (-2, -1))
    highest, when = means[last_finite], seen[last_finite].step
    what = f"from {means[best]:.4g} at step {seen[best].step:,} to {highest:.4g} at step {when:,}"
    since = next((seen[i].step for i in grown), seen[last_finite].step)
    return [
        Finding(
            symptom="learning_rate_too_high",
            severity="error" if is_broken or worse else "warning",
            layers=(),
            first_step=since,
            value=float(means[last_finite] / max(means[best], 1e-300)),
            threshold=errors,
            evidence=(
                f"the loss of the probe rows rose {what}, over {errors:g} standard errors"
                + ("; then it was no longer finite" if is_broken else "")
                + (f"; the best constant output gets {constant:.4g}" if worse else "")
                + _updates(run)
            ),
            causes=("the learning rate is too high",),
            remedies=remedies("learning_rate_too_high"),
        )
    ]


def bad_initial_loss(run: Run, *, nats: float = 1.0, times: float = 2.0) -> list[Finding]:
    """Before the first update the loss is 1 nat above that of guessing (classes), or twice E[y²] (numbers).

    Limits: usual starts lie below both. A network that knows nothing should not be sure of anything: the weights of the
    output layer are too large, inputs or targets are not normalised, or the output does not go with the loss. Wrong for
    networks that start from trained weights.
    """
    start = at_start(run)
    kind, scale = fact(run, "loss", "kind"), abs(fact(run, "loss", "scale") or 1.0)
    losses, constant = row_losses(start), constant_loss(run)
    if not np.isfinite(losses).all():
        raise NotJudged("the loss is not finite at the start")
    if "cross_entropy" in kind or kind == "nll":
        above = interval((losses - constant) / scale)
        wrong, value, limit = above.low > nats, above.mean, nats
        what = f"{value:.3g} nats above that of guessing by the class counts"
    elif kind == "mean_squared_error":
        square = (fact(run, "targets", "rms") or 0.0) ** 2
        if not square:
            raise NotJudged("all targets are 0")
        ratio = interval(losses / scale / square)
        wrong, value, limit = ratio.low > times, ratio.mean, times
        what = f"{value:.3g} times that of putting out 0 everywhere"
    else:
        raise NotJudged("what the loss should be at the start is not known for this loss")
    if not wrong:
        return []
    without, unknown = consequence(run)
    return [
        Finding(
            symptom="bad_initial_loss",
            severity="error" if without else "warning",
            layers=(),
            first_step=0,
            value=value,
            threshold=limit,
            evidence=(
                f"before the first update the loss is {losses.mean():.4g}, {what} ({constant.mean():.4g} for the best "
                f"constant output){what_follows(without, unknown)}"
            ),
            causes=("the output layer starts with large weights", "inputs or targets are not normalised"),
            remedies=remedies("bad_initial_loss"),
        )
    ]


def _above(losses: np.ndarray, best: np.ndarray, errors: float, least: float) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        difference = losses - best
        error = difference.std(ddof=1) / math.sqrt(len(difference)) if len(difference) >= FEWEST_ROWS else 0.0
        return bool(difference.mean() > max(errors * error, least)) or not math.isfinite(error)


def _scale(run: Run) -> float:
    try:
        return float(np.abs(constant_loss(run)).mean())
    except NotJudged:
        return float(np.abs(row_losses(checks(run)[0])).mean())


def _large_updates(run: Run, limit: float = 1.0) -> bool:
    """Whether some layer's update was as large as its weights, at a step after the first measured one."""
    ratios = run.layers.get("update_ratio")
    if ratios is None or len(ratios.steps) < 2:
        return False
    return bool(np.nanmax(np.where(np.isfinite(ratios.values[1:]), ratios.values[1:], np.inf), initial=0) > limit)


def _updates(run: Run) -> str:
    ratios = run.layers.get("update_ratio")
    if ratios is None or not np.isfinite(ratios.values).any():
        return ""
    usual = float(np.nanmedian(np.where(np.isfinite(ratios.values), ratios.values, np.nan)))
    return f"; an update changes the weights by {usual:.2g} of their size in the middle"


def _causes_of_not_learning(run: Run) -> tuple[str, ...]:
    later = [check for check in checks(run) if check.step > 0]
    first, last = row_losses(checks(run)[0]), row_losses(later[-1])
    if np.isfinite(last).all() and np.isfinite(first).all():
        if all(np.array_equal(row_losses(check), first) for check in later):
            return ("the parameters are not updated: the optimizer holds others, or never steps",)
        fall = interval(first - last)
        if fall.low > 0 and _still_falling(later):
            return ("the learning rate is too low, or the run too short: the loss still falls", "too little capacity")
        if fall.high < 0:
            return ("the learning rate is too high", "the loss has the wrong sign, or is another task's")
    ratios = run.layers.get("update_ratio")
    if ratios is not None and np.isfinite(ratios.values).any() and float(np.nanmedian(ratios.values)) < 1e-5:
        return ("the learning rate is too low: updates are below 1e-5 of the weights",)
    linear = linear_loss(run)
    if linear is not None and interval(constant_loss(run) - linear).low > 0:  # the inputs do tell
        return ("too little capacity, or a plateau",)
    return ("too little capacity, or a plateau", "the labels are not related to the inputs")


def _still_falling(later: list[Check]) -> bool:
    if len(later) < 3:
        return False
    half = later[len(later) // 2]
    return interval(row_losses(half) - row_losses(later[-1])).low > 0


def _causes_of_underfitting(run: Run) -> tuple[str, ...]:
    later = [check for check in checks(run) if check.step > 0]
    if _still_falling(later):
        return ("too few steps, or too low a learning rate: the loss still falls", "too little capacity")
    return ("too little capacity", "the output or the loss does not go with the targets", "the learning rate")


def _percent(value: Interval) -> str:
    return f"{value.mean:.0%}, 99% interval {value.low:.0%} to {value.high:.0%},"
