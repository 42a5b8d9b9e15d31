"""Findings while nnvis trains: nothing changes, they are told when certain, and may end the run."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import nnvis
from nnvis import cli
from nnvis.config import parse_config
from nnvis.training.examination import Examination

SICK = """
name: sick
data: {kind: digits, train_size: 300, val_fraction: 0.2}
model: {kind: mlp, depth: 12, width: 16, activation: sigmoid, init: xavier_uniform}
optimizer: {kind: SGD, lr: 0.005, momentum: 0.9}
training: {epochs: null, steps: 400, batch_size: 32}
"""
WELL = SICK.replace("sigmoid", "relu").replace("xavier_uniform", "kaiming_uniform").replace("depth: 12", "depth: 2")


def train(text: str, runs: Path, **changed: Any) -> nnvis.Run:
    options: dict[str, Any] = {"quiet": True, "figures": False} | changed
    return nnvis.train(parse_config(text), runs=runs, **options)


@pytest.mark.parametrize(
    "model", ["{kind: cnn, channels: [4], norm: batch, dropout: 0.2}", "{kind: mlp, hidden: [16], dropout: 0.5}"]
)
@pytest.mark.parametrize("every", ["auto", "3"])
def test_checks_change_no_bit(tmp_path: Path, model: str, every: str) -> None:
    text = f"""
name: same
data: {{kind: digits, train_size: 200}}
model: {model}
optimizer: {{kind: Adam, lr: 0.01}}
training: {{epochs: 3, batch_size: 32}}
diagnosis: {{every: EVERY}}
"""
    checked, plain = (train(text.replace("EVERY", value), tmp_path) for value in (every, "null"))
    weights, others = checked.load_model().state_dict(), plain.load_model().state_dict()
    assert all(torch.equal(weights[name], others[name]) for name in others)
    assert checked.summary["metrics"] == plain.summary["metrics"]
    assert [check.step for check in checked.checks][:2] == [0, 3 if every == "3" else 2]
    assert plain.checks == ()
    for tag in ("loss/train", "loss/epoch", "loss/val"):
        assert checked.scalars[tag].values.tolist() == plain.scalars[tag].values.tolist()


def test_a_finding_is_told_once_it_is_certain(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = train(SICK, tmp_path, quiet=False, figures=True)
    err = capfd.readouterr().err
    told = re.findall(r"^step (\d+): (\w+): ", err, flags=re.MULTILINE)
    assert told == [("80", "vanishing_gradients"), ("80", "not_learning")]  # a fifth of the budget
    assert f"causes and remedies: nnvis diagnose {run.path}" in err
    assert {finding.symptom for finding in run.findings if finding.severity == "error"} == {
        "vanishing_gradients",
        "not_learning",
    }
    shown = next(finding for finding in run.findings if finding.symptom == "vanishing_gradients")
    assert (run.path / shown.figure).name == "finding_vanishing_gradients.png"
    assert (run.path / shown.figure).is_file()
    (log,) = run.path.glob("events.out.tfevents.*")
    written = log.read_bytes()
    for tag in (
        b"findings/vanishing_gradients",
        b"findings/vanishing_gradients/figure",
        b"figures/finding_not_learning",
    ):
        assert tag in written
    assert run.summary["status"] == "completed"


def test_a_finding_may_end_the_run(tmp_path: Path) -> None:
    text = SICK + "diagnosis: {stop_on: [not_learning]}"
    run = train(text, tmp_path)
    assert (run.summary["status"], run.summary["stopped_by"]) == ("stopped", "not_learning")
    assert run.summary["steps"] <= 0.2 * 400
    assert set(run.summary["metrics"]) == {"train", "val"}
    (tmp_path / "sick.yaml").write_text(text, encoding="utf-8")
    assert cli.main(["train", str(tmp_path / "sick.yaml"), "--runs", str(tmp_path / "more"), "--quiet"]) == 3
    with pytest.raises(nnvis.InputError, match="cannot be resumed: the run is stopped"):
        train(text, tmp_path, resume=run.path)
    assert train(WELL + "diagnosis: {stop_on: [not_learning]}", tmp_path).summary["status"] == "completed"


def test_where_a_finding_ends_a_run_does_not_depend_on_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SICK + "diagnosis: {stop_on: [vanishing_gradients, not_learning]}"
    quick = train(text, tmp_path)
    with monkeypatch.context() as patched:
        clock = time.perf_counter
        patched.setattr(time, "perf_counter", lambda: 1e4 * clock())
        slow = train(text, tmp_path)
    assert [check.step for check in slow.checks] == [check.step for check in quick.checks] == [0, 40, 80]
    assert slow.summary["stopped_by"] == quick.summary["stopped_by"] == "vanishing_gradients"
    assert slow.summary["steps"] == quick.summary["steps"] == 80


def test_an_interrupted_run_goes_on_with_its_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(WELL, tmp_path / "whole")
    looked: list[int] = []
    look = Examination.look

    def interrupted(self: Examination, step: int, *, at_end: bool = False) -> bool:
        looked.append(step)
        if step == 130:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)
        return look(self, step, at_end=at_end)

    with monkeypatch.context() as patched:
        patched.setattr(Examination, "look", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(WELL, tmp_path / "cut")
    run = train(WELL, tmp_path / "cut", resume=True)
    assert [check.step for check in run.checks] == [check.step for check in whole.checks]
    for ours, theirs in zip(run.checks, whole.checks, strict=True):
        assert ours.values["diagnosis_row_loss"].tolist() == theirs.values["diagnosis_row_loss"].tolist()
    assert run.checks[-1].facts == whole.checks[-1].facts


def test_diagnose_refuses_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diagnose", str(tmp_path)]) == 2
    assert "no run in it" in capsys.readouterr().err
    assert cli.main(["diagnose"]) == 2


def test_findings_json_says_what_was_not_judged(tmp_path: Path) -> None:
    run = train(WELL.replace("val_fraction: 0.2", "val_fraction: 0.0"), tmp_path)
    said = json.loads((run.path / "findings.json").read_text(encoding="utf-8"))
    assert said["findings"] == []
    assert said["not_judged"]["overfitting"].startswith("no validation rows")
