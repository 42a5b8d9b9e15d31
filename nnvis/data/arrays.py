"""Arrays that are already there: a numpy `.npz` file, or what the user's own function returns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from nnvis.config.targets import import_target, run_theirs
from nnvis.data.problems import existing_file, not_among
from nnvis.data.source import Source, all_finite, number_classes
from nnvis.errors import InputError

if TYPE_CHECKING:
    from nnvis.config import schema

CHANNELS = (1, 3, 4)
"""How many an image has: grey, colours, colours and transparency."""


def load_npz(section: schema.Npz, rng: np.random.Generator) -> Source:
    """The arrays `inputs` (N, ...) and `targets` (N,) or (N, K) of a file that `numpy.savez` wrote."""
    file = existing_file(section.path, "data.path")
    with file.open("rb") as opened:
        try:
            arrays = np.load(opened, allow_pickle=False)
        except Exception as error:  # a broken file makes numpy, zipfile and zlib raise a dozen types
            raise InputError(f"{file}: not a file that numpy.savez wrote: {_line(error)}") from error
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            call = f"numpy.savez({file.name!r}, x=…, y=…)"
            raise InputError(f"{file}: holds one array without a name, expected two: {call}")
        inputs = _member(file, arrays, section.inputs, "data.inputs")
        targets = _member(file, arrays, section.targets, "data.targets")
    names = f"{file}: array {section.inputs!r}", f"{file}: array {section.targets!r}"
    return from_arrays(inputs, targets, section.task, *names)


def load_python(section: schema.PythonData, rng: np.random.Generator) -> Source:
    """What the callable `module:name` returns: (inputs, targets), as arrays, tensors or nested lists."""
    where = f"data.target: {section.target}"
    function = import_target(section.target, where)
    result = run_theirs(lambda: function(**section.arguments), where)
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise InputError(f"{where}: returned {type(result).__name__}, expected a pair (inputs, targets)")
    inputs, targets = _array(result[0], f"{where}: inputs"), _array(result[1], f"{where}: targets")
    return from_arrays(inputs, targets, section.task, f"{where}: inputs", f"{where}: targets")


def from_arrays(
    inputs: NDArray[Any], targets: NDArray[Any], task: str | None, inputs_name: str, targets_name: str
) -> Source:
    """Inputs (N,), (N, F), (N, T, F) or (N, C, H, W) and targets (N,) or (N, K) of numbers; labels may be names.

    Without a task, floats are regression and whole numbers, names and booleans are classes. Raises InputError.
    """
    if inputs.dtype.kind not in "fiub":
        raise InputError(f"{inputs_name}: holds {inputs.dtype}, expected numbers")
    if inputs.ndim == 0 or targets.ndim == 0 or 0 in inputs.shape:
        raise InputError(f"{inputs_name}: shape {inputs.shape} with targets {targets.shape}, expected rows of data")
    if len(inputs) != len(targets):
        raise InputError(f"{inputs_name}: {len(inputs)} rows, but there are {len(targets)} targets")
    if inputs.ndim > 4:
        raise InputError(f"{inputs_name}: shape {inputs.shape}, expected (N, F), (N, T, F) or (N, C, H, W)")
    if inputs.ndim == 4 and inputs.shape[-1] in CHANNELS and inputs.shape[1] not in CHANNELS:
        raise InputError(f"{inputs_name}: shape {inputs.shape} looks like (N, H, W, C), expected (N, C, H, W)")
    inputs = inputs[:, None] if inputs.ndim == 1 else inputs
    _refuse_nonfinite(inputs, inputs_name)
    names = tuple(f"x{k}" for k in range(inputs.shape[-1])) if inputs.ndim <= 3 else ()
    if (task or ("regression" if targets.dtype.kind == "f" else "classification")) == "regression":
        return Source(inputs, _regression_targets(targets, targets_name), feature_names=names)
    numbers, classes = number_classes(_labels(targets, targets_name), targets_name)
    return Source(inputs, numbers, classes, names)


def _regression_targets(targets: NDArray[Any], where: str) -> NDArray[Any]:
    if targets.dtype.kind not in "fiub" or targets.ndim > 2:
        raise InputError(f"{where}: holds {targets.dtype} of shape {targets.shape}, expected numbers (N,) or (N, K)")
    _refuse_nonfinite(targets, where)
    return targets[:, None] if targets.ndim == 1 else targets


def _labels(targets: NDArray[Any], where: str) -> NDArray[Any]:
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim != 1:
        raise InputError(f"{where}: shape {targets.shape}, expected one class label a row (N,)")
    if targets.dtype.kind not in "fiubU":
        raise InputError(f"{where}: holds {targets.dtype}, expected class labels: names, or whole numbers from 0 up")
    return targets


def _refuse_nonfinite(values: NDArray[Any], where: str) -> None:
    bad = np.flatnonzero(~all_finite(values))
    if bad.size:
        raise InputError(f"{where}[{bad[0]}]: holds NaN, Inf or a number beyond float32 ({bad.size} rows do)")


def _member(file: Path, arrays: Any, name: str, key: str) -> NDArray[Any]:
    if name not in arrays.files:
        raise InputError(f"{key}: {file}: {not_among(name, arrays.files, 'array', more=str(file))}")
    try:
        return arrays[name]
    except Exception as error:  # as above: members are only read now
        raise InputError(f"{file}: array {name!r} cannot be read: {_line(error)}") from error


def _array(values: Any, where: str) -> NDArray[Any]:
    try:
        return np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
    except (ValueError, TypeError) as error:  # rows of different lengths; a type that numpy lacks
        raise InputError(f"{where}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
