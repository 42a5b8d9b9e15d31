"""kernels.c, compiled by the machine's own C compiler when it is first wanted; without one, torch's kernels do.

if place := place_of(x):              # (statistics.py) of plain float32 values on the CPU, and not too many
    squares = kernels().squares(place, x.numel())

A call of torch's takes 3 µs for a small tensor, whatever it does, and twice that within a training step, which has just
pushed its code out of the caches; all moments of 8,192 values take 1 µs here. What is compiled is kept in the user's
cache folder. `NNVIS_NATIVE=0` does without.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from ctypes import c_double, c_float, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SMALL, FEW_THREADS = 2**17, 4
"""Of a tensor with more values, where torch has more threads than these, torch's kernels are as quick."""
MOST_VALUES = 2**24
"""Of a tensor: float32 counts that far without a gap."""
_FLAGS = ("-std=c11", "-O3", "-ffp-contract=off", "-shared", "-fPIC")
_LONGEST_S = 30.0

_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "squares": (c_void_p, c_int64),
    "output": (c_void_p, c_void_p, c_void_p, c_void_p),
    "magnitudes": (c_void_p, c_int64, c_int64, c_void_p, c_int64, c_void_p),
    "norms": (c_void_p, c_void_p, c_int64, c_void_p, c_void_p),
    "distances": (c_void_p, c_void_p, c_int64, c_void_p, c_void_p),
}
_RESULTS = {"squares": c_double, "output": c_int}
NUMBERS = 15
"""That are read of one call of a layer; statistics.py names them."""
Row = c_double * NUMBERS


@functools.cache
def kernels() -> Any:
    """The compiled functions; None where they cannot be had."""
    if os.environ.get("NNVIS_NATIVE") == "0" or sys.platform == "win32":
        return None
    try:
        library = ctypes.PyDLL(str(_compiled(Path(__file__).with_name("kernels.c"))))
        for name, arguments in _ARGUMENTS.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, _RESULTS.get(name)
    except (OSError, RuntimeError, ValueError, AttributeError, subprocess.SubprocessError):
        return None  # no compiler, no home, no space; a CC that cannot be read, or makes something else
    return library


def _compiled(source: Path) -> Path:
    """The library made of `source`, made where it is not there yet. Raises OSError and SubprocessError."""
    compiler = shlex.split(os.environ.get("CC", "")) or [*filter(None, map(shutil.which, ("cc", "gcc", "clang")))][:1]
    if not compiler:
        raise FileNotFoundError("no C compiler")
    made_of = (source.read_text(encoding="utf-8"), *compiler, platform.machine(), *_FLAGS)
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nnvis"
    library = folder / f"kernels-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            made = Path(unfinished) / library.name
            command = [*compiler, *_FLAGS, str(source), "-o", str(made), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=_LONGEST_S)
            with made.open("rb") as file:
                os.fsync(file.fileno())  # what is cut off would end every process that loads it
            made.replace(library)  # another process may have been as quick
    return library


class _Form(ctypes.Structure):
    _fields_ = (("outer", c_int64), ("units", c_int64), ("inner", c_int64), ("middle", c_double), ("far", c_double))


class Form:
    """What the kernels have to know of the outputs of one shape.

    sums, counts = Row(), form.counts and form.counts()
    all_are_finite = kernels().output(place, form.place, counts, sums)  # else the sums are not to be used
    """

    def __init__(
        self, shape: Sequence[int], unit_dim: int | None = None, middle: float = 0.0, far: float = 0.0
    ) -> None:
        """`unit_dim` from 0 on; without it no units are looked at, where `far` is 0 no saturation."""
        units, inner = (1, 1) if unit_dim is None else (shape[unit_dim], math.prod(shape[unit_dim + 1 :]))
        self._form = _Form(math.prod(shape) // (units * inner), units, inner, middle, far)
        self.place = ctypes.addressof(self._form)
        self.counts = None if unit_dim is None else c_float * units


def scratch(size: int) -> Tensor:
    """(size,) float32 for the kernels to write to. Raises RuntimeError where a mode makes tensors without memory."""
    made = torch.empty(size, dtype=torch.float32, device="cpu")
    if type(made) is not Tensor:
        raise RuntimeError("no memory for what is measured: tensors are fake here")
    return made


class Places:
    """Where the values of several tensors lie in memory, as the kernels take it; to be used while they do."""

    def __init__(self, tensors: Sequence[Tensor], places: Sequence[int]) -> None:
        """`places`: what `place_of` says of each."""
        self.sizes = [t.numel() for t in tensors]
        self._places, self._count = places, len(places)
        self._of_values = (c_void_p * self._count)(*places)
        self._of_sizes = (c_int64 * self._count)(*self.sizes)

    def hold(self, tensors: Sequence[Tensor]) -> bool:
        """Whether the values of these tensors, as many as before and with the same sizes, lie there."""
        if len(tensors) != self._count:
            return False
        for tensor, place, size in zip(tensors, self._places, self.sizes, strict=True):
            if tensor.layout is not torch.strided or tensor.dtype is not torch.float32:
                return False
            if tensor.data_ptr() != place or tensor.numel() != size or not tensor.is_contiguous():
                return False
        return True

    def norms(self, copies: Tensor | None = None) -> list[float]:
        """L2 norm of each; `copies` (n,) takes the values of all, one after another."""
        found = (c_double * self._count)()
        into = None if copies is None else copies.data_ptr()
        kernels().norms(self._of_values, self._of_sizes, self._count, into, found)
        return found[:]

    def distances(self, copies: Tensor) -> list[float]:
        """How far each is from its copy, which is lost."""
        found = (c_double * self._count)()
        kernels().distances(self._of_values, self._of_sizes, self._count, copies.data_ptr(), found)
        return found[:]
