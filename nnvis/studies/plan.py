"""What a study has to train, and what it has already. No torch.

    plan = Plan.of(config, Path("runs/vanishing"))
    plan.done            # {("sigmoid", 0): Path("runs/vanishing/sigmoid/1-seed0")}
    plan.tasks           # what is missing, one Task a run

A run counts for a variant and a seed if its config is the one that is wanted, wherever in the variant's folder it lies:
one that has ended is done, one that has not goes on, and a variant that changed gets a new one beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnvis.config import Config
from nnvis.config.dumping import plain
from nnvis.config.study import StudyConfig
from nnvis.errors import InputError
from nnvis.record.files import read_yaml
from nnvis.record.reader import event_files
from nnvis.record.summary import ENDED, run_status

THREADS = 1
"""CPU threads of a run whose config names none: the same for any number of processes, for bits depend on it."""

_DAMAGED = "damaged"


@dataclass(frozen=True)
class Task:
    """A run that is to be made: a variant of a study with a seed."""

    study: Path  # its directory
    variant: str
    seed: int
    config: Config
    trust: bool = False

    @property
    def key(self) -> tuple[str, int]:
        return self.variant, self.seed

    def ended_run(self) -> Path | None:
        """The newest run of this config that has ended, and has its log."""
        return next((run for run in self._runs() if _status(run) in ENDED and event_files(run)), None)

    def unfinished_run(self) -> Path | None:
        """The newest run of this config that can go on."""
        return next((run for run in self._runs() if _can_go_on(run)), None)

    def _runs(self) -> Iterator[Path]:
        """The runs of this config, the newest first."""
        numbered = [
            (int(match[1]), path)
            for path in (self.study / self.variant).glob(f"*-seed{self.seed}")
            if (match := re.fullmatch(rf"(\d+)-seed{self.seed}", path.name))
        ]
        for _, path in sorted(numbered, reverse=True):
            with suppress(InputError):  # one that cannot be read is no run of this config
                if same_experiment(self.config, read_yaml(path / "config.yaml")):
                    yield path


@dataclass(frozen=True)
class Plan:
    """Which runs of a study there are, and which there are not."""

    done: dict[tuple[str, int], Path]  # (variant, seed) -> run
    tasks: tuple[Task, ...]  # what is to be trained: all variants of a seed, then those of the next

    @classmethod
    def of(cls, config: StudyConfig, directory: Path, *, trust: bool = False) -> Plan:
        """The plan for a study in its directory."""
        tasks = [
            Task(directory, variant, seed, with_threads(config.config_of(variant, seed)), trust)
            for seed in config.seeds
            for variant in config.variants
        ]
        found = {task.key: task.ended_run() for task in tasks}
        return cls(
            {key: run for key, run in found.items() if run},
            tuple(task for task in tasks if found[task.key] is None),
        )


def with_threads(config: Config) -> Config:
    """The config with a number of CPU threads."""
    training = config.training.model_copy(update={"threads": config.training.threads or THREADS})
    return config.model_copy(update={"training": training})


def same_experiment(wanted: Config, saved: dict[str, Any]) -> bool:
    """Whether a run's config.yaml is the wanted config; what `wanted` leaves to the machine or the data may be any."""
    ours, its = plain(wanted), {**saved}
    if not isinstance(its.get("training"), dict):
        return False
    if wanted.loss is None:
        its["loss"] = None
    if wanted.training.device == "auto":
        its["training"] = {**its["training"], "device": "auto"}
    return ours == its


def _status(run: Path) -> str | None:
    """How a run ended; None where it has not, _DAMAGED where nobody knows."""
    try:
        return run_status(run)
    except InputError:
        return _DAMAGED


def _can_go_on(run: Path) -> bool:
    """Whether a run has not ended, and its log is there if it has saved anything."""
    saved = (run / "checkpoints" / "last.pt").exists()
    return _status(run) not in (*ENDED, _DAMAGED) and (not saved or bool(event_files(run)))
