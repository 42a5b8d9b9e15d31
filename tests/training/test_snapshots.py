"""Snapshots: when, what is in them, and that taking them changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nnvis import experiment
from nnvis.training.checkpoints import load_checkpoint
from nnvis.training.snapshots import load_snapshots, snapshot_steps

SHORT = ["data.samples=60", "model.hidden=[4]", "training.epochs=null", "training.steps=12", "capture.every=null"]


@pytest.mark.parametrize(
    ("steps", "count", "expected"),
    [
        (1000, None, ()),
        (1000, 5, (0, 5, 31, 177, 1000)),
        (1000, 2, (0, 1000)),
        (3, 40, (0, 1, 2, 3)),
        (1, 2, (0, 1)),
    ],
)
def test_steps_are_log_spaced(steps: int, count: int | None, expected: tuple[int, ...]) -> None:
    assert snapshot_steps(steps, count) == expected


def test_snapshots_of_a_run(tmp_path: Path) -> None:
    plain = experiment.train(
        "moons_mlp", [*SHORT, "snapshots.count=null"], runs=tmp_path / "plain", quiet=True, figures=False
    )
    run = experiment.train("moons_mlp", [*SHORT, "snapshots.count=4"], runs=tmp_path, quiet=True, figures=False)
    taken = load_snapshots(run.path)
    assert [snapshot.step for snapshot in taken] == list(snapshot_steps(12, 4)) == [0, 1, 5, 12]
    last, without = (load_checkpoint(path / "checkpoints/last.pt")["model"] for path in (run.path, plain.path))
    for name, value in taken[-1].model.items():
        assert torch.equal(value, last[name])
        assert torch.equal(value, without[name])
    assert not torch.equal(taken[0].model["linear1.weight"], last["linear1.weight"])
    assert load_snapshots(plain.path) == []
    stopped = experiment.train(
        "moons_mlp", [*SHORT[:3], "training.steps=5", "snapshots.count=3"], runs=tmp_path, quiet=True, figures=False
    )
    assert torch.equal(load_snapshots(stopped.path)[-1].model["linear1.weight"], taken[2].model["linear1.weight"])
