"""The weights of the best evaluation so far, in a file without a name that lies where the run lies.

best = BestWeights(directory)
best.keep(model.state_dict())      # writes over the ones before; 5 MB take 0.5 ms
best.read()                        # a state dict; None where none were kept

In memory they would make training a 20 × 256 network take a sixth more than it has to.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnvis.errors import RunError
from nnvis.record.files import disk_errors


class BestWeights:
    """One state dict at a time: its tensors in the file, whatever else it holds in memory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: Any = None
        self._kept: dict[str, Any] | None = None  # on the device `meta` what is in the file, in the file's order

    def keep(self, weights: Mapping[str, Any]) -> None:
        """Copy them. Raises RunError (full disk) or InputError (read-only folder), and then nothing is kept."""
        self._kept = None
        with disk_errors(self._directory):
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115
                weakref.finalize(self, self._file.close)  # and with that it is gone
            self._file.seek(0)
            self._kept = {name: self._written(value) for name, value in weights.items()}

    def read(self) -> dict[str, Any] | None:
        """What was kept last, on the CPU; None where nothing was."""
        if self._kept is None:
            return None
        self._file.seek(0)
        return {name: self._read(value) for name, value in self._kept.items()}

    def _written(self, value: Any) -> Any:
        if not _is_plain(value):
            return value.detach().clone() if isinstance(value, Tensor) else value
        left = _bytes_of(value.detach().cpu().resolve_conj().resolve_neg())
        while len(left):
            left = left[self._file.write(left) :]  # 2 GiB at a time
        return torch.empty_like(value, device="meta")

    def _read(self, value: Any) -> Any:
        if not (isinstance(value, Tensor) and value.is_meta):
            return value
        kept = torch.empty(value.shape, dtype=value.dtype, device="cpu")
        left = _bytes_of(kept)
        while len(left):
            if not (count := self._file.readinto(left)):
                raise RunError(f"{self._directory}: the best weights, kept in a temporary file, are cut off")
            left = left[count:]
        return kept


def _is_plain(value: Any) -> bool:
    """Whether its values lie one after another: neither sparse nor quantised."""
    return isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized


def _bytes_of(values: Tensor) -> np.ndarray:
    """(n,) uint8: those of a CPU tensor, shared where it is contiguous."""
    return values.reshape(-1).view(torch.uint8).numpy()
