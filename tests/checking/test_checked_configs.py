"""A config's network before its first step: the shipped ones; training is the same with this check and without."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import nnvis
from nnvis.checking import check_config
from nnvis.config import load_config, parse_config, shipped_configs
from nnvis.record import load_run

FASHION = Path("/usr/share/datasets/fashion-mnist")
AT_THE_START = {"exploding_relu": "exploding_gradients", "vanishing_sigmoid": "vanishing_gradients"}
"""What one check can show of those that are shipped sick; overfitting comes later."""


def shipped(name: str, *overrides: str) -> nnvis.Config:
    if name == "fashion_cnn":
        if not FASHION.is_dir():
            pytest.skip("Fashion-MNIST is not installed")
        overrides = (*overrides, f"data.root={FASHION}")
    return load_config(name, overrides)


@pytest.mark.parametrize("name", shipped_configs())
def test_shipped_configs_have_an_error_where_they_start_sick_and_there_alone(name: str) -> None:
    state = torch.get_rng_state()
    run, found = check_config(shipped(name))
    errors = {finding.symptom for finding in found if finding.severity == "error"}
    assert (AT_THE_START[name] in errors) if name in AT_THE_START else not errors, found
    assert found.sick == bool(errors)
    assert run.config["model"]["kind"] == load_config(name).model.kind
    assert not run.path.exists()
    assert torch.equal(torch.get_rng_state(), state)
    if name not in AT_THE_START:
        assert not [finding.evidence for finding in found if finding.severity == "warning"]


SICK = """
name: sick
data: {kind: digits, train_size: 400}
model: {kind: mlp, depth: 12, width: 16, activation: sigmoid, dropout: 0.1, norm: none}
optimizer: {kind: SGD, lr: 0.01}
training: {steps: 30, batch_size: 32}
diagnosis: {every: 10, stop_on: [vanishing_gradients]}
"""


def test_training_is_the_same_with_its_check_and_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = parse_config(SICK)
    told, weights = {}, {}
    for check in (True, False):
        run = nnvis.train(config, runs=tmp_path / str(check), figures=False, check=check)
        assert run.summary["steps"] == 30  # a finding from before training stops nothing
        told[check] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("before training: ")]
        weights[check] = torch.load(run.path / "checkpoints" / "last.pt", weights_only=True)
    assert same(weights[True], weights[False])
    assert told[False] == []
    assert told[True][0].startswith("before training: error vanishing_gradients in linear1, linear2, linear3 and ")
    assert told[True][0].endswith("; use ReLU with He's initialisation")
    losses = [load_run(tmp_path / str(check) / "sick" / "1-seed0").checks for check in (True, False)]
    for with_check, without in zip(*losses, strict=True):
        assert with_check.facts == without.facts
        assert all(
            (with_check.values[q] == without.values[q]).all() for q in ("diagnosis_row_loss", "diagnosis_nonfinite")
        )


def same(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        one, other = ({k: v for k, v in each.items() if "seconds" not in str(k)} for each in (one, other))
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_the_check_is_the_one_that_training_makes(tmp_path: Path) -> None:
    config = parse_config(SICK)
    run, found = check_config(config)
    trained = nnvis.train(config, runs=tmp_path, quiet=True, figures=False)
    (before,), first = run.checks, trained.checks[0]
    assert before.facts == {**first.facts, "layers": before.facts["layers"]}
    for quantity, values in before.values.items():
        assert (values == first.values[quantity])[values == values].all(), quantity
    assert len(found)


def test_a_resumed_run_tells_nothing_from_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = nnvis.train(parse_config(SICK), runs=tmp_path, quiet=True, figures=False)
    (run.path / "summary.json").unlink()
    capsys.readouterr()
    nnvis.train(parse_config(SICK), runs=tmp_path, resume=True, figures=False)
    assert "before training" not in capsys.readouterr().err


def test_the_splits_of_a_config_are_compared(tmp_path: Path) -> None:
    rows = [f"{i},{i * i % 17},{i % 2}" for i in range(100)]
    found = {}
    for name, lines in (("once", rows), ("twice", rows * 2)):
        (tmp_path / f"{name}.csv").write_text("\n".join(["a,b,label", *lines]))
        data = f"{{kind: csv, path: {tmp_path / name}.csv, target: label, val_fraction: 0.3}}"
        found[name] = check_config(parse_config(f"name: x\ndata: {data}\nmodel: {{kind: mlp, hidden: [8]}}\n"))[1]
    assert "shared_rows" in found["once"].judged
    (finding,) = [one for one in found["twice"] if one.symptom == "shared_rows"]
    assert finding.severity == "info"  # as many have a twin within training
    assert finding.causes == ("the data hold duplicates",)
