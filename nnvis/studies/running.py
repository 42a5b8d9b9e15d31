"""A study's file becomes a finished study: what is missing is trained, then all of it compared and drawn.

    study = run_study("vanishing", ["seeds=3"], jobs=2)
    study.runs["relu_he"][0].scalars["loss/val"].values
    study.missing                       # (variant, seed) -> why there is no run

`run_study` is the table of contents.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nnvis.config.study import StudyConfig, dump_study, load_study_config
from nnvis.errors import InputError, RunError
from nnvis.interrupts import terminable
from nnvis.record import Study, is_study, load_study, write_json
from nnvis.record.files import claimed, disk_errors, read_yaml
from nnvis.record.study import RUNS_FILE, STUDY_FILE
from nnvis.record.summary import ENDED
from nnvis.studies.board import Quiet, board_for
from nnvis.studies.events import Ended, Event
from nnvis.studies.local import run_locally
from nnvis.studies.plan import Plan, Task

Key = tuple[str, int]  # variant, seed
Engine = Callable[[Sequence[Task], int | None], AbstractContextManager[Iterator[Event]]]


def run_study(
    source: str | Path | StudyConfig,
    overrides: Sequence[str] = (),
    *,
    runs: str | Path = "runs",
    jobs: int | None = None,
    on: str | None = None,
    trust: bool = False,
    quiet: bool = False,
) -> Study:
    """Train what is missing of a study (a file, or a shipped one's name) in `runs`/NAME; compare, draw, read it back.

    `overrides` are `dotted.key=value`, of the study or of its base; a `StudyConfig` takes none. `jobs` processes train
    at a time (1); the results do not depend on how many. `on`: "ray" or "ray://ADDRESS" trains on a Ray cluster
    instead, whose machines have to see the same folder. A diverged run is a result; one that failed leaves the others
    and stands in `missing`.

    Raises InputError for what cannot be run, RunError where no run came to its end, and KeyboardInterrupt, whose text
    says how to go on, where the study was asked to end.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs: should be a whole number of at least 1, got {jobs}")
    config = source if isinstance(source, StudyConfig) else load_study_config(source, overrides, trust=trust)
    engine = _engine(on)
    directory = Path(runs) / config.name
    with disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with claimed(directory, "running this study"), terminable():
        plan = Plan.of(config, directory, trust=trust)
        _require_own_place(config, plan, directory)
        _write_plan(config, plan, directory)
        with board_for([*config.variants], config.seeds, plan.done, quiet=quiet) as board:
            failed = _run_missing(plan, directory, lambda tasks: engine(tasks, jobs), board)
        study = load_study(directory, _load_model)
        study = replace(study, missing=study.missing | failed)
        _require_runs(study)
        _conclude(study, board)
    return study


def _run_missing(
    plan: Plan, directory: Path, run: Callable[[Sequence[Task]], AbstractContextManager[Iterator[Event]]], board: Quiet
) -> dict[Key, str]:
    """Trains what is missing; each run that ends is noted in runs.json at once. Returns why some failed."""
    done, failed = dict(plan.done), dict[Key, str]()
    try:
        with run(plan.tasks) as events:
            try:
                for event in events:
                    if isinstance(event, Ended) and event.run and event.status in ENDED:
                        done[event.key] = event.run
                        _write_runs(done, directory)
                    elif isinstance(event, Ended):
                        failed[event.key] = event.reason
                    board.tell(event)
            except KeyboardInterrupt:
                board.say("the runs in progress save and end; once more to end them at once")
                raise
    except KeyboardInterrupt:
        total = len(plan.done) + len(plan.tasks)
        raise KeyboardInterrupt(
            f"interrupted with {len(done)} of {total} runs done; the same command goes on with the rest"
        ) from None
    return failed


def _require_own_place(config: StudyConfig, plan: Plan, directory: Path) -> None:
    """Raises InputError where the study's record would replace what nnvis has not written, or another study's.

    It is another one if it asks something else and none of its runs would be kept.
    """
    file = directory / STUDY_FILE
    if not os.path.lexists(file):
        return
    if not is_study(directory):
        raise InputError(
            f"{file}: is not written by nnvis, and the study's record would replace it; "
            "choose another name in the study's file, or another --runs"
        )
    told = read_yaml(file)
    if told.get("question") == config.question or plan.done or any(task.unfinished_run() for task in plan.tasks):
        return
    if any(run for variant in told["variants"] for run in directory.glob(f"{glob.escape(str(variant))}/*-seed*")):
        raise InputError(
            f"{directory}: holds another study (its question: {told.get('question')}); "
            "choose another name in the file, or another --runs"
        )


def _write_plan(config: StudyConfig, plan: Plan, directory: Path) -> None:
    with disk_errors(file := directory / STUDY_FILE):
        unfinished = file.with_name(f".{STUDY_FILE}.{os.getpid()}.tmp")
        unfinished.write_text(dump_study(config), encoding="utf-8")
        unfinished.replace(file)
    _write_runs(plan.done, directory)


def _write_runs(done: Mapping[Key, Path], directory: Path) -> None:
    places: dict[str, dict[str, str]] = {}
    for (variant, seed), run in done.items():
        places.setdefault(variant, {})[str(seed)] = run.relative_to(directory).as_posix()
    write_json(directory / RUNS_FILE, places)


def _require_runs(study: Study) -> None:
    """Raises RunError where no run came to its end: there is nothing to compare."""
    if not any(study.runs.values()):
        raise RunError("\n".join([f"{study.path}: no run came to its end", *failures(study)]))


def failures(study: Study) -> list[str]:
    """A line for each reason why runs are missing: `relu_he, seed 3 and 2 more: …`."""
    by_reason: dict[str, list[Key]] = {}
    for key, reason in study.missing.items():
        by_reason.setdefault(reason, []).append(key)
    return [
        f"{keys[0][0]}, seed {keys[0][1]}{f' and {len(keys) - 1} more' if len(keys) > 1 else ''}: {reason}"
        for reason, keys in by_reason.items()
    ]


def _conclude(study: Study, board: Quiet) -> None:
    """Compares the runs, draws them, and tells TensorBoard. A picture is no reason to lose a study."""
    from nnvis.comparison import write_comparison
    from nnvis.figures.studying import draw_study, remove_stale
    from nnvis.record.study_log import write_study_log

    comparison = write_comparison(study)
    figures = draw_study(study, folder := study.path / "figures", study.figures, board.say)
    remove_stale(folder, figures)
    write_study_log(study, comparison.sentences, figures)


def _engine(on: str | None) -> Engine:
    if on is None:
        return run_locally
    if on == "ray" or on.startswith("ray://"):
        from nnvis.studies.cluster import run_on_ray

        return partial(run_on_ray, None if on == "ray" else on)
    raise InputError(f"on: should be ray or ray://ADDRESS, got {on}")


def _load_model(run: Path, trust: bool) -> Any:
    from nnvis.experiment import load_model

    return load_model(run, trust=trust)
