"""What the rules ask of a record: its checks, progress over seeing nothing, intervals, Holm's correction.

stuck(run)                      # the newest check without progress, and since when; None where there is some
interval(differences)           # Interval(mean, low, high)
holm(p_values)                  # which hypotheses fall
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit

from nnvis.record.run import Run
from nnvis.record.vocabulary import BoolArray, Check, FloatArray, IntArray

CONFIDENCE = 0.99
FEWEST_ROWS = 32
"""Nobody probes with fewer rows out of many: fewer are the whole table, and nothing has to be inferred from them."""
_GRADIENT_ROWS = 256  # that a batch's loss is of, in a record that does not say
FEWEST_STEPS = 50
"""A run of fewer updates has hardly begun: nothing is said about what it did not reach."""
BUDGET_SHARE = 0.2
"""After this share of its budget a network that learns has shown it."""


NOT_BEGUN = "training has not begun"


class NotJudged(Exception):  # noqa: N818 (not an error: the record cannot tell)
    """Why a rule cannot say anything about this record."""


@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided confidence interval."""

    mean: float
    low: float
    high: float


def interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Of the mean of independent values, by Student's t; NaN and Inf make it all NaN."""
    values = np.asarray(values, float)
    mean = float(values.mean())
    if len(values) < 2 or not math.isfinite(mean):
        return Interval(mean, mean, mean)
    half = float(stdtrit(len(values) - 1, 0.5 + confidence / 2) * values.std(ddof=1) / math.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)


