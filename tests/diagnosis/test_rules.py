"""Every rule: what makes a healthy record sick, what makes an error of it, and when it says nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from made_up import BATCHES, CLASSES, CONSTANT, COURSE, ROWS, facts, record, regression

from nnvis.config.training_sections import Symptom
from nnvis.diagnosis import RULES, NotJudged, diagnose
from nnvis.diagnosis.evidence import holm, interval, p_below, stuck
from nnvis.diagnosis.remedies import BEST_TRIED, TREAT_CAUSES, remedies
from nnvis.record import Run

STUCK = (1.0, 1.0, 1.0, 1.0, 1.0)
NAN = float("nan")


def gradients(*by_layer: float) -> np.ndarray:
    """(5, P) norms, a little different from batch to batch."""
    return np.outer(by_layer, np.linspace(0.9, 1.1, BATCHES))


def slopes(of_units: float) -> np.ndarray:
    table = np.full((5, 21), NAN)
    table[[1, 3]] = of_units
    return table


def flat(share: float) -> dict[str, Any]:
    return {"diagnosis_flat_fraction": np.array([NAN, share, NAN, share, NAN])}


def shared(twins: int, duplicates: int = 0) -> dict[str, Any]:
    """So many of 100 validation rows are training rows; so many of 400 training rows are there twice."""
    return {"val": {"rows": 100, "in_training": twins, "training_rows": 400, "duplicates": duplicates}}


VANISHING = {"diagnosis_activation_grad_norm": gradients(1e-6, 1e-5, 1e-3, 1e-2, 1)}
EXPLODING = {"diagnosis_activation_grad_norm": gradients(1e4, 1e3, 1e2, 10, 1)}
BLOCKED = {"diagnosis_parameter_grad_norm": np.array([0, NAN, 0, NAN, 1.0])}
TWINS = {"diagnosis_duplicate_fraction": np.array([1.0, NAN, 0.0, NAN, NAN])}
BRANCHES = {
    "diagnosis_branch_factor": np.array([0.0, 1.0, 10.0]),
    "diagnosis_branch_rate": np.array([0.0, 0.01, 0.1]),
    "diagnosis_branch_row_loss": np.outer((1.0, 0.99, 0.7), np.linspace(0.9, 1.1, ROWS)) * CONSTANT,
    "diagnosis_branch_batch_loss": np.ones((3, 20)),
}
FELL = [0.9, 0.5, 0.3, 0.1, 0.01]
RISING_VAL = {
    step: {"diagnosis_row_loss_val": CONSTANT * share * np.linspace(0.8, 1.2, ROWS)}
    for step, share in zip((0, 100, 200, 300, 400), (1.0, 0.5, 0.7, 0.9, 1.1), strict=True)
}
RARE = {"diagnosis_recall": np.array([0.9, 0.9, 0.9, 0.0])}

# symptom, record, severity
SICK: list[tuple[str, Run, str]] = [
    ("not_learning", record(STUCK), "error"),
    ("not_learning", record((1.0, 1.2, 1.1, 1.3, 1.2)), "error"),
    ("vanishing_gradients", record(STUCK, everywhere=VANISHING), "error"),
    ("vanishing_gradients", record(everywhere=VANISHING), "info"),
    ("zero_gradients", record(STUCK, everywhere=BLOCKED), "error"),
    ("exploding_gradients", record(STUCK, everywhere=EXPLODING), "error"),
    ("exploding_gradients", record(everywhere=EXPLODING), "warning"),
    ("exploding_gradients", record(everywhere=EXPLODING, summary={"status": "diverged", "steps": 400}), "error"),
    ("dead_units", record(STUCK, at={s: flat(0.8) for s in (100, 200, 300, 400)}), "error"),
    ("dead_units", record(at={s: flat(0.8) for s in (100, 200, 300, 400)}), "info"),
    ("dead_units", record(at={s: flat(1.0) for s in (300, 400)}), "warning"),
    ("saturated_activations", record(STUCK, everywhere={"diagnosis_slope_quantiles": slopes(0.01)}), "error"),
    ("saturated_activations", record(everywhere={"diagnosis_slope_quantiles": slopes(0.01)}), "info"),
    ("symmetric_units", record(STUCK, everywhere=TWINS), "error"),
    ("overfitting", record(FELL, at=RISING_VAL), "error"),
    ("overfitting", record(FELL, at=RISING_VAL, config={"training": {"early_stopping": {"patience": 3}}}), "info"),
    ("underfitting", record((1.0, 0.9, 0.9, 0.8, 0.8)), "warning"),
    ("learning_rate_too_high", record((1.0, 0.3, 0.8, 1.5, 2.0)), "error"),
    ("learning_rate_too_high", record((1.0, 0.3, 0.5, 0.6, 0.6)), "warning"),
    ("learning_rate_too_low", record(STUCK, everywhere=BRANCHES), "error"),
    ("learning_rate_too_low", record((1.0, 0.97, 0.94, 0.91, 0.88), everywhere=BRANCHES), "warning"),
    ("bad_initial_loss", record((4.0, 0.5, 0.3, 0.2, 0.1)), "warning"),
    ("bad_initial_loss", record((4.0, 1.0, 1.0, 1.0, 1.0)), "error"),
    ("unnormalized_inputs", record(STUCK, facts(inputs={"rms": 200.0})), "error"),
    ("unnormalized_inputs", record(known=facts(inputs={"mean_over_std": 50.0})), "warning"),
    ("unnormalized_inputs", record(known=facts(inputs={"largest_over_median_rms": 1e4})), "warning"),
    ("unnormalized_targets", record(STUCK, regression(std=300.0)), "error"),
    ("unnormalized_targets", record(known=regression(mean=100.0)), "warning"),
    ("output_mismatch", record(known=facts(output={"activations": ["softmax"]})), "error"),
    ("output_mismatch", record(known=facts(output={"activations": ["softmax"], "shape": [1]}), everywhere={"diagnosis_output_range": np.ones(2)}), "error"),  # noqa: E501
    ("output_mismatch", record(known=regression() | {"output": facts(output={"activations": ["tanh"]})["output"]}), "error"),  # noqa: E501
    ("output_mismatch", record(known=facts(loss={"kind": "nll"})), "error"),
    ("output_mismatch", record(known=facts(loss={"kind": "cross_entropy_of_probabilities"})), "error"),
    ("output_mismatch", record(known=facts(output={"activations": ["relu"]})), "warning"),
    ("output_mismatch", record(STUCK, facts(output={"activations": ["relu"]})), "error"),
    ("loss_mismatch", record(known=facts(loss={"broadcast": True})), "error"),
    ("loss_mismatch", record(known=facts(loss={"scale": -1.0})), "error"),
    ("loss_mismatch", record(known=facts(loss={"reduction": "sum"})), "info"),
    ("loss_mismatch", record(STUCK, facts(loss={"reduction": "sum"})), "info"),
    ("loss_mismatch", record((1.0, 2.0, 3.0, 4.0, 5.0), facts(loss={"reduction": "sum"})), "error"),
    ("loss_mismatch", record(known=facts(loss={"unstable": True})), "warning"),
    ("missing_nonlinearity", record(known=facts(affine_pairs=[["hidden1", "hidden2"]])), "info"),
    (
        "missing_nonlinearity",
        record(known=facts(affine_pairs=[["hidden1", "hidden2"], ["hidden2", "output"]])),
        "warning",
    ),
    ("class_imbalance", record(known=facts(targets={"counts": [130, 130, 130, 10]}), everywhere=RARE), "warning"),
    ("constant_features", record(known=facts(inputs={"constant": 1})), "info"),
    ("constant_features", record(known=facts(inputs={"constant": 6})), "error"),
    ("shared_rows", record(known=facts(shared_rows=shared(50))), "error"),
    ("shared_rows", record(known=facts(shared_rows=shared(5))), "warning"),
    ("shared_rows", record(known=facts(shared_rows=shared(50, duplicates=200))), "info"),
    ("bad_labels", record(STUCK, facts(targets={"distinct": 1, "counts": [400, 0, 0, 0]})), "error"),
    (
        "bad_labels",
        record(
            STUCK,
            at={
                0: {
                    "diagnosis_row_loss_linear": np.full(ROWS, 1.02 * CONSTANT),
                    "diagnosis_row_loss_neighbour": np.arange(ROWS) % 4 > 0,
                }
            },
        ),
        "warning",
    ),
    ("nonfinite_values", record(summary={"status": "diverged", "nonfinite": {"step": 7, "direction": "backward", "layer": "hidden1"}}), "error"),  # noqa: E501
    ("nonfinite_values", record(scalars={"loss/train": [1.0, 0.5, NAN]}), "error"),
    ("nonfinite_values", record(at={400: {"diagnosis_nonfinite": np.array([0, 3, 0])}}), "error"),
    ("nonfinite_values", record(layers={"activation_nonfinite": np.array([[0.0, 0], [0, 5]])}), "warning"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("symptom", "run", "severity"), SICK, ids=[f"{symptom}-{severity}" for symptom, _, severity in SICK]
)
def test_a_sick_record(symptom: str, run: Run, severity: str) -> None:
    (finding,) = [finding for finding in diagnose(run) if finding.symptom == symptom]
    assert finding.severity == severity, finding.evidence
    assert finding.evidence
    assert finding.causes
    blamed = [TREAT_CAUSES] if finding.causes[0] in RULES else []
    assert [one for one in finding.remedies if one.title != BEST_TRIED] == [*blamed, *remedies(symptom)]
    assert remedies(symptom)
    assert finding.first_step in {0, 7, 10, 20, *(check.step for check in run.checks)}


def test_every_symptom_has_a_sick_case_a_name_in_the_config_and_remedies() -> None:
    assert {symptom for symptom, _, _ in SICK} == set(RULES) == set(get_args(Symptom))
    assert all(remedies(symptom) for symptom in RULES)
    assert all((rule.__doc__ or "").count("\n") >= 2 for rule in RULES.values())


def test_a_healthy_record_has_no_finding_and_is_judged_on_everything() -> None:
    found = diagnose(record())
    assert not found.findings
    assert not found.sick
    assert list(found.not_judged) == ["learning_rate_too_low"]  # which only trying tells
    assert {*found.judged, *found.not_judged} == set(RULES)


HEALTHY: list[tuple[str, str, Run]] = [
    ("vanishing_gradients", "a ratio of e⁻² is usual", record(STUCK, everywhere={"diagnosis_activation_grad_norm": gradients(0.14, 1, 0.5, 1, 1)})),  # noqa: E501
    ("zero_gradients", "at the start alone: an output layer that starts at zero", record(at={0: BLOCKED})),
    ("zero_gradients", "a loss that is fitted perfectly", record(at={300: BLOCKED, 400: BLOCKED})),
    ("dead_units", "sparse from the start", record(STUCK, everywhere=flat(0.55))),
    ("dead_units", "at one check", record(STUCK, at={400: flat(0.9)})),
    ("symmetric_units", "at the start alone", record(at={0: TWINS})),
    ("symmetric_units", "not looked for any more", record(at={400: {"diagnosis_duplicate_fraction": np.full(5, NAN)}})),
    ("overfitting", "the gap alone", record(FELL, everywhere={"diagnosis_row_loss_val": np.full(ROWS, 0.9)})),
    ("overfitting", "running statistics lag behind", record(FELL, at={step: {**values, "diagnosis_row_loss_eval": values["diagnosis_row_loss_val"]} for step, values in RISING_VAL.items()})),  # noqa: E501
    ("learning_rate_too_high", "one check above the best", record((1.0, 0.2, 0.8, 0.2, 0.15))),
    ("not_learning", "before a fifth of the budget", record(STUCK, summary={"budget": 40_000})),
    ("not_learning", "one check without progress", record((1.0, 0.8, 0.8, 0.8, 1.0))),
    ("unnormalized_inputs", "a norm comes first", record(STUCK, facts(inputs={"rms": 200.0}, layers=[{**facts()["layers"][0], "norm": True}, *facts()["layers"][1:]]))),  # noqa: E501
    ("constant_features", "the border of images", record(known=facts(inputs={"constant": 3, "table": False}))),
    ("shared_rows", "one twin among a hundred thousand", record(known=facts(shared_rows={"val": {"rows": 10**5, "in_training": 1, "training_rows": 10**6, "duplicates": 20}}))),  # noqa: E501
    ("bad_initial_loss", "half a nat above", record((1 + 0.5 / CONSTANT, 0.5, 0.3, 0.2, 0.1))),
    ("output_mismatch", "log softmax before nll", record(known=facts(output={"activations": ["logsoftmax"]}, loss={"kind": "nll"}))),  # noqa: E501
    ("output_mismatch", "sigmoid and targets in [0, 1]", record(known=regression(low=0.0, high=1.0) | {"output": facts(output={"activations": ["sigmoid"], "shape": [1]})["output"]})),  # noqa: E501
    ("output_mismatch", "one column of a softmax", record(known=facts(output={"activations": ["softmax"], "shape": []}, loss={"kind": "binary_cross_entropy_of_probabilities"}), everywhere={"diagnosis_output_range": np.array([0.0, 1.0])})),  # noqa: E501
    ("output_mismatch", "probabilities made in some other way", record(known=facts(loss={"kind": "binary_cross_entropy_of_probabilities"}), everywhere={"diagnosis_output_range": np.array([1e-7, 1.0])})),  # noqa: E501
    ("output_mismatch", "log probabilities made in some other way", record(known=facts(output={"log_probabilities": True}, loss={"kind": "nll"}))),  # noqa: E501
    ("class_imbalance", "rare, but right", record(known=facts(targets={"counts": [130, 130, 130, 10]}))),
]  # fmt: skip


@pytest.mark.parametrize(("symptom", "why", "run"), HEALTHY, ids=[f"{symptom}: {why}" for symptom, why, _ in HEALTHY])
def test_nothing_is_said(symptom: str, why: str, run: Run) -> None:
    assert symptom not in {finding.symptom for finding in diagnose(run)}


# ---------------------------------------------------------------- abstention


def test_without_checks_rules_say_that_they_cannot_judge() -> None:
    run = record(layers={"grad_norm": np.ones((30, 3))}, scalars={"loss/train": [1.0, 0.5]})
    bare = Run(**{**vars(run), "checks": ()})
    found = diagnose(bare)
    assert not found.findings
    assert set(found.judged) == {"nonfinite_values", "exploding_gradients"}
    assert "probe_data" in found.not_judged["not_learning"]
    exploding = np.concatenate([np.ones((25, 3)), np.full((5, 3), 1e4)])
    (finding,) = diagnose(Run(**{**vars(bare), "layers": type(run.layers)({"grad_norm": table(exploding)})}))
    assert (finding.symptom, finding.severity, finding.first_step) == ("exploding_gradients", "info", 250)


def table(values: np.ndarray) -> Any:
    return record(layers={"grad_norm": values}).layers["grad_norm"]


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (record(STUCK, summary={}), "how long it is to be is not known"),
        (record(STUCK, summary={"budget": 10_000}), "only 400 of 10,000 steps"),
        (record(STUCK, steps=(0, 10, 20, 30, 40)), "only 40 steps"),
        (record((1.0, 1.0), steps=(0, 400)), "two in a row"),
        (record(STUCK, at={0: {"diagnosis_row_loss_constant": np.full(ROWS, NAN)}}), "best constant output"),
        (record(STUCK, everywhere={"diagnosis_row_loss": np.full(ROWS, NAN)}), "row by row"),
    ],
)
def test_reasons_for_not_judging_progress(run: Run, reason: str) -> None:
    assert reason in diagnose(run).not_judged["not_learning"]
    with pytest.raises(NotJudged, match=r"."):
        stuck(run)


@pytest.mark.parametrize("spoilt", [None, NAN, math.inf])  # as read back from a record, and live
@pytest.mark.parametrize("part", ["inputs", "targets"])
def test_nan_in_the_data_is_the_cause_of_nan_and_no_scale(part: str, spoilt: float | None) -> None:
    changed = dict.fromkeys(("rms", "mean_over_std") if part == "inputs" else ("rms", "std", "mean", "low"), spoilt)
    known = facts(inputs=changed) if part == "inputs" else regression(**changed)
    known["output"]["activations"] = ["sigmoid"]
    found = diagnose(record(known=known, at={0: {"diagnosis_nonfinite": np.array([3, 1, 0])}}))
    (finding,) = [f for f in found if f.symptom == "nonfinite_values"]
    assert finding.causes == (f"NaN or Inf in the {part} of the probe rows",)
    assert found.not_judged[f"unnormalized_{part}"] == f"the {part} hold NaN or Inf"


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("weighed", [1.0, 1.5])
def test_rows_that_do_not_make_up_the_loss_of_a_batch_are_not_judged_by(summed: bool, weighed: float) -> None:
    """A batch takes 256 rows: the loss of these, and of half of them."""
    run = record(STUCK)
    made = []
    for check in run.checks:
        halves = [check.values["diagnosis_row_loss"][:count] for count in (256, 128)]
        together = np.array([weighed * (half.sum() if summed else half.mean()) for half in halves])
        made.append(replace(check, values={**check.values, "diagnosis_batch_loss": together}))
    found = diagnose(replace(run, checks=tuple(made)))
    judged = {"not_learning", "underfitting", "bad_labels"}
    if weighed == 1:
        assert not judged & set(found.not_judged)
        assert {f.symptom for f in found} == {"not_learning", "underfitting"}
    else:
        assert not found.findings
        assert all("do not make up that of a batch" in found.not_judged[symptom] for symptom in judged)


def test_nonlinearities_that_are_functions_are_not_judged() -> None:
    layers = [{**row, "nonlinearity": False} for row in facts()["layers"]]
    unseen = {"diagnosis_slope_quantiles": np.full((5, 21), NAN), "diagnosis_flat_fraction": np.full(5, NAN)}
    found = diagnose(record(known=facts(layers=layers) | {"operations": {"Relu": 2}}, everywhere=unseen))
    assert not found.findings
    assert "(Relu) are functions" in found.not_judged["dead_units"]
    assert "saturated_activations" in found.not_judged


def test_what_is_an_error_is_blamed_for_not_learning() -> None:
    found = diagnose(record(STUCK, everywhere=VANISHING))
    (finding,) = [finding for finding in found if finding.symptom == "not_learning"]
    assert finding.causes[0] == "vanishing_gradients"
    assert found.findings[0].severity == "error"
    assert found.sick


def test_a_note_is_a_warning_where_the_network_does_less_than_a_linear_map() -> None:
    found = {f.symptom: f for f in diagnose(record((1.0, 0.9, 0.9, 0.8, 0.8), everywhere=VANISHING))}
    assert found["vanishing_gradients"].severity == "warning"
    assert found["underfitting"].causes[0] == "vanishing_gradients"
    assert TREAT_CAUSES not in found["underfitting"].remedies  # a warning may not be all that there is


def test_where_a_cause_is_an_error_it_is_to_be_treated_first() -> None:
    found = {f.symptom: f for f in diagnose(record(STUCK, everywhere=VANISHING))}
    assert found["not_learning"].remedies == (TREAT_CAUSES, *remedies("not_learning"))


# ---------------------------------------------------------------- statistics


def test_the_interval_is_students() -> None:
    found = interval([1.0, 2.0, 3.0, 4.0], confidence=0.95)  # t(3) = 3.182, s = 1.291
    assert found.mean == 2.5
    assert found.high - found.mean == pytest.approx(3.1824 * 1.29099 / 2, rel=1e-4)


def test_holm_by_hand() -> None:
    assert holm([0.001, 0.04, 0.03, 0.005], level=0.05).tolist() == [True, False, False, True]  # 0.03 > 0.05 / 2
    assert holm([0.02, 0.02], level=0.02).tolist() == [False, False]


def test_under_the_null_hypothesis_layers_fall_as_seldom_as_promised() -> None:
    random = np.random.default_rng(0)
    alarms = [bool(holm(p_below(random.normal(-3, 0.3, (20, BATCHES)), -3)).any()) for _ in range(2000)]
    assert np.mean(alarms) < 0.01 + 3 * math.sqrt(0.01 * 0.99 / 2000)


def test_duplicates_that_fell_into_both_splits_are_a_leak_as_seldom_as_promised() -> None:
    """200 rows, each of them twice or three times, and split at random, as `nnvis.data` splits."""
    random = np.random.default_rng(0)
    alarms = []
    for _ in range(500):
        rows = random.permutation(np.repeat(np.arange(200), random.integers(2, 4)))
        val, train = np.split(rows, [len(rows) * 3 // 10])
        _, inverse, counts = np.unique(train, return_inverse=True, return_counts=True)
        found = shared(int(np.isin(val, train).sum()), int((counts[inverse] > 1).sum()))
        found["val"] |= {"rows": len(val), "training_rows": len(train)}
        alarms.append(only(record(known=facts(shared_rows=found)), "shared_rows").severity != "info")
    assert np.mean(alarms) <= 0.01 + 3 * math.sqrt(0.01 * 0.99 / 500)


def test_noise_is_not_taken_for_progress_nor_progress_for_noise() -> None:
    assert stuck(record((1.0, 1.0, 1.0, 0.999, 0.998))) is not None
    assert stuck(record((1.0, 1.0, 1.0, 0.9, 0.8))) is None
    assert len(COURSE) - 1 == CLASSES


# ---------------------------------------------------------------- healthy runs that were once called sick


def only(run: Run, symptom: str) -> Any:
    (finding,) = [finding for finding in diagnose(run) if finding.symptom == symptom]
    return finding


FROZEN = {"diagnosis_parameter_grad_norm": np.array([NAN, NAN, NAN, NAN, 1.0])}


def test_a_frozen_backbone_is_no_fault_where_its_head_learns() -> None:
    assert only(record(everywhere=FROZEN), "zero_gradients").severity == "info"
    assert only(record(STUCK, everywhere=FROZEN), "zero_gradients").severity == "error"
    young = diagnose(record(everywhere=FROZEN, summary={"budget": 40_000}))
    assert "only 400 of 40,000" in young.not_judged["zero_gradients"]
    assert only(record(everywhere=BLOCKED, summary={"budget": 40_000}), "zero_gradients").severity == "error"


def test_a_run_that_warms_up_or_still_falls_is_not_judged_before_its_end() -> None:
    live: dict[str, Any] = {"summary": {"budget": 1000}, "config": {"optimizer": {"lr": 0.1}}}
    assert only(record(STUCK, **live, scalars={"lr": [0.01, 0.1]}), "not_learning")
    assert "warming up" in diagnose(record(STUCK, **live, scalars={"lr": [0.01, 0.01]})).not_judged["not_learning"]
    slow = (1.0, 0.999, 0.99, 0.98, 0.97)  # below 5%, which a linear baseline would ask for
    assert "still falls" in diagnose(record(slow, summary={"budget": 1000})).not_judged["not_learning"]
    assert only(record(slow), "not_learning").severity == "error"


def test_a_value_head_of_one_tanh_is_no_fault_where_it_learns() -> None:
    value = regression(whole=True, distinct=3, low=-1.0, high=1.0)
    value |= {"output": facts(output={"activations": ["tanh"], "shape": [1]})["output"]}
    assert only(record(known=value), "output_mismatch").severity == "info"
    assert only(record(STUCK, value), "output_mismatch").severity == "error"


def test_pruned_units_are_no_fault_where_the_network_learns() -> None:
    some = {"diagnosis_duplicate_fraction": np.array([0.6, NAN, 0.0, NAN, NAN])}
    assert only(record(everywhere=some), "symmetric_units").severity == "warning"
    assert only(record(STUCK, everywhere=some), "symmetric_units").severity == "error"
    assert only(record(everywhere=TWINS), "symmetric_units").severity == "error"  # they do the work of one


def test_targets_that_no_loss_looks_at_are_no_fault() -> None:
    same = facts(targets={"distinct": 1, "counts": [400, 0, 0, 0]}, loss={"kind": "other"})
    found = only(record(known=same, at={0: {"diagnosis_row_loss_constant": np.zeros(ROWS)}}), "bad_labels")
    assert found.severity == "warning"
    assert "all 400 probe rows" in found.evidence
    drawn = facts(targets={"distinct": 1, "counts": [400, 0, 0, 0]})
    nothing = {0: {"diagnosis_row_loss_constant": np.zeros(ROWS)}}
    assert only(record(known=drawn, at=nothing, config={"name": "ours"}), "bad_labels").severity == "error"


def test_without_a_linear_baseline_a_small_gain_is_no_fault() -> None:
    near = record((1.0, 0.99, 0.99, 0.99, 0.99))
    assert only(near, "not_learning")
    for check in near.checks:
        check.values.pop("diagnosis_row_loss_linear", None)
    assert "not_learning" in diagnose(near).judged


def test_a_gradient_half_again_its_median_does_not_explode() -> None:
    steady = np.exp(np.random.default_rng(0).normal(0, 0.01, (30, 3)))
    for factor, said in ((1.5, False), (10.0, False), (30.0, True)):
        grown = steady * np.where(np.arange(30) < 25, 1.0, factor)[:, None]
        found = {finding.symptom for finding in diagnose(record(layers={"grad_norm": grown}))}
        assert ("exploding_gradients" in found) == said, factor


def test_classes_for_an_unknown_loss_are_no_unnormalised_targets() -> None:
    tokens = regression(integers=True, whole=True, std=40.0, low=-100.0, high=9.0) | {"loss": {"kind": "other"}}
    assert "unnormalized_targets" not in {finding.symptom for finding in diagnose(record(known=tokens))}


def test_parameters_that_never_move_are_said_not_to_be_updated() -> None:
    same = {"diagnosis_row_loss": np.full(ROWS, CONSTANT)}
    assert only(record(STUCK, everywhere=same), "not_learning").causes == (
        "the parameters are not updated: the optimizer holds others, or never steps",
    )


def test_labels_are_not_blamed_where_a_linear_baseline_gains() -> None:
    assert not any("labels" in cause for cause in only(record(STUCK), "not_learning").causes)
    none = {0: {"diagnosis_row_loss_linear": np.full(ROWS, 1.02 * CONSTANT)}}
    assert any("labels" in cause for cause in only(record(STUCK, at=none), "not_learning").causes)


def test_a_loss_of_the_wrong_sign_judges_no_progress() -> None:
    assert "wrong sign" in diagnose(record(known=facts(loss={"scale": -1.0}))).not_judged["not_learning"]


def test_persistence_asks_for_two_checks_that_are_apart() -> None:
    steps = (0, 320, 640, 1280, 1281)
    assert "not_learning" in diagnose(record((1.0, 0.8, 0.8, 1.0, 1.0), steps=steps)).judged  # learned at 640
    assert only(record((1.0, 0.8, 1.0, 1.0, 1.0), steps=steps), "not_learning").first_step == 640
    near = diagnose(record((1.0, 1.0, 1.0), steps=(0, 1280, 1281)))
    assert "too near each other" in near.not_judged["not_learning"]


def test_a_loss_far_above_is_told_in_times() -> None:
    assert "is 3,100 times that of the best constant output" in str(stuck(record((1.0, 3125.0, 3125, 3125, 3125))))
    assert "is 2.8 times that" in str(stuck(record((1.0, 2.75, 2.75, 2.75, 2.75))))
    assert "% worse than that" in str(stuck(record((1.0, 1.2, 1.2, 1.2, 1.2))))


def test_names_of_blocked_layers() -> None:
    evidence = only(record(STUCK, everywhere=BLOCKED), "zero_gradients").evidence
    assert "the gradient of 2 layers (hidden1, hidden2) is exactly 0" in evidence
