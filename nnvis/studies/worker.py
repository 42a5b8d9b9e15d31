"""A process that trains one run after the other. It reads tasks from its stdin and answers with events on its stdout.

    python -c "from nnvis.studies.worker import main; main(0)"        # `nnvis.studies.local` starts it

The number is the process's own: with several GPUs it says which one is used.
"""

from __future__ import annotations

import io
import os
import pickle
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from nnvis import experiment
from nnvis.config import Config
from nnvis.errors import InputError, RunError
from nnvis.record.summary import run_status
from nnvis.studies.events import Ended, Event, Progress, Said
from nnvis.studies.plan import Task
from nnvis.training.checkpoints import last_checkpoint
from nnvis.training.progress import Quiet

INTERRUPTED = "interrupted"
_TOLD_EVERY_S = 0.25

Tell = Callable[[Event], None]


def main(number: int) -> None:
    """Train what comes in until nothing more does."""
    tasks, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a user's module prints is no event
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # told even where the process dies right after

    def tell(event: Event) -> None:
        try:
            pickle.dump(event, answers)
            answers.flush()
        except BrokenPipeError:  # nobody listens any more: the run saves and ends
            signal.raise_signal(signal.SIGTERM)

    while True:
        try:
            task: Task = pickle.load(tasks)
        except EOFError:
            return
        tell(perform(task, tell, number=number))


def perform(task: Task, tell: Tell, *, number: int = 0) -> Ended:
    """Make a run, or go on with it where it was left, and say how it went. `number` is the process's."""
    follower = _Follower(task, tell)
    reason = ""
    with warnings.catch_warnings():
        warnings.showwarning = follower.warn
        try:
            experiment.train(
                on_device(task.config, number, torch.cuda.device_count()),
                runs=task.study,
                resume=_to_resume(task, tell) or False,
                trust=task.trust,
                figures=False,
                check=False,
                follow=follower.follow,
            )
        except KeyboardInterrupt:
            reason = INTERRUPTED
        except (InputError, RunError) as error:
            reason = str(error)
        except Exception as error:
            reason = f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"
    status = run_status(follower.run) if follower.run else None
    return Ended(*task.key, status or ("interrupted" if reason == INTERRUPTED else "failed"), follower.run, reason)


def _to_resume(task: Task, tell: Tell) -> Path | None:
    """The run to go on with; None where there is none, or its checkpoint cannot be read."""
    run = task.unfinished_run()
    try:
        if run:
            last_checkpoint(run)
    except Exception:  # torch has many for a damaged file
        tell(Said(*task.key, f"{run}: its checkpoint cannot be read; a new run begins beside it"))
        return None
    return run


def on_device(config: Config, number: int, gpus: int) -> Config:
    """The config of a run in the process of this number: `auto` deals several GPUs out, round robin."""
    if config.training.device != "auto" or gpus < 2:
        return config
    training = config.training.model_copy(update={"device": f"cuda:{number % gpus}"})
    return config.model_copy(update={"training": training})


class _Follower(Quiet):
    """Tells how far a run is, four times a second at most."""

    def __init__(self, task: Task, tell: Tell) -> None:
        self._key, self._tell = task.key, tell
        self._total_steps, self._symptom, self._told_s = 0, "", 0.0
        self.run: Path | None = None

    def follow(self, run: Path, total_steps: int, first_step: int) -> Quiet:
        """The run has a directory now."""
        self.run, self._total_steps = run, total_steps
        return self

    def step(self, step: int, loss: float) -> None:
        now = time.perf_counter()
        if now - self._told_s >= _TOLD_EVERY_S:
            self._told_s = now
            self._tell(Progress(*self._key, step, self._total_steps, loss, self._symptom))

    def found(self, symptom: str, text: str) -> None:
        self._symptom = symptom

    def warn(self, message: Warning | str, *_: object) -> None:
        """As `warnings.showwarning`."""
        self._tell(Said(*self._key, str(message)))