def over_rows(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Of the mean over fixed training rows; of fewer than 32 the mean itself, since they are all that there are."""
    values = np.asarray(values, float)
    mean = float(values.mean())
    return interval(values, confidence) if len(values) >= FEWEST_ROWS else Interval(mean, mean, mean)


def p_below(values: FloatArray, limit: float) -> FloatArray:
    """(L,) one-sided p values of (L, P) probe batches for: the mean is not below `limit`. -inf everywhere is 0."""
    with np.errstate(invalid="ignore"):
        mean, spread = values.mean(axis=1), values.std(axis=1, ddof=1)
    count = values.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        p = stdtr(count - 1, (mean - limit) / (spread / math.sqrt(count)))
    p = np.where(np.isneginf(values).all(axis=1), 0.0, p)
    return np.where(np.isnan(p), 1.0, p)


def holm(p_values: ArrayLike, level: float = 1 - CONFIDENCE) -> BoolArray:
    """Which of L null hypotheses fall at a familywise `level` (Holm 1979)."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    falls = np.zeros(len(p), bool)
    for rank, i in enumerate(order):
        if p[i] > level / (len(p) - rank):
            break
        falls[i] = True
    return falls


# ---------------------------------------------------------------- checks


def checks(run: Run) -> tuple[Check, ...]:
    """All checks. Raises NotJudged where there are none."""
    if not run.checks:
        raise NotJudged("no fixed rows were checked: give nnvis.watch a loss_fn and probe_data")
    return run.checks


def at_start(run: Run) -> Check:
    """The check before the first update. Raises NotJudged."""
    first = checks(run)[0]
    if first.step != 0:
        raise NotJudged(f"the record begins at step {first.step:,}: the initialisation was not seen")
    return first


def last_two(run: Run) -> tuple[Check, Check]:
    """The newest check after training began, and the one before that is a twentieth of its steps away (at most 500).

    Two checks of adjacent steps see the same thing twice. Raises NotJudged.
    """
    later = [check for check in checks(run) if check.step > 0]
    if len(later) < 2:
        raise NotJudged(f"{len(later)} check{'s' * (len(later) != 1)} after step 0: two in a row are needed")
    last = later[-1]
    apart = [check for check in later if last.step - check.step >= min(last.step / 20, 500)]
    if not apart:
        raise NotJudged(f"the checks of steps {later[-2].step:,} and {last.step:,} are too near each other")
    return apart[-1], last


def budget(run: Run) -> int | None:
    """Updates that the run is to have; of one that has ended, those it had; None where nobody knows."""
    if "budget" in run.summary:
        return int(run.summary["budget"])
    return int(run.summary["steps"]) if "steps" in run.summary else None


def ended(run: Run) -> bool:
    """Whether the run is over."""
    return "status" in run.summary


def broken(run: Run) -> bool:
    """Whether the run's numbers, its loss at least, are no longer finite."""
    if run.summary.get("status") == "diverged" or "nonfinite" in run.summary:
        return True
    losses = (s for tag, s in run.scalars.items() if tag in ("loss/train", "loss/epoch"))
    return any(not np.isfinite(s.values).all() for s in losses) or bool(
        run.checks and run.checks[-1].values["diagnosis_nonfinite"][1:].any()
    )


def newest_step(run: Run) -> int:
    """The last step that anything is known of."""
    steps = [check.step for check in run.checks] + [int(s.steps[-1]) for s in run.scalars.values() if len(s.steps)]
    return max(steps, default=0)


def not_begun(run: Run) -> bool:
    """Whether all that is known is the check before the first update."""
    return len(run.checks) == 1 and newest_step(run) == 0 and not ended(run)


def require_late(run: Run) -> None:
    """Raises NotJudged before a fifth of the budget, where the budget is unknown, and for a handful of steps."""
    total, now = budget(run), newest_step(run)
    if total is None:
        raise NotJudged("the run has not ended, and how long it is to be is not known")
    if now < round(BUDGET_SHARE * total):
        raise NotJudged(f"only {now:,} of {total:,} steps are done")
    if now < FEWEST_STEPS:
        raise NotJudged(f"only {now:,} step{'s' * (now != 1)}: too few to say what the network can learn")


def fact(run: Run, *path: str) -> Any:
    """A fact of the first check; None where it is not known."""
    value: Any = run.checks[0].facts if run.checks else None
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def spoilt_data(run: Run) -> tuple[str, ...]:
    """Which of the probe rows' inputs and targets hold NaN or Inf."""
    sizes = {part: (fact(run, part) or {}).get("rms", 0.0) for part in ("inputs", "targets")}
    return tuple(part for part, rms in sizes.items() if rms is None or not math.isfinite(rms))


# ---------------------------------------------------------------- layers


def rows_with_parameters(check: Check) -> list[int]:
    """Positions of the layers that map: with parameters of their own, and no normalisation."""
    return [i for i, row in enumerate(check.facts["layers"]) if row["parameters"] and not row["norm"]]


def names(check: Check, positions: Sequence[int] | IntArray) -> tuple[str, ...]:
    """Their names."""
    return tuple(check.layers[i] for i in positions)


def log_gradients(check: Check) -> tuple[list[int], FloatArray]:
    """Positions of the mapping layers that a gradient can reach, and (L, P) ln of its norm over that at the output.

    The norm of a row's gradient does not grow with the width of a layer. Raises NotJudged.
    """
    norms = check.values["diagnosis_activation_grad_norm"]
    known = [i for i in rows_with_parameters(check) if np.isfinite(norms[i]).all()]
    if len(known) < 2:
        raise NotJudged("fewer than two layers with parameters got a gradient that could be read")
    output = norms[known[-1]]
    if not (output > 0).all():
        raise NotJudged("the gradient at the output is exactly 0")
    with np.errstate(divide="ignore"):
        return known, np.log(norms[known] / output)


# ---------------------------------------------------------------- progress


@dataclass(frozen=True)
class Progress:
    """What a check's loss is better than the best constant output's, as a share of the latter."""

    step: int
    gain: Interval
    loss: float
    constant: float


def constant_loss(run: Run) -> FloatArray:
    """(N,) row losses of the best predictor that does not see the inputs. Raises NotJudged."""
    for check in checks(run):
        if "diagnosis_row_loss_constant" in check.values:
            rows = check.values["diagnosis_row_loss_constant"]
            if not np.isfinite(rows).all() or not float(np.abs(rows).mean()):
                break
            return rows
    raise NotJudged("what the best constant output would get is not known for this loss")


def row_losses(check: Check) -> FloatArray:
    """(N,) losses of the fixed rows. Raises NotJudged where the loss has no rows."""
    rows = check.values["diagnosis_row_loss"]
    if np.isnan(rows).all() and not check.values["diagnosis_nonfinite"].any():
        raise NotJudged("the loss cannot be told row by row")
    return rows


def require_rows(run: Run, *, apart: float = 0.01) -> None:
    """Raises NotJudged where the losses of single rows do not make up that of a batch, as their mean or sum.

    Class weights cancel in a row alone, and a ranking loss compares rows: then a gain by rows means nothing. Where
    outputs are broadcast against targets a row alone shows what was meant, and is judged by.
    """
    if fact(run, "loss", "broadcast"):
        return
    rounding = 1e-3 * np.abs(row_losses(checks(run)[0])).mean()
    for check in checks(run):
        together, rows = check.values.get("diagnosis_batch_loss"), row_losses(check)
        if together is None or not np.isfinite(together).all():
            continue
        batches = check.values["diagnosis_activation_norm"].shape[1]
        watched = min(fact(run, "gradient_rows") or _GRADIENT_ROWS, len(rows)) // batches * batches
        for whole, part in zip(together, (rows[:watched], rows[: watched // 2]), strict=True):
            off = min(abs(whole - part.mean()), abs(whole - part.sum()) / len(part))
            if not off <= apart * max(np.abs(part).mean(), np.nan_to_num(rounding, posinf=0)):
                raise NotJudged("the losses of single rows do not make up that of a batch: it weighs or compares them")


@lru_cache(maxsize=1)  # the rules ask for it one after the other
def _progress(run_checks: _Same) -> tuple[Progress, ...]:
    run = run_checks.run
    constant = constant_loss(run)
    scale = float(np.abs(constant).mean())
    require_rows(run)
    found = []
    for check in checks(run):
        losses = row_losses(check)
        with np.errstate(over="ignore", invalid="ignore"):
            gain = over_rows((constant - losses) / scale)
        if not math.isfinite(gain.mean):
            gain = Interval(-math.inf, -math.inf, -math.inf)
        found.append(Progress(check.step, gain, float(losses.mean()), float(constant.mean())))
    return tuple(found)


class _Same:
    """A run as a key: the same object with as many checks."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def __hash__(self) -> int:
        return hash((id(self.run.checks), len(self.run.checks)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.run.checks is self.run.checks


def progress(run: Run) -> tuple[Progress, ...]:
    """At every check. Raises NotJudged where no comparison is possible."""
    return _progress(_Same(run))


def least_gain(run: Run, least: float = 0.01, most: float = 0.05, share: float = 0.2) -> float:
    """Below what gain there is no progress: 1%, or up to 5% where a linear baseline shows that more is easy."""
    linear = linear_loss(run)
    if linear is None:
        return least
    constant = constant_loss(run)
    easy = interval((constant - linear) / float(np.abs(constant).mean())).low
    return float(np.clip(share * easy, least, most))


def linear_loss(run: Run) -> FloatArray | None:
    """(N,) row losses of the linear baseline; None where there is none."""
    return next(
        (c.values["diagnosis_row_loss_linear"] for c in run.checks if "diagnosis_row_loss_linear" in c.values), None
    )


@dataclass(frozen=True)
class Stuck:
    """No progress at the two newest checks."""

    since: int  # the first check after step 0 from which on there was none
    last: Progress

    def __str__(self) -> str:
        share = self.last.gain
        if not math.isfinite(share.mean):
            return f"at step {self.last.step:,} the loss is not finite"
        loss, constant = f"{self.last.loss:.4g}", f"{self.last.constant:.4g}"
        if share.mean < -1 and self.last.constant > 0:  # nobody reads -312443.9%
            times = self.last.loss / self.last.constant
            return (
                f"at step {self.last.step:,} the loss ({loss}) is {_round(times)} times that of the best constant "
                f"output ({constant})"
            )
        side = "better" if share.mean >= 0 else "worse"
        return (
            f"at step {self.last.step:,} the loss ({loss}) is {abs(share.mean):.1%} {side} than that of the best "
            f"constant output ({constant}; 99% interval of the gain {share.low:.1%} to {share.high:.1%})"
        )


def _round(times: float) -> str:
    """Two digits: 2.8, 3,100, 4e+12."""
    return f"{float(f'{times:.2g}'):,.0f}" if 10 <= times < 1e9 else f"{times:.2g}"


def stuck(run: Run) -> Stuck | None:
    """Where the two newest checks show no progress over the best constant output; None where one of them does.

    Judged once a fifth of the budget is used; while training goes on, not during warm-up, and not where the loss lies
    below the constant output's and still falls. Raises NotJudged.
    """
    checks(run)
    require_late(run)
    before, _ = last_two(run)
    limit = least_gain(run)
    later = [p for p in progress(run) if p.step > 0]
    if not ended(run):
        _require_no_start(run, later)
    still = [p.gain.high < limit for p in later]
    if not all(one for one, p in zip(still, later, strict=True) if p.step >= before.step):
        return None
    since = len(still) - 1
    while since and still[since - 1]:
        since -= 1
    return Stuck(later[since].step, later[-1])


def _require_no_start(run: Run, later: Sequence[Progress]) -> None:
    """Raises NotJudged where a run has not shown yet what it can do."""
    rates, planned = run.scalars.get("lr"), planned_rate(run)
    if rates is not None and len(rates.values) and planned and np.nanmax(rates.values) < planned * (1 - 1e-6):
        raise NotJudged(f"the learning rate is still warming up ({rates.values[-1]:.3g} of {planned:.3g})")
    seen = [check for check in checks(run) if check.step > 0]
    fall = over_rows(row_losses(seen[0]) - row_losses(seen[-1]))
    if later[-1].gain.low > 0 and fall.low > 0:
        raise NotJudged(
            f"the loss is {later[-1].gain.mean:.1%} better than the best constant output's, and still falls"
        )


def planned_rate(run: Run) -> float:
    """The largest learning rate that a config of nnvis's own asks for; 0 where none is known."""
    return float(run.summary.get("planned_rate", 0.0)) or largest_rate(run.config)


def largest_rate(config: Mapping[str, Any]) -> float:
    """That a config asks for; 0 where it says none."""
    told = [(config.get(part) or {}).get(key) for part, key in (("optimizer", "lr"), ("schedule", "max_lr"))]
    return max((float(rate) for rate in told if isinstance(rate, (int, float))), default=0.0)


def consequence(run: Run) -> tuple[Stuck | None, str]:
    """`stuck`, or the reason why that cannot be told."""
    if not_begun(run):
        return None, NOT_BEGUN
    try:
        return stuck(run), ""
    except NotJudged as reason:
        return None, str(reason)


def what_follows(stuck: Stuck | None, unknown: str) -> str:
    """The end of a sentence that tells a symptom: what it does to training. Nothing before that has begun."""
    if unknown == NOT_BEGUN:
        return ""
    if stuck:
        return f"; {stuck}"
    return f"; whether it learns is not judged: {unknown}" if unknown else "; the network learns all the same"
