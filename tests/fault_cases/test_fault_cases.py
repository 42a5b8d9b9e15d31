"""The fault cases: what they are built of against known answers, and, slowly, how good the diagnosis is on them.

The slow test reads records made before, NNVIS_FAULT_RECORDS=FOLDER, or trains two seeds of the quick cases itself.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fault_branching import branch_case, with_branches
from fault_checking import NOT_YET, ONE_BATCH, check_case, check_cases
from fault_data import make_data
from fault_facts import Case, held_out, read_facts
from fault_parts import (
    EPSILON,
    LOSSES,
    Unrolled,
    build_loss,
    build_model,
    build_optimizer,
    gives_logits,
    initialise,
)
from fault_scoring import EXPECTED, LATER, consequence, interval, learns, names, score, trains
from fault_training import Outcome, best_constant_loss, train_case

import nnvis
from nnvis.data.fashion_mnist import DEBIAN_FOLDER
from nnvis.diagnosis.rates import trials
from nnvis.record.vocabulary import Finding

FAN_IN, FAN_OUT = 200, 400


@pytest.fixture(scope="module")
def facts() -> dict[str, Case]:
    return read_facts()


# --- Facts ----------------------------------------------------------------------------------------------------------


def test_every_case_and_root_cause_is_known(facts: dict[str, Case]) -> None:
    roles = Counter(case.role for case in facts.values())
    assert roles == {"faulty": 39, "healthy": 22, "mislabelled_healthy": 1, "healed": 20}
    labels = {label for case in facts.values() for label in case.label} - {"healthy"}
    assert labels <= EXPECTED.keys() | LATER.keys()
    assert not EXPECTED.keys() & LATER.keys()
    assert all(case.healed_by in facts for case in facts.values() if case.healed_by)


def test_as_many_steps_as_in_the_source(facts: dict[str, Case]) -> None:
    assert facts["at_blob_relu15_dying"].steps == 300 * math.ceil(700 / 256)
    assert facts["tb_ips15_lr"].steps == 100
    assert facts["at_circle_sigmoid8_vanish"].steps == 1500
    assert facts["td_deep_clean"].steps == facts["td_deep_no_bn"].steps == 500


def test_a_healed_case_differs_by_its_remedy_alone(facts: dict[str, Case]) -> None:
    sick, healed = facts["at_mnist_relu20_oscillate"], facts["at_mnist_relu20_oscillate~healed"]
    assert (sick.healed_by, healed.role, healed.optimizer["lr"]) == (healed.id, "healed", 1e-4)
    assert (healed.layers, healed.data) == (sick.layers, sick.data)


def test_half_of_the_cases_is_held_out_with_what_heals_them(facts: dict[str, Case]) -> None:
    held = held_out(facts)
    assert 0.35 < len(held) / len(facts) < 0.65
    assert all((case.id in held) == (case.healed_by in held) for case in facts.values() if case.healed_by)


def test_every_case_runs_forward_and_backward(facts: dict[str, Case]) -> None:
    without_files = not Path(DEBIAN_FOLDER).exists()
    ran = 0
    for case in facts.values():
        if without_files and case.data["recipe"] in ("fashion_mnist", "small_images"):
            continue
        few = {"rows": 64} if case.data["recipe"] == "fashion_mnist" else {}
        data = make_data(replace(case, data={**case.data, **few}), seed=1)
        model, loss_fn = build_model(case, data.inputs), build_loss(case)
        loss = loss_fn(model(data.inputs[:8]), data.targets[:8])
        loss.backward()
        assert loss.shape == (), case.id
        assert all(p.grad is not None for p in model.parameters()), case.id
        optimizer, _schedule = build_optimizer(case, model)
        optimizer.step()
        ran += 1
    assert ran >= 60


# --- Keras's conventions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "variance", "largest"),
    [
        ("he_uniform", 2 / FAN_IN, math.sqrt(6 / FAN_IN)),
        ("glorot_uniform", 2 / (FAN_IN + FAN_OUT), math.sqrt(6 / (FAN_IN + FAN_OUT))),
        ("lecun_uniform", 1 / FAN_IN, math.sqrt(3 / FAN_IN)),
        ("he_normal", 2 / FAN_IN, 2 * math.sqrt(2 / FAN_IN) / 0.8796),
        ("glorot_normal", 2 / (FAN_IN + FAN_OUT), 2 * math.sqrt(2 / (FAN_IN + FAN_OUT)) / 0.8796),
        ("lecun_normal", 1 / FAN_IN, 2 * math.sqrt(1 / FAN_IN) / 0.8796),
        ("uniform_0.05", 0.05**2 / 3, 0.05),
        ("normal_0.05", 0.05**2, 0.3),
        ("normal_gain_4", 16 / FAN_IN, 6 * 4 / math.sqrt(FAN_IN)),
        ("truncnormal_0.1", 0.1**2 * 0.8796**2, 0.2),
    ],
)
def test_initialisers_have_the_spread_of_their_definition(scheme: str, variance: float, largest: float) -> None:
    torch.manual_seed(0)
    weight = torch.empty(FAN_OUT, FAN_IN)
    initialise(weight, scheme)
    assert weight.var().item() == pytest.approx(variance, rel=0.03)  # 80,000 values: 5 standard errors
    assert weight.mean().item() == pytest.approx(0, abs=0.02 * math.sqrt(variance))
    assert weight.abs().max().item() <= largest * 1.0001


def test_constant_initialisers_and_convolutions_fan() -> None:
    weight = torch.empty(3, 2)
    initialise(weight, "const_0.1")
    assert weight.unique().tolist() == [pytest.approx(0.1)]
    initialise(weight, "zeros")
    assert not weight.any()
    kernel = torch.empty(16, 8, 5, 5)
    initialise(kernel, "he_uniform")
    assert kernel.abs().max().item() == pytest.approx(math.sqrt(6 / (8 * 25)), rel=0.01)
    with pytest.raises(ValueError, match="no initialiser is named 'xavier'"):
        initialise(weight, "xavier")


def test_an_lstm_starts_with_open_forget_gates() -> None:
    lstm = Unrolled(4, 3, "glorot_uniform").lstm
    parameters = dict(lstm.named_parameters())
    both = (parameters["bias_ih_l0"] + parameters["bias_hh_l0"]).tolist()
    assert both == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    gates = parameters["weight_hh_l0"].detach()
    torch.testing.assert_close(gates.T @ gates, torch.eye(3), atol=1e-6, rtol=0)


def test_losses_against_their_definitions() -> None:
    classes = torch.tensor([0, 2])
    outputs = torch.tensor([[2.0, 1.0, 1.0], [0.0, 3.0, 0.0]])  # the second row gives its class no share at all
    expected = -(math.log(0.5) + math.log(EPSILON)) / 2
    assert LOSSES["categorical_crossentropy"](outputs, classes).item() == pytest.approx(expected, rel=1e-5)
    raw = LOSSES["cross_entropy_on_clipped_raw_outputs"](outputs, classes).item()
    assert raw == pytest.approx(-(math.log(1 - EPSILON) + math.log(EPSILON)) / 2, rel=1e-5)
    shares = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]])
    assert LOSSES["sum_cross_entropy_unstable"](shares, classes).item() == pytest.approx(2 * math.log(2), rel=1e-6)
    assert LOSSES["sum_cross_entropy_unstable"](outputs.clamp(max=1) * 0, classes).isnan()
    targets, numbers = torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0], [3.0]])
    assert LOSSES["binary_crossentropy"](torch.tensor([[0.8], [0.0]]), targets).item() == pytest.approx(
        -math.log(0.8) / 2, rel=1e-5
    )
    assert LOSSES["binary_crossentropy"](numbers, targets * 0).item() == pytest.approx(23 * math.log(2), rel=1e-5)
    assert (LOSSES["half_mse"](numbers, targets).item(), LOSSES["sse"](numbers, targets).item()) == (2.25, 9.0)
    assert LOSSES["binary_crossentropy"](torch.full((4, 1), 0.5), torch.rand(4, 5)).item() == pytest.approx(math.log(2))


def test_a_softmax_is_left_to_its_loss_and_only_to_that(facts: dict[str, Case]) -> None:
    inputs = torch.rand(4, 2)
    healthy, literal = facts["at_blob_relu_output_fixed"], facts["at_blob_relu_output"]
    assert gives_logits(healthy)
    assert not gives_logits(literal)
    assert [name for name, _ in build_model(healthy, inputs).named_children()][-1] == "dense5"
    assert [name for name, _ in build_model(literal, inputs).named_children()][-1] == "relu5"
    twice = replace(healthy, layers=({"dense": 3, "act": "softmax_twice", "init": "he_uniform"},))
    assert [name for name, _ in build_model(twice, inputs).named_children()] == [
        "dense1",
        "softmax_twice1",
        "softmax_twice1b",
    ]
    one = replace(healthy, layers=({"dense": 3, "act": "relu_then_softmax", "init": "he_uniform"},))
    outputs = build_model(one, inputs)(inputs)
    torch.testing.assert_close(outputs.sum(-1), torch.ones(4))


def test_decay_and_defaults_are_those_of_keras(facts: dict[str, Case]) -> None:
    case = replace(facts["so_34311586"], optimizer={"kind": "SGD", "lr": 0.5, "decay": 0.1})
    model = build_model(case, torch.rand(4, 2))
    optimizer, schedule = build_optimizer(case, model)
    for _ in range(10):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 / 2)
    adam, _ = build_optimizer(replace(case, optimizer={"kind": "Adam", "lr": 0.001}), model)
    assert adam.param_groups[0]["eps"] == 1e-7
    batchnorm = build_model(facts["mu_57397440_fixed"], torch.rand(4, 30))[2]
    assert (batchnorm.eps, batchnorm.momentum) == (1e-3, 0.01)


def test_the_best_constant_answer(facts: dict[str, Case]) -> None:
    classes = facts["at_blob_relu_output"]
    assert best_constant_loss(classes, torch.arange(10)) == pytest.approx(math.log(10))
    ones = torch.tensor([[0.0], [1.0], [1.0], [1.0]])
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert best_constant_loss(facts["canon_fit_ok"], ones) == pytest.approx(entropy)
    assert best_constant_loss(facts["so_31556268_fixed"], ones) == pytest.approx(3 / 16)
    assert best_constant_loss(facts["so_31556268"], ones) == pytest.approx(1 / 4)  # absolute error: the median, 1


# --- Scoring --------------------------------------------------------------------------------------------------------


def test_the_exact_interval_of_a_share() -> None:
    assert interval(0, 100) == (0.0, pytest.approx(1 - 0.025 ** (1 / 100)))
    assert interval(20, 20) == (pytest.approx(0.025 ** (1 / 20)), 1.0)
    assert interval(5, 10) == (pytest.approx(0.18709, abs=1e-5), pytest.approx(0.81291, abs=1e-5))  # published tables


def course(*losses: float, score: float = 0.5, val: tuple[float, ...] = (), nonfinite: int | None = None) -> Outcome:
    steps = list(range(0, 10 * len(losses), 10))
    scores = [score] * len(losses)
    return Outcome("made_up", 0, steps[-1], 1.0, steps, list(losses), list(val), scores, [], nonfinite)


def test_what_a_fault_did(facts: dict[str, Case]) -> None:
    case, overfitted = facts["at_circle_sigmoid8_vanish"], facts["canon_overfit_noise_labels"]
    twins = [course(1.0, 0.5, 0.1, 0.1, 0.1, score=0.9)]
    assert consequence(case, course(1.0, 0.98), twins) == "no progress"
    assert consequence(case, course(1.0, float("nan"), nonfinite=3), twins) == "not finite"
    assert consequence(case, course(1.0, 0.3, score=0.8), twins) == "0.10 below its healed twin"
    assert (
        consequence(case, course(1.0, 0.9, 0.9, 0.9, 0.1, score=0.9), twins)
        == "over 2 times as slow as its healed twin"
    )
    assert consequence(case, course(1.0, 0.9, 0.1, score=0.9), twins) == ""
    assert consequence(overfitted, course(1.0, 0.5, 0.1, val=(1.0, 0.8, 0.9)), []) == "overfitted"
    assert consequence(overfitted, course(1.0, 0.5, 0.1, val=(1.0, 0.8, 0.85)), []) == ""
    assert not trains(course(2.0, 0.96))
    assert learns(course(2.0, 0.5, val=(2.0, 0.9)))
    assert not learns(course(2.0, 0.5, val=(2.0, 1.0)))


def finding(symptom: str, *causes: str) -> Finding:
    return Finding(symptom, "error", (), 0, 1.0, 1.0, "", causes)


def test_when_a_cause_is_named() -> None:
    assert names(finding("unnormalized_inputs"), "unnormalized_input")
    assert not names(finding("vanishing_gradients"), "vanishing_gradient")
    assert names(finding("vanishing_gradients", "sigmoid's slope is at most 1/4"), "vanishing_gradient")
    assert not names(finding("vanishing_gradients", "a", "b", "c", "sigmoid's slope"), "vanishing_gradient")
    assert not names(finding("overfitting", "the learning rate is too high"), "lr_too_high")


def test_every_root_cause_is_seen_before_training_or_there_is_a_reason_why_not(facts: dict[str, Case]) -> None:
    labels = {label for case in facts.values() for label in case.label} - {"healthy"}
    shown = {label for labels in ONE_BATCH.values() for label in labels}
    assert not shown & NOT_YET.keys()
    assert labels <= shown | NOT_YET.keys()
    assert shown <= EXPECTED.keys()


def test_a_case_is_checked_before_any_training(facts: dict[str, Case]) -> None:
    sick, well = (check_case(facts[name], 0) for name in ("mu_66407123", "mu_66407123_fixed"))
    assert sick.due == ("wrong_output_activation",)
    assert sick.found("wrong_output_activation")
    assert not well.errors


def test_branches_start_from_the_states_of_the_record(facts: dict[str, Case], tmp_path: Path) -> None:
    case = replace(facts["at_circle_sigmoid8_vanish"], epochs=None, most_steps=50)
    folder = tmp_path / case.id / "0"
    train_case(case, 0, folder)
    record = nnvis.load_run(folder)
    assert not score({case.id: case}, tmp_path, set(), joint=True).runs  # there are no branches yet
    branch_case(case, 0, folder)
    run = with_branches(record, folder)
    assert [trial.step for trial in trials(run)] == [0, 2, 10]
    assert [check.step for check in run.checks] == sorted({2, *(check.step for check in record.checks)})
    watched = {check.step: check.values["diagnosis_row_loss"] for check in record.checks}
    for trial in trials(run):  # the same steps, made without being watched
        if trial.step in watched:
            assert trial.start == pytest.approx(watched[trial.step], rel=1e-5)
    (joint,), (alone,) = (score({case.id: case}, tmp_path, set(), joint=both).runs for both in (True, False))
    assert joint.branched
    assert not alone.branched
    assert joint.shows("vanishing_gradients")
    assert {finding.symptom for finding in joint.findings} >= {finding.symptom for finding in alone.findings}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_how_much_is_found_before_any_training(facts: dict[str, Case]) -> None:
    without_files = not Path(DEBIAN_FOLDER).exists()
    heavy = ("fashion_mnist", "small_images")
    cases = {name: case for name, case in facts.items() if not (without_files and case.data["recipe"] in heavy)}
    checks = check_cases(cases, 2, held_out(facts))
    table = checks.table()
    print(table)
    assert len(checks.due) >= 40, table
    assert all(run.found(label) for run, label in checks.due), table
    assert not any(run.errors for run in (*checks.healthy, *checks.healed)), table


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("joint", [False, True])
def test_how_good_the_diagnosis_is(facts: dict[str, Case], tmp_path: Path, joint: bool) -> None:
    records = Path(os.environ.get("NNVIS_FAULT_RECORDS", tmp_path))
    if records == tmp_path:
        heavy = ("fashion_mnist", "small_images")
        for case in facts.values():
            for seed in (0, 1):
                if case.data["recipe"] not in heavy and case.data != facts["tb_ips1_nan"].data:
                    train_case(case, seed, tmp_path / case.id / str(seed))
    aims = 0.85, 0.75
    if joint:
        aims = 0.9, 0.8
        if records == tmp_path:
            for folder in records.glob("*/*"):
                branch_case(facts[folder.parent.name], int(folder.name), folder)
    scored = score(facts, records, held_out(facts), joint=joint)
    table = scored.table()
    print(table)
    faulty, well = scored.faulty, scored.healthy
    assert len(faulty) >= 40, table
    assert len(well) >= 30, table
    assert sum(run.detected for run in faulty) >= aims[0] * len(faulty), table
    assert sum(run.cause_named for run in faulty) >= aims[1] * len(faulty), table
    assert sum(bool(run.errors) for run in well) <= 0.02 * len(well), table
