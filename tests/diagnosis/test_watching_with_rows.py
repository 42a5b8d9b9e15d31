"""nnvis.watch with a loss and fixed rows: nothing changes, findings are told, what was asked for wrongly is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nnvis
from nnvis import cli
from nnvis.record import Finding, read_findings

X = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
Y = (X @ torch.randn(6, 3, generator=torch.Generator().manual_seed(1))).argmax(dim=1)


def network(*, sick: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
    if sick:
        model.append(nn.Softmax(dim=1))
    return model


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, probe: Any = None) -> list[float]:
    losses = []
    torch.manual_seed(7)
    for _ in range(steps):
        rows = torch.randint(0, len(X), (32,))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(X[rows]), Y[rows])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if probe:
            probe.log(loss=loss)
    return losses


def watched(log_dir: Path, *, sick: bool = False, steps: int = 120, **changed: Any) -> tuple[nn.Module, list[float]]:
    model = network(sick=sick)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    rows = {"loss_fn": nn.CrossEntropyLoss(), "probe_data": (X, Y), "val_data": (X[:60], Y[:60])} | changed
    with nnvis.watch(model, optimizer, log_dir=log_dir, **rows) as probe:
        losses = train(model, optimizer, steps, probe)
    return model, losses


def test_watching_fixed_rows_changes_no_bit(tmp_path: Path) -> None:
    plain = network()
    losses = train(plain, torch.optim.Adam(plain.parameters(), lr=0.01), 45)
    random = torch.get_rng_state()
    model, seen = watched(tmp_path, steps=45)
    assert seen == losses
    assert torch.equal(torch.get_rng_state(), random)
    for (name, ours), theirs in zip(model.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    run = nnvis.load_run(tmp_path)
    assert [check.step for check in run.checks] == [0, 10, 20, 40, 45]
    assert run.summary["diagnosis"]["checks"] == 5
    assert run.layers["grad_norm"].steps.tolist() == [0, 10, 20, 30, 40]  # the probe saw training alone


def test_a_healthy_loop_is_judged_and_nothing_is_found(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    watched(tmp_path)
    assert capfd.readouterr().err == ""
    assert not nnvis.load_run(tmp_path).findings
    assert cli.main(["diagnose", str(tmp_path)]) == 0
    told = capfd.readouterr().out
    assert "nothing was found" in told
    assert "looked for and not found: nonfinite_values, output_mismatch" in told


def test_a_sick_loop_is_told_at_once_in_the_log_and_in_findings_json(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    watched(tmp_path, sick=True)
    err = capfd.readouterr().err
    assert err.count("nnvis: step 0: output_mismatch: softmax twice") == 1
    run = nnvis.load_run(tmp_path)
    (finding,) = [finding for finding in run.findings if finding.severity == "error"]
    assert (finding.symptom, finding.first_step) == ("output_mismatch", 0)
    (log,) = tmp_path.glob("events.out.tfevents.*")
    assert b"findings/output_mismatch" in log.read_bytes()
    assert (tmp_path / "figures" / "finding_output_mismatch.png").is_file()
    assert cli.main(["diagnose", str(tmp_path)]) == 3
    told = capfd.readouterr().out
    assert told.startswith("ERROR output_mismatch in 5, since step 0\n")
    assert "remedy: give the loss what it takes" in told
    assert cli.main(["diagnose", str(tmp_path), "--json"]) == 3
    said = json.loads(capfd.readouterr().out)
    assert said == json.loads((tmp_path / "findings.json").read_text(encoding="utf-8"))
    assert said["findings"][0]["threshold"] is None
    assert isinstance(read_findings(tmp_path / "findings.json")[0], Finding)


def test_a_run_without_rows_says_what_it_could_not_judge(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    watched(tmp_path, loss_fn=None, probe_data=None, val_data=None)
    run = nnvis.load_run(tmp_path)
    assert run.checks == ()
    assert cli.main(["diagnose", str(tmp_path)]) == 0
    assert "not judged, since no fixed rows were checked: give nnvis.watch a loss_fn" in capfd.readouterr().out


def test_a_watch_that_goes_on_keeps_the_checks(tmp_path: Path) -> None:
    watched(tmp_path, steps=40)
    watched(tmp_path, steps=45, resume=True)
    assert [check.step for check in nnvis.load_run(tmp_path).checks] == [0, 10, 20, 40, 80, 85]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"loss_fn": None}, "loss_fn and probe_data belong together; loss_fn is missing"),
        ({"probe_data": None}, "loss_fn and probe_data belong together; probe_data is missing"),
        ({"probe_data": X}, r"probe_data should be a pair \(inputs, targets\), got Tensor"),
        ({"probe_data": (X[:1], Y[:1])}, "probe_data: a check needs at least 2 rows, got 1"),
        ({"val_data": (X,)}, "val_data should be a pair"),
    ],
)
def test_what_is_refused(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(nnvis.InputError, match=said):
        watched(tmp_path / "run", **changed)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_fails_stops_the_checks_and_spares_the_training(tmp_path: Path) -> None:
    def fails(outputs: Tensor, targets: Tensor) -> Tensor:
        raise ArithmeticError("no such loss")

    with pytest.warns(UserWarning, match="stops checking its fixed rows, training goes on: ArithmeticError"):
        _, losses = watched(tmp_path, loss_fn=fails)
    assert len(losses) == 120
    assert nnvis.load_run(tmp_path).layers["grad_norm"].steps[-1] == 110


def test_inputs_as_tuples_and_without_an_optimizer(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(12, 3)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.map(torch.cat([a, b], dim=1))

    model = Two()
    with nnvis.watch(model, log_dir=tmp_path, loss_fn=nn.CrossEntropyLoss(), probe_data=((X, X), Y)) as probe:
        for _ in range(21):
            model.zero_grad()
            nn.functional.cross_entropy(model(X, X), Y).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    assert parameter.grad is not None
                    parameter -= 0.1 * parameter.grad
            probe.step()
    checks = nnvis.load_run(tmp_path).checks
    assert [check.step for check in checks] == [0, 10, 20, 21]
    losses = [float(np.mean(check.values["diagnosis_row_loss"])) for check in checks]
    assert losses == sorted(losses, reverse=True)
