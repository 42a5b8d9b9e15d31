"""The joint: a config becomes a finished run directory.

    run = train("configs/digits_mlp.yaml", ["optimizer.lr=0.01"])
    run.summary["metrics"]["val"]["accuracy"]
    model = load_model(run.path)

`train` and `_train_in` are the table of contents; what they name lies in `nnvis.training`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnvis.config import Config, dump_config, load_config, parse_config
from nnvis.data import Splits
from nnvis.diagnosis import Diagnosis
from nnvis.diagnosis.telling import in_a_line
from nnvis.interrupts import interruptible, resumable, terminable
from nnvis.models import build_model
from nnvis.record import Finding, Run, load_run
from nnvis.record.files import claimed
from nnvis.training.checkpoints import last_checkpoint, load_checkpoint
from nnvis.training.conclusion import Conclusion, open_log
from nnvis.training.evaluation import evaluate
from nnvis.training.learner import Learner
from nnvis.training.loop import Loop
from nnvis.training.progress import Follow, Quiet, progress_for
from nnvis.training.randomness import seeded
from nnvis.training.recording import Recording
from nnvis.training.run_directory import new_run_directory, resumed_config, unfinished_run
from nnvis.training.setup import (
    build_batches,
    checks_of,
    describe,
    examine,
    length_of,
    place,
    prepared,
)
from nnvis.training.snapshots import Snapshots, snapshot_steps
from nnvis.training.state import State


def train(
    source: str | Path | Config,
    overrides: Sequence[str] = (),
    *,
    runs: str | Path = "runs",
    name: str | None = None,
    device: str | None = None,
    resume: bool | str | Path = False,
    trust: bool = False,
    quiet: bool = False,
    figures: bool = True,
    check: bool = True,
    follow: Follow | None = None,
) -> Run:
    """Train a config (a file, a shipped one's name, or a `Config`) in a new directory under `runs`, and read it back.

    `overrides` are `dotted.key=value`; `name` and `device` are two of them. `resume` goes on with the newest unfinished
    run of that name, or with the run in a directory. `follow` makes what is told of the run's progress instead of what
    is shown here (unless `quiet`). `check` tells, before the first step, what its check says (see `nnvis.check`): the
    training is the same with it and without. Global state (random numbers, CPU threads, signal handlers) is
    put back afterwards.

    Raises InputError for what cannot be trained, RunError for a run that failed or diverged (its directory says how),
    and KeyboardInterrupt, whose text says how to go on, where the run was asked to end.
    """
    config = _read(source, [*overrides, *_as_overrides({"name": name, "training.device": device})], trust)
    previous = None if resume is False else unfinished_run(Path(runs), config.name, resume)
    if previous:
        config = resumed_config(config, load_config(previous / "config.yaml", trust=trust), previous)
    with prepared(config) as (config, splits, learner):
        directory = previous or new_run_directory(Path(runs), config)
        with claimed(directory, "training this run"), resumable(directory, trust=trust), terminable():
            follow = follow or partial(_shown, quiet)
            _train_in(directory, config, splits, learner, follow=follow, figures=figures, check=check)
    return load_run(directory, lambda path, trusted: load_model(path, trust=trust or trusted))


def load_model(run_path: str | Path, *, trust: bool = False) -> nn.Module:
    """The trained model of a run, on the CPU, in eval mode: its best weights with early stopping, else its last.

    `trust` allows a model of the user's own class. Raises InputError.
    """
    config = load_config(Path(run_path) / "config.yaml", trust=trust)
    kept = "best.pt" if config.training.early_stopping else "last.pt"
    checkpoint = load_checkpoint(Path(run_path) / "checkpoints" / kept)
    with seeded(config.seed, torch.device("cpu")):  # building draws weights
        model = build_model(config.model, **checkpoint["architecture"])
    model.load_state_dict(checkpoint["model"], assign=True)  # in the precision of the run
    return model.eval()


def _train_in(
    directory: Path, config: Config, splits: Splits, learner: Learner, *, follow: Follow, figures: bool, check: bool
) -> None:
    """Train in a directory: from its last checkpoint if it has one, else from the start."""
    checkpoint = last_checkpoint(directory)
    state = State.from_dict(checkpoint) if checkpoint else State()
    placed = place(splits, learner)
    batches, length = build_batches(config, splits), length_of(config)
    steps, _ = length.total(batches.steps_per_epoch)
    log = open_log(directory, config, learner, state if checkpoint else None)
    recording = Recording(log, config.capture, learner, state.step)
    with follow(directory, steps, state.step) as progress:
        progress.say(describe(config, splits, learner, state))
        recording.say = progress.say
        plan, picture = checks_of(config, splits, learner), partial(_picture, directory, figures)
        beforehand = partial(_tell_beforehand, progress) if check else None
        told: dict[str, Any] = {"tell": progress.found, "picture": picture, "beforehand": beforehand}
        examination = examine(config, splits, learner, placed, log, plan, state, **told)
        train, val = placed["train"], placed.get("val")
        snapshots = Snapshots(directory, snapshot_steps(steps, config.snapshots.count), learner.model)
        loop = Loop(learner, batches, train, val, length, state, recording, progress, examination, snapshots, directory)
        illustrate = partial(_illustrate, figures)
        conclusion = Conclusion(directory, config, learner, state, recording, illustrate, examination, progress.say)
        with conclusion:
            with recording, interruptible() as interrupt:
                if checkpoint:
                    loop.restore(checkpoint)
                loop.run(interrupt)
            loop.put_back_best()
            conclusion.metrics = {name: evaluate(learner, split) for name, split in placed.items()}


def _shown(quiet: bool, directory: Path, total_steps: int, first_step: int) -> Quiet:
    return progress_for(quiet=quiet, total_steps=total_steps, first_step=first_step)


def _tell_beforehand(progress: Quiet, found: Diagnosis) -> None:
    for finding in found:
        if finding.severity != "info":
            progress.say(f"before training: {in_a_line(finding)}")


def _illustrate(figures: bool, run: Run) -> dict[str, bytes]:
    """Draws the figures of a run that has ended. Returns the PNG files by name."""
    if not figures:
        return {}
    from nnvis.figures import draw_findings, draw_run

    folder = run.path / "figures"
    files = [*draw_run(run, folder), *draw_findings(run, run.findings, folder)]
    return {path.stem: path.read_bytes() for path in files}


def _picture(directory: Path, figures: bool, finding: Finding) -> bytes | None:
    """Draws the figure of a finding that has just become certain, as PNG."""
    if not figures:
        return None
    from nnvis.figures import draw_finding

    path = draw_finding(load_run(directory), finding, directory / "figures")
    return path.read_bytes() if path else None


def _read(source: str | Path | Config, overrides: Sequence[str], trust: bool) -> Config:
    if not isinstance(source, Config):
        return load_config(source, overrides, trust=trust)
    return parse_config(dump_config(source), overrides=overrides, trust=True) if overrides else source


def _as_overrides(values: dict[str, str | None]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in values.items() if value is not None]
