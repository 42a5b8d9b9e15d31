"""The learning rate judged by branches: made-up ones whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from made_up import CONSTANT, COURSE, ROWS, facts, record
from scipy import stats

from nnvis.diagnosis import Diagnosis, NotJudged, diagnose, diagnose_beforehand
from nnvis.diagnosis.rates import LEAST, trials
from nnvis.record import Finding, Run

RATE, STEPS = 0.01, 20
STUCK = (1.0, 1.0, 1.001, 0.999, 1.0)
SLOW = (1.0, 0.97, 0.94, 0.91, 0.88)


def tried(before: float, ends: Mapping[float, float], *, spread: float = 0.02, rate: float = RATE) -> dict[str, Any]:
    """Branches by factor, over the constant's loss; the difference between two has a `spread` over rows."""
    random = np.random.default_rng(0)
    noise = random.normal(size=(len(ends) + 2, ROWS))
    noise -= noise.mean(axis=1, keepdims=True)  # the means are as told
    common, own = 1 + 0.2 * noise[0], spread * noise[1:]
    with np.errstate(invalid="ignore"):
        rows = [CONSTANT * (end * common + own[place]) for place, end in enumerate((before, *ends.values()))]
    factors = np.array([0.0, *ends])
    return {
        "diagnosis_branch_factor": factors,
        "diagnosis_branch_rate": rate * factors,
        "diagnosis_branch_row_loss": np.stack(rows),
        "diagnosis_branch_batch_loss": np.ones((len(factors), STEPS)),
        "diagnosis_sharpness": np.array([0.5, 2.0]),
    }


def lower(before: float, gain: float, most: float = 0.9) -> dict[str, Any]:
    """Each rate gains in proportion to it, up to `most`."""
    return tried(before, {k: before - min(gain * k, most) for k in (0.1, 1 / 3, 1, 3, 10, 100)})


def climbing(before: float, now: float = 2.0, at_third: float = 0.5) -> dict[str, Any]:
    return tried(before, {0.1: 0.8 * before, 1 / 3: at_third * before, 1: now, 3: math.inf, 10: math.nan})


WEIGHED = {"diagnosis_batch_loss": np.array([9.0, 9.0])}
"""A loss of batches that those of rows do not make up."""
RIGHT = tried(0.5, {0.1: 0.48, 1 / 3: 0.45, 1: 0.35, 3: 0.33, 10: 0.9})


def only(found: Diagnosis, symptom: str) -> Finding | None:
    assert symptom in (*found.judged, *(finding.symptom for finding in found)), found.not_judged
    return next((finding for finding in found if finding.symptom == symptom), None)


def severity(run: Run, symptom: str) -> str:
    finding = only(diagnose(run), symptom)
    return finding.severity if finding else ""


def at(*steps: int, values: dict[str, Any]) -> dict[int, dict[str, Any]]:
    return dict.fromkeys(steps, values)


def test_what_a_trial_says() -> None:
    (one,) = trials(record(at=at(100, values=lower(0.97, 0.005))))
    assert (one.step, one.steps, one.verdict) == (100, STEPS, "too low")
    assert (one.current.factor, one.current.rate, one.best.factor) == (1.0, RATE, 100.0)
    assert one.current.gain == pytest.approx(0.005, abs=0.01)
    assert one.ahead(one.best).mean == pytest.approx(0.495, abs=0.01)
    assert one.sharpness == 0.25
    assert trials(record(at=at(100, values=RIGHT)))[0].verdict == "about right"
    assert trials(record(at=at(100, values=climbing(1.0))))[0].verdict == "too high"
    assert "nan" not in str(trials(record(at=at(100, values=climbing(1.0, math.nan))))[0])


@pytest.mark.parametrize(
    ("expected", "run"),
    [
        ("error", record(STUCK, at=at(0, 100, 200, values=lower(1.0, 0.001)))),
        ("warning", record(SLOW, at=at(0, 100, 200, values=lower(0.95, 0.005)))),
        (
            "info",
            record(COURSE, at=at(100, 200, values=tried(0.4, {1: 0.37, 3: 0.32, 10: 0.25}))),
        ),  # learns well enough
        ("info", record(SLOW, at={100: RIGHT, 200: lower(0.95, 0.005)})),  # it does not last
        ("warning", record(STUCK, at=at(0, 200, values=lower(1.0, 0.001)))),  # one state of the run
        ("", record(STUCK, at={100: lower(1.0, 0.001), 200: RIGHT})),
        ("", record(at=at(0, 100, 200, values=RIGHT))),
        ("", record(STUCK, at=at(100, 200, values=tried(1.0, {1: 1.0, 3: 0.99, 10: 0.97})))),  # under 5%
        ("", record(SLOW, at=at(100, 200, values=tried(0.9, {1: 0.7, 3: 0.5, 10: 0.4})))),  # not three times as far
        ("", record(SLOW, at=at(100, 200, values=climbing(0.9)))),
    ],
)
def test_too_low(expected: str, run: Run) -> None:
    assert severity(run, "learning_rate_too_low") == expected


