"""Which runs count for a study: the config decides, not where they lie. Nothing is trained here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_studies import BASE, small_study

from nnvis.config import Config, dump_config
from nnvis.config.study import load_study_config
from nnvis.record import write_json
from nnvis.studies.plan import Plan, Task, same_experiment, with_threads


def left(task: Task, number: int, status: str | None, **resolved: Any) -> Path:
    """A run's directory as training leaves it; `resolved`: sections or training's keys as they were found out."""
    training = {key: value for key, value in resolved.items() if key in ("device", "threads")}
    config = task.config.model_copy(
        update={"training": task.config.training.model_copy(update=training)}
        | {key: value for key, value in resolved.items() if key not in training}
    )
    run = task.study / task.variant / f"{number}-seed{task.seed}"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    if status:
        write_json(run / "summary.json", {"status": status})
        (run / "events.out.tfevents.1.nnvis").touch()
    return run


def plan_of(file: Path, *overrides: str) -> Plan:
    return Plan.of(load_study_config(file, overrides), file.parent / "runs")


def test_at_first_everything_is_missing_seed_by_seed(tmp_path: Path) -> None:
    plan = plan_of(small_study(tmp_path, variants={"a": {}, "b": {"optimizer.lr": 0.5}}, seeds=[3, 1]))
    assert plan.done == {}
    assert [task.key for task in plan.tasks] == [("a", 3), ("b", 3), ("a", 1), ("b", 1)]
    a, b = plan.tasks[:2]
    assert (a.config.name, a.config.seed, a.config.optimizer.arguments["lr"]) == ("a", 3, 0.1)
    assert (b.config.name, b.config.seed, b.config.optimizer.arguments["lr"]) == ("b", 3, 0.5)


@pytest.mark.parametrize(("given", "threads"), [({}, 1), ({"threads": 3}, 3)])
def test_threads_do_not_depend_on_the_machine(tmp_path: Path, given: dict[str, int], threads: int) -> None:
    plan = plan_of(small_study(tmp_path, base={"training": {**BASE["training"], **given}}))
    assert plan.tasks[0].config.training.threads == threads


@pytest.mark.parametrize("status", ["completed", "diverged", "stopped"])
def test_a_run_that_has_ended_is_done(tmp_path: Path, status: str) -> None:
    file = small_study(tmp_path, seeds=12)
    tasks = plan_of(file).tasks
    run = left(tasks[1], 7, status)
    left(tasks[11], 8, None)  # of seed 11, not 1
    plan = plan_of(file)
    assert plan.done == {("as_it_is", 1): run}
    assert [task.seed for task in plan.tasks] == [0, *range(2, 12)]


@pytest.mark.parametrize("status", [None, "interrupted", "failed"])
def test_a_run_that_has_not_ended_goes_on(tmp_path: Path, status: str | None) -> None:
    file = small_study(tmp_path)
    run = left(plan_of(file).tasks[0], 1, status)
    (task,) = plan_of(file).tasks
    assert task.unfinished_run() == run


@pytest.mark.parametrize(
    "text", ["", "a: [", "- 1", "name: as_it_is", "name: as_it_is\ntraining:\n", "\x00", "a: 2026-13-45"]
)
def test_a_run_whose_config_cannot_be_read_is_another_experiment(tmp_path: Path, text: str) -> None:
    file = small_study(tmp_path)
    (task,) = plan_of(file).tasks
    whole = left(task, 1, "completed")
    (left(task, 2, "completed") / "config.yaml").write_text(text, encoding="utf-8")
    assert plan_of(file).done == {task.key: whole}
    (whole / "config.yaml").unlink()
    (again,) = plan_of(file).tasks
    assert again.unfinished_run() is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_run_whose_summary_cannot_be_read_has_not_ended_and_cannot_go_on(tmp_path: Path, text: str) -> None:
    file = small_study(tmp_path)
    (left(plan_of(file).tasks[0], 1, "completed") / "summary.json").write_text(text, encoding="utf-8")
    (task,) = plan_of(file).tasks
    assert task.unfinished_run() is None


def test_a_run_whose_log_is_gone_does_not_count(tmp_path: Path) -> None:
    file = small_study(tmp_path)
    run = left(plan_of(file).tasks[0], 1, "completed")
    log = next(run.glob("events*"))
    log.unlink()
    (task,) = plan_of(file).tasks
    assert task.unfinished_run() is None
    write_json(run / "summary.json", {"status": "interrupted"})
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.pt").touch()
    assert task.unfinished_run() is None
    log.touch()
    assert task.unfinished_run() == run


def test_another_config_is_another_run_and_the_old_one_is_found_again(tmp_path: Path) -> None:
    file = small_study(tmp_path)
    first = left(plan_of(file).tasks[0], 1, "completed")
    (changed,) = plan_of(file, "training.epochs=9").tasks
    assert changed.unfinished_run() is None
    second = left(changed, 2, "completed")
    assert plan_of(file, "training.epochs=9").done == {("as_it_is", 0): second}
    assert plan_of(file).done == {("as_it_is", 0): first}


def test_the_newest_of_two_counts_as_people_count(tmp_path: Path) -> None:
    file = small_study(tmp_path)
    (task,) = plan_of(file).tasks
    left(task, 9, "completed")
    newest = left(task, 10, "completed")
    assert plan_of(file).done == {task.key: newest}


def test_what_the_machine_and_the_data_resolved_is_no_difference(tmp_path: Path) -> None:
    base = {"training": {**BASE["training"], "device": "auto"}}
    file = small_study(tmp_path, base=base)
    (task,) = plan_of(file).tasks
    assert task.config.loss is None
    loss = Config.model_validate({**BASE, "loss": "cross_entropy"}).loss
    run = left(task, 1, "completed", device="cuda:1", loss=loss)
    assert plan_of(file).done == {task.key: run}
    assert plan_of(small_study(tmp_path), "training.device=cpu").done == {}  # who names a device means it


def test_what_was_named_is_a_difference() -> None:
    wanted = with_threads(Config.model_validate({**BASE, "loss": {"kind": "cross_entropy", "label_smoothing": 0.1}}))
    saved = {**wanted.model_dump(), "loss": "cross_entropy"}
    assert not same_experiment(wanted, saved)
    assert not same_experiment(with_threads(Config.model_validate(BASE)), {"name": "base"})
