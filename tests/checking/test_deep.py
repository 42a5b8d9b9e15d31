"""What is found by trying: nnvis.check(deep=True), nnvis check --deep, nnvis diagnose --deep, and while training."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nnvis
from nnvis import cli
from nnvis.checking import branch_run, check_config
from nnvis.config import load_config, parse_config
from nnvis.diagnosis.rates import trials
from nnvis.record import Finding

WELL = """
name: well
data: {kind: digits, train_size: 300, val_fraction: 0.2}
model: {kind: mlp, hidden: [16], dropout: 0.2, norm: batch}
optimizer: {kind: SGD, lr: 0.1, momentum: 0.9}
training: {epochs: null, steps: 100, batch_size: 32, accumulate: 2, clip_grad_norm: 1.0}
diagnosis: {branches: true}
"""
SLOW = WELL.replace("lr: 0.1", "lr: 0.00001")


def network(*end: nn.Module, outputs: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, outputs), *end)


def classes(rows: int = 300) -> tuple[Tensor, Tensor]:
    targets = torch.arange(rows) % 4
    return torch.randn(rows, 8) + 2 * F.one_hot(targets, 8), targets


def named(found: nnvis.Diagnosis) -> dict[str, Finding]:
    return {finding.symptom: finding for finding in found}


def train(text: str, runs: Path, **changed: Any) -> nnvis.Run:
    options: dict[str, Any] = {"quiet": True, "figures": False} | changed
    return nnvis.train(parse_config(text), runs=runs, **options)


# ---------------------------------------------------------------- one batch


def test_the_learning_rate_of_anybodys_optimizer() -> None:
    torch.manual_seed(0)
    model, data = network(), classes()
    found = {
        lr: nnvis.check(
            model, nn.CrossEntropyLoss(), *data, deep=True, optimizer=torch.optim.SGD(model.parameters(), lr=lr)
        )
        for lr in (1e-5, 0.3, 1e4)
    }
    assert named(found[1e-5])["learning_rate_too_low"].severity == "warning"
    assert named(found[1e4])["learning_rate_too_high"].severity == "error"
    assert not found[0.3].findings
    assert {"learning_rate_too_low", "learning_rate_too_high", "underfitting"} <= set(found[0.3].judged)


def test_without_an_optimizer_the_rows_alone_are_tried() -> None:
    torch.manual_seed(0)
    found = nnvis.check(network(), nn.CrossEntropyLoss(), *classes(), deep=True)
    assert "underfitting" in found.judged
    assert found.not_judged["learning_rate_too_low"] == "no optimizer was given"


def test_what_cannot_be_tried_costs_no_more_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    few = nnvis.check(network(), nn.CrossEntropyLoss(), *(part[:12] for part in classes()), deep=True)
    assert few.not_judged["underfitting"].startswith("16 rows that differ are needed")

    def broken(*_: object) -> None:
        raise RuntimeError("no kernel\nfor this")

    model = network()
    monkeypatch.setattr("nnvis.checking.deep.learn_by_heart", broken)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    found = nnvis.check(model, nn.CrossEntropyLoss(), *classes(), deep=True, optimizer=optimizer)
    assert found.not_judged["underfitting"] == "RuntimeError: no kernel for this"
    assert "learning_rate_too_high" in found.judged


@pytest.mark.parametrize(
    "loss_fn", [nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1), nn.BCEWithLogitsLoss()]
)
def test_soft_targets_are_no_bug(loss_fn: nn.Module) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(300, 8)
    soft = (inputs @ torch.randn(8, 4)).softmax(dim=1)
    found = nnvis.check(network(), loss_fn, inputs, 0.3 * soft + 0.7 / 4, deep=True)
    assert "underfitting" not in named(found)


def test_a_network_that_cannot_learn_16_rows_has_a_bug() -> None:
    torch.manual_seed(0)
    inputs, targets = classes()
    model = network(nn.Softmax(1), outputs=1)
    found = named(nnvis.check(model, nn.BCELoss(), inputs, (targets[:, None] > 1).float(), deep=True))
    assert found["underfitting"].severity == "error"
    assert "16 rows cannot be learned by heart: after 300 steps" in found["underfitting"].evidence
    assert found["underfitting"].causes[:2] == ("output_mismatch", "zero_gradients")


def test_nothing_of_model_and_optimizer_changes() -> None:
    torch.manual_seed(0)
    model, data = network(), classes()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    F.cross_entropy(model(data[0]), data[1]).backward()
    optimizer.step()
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    gradients, state = [p.grad for p in model.parameters()], torch.get_rng_state()
    nnvis.check(model, nn.CrossEntropyLoss(), *data, deep=True, optimizer=optimizer)
    after = model.state_dict(), optimizer.state_dict()
    assert all(torch.equal(value, before[0][name]) for name, value in after[0].items())
    assert after[1]["param_groups"] == before[1]["param_groups"]
    for number, values in before[1]["state"].items():
        assert all(torch.equal(value, after[1]["state"][number][name]) for name, value in values.items())
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_no_optimizer_of_the_model_is_refused() -> None:
    model, data, loss_fn = network(), classes(), nn.CrossEntropyLoss()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"deep": True, "optimizer": 0.1}, "optimizer should be a torch.optim.Optimizer, got float"),
        ({"optimizer": torch.optim.SGD(model.parameters())}, "an optimizer is tried with deep=True only"),
        ({"deep": True, "optimizer": torch.optim.SGD(network().parameters())}, "holds none of the model's parameters"),
    ]
    for options, text in wrong:
        with pytest.raises(nnvis.InputError, match=re.escape(text)):
            nnvis.check(model, loss_fn, *data, **options)


# ---------------------------------------------------------------- a config


@pytest.mark.parametrize("name", ["moons_mlp", "digits_mlp"])
def test_shipped_configs_are_about_right(name: str) -> None:
    state = torch.get_rng_state()
    run, found = check_config(load_config(name), deep=True)
    assert not [finding for finding in found if finding.severity != "info"]
    assert trials(run)[0].verdict != "too high"
    assert "underfitting" in found.judged
    assert torch.equal(torch.get_rng_state(), state)


def test_check_deep_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "slow.yaml"
    file.write_text(SLOW)
    assert cli.main(["check", str(file), "--deep"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"slow.yaml: learning 16 rows by heart, trying learning rates …\n  \d+\.\d s", err)
    assert "learning rate 1e-05 at step 0: too low; the best of those tried is 0.1" in out
    assert re.search(r"^  1e-05 +[\d.]+  <- in use$", out, re.MULTILINE)
    assert "WARNING learning_rate_too_low" in out
    assert "remedy: take the best learning rate tried: " in out
    assert "[optimizer.lr=0.1]" in out


def test_deep_and_the_files_alone_do_not_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = cli.main(["check", "moons_mlp", "--deep", "--file-only"])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    assert "leave one of them out" in capsys.readouterr().err


def test_branches_without_checks_are_refused() -> None:
    with pytest.raises(nnvis.InputError, match=r"branches.*belong to checks, which diagnosis\.every: null turns off"):
        parse_config(WELL.replace("{branches: true}", "{every: null, branches: true}"))


# ---------------------------------------------------------------- while training


def test_branches_change_no_bit_of_the_training(tmp_path: Path) -> None:
    with_them, without = (train(text, tmp_path) for text in (WELL, WELL.replace("branches: true", "branches: false")))
    weights, others = with_them.load_model().state_dict(), without.load_model().state_dict()
    assert all(torch.equal(weights[name], others[name]) for name in others)
    assert with_them.summary["metrics"] == without.summary["metrics"]
    for tag in ("loss/train", "loss/epoch", "loss/val"):
        assert with_them.scalars[tag].values.tolist() == without.scalars[tag].values.tolist()
    assert [trial.step for trial in trials(with_them)] == [0, 5, 20]
    assert {trial.current.rate for trial in trials(with_them)} == {0.1}
    others_checks = {check.step: check for check in without.checks}
    for check in with_them.checks:
        other = others_checks.get(check.step)
        if other is not None and check.step:
            assert (check.values["diagnosis_row_loss"] == other.values["diagnosis_row_loss"]).all()


def test_a_branch_at_the_rate_in_use_is_what_the_training_then_does(tmp_path: Path) -> None:
    run = train(WELL.replace("dropout: 0.2, norm: batch", "dropout: 0.2"), tmp_path)
    trial = next(trial for trial in trials(run) if trial.step == 0)
    after = next(check for check in run.checks if check.step == trial.steps)
    assert trial.current.losses == pytest.approx(after.values["diagnosis_row_loss"], rel=1e-4, abs=1e-6)


def test_a_rate_that_is_too_low_is_found_while_it_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(SLOW, tmp_path, quiet=False)
    assert "before training: warning learning_rate_too_low" in capsys.readouterr().err
    finding = named(nnvis.diagnose(run))["learning_rate_too_low"]
    assert finding.severity == "error"
    assert finding.remedies[0].overrides["optimizer.lr"] >= 1e-3


def test_fp16_has_no_branches() -> None:
    with pytest.raises(nnvis.InputError, match=r"diagnosis\.branches: do not go with fp16"):
        check_config(parse_config(WELL.replace("batch_size: 32", "batch_size: 32, precision: fp16")))


# ---------------------------------------------------------------- a run


def test_a_run_whose_data_or_network_changed_is_refused(tmp_path: Path) -> None:
    run = train(WELL.replace("branches: true", "branches: false"), tmp_path)
    file = run.path / "config.yaml"
    before = file.read_text()
    for old, new, text in (
        ("train_size: 300", "train_size: 200", "its data are no longer those that it was trained on"),
        ("- 16", "- 24", "checkpoints/last.pt does not fit the network or optimizer of config.yaml"),
    ):
        changed = before.replace(old, new) if old in before else before.replace("[16]", "[24]")
        assert changed != before
        file.write_text(changed)
        with pytest.raises(nnvis.InputError, match=re.escape(text)):
            branch_run(run)


def test_diagnose_deep_goes_on_from_the_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(SLOW.replace("branches: true", "branches: false").replace(", norm: batch", ""), tmp_path)
    files = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    deep = branch_run(run)
    (trial,) = trials(deep)
    assert (trial.step, trial.verdict) == (100, "too low")
    assert [check.step for check in deep.checks] == [check.step for check in run.checks]
    last = run.checks[-1].values["diagnosis_row_loss"]
    assert trial.start == pytest.approx(last, rel=1e-5)  # the weights and the rows of the run's own last check
    capsys.readouterr()
    assert cli.main(["diagnose", str(run.path), "--deep", "--json"]) == 3
    out, err = capsys.readouterr()
    assert "trying other learning rates …\n" in err
    told = json.loads(out)
    assert "learning_rate_too_low" in {finding["symptom"] for finding in told["findings"]}
    (rates,) = told["learning_rates"]
    assert (rates["step"], rates["verdict"], rates["rate"]) == (100, "too low", 1e-5)
    assert len(rates["losses"]) >= 5
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == files


def test_a_watched_run_is_judged_by_its_record_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with nnvis.watch(model, optimizer, log_dir=tmp_path / "mine"):
        F.cross_entropy(model(classes()[0]), classes()[1]).backward()
        optimizer.step()
    capsys.readouterr()
    assert cli.main(["diagnose", str(tmp_path / "mine"), "--deep"]) == 2
    err = capsys.readouterr().err
    assert "no config built this run's model, so that no learning rate can be tried from here" in err
    assert "nnvis.check(model, loss_fn, inputs, targets, deep=True, optimizer=optimizer)" in err