def test_the_interval_is_of_all_rates_together() -> None:
    (trial,) = trials(
        record(at=at(100, values=tried(0.9, {0.1: 0.9, 1 / 3: 0.9, 1: 0.9, 3: 0.8, 10: 0.6}, spread=0.5)))
    )
    values = (trial.current.losses - trial.best.losses) / CONSTANT
    half = stats.t.ppf(1 - 0.01 / 4 / 2, ROWS - 1) * values.std(ddof=1) / math.sqrt(ROWS)
    assert trial.ahead(trial.best).mean == pytest.approx(0.3)
    assert trial.ahead(trial.best).low == pytest.approx(0.3 - half)


def test_a_finding_has_the_rate_that_was_best() -> None:
    config = {
        "name": "slow",
        "data": {"kind": "digits"},
        "model": {"kind": "mlp", "hidden": [8]},
        "optimizer": {"kind": "SGD", "lr": RATE},
    }
    finding = only(
        diagnose(record(STUCK, at=at(100, 200, values=lower(1.0, 0.001)), config=config)), "learning_rate_too_low"
    )
    assert finding is not None
    assert finding.remedies[0].overrides == {"optimizer.lr": 1.0}
    assert finding.remedies[1].overrides == {"optimizer.lr": 0.1}
    assert (finding.first_step, finding.threshold) == (100, LEAST)
    assert "at the learning rate in use (0.01)" in finding.evidence
    own = config | {"schedule": {"kind": "OneCycleLR", "max_lr": RATE, "interval": "step"}}
    finding = only(
        diagnose(record(STUCK, at=at(100, 200, values=lower(1.0, 0.001)), config=own)), "learning_rate_too_low"
    )
    assert finding is not None
    assert finding.remedies[0].overrides == {}  # the schedule's own rates


def test_when_too_low_is_not_judged() -> None:
    for run, reason in (
        (record(), "no other learning rate was tried"),
        (record(at=at(0, values=lower(1.0, 0.001))), "training has not begun"),
        (record(STUCK, at=at(20, values=lower(1.0, 0.001)), steps=(0, 20, 200, 300, 400)), ""),
        (
            record(STUCK, at=at(20, values=lower(1.0, 0.001)), steps=(0, 20, 30, 40, 50), summary={"budget": 400}),
            "no other learning rate has been tried yet after a fifth of the run",
        ),
        (record(STUCK, at=at(200, values=lower(1.0, 0.001)), config={"optimizer": {"lr": 0.5}}), "the schedule had"),
        (
            record(STUCK, at=at(200, values=lower(1.0, 0.001)), summary={"status": "stopped", "planned_rate": 0.03}),
            "the schedule had",
        ),
        (record(STUCK, at=at(200, values=lower(1.0, 0.001)), config={"optimizer": {"lr": 0.015}}), ""),
    ):
        told = diagnose(run).not_judged.get("learning_rate_too_low", "")
        assert told.startswith(reason)
        assert bool(told) == bool(reason)


@pytest.mark.parametrize(
    ("expected", "run"),
    [
        ("error", record(STUCK, at=at(0, values=climbing(1.0)))),
        ("error", record(at=at(0, values=climbing(1.0, math.nan)), summary={"status": "diverged", "steps": 400})),
        ("warning", record(at=at(100, 200, values=climbing(0.5)))),
        ("info", record(at=at(0, values=climbing(1.0)))),  # it climbed at first, and learns
        ("", record(at=at(0, 100, 200, values=RIGHT))),
        ("", record(STUCK, at=at(0, 100, 200, values=RIGHT))),
        # the noise of a rate that is right goes when the rate is lowered: a note at most
        ("", record(at=at(200, values=tried(0.3, {0.1: 0.22, 1 / 3: 0.24, 1: 0.3, 3: 0.5, 10: 1.5})))),
    ],
)
def test_too_high(expected: str, run: Run) -> None:
    assert severity(run, "learning_rate_too_high") == expected


def test_branches_support_what_the_record_says() -> None:
    rose = (1.0, 0.3, 0.8, 1.5, 2.0)
    plain, confirmed, doubted = (
        only(diagnose(record(rose, at=values)), "learning_rate_too_high")
        for values in ({}, at(100, values=climbing(0.3)), at(100, values=RIGHT))
    )
    assert plain is not None
    assert confirmed is not None
    assert doubted is not None
    assert plain.severity == confirmed.severity == doubted.severity == "error"
    assert confirmed.evidence.startswith(plain.evidence)
    assert "of what steps can bear" in confirmed.evidence
    assert confirmed.remedies[0].title == "take the best learning rate tried"
    assert "do not confirm it" in doubted.evidence


def start(values: dict[str, Any], budget: int | None = None) -> Diagnosis:
    summary = {} if budget is None else {"budget": budget}
    run = record((1.0,), steps=(0,), at={0: values}, summary=summary)
    return diagnose_beforehand(run)


