"""What a worker does with a task, in this process: the same rows for all variants, and how a run is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_studies import BASE, small_study
from torch import Tensor

from nnvis.config import Config
from nnvis.config.study import load_study_config
from nnvis.record import load_run
from nnvis.studies.events import Ended, Event, Progress, Said
from nnvis.studies.plan import Plan, Task
from nnvis.studies.worker import on_device, perform
from nnvis.training.batches import take
from nnvis.training.learner import Learner
from nnvis.training.run_directory import new_run_directory


def tasks_of(file: Path) -> dict[tuple[str, int], Task]:
    return {task.key: task for task in Plan.of(load_study_config(file), file.parent / "runs").tasks}


def test_all_variants_of_a_seed_see_the_same_rows_in_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever random numbers a model's initialisation and its dropout draw."""
    variants = {
        "narrow": {},
        "wide": {"model.hidden": [40, 40], "model.init": "orthogonal"},
        "dropping": {"model.dropout": 0.5},
        "other_loop": {"optimizer": {"kind": "Adam", "lr": 0.01}},
    }
    seen: dict[tuple[str, int], list[Tensor]] = {}
    passes = Learner.passes

    def note_rows(learner: Learner, train: Any, batches: Any, **options: Any) -> Any:
        inputs = torch.cat([take(train.inputs, rows) for rows in batches])
        targets = torch.cat([take(train.targets, rows) for rows in batches])
        seen[current].append(torch.cat([inputs, targets[:, None]], dim=1))
        return passes(learner, train, batches, **options)

    monkeypatch.setattr(Learner, "passes", note_rows)
    for current, task in tasks_of(small_study(tmp_path, variants=variants, seeds=2)).items():
        seen[current] = []
        assert perform(task, lambda event: None).status == "completed"
    for seed in (0, 1):
        first = seen["narrow", seed]
        assert len(first) == 3 * 3  # 48 rows in batches of 16, three epochs
        for variant in variants:
            assert all(torch.equal(a, b) for a, b in zip(first, seen[variant, seed], strict=True)), variant
    assert not torch.equal(torch.cat(seen["narrow", 0]), torch.cat(seen["narrow", 1]))
    epochs = [torch.cat(seen["narrow", 0][first : first + 3]) for first in (0, 3)]
    assert not torch.equal(*epochs)  # shuffled anew, for all alike


def test_a_run_is_told_while_it_trains(tmp_path: Path) -> None:
    (task,) = tasks_of(small_study(tmp_path)).values()
    told: list[Event] = []
    ended = perform(task, told.append)
    assert ended == Ended("as_it_is", 0, "completed", task.study / "as_it_is" / "1-seed0")
    first = told[0]
    assert isinstance(first, Progress)
    assert (first.key, first.step, first.total_steps, first.symptom) == (task.key, 1, 9, "")
    assert first.loss == pytest.approx(load_run(task.study / "as_it_is" / "1-seed0").scalars["loss/train"].values[0])


def test_a_run_that_diverges_has_ended(tmp_path: Path) -> None:
    (task,) = tasks_of(small_study(tmp_path, variants={"wild": {"optimizer.lr": 1e30}})).values()
    ended = perform(task, lambda event: None)
    assert ended.status == "diverged"
    assert ended.reason.startswith("diverged at step")
    assert task.ended_run() == ended.run


@pytest.mark.parametrize("content", [b"", b"this is no checkpoint", b"\x80\x02.", b"PK\x03\x04"])
def test_beside_a_run_whose_checkpoint_cannot_be_read_a_new_one_begins(tmp_path: Path, content: bytes) -> None:
    (task,) = tasks_of(small_study(tmp_path, base={"training": {**BASE["training"], "epochs": 1}})).values()
    damaged = new_run_directory(task.study, task.config)
    (damaged / "events.out.tfevents.1.nnvis").touch()
    (damaged / "checkpoints").mkdir()
    (damaged / "checkpoints" / "last.pt").write_bytes(content)
    assert task.unfinished_run() == damaged
    told: list[Event] = []
    ended = perform(task, told.append)
    assert (ended.status, ended.run) == ("completed", task.study / "as_it_is" / "2-seed0")
    assert told[0] == Said(*task.key, f"{damaged}: its checkpoint cannot be read; a new run begins beside it")


def test_what_cannot_be_trained_says_why(tmp_path: Path) -> None:
    data = {"kind": "csv", "path": "nowhere.csv", "target": "y"}
    (task,) = tasks_of(small_study(tmp_path, base={"data": data})).values()
    ended = perform(task, lambda event: None)
    assert (ended.status, ended.run) == ("failed", None)
    assert "nowhere.csv" in ended.reason
    assert len(ended.reason.splitlines()) == 1


def test_warnings_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    from nnvis import experiment

    monkeypatch.setattr(experiment, "train", lambda *_, **__: warnings.warn("the disk is slow", stacklevel=1))
    (task,) = tasks_of(small_study(tmp_path)).values()
    told: list[Event] = []
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        perform(task, told.append)
    assert told == [Said("as_it_is", 0, "the disk is slow")]


@pytest.mark.parametrize(
    ("device", "gpus", "used"),
    [
        ("auto", 0, ["auto"] * 5),
        ("auto", 1, ["auto"] * 5),
        ("auto", 2, ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]),
        ("auto", 3, ["cuda:0", "cuda:1", "cuda:2", "cuda:0", "cuda:1"]),
        ("cpu", 2, ["cpu"] * 5),
        ("cuda:1", 2, ["cuda:1"] * 5),
    ],
)
def test_gpus_are_dealt_out_round_robin(device: str, gpus: int, used: list[str]) -> None:
    config = Config.model_validate({**BASE, "training": {"device": device}})
    assert [on_device(config, number, gpus).training.device for number in range(5)] == used
