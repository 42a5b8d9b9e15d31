"""Snapshots: the weights at some steps of a run, close together at first: what pictures of the training are made of.

snapshots = Snapshots(directory, snapshot_steps(690, 40), model)
snapshots.take(step)                       # after every update; saves where a snapshot is due
load_snapshots(directory)                  # the first step first
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from nnvis.training.checkpoints import load_checkpoint, save_checkpoint

FOLDER = "snapshots"


class Snapshot(NamedTuple):
    """A model after so many updates."""

    step: int
    model: dict[str, Any]  # its state dict


def snapshot_steps(steps: int, count: int | None) -> tuple[int, ...]:
    """At most `count` steps from 0 to `steps`, log-spaced, each once; none without a count.

    >>> snapshot_steps(1000, 5)
    (0, 5, 31, 177, 1000)
    """
    if count is None:
        return ()
    spaced = np.geomspace(1, steps + 1, min(count, steps + 1)) - 1
    return tuple(sorted({*(int(step) for step in spaced.round()), steps}))


class Snapshots:
    """Saves a model's weights at the steps that are due, a file for each."""

    def __init__(self, directory: Path, steps: Collection[int], model: nn.Module) -> None:
        self._folder, self._due, self._model = directory / FOLDER, frozenset(steps), model

    def take(self, step: int, *, at_end: bool = False) -> None:
        """Save, if that is due after so many updates, or at the end of a run that saves any.

        Raises RunError for a full disk, InputError for a read-only folder.
        """
        if step in self._due or (at_end and self._due):
            save_checkpoint(self._folder / f"{step:08d}.pt", {"step": step, "model": self._model.state_dict()})


def load_snapshots(directory: Path) -> list[Snapshot]:
    """A run's snapshots, the first step first; empty where it has none. Raises InputError for a damaged one.

    The tensors stay in the files until they are read: all the snapshots together take no memory.
    """
    files = sorted((directory / FOLDER).glob("*.pt"))
    contents = (load_checkpoint(file, mapped=True) for file in files)
    return [Snapshot(content["step"], content["model"]) for content in contents]
