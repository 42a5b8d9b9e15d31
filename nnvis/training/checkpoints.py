"""Checkpoints: dictionaries that `torch.load(weights_only=True)` reads, written whole or not at all.

save_checkpoint(directory / "checkpoints" / "last.pt", {"model": model.state_dict(), "step": 120})
load_checkpoint(path)["model"]

cadence = Cadence(every=1)
if cadence.due(epoch):                 # every so many epochs, and never for more than 1% of the time
    with cadence.timed(epoch): ...
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from nnvis.errors import InputError
from nnvis.record.files import disk_errors

_SHARE_OF_TIME = 0.01


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Replaces `path` atomically and durably. Raises RunError (full disk) or InputError (read-only folder)."""
    unfinished = path.with_name(f".{path.name}.tmp")
    with disk_errors(path):
        path.parent.mkdir(exist_ok=True)
        try:
            with unfinished.open("wb") as file:
                torch.save(dict(content), file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except RuntimeError as error:  # what torch makes of a full disk
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None
        finally:
            unfinished.unlink(missing_ok=True)


def load_checkpoint(path: Path, *, mapped: bool = False) -> dict[str, Any]:
    """The dictionary in a checkpoint, its tensors on the CPU. Raises InputError where there is none to read.

    `mapped`: the tensors stay in the file until they are read, and take no memory.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such checkpoint; the run has not saved one yet") from None
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: not a checkpoint that can be read: {reason}") from None


def last_checkpoint(directory: Path) -> dict[str, Any] | None:
    """The newest checkpoint of a run; None where it has not saved one."""
    path = directory / "checkpoints" / "last.pt"
    return load_checkpoint(path) if path.exists() else None


class Cadence:
    """When checkpoints are due."""

    def __init__(self, every: int, epoch: int = 0) -> None:
        self._every = every
        self._last_epoch = epoch
        self._next_s = 0.0

    def due(self, epoch: int) -> bool:
        """Whether a checkpoint should be saved after so many epochs."""
        return epoch - self._last_epoch >= self._every and time.perf_counter() >= self._next_s

    @contextmanager
    def timed(self, epoch: int) -> Iterator[None]:
        """Saving happens inside; what it took puts off the next one."""
        start = time.perf_counter()
        yield
        end = time.perf_counter()
        self._last_epoch, self._next_s = epoch, end + (end - start) / _SHARE_OF_TIME