def test_before_training() -> None:
    def told(symptom: str, values: dict[str, Any], budget: int | None = None) -> str:
        finding = only(start(values, budget), symptom)
        return finding.severity if finding else ""

    low, high = "learning_rate_too_low", "learning_rate_too_high"
    assert told(low, lower(1.0, 0.001)) == "warning"  # 1000 steps gain 0.05, 20 at 100 times the rate 0.1
    assert told(low, lower(1.0, 0.01), 2000) == "info"
    assert told(low, lower(1.0, 0.01), 100) == "warning"
    assert told(low, RIGHT) == told(high, RIGHT) == ""
    assert told(high, climbing(1.0, math.inf)) == "error"
    assert told(high, climbing(1.0, 300.0)) == "error"
    assert told(high, climbing(1.0, 1.8)) == "warning"
    assert start({}).not_judged[low] == start({}).not_judged[high] == "training has not begun"


def test_rows_that_are_not_learned_by_heart() -> None:
    def heart(share: float, floor: float = 0.0) -> dict[str, Any]:
        return {
            "diagnosis_heart_row_loss": np.full(16, share * CONSTANT),
            "diagnosis_heart_row_loss_constant": np.full(16, CONSTANT),
            "diagnosis_heart_row_loss_least": np.full(16, floor * CONSTANT),
            "diagnosis_heart_steps": np.array([300.0, 300.0]),
        }

    def told(share: float) -> str:
        finding = only(start(heart(share)), "underfitting")
        return finding.severity if finding else ""

    assert [told(share) for share in (0.05, 0.15, 0.3, 0.95, 2.0)] == ["", "", "warning", "error", "error"]
    assert start(heart(math.nan)).not_judged["underfitting"].endswith("to be learned by heart is not finite")
    assert only(start(heart(0.65, floor=0.6)), "underfitting") is None  # an eighth of the way
    assert start(heart(0.95, floor=0.95)).not_judged["underfitting"].startswith("the best constant output is nearly")
    unknown = {name: value for name, value in heart(0.95).items() if not name.endswith("least")}
    assert start(unknown).not_judged["underfitting"] == "what this loss is at best is not known"
    weighed = record((1.0,), steps=(0,), at={0: heart(0.95) | WEIGHED}, summary={})
    assert diagnose_beforehand(weighed).not_judged["underfitting"].startswith("the losses of single rows do not")
    small = facts()
    for layer in small["layers"]:
        layer["parameters"] = min(layer["parameters"], 10)
    few = diagnose_beforehand(record((1.0,), small, steps=(0,), at={0: heart(1.0)}, summary={}))
    assert few.not_judged["underfitting"].startswith("30 weights may not have the room")


def test_a_trial_that_begins_with_what_is_not_finite_is_none() -> None:
    with pytest.raises(NotJudged, match="no other learning rate was tried"):
        trials(record(at=at(100, values=tried(math.nan, {1: 1.0, 3: 1.0}))))


def test_a_rate_that_climbs_or_diverges_is_never_about_right() -> None:
    """Also where the best of the rates tried is a higher one, or none comes down."""
    values = tried(1.0, {0.1: 700.0, 1 / 3: 5.0, 1: math.nan, 3: math.nan})
    assert trials(record(at={0: values}))[0].verdict == "too high"
    found = only(start(values), "learning_rate_too_high")
    assert found is not None
    assert found.severity == "error"
    assert trials(record(at={0: tried(1.0, {0.1: 1.0, 1: 3.0, 3: 2.0})}))[0].verdict == "too high"
    odd = only(start(tried(0.9, {0.1: 700.0, 1: math.nan, 3: 0.2})), "learning_rate_too_high")
    assert odd is not None
    assert "take the best learning rate tried" not in {remedy.title for remedy in odd.remedies}


def test_losses_of_rows_that_do_not_make_up_that_of_a_batch_judge_no_rate() -> None:
    values = climbing(1.0) | WEIGHED
    for told in (diagnose(record(STUCK, at=at(0, 100, 200, values=values))).not_judged, start(values).not_judged):
        assert told["learning_rate_too_low"].startswith("the losses of single rows do not make up")
    assert start(values).not_judged["learning_rate_too_high"].startswith("the losses of single rows do not make up")
    found = diagnose(record(STUCK, at=at(0, 100, 200, values=values)))
    assert "learning_rate_too_high" not in {finding.symptom for finding in found}


def test_a_remedy_is_what_the_config_has_to_say_where_a_schedule_multiplies_it() -> None:
    config = {
        "name": "warm",
        "data": {"kind": "digits"},
        "model": {"kind": "mlp", "hidden": [8]},
        "optimizer": {"kind": "SGD", "lr": 500.0},
        "schedule": {"kind": "LinearLR", "start_factor": 0.1},
    }
    values = tried(1.0, {0.01: 0.2, 0.1: 0.8, 1: math.nan}, rate=50.0)
    found = only(
        diagnose_beforehand(record((1.0,), steps=(0,), at={0: values}, config=config, summary={})),
        "learning_rate_too_high",
    )
    assert found is not None
    assert found.remedies[0].overrides == {"optimizer.lr": 5.0}
