"""Shifting and scaling features to mean 0, std 1, and the way back to the user's units.

    scaling = fit(source.inputs, rows.train, full_scale=1)
    inputs = to_tensor(source.inputs, rows.val, 1, scaling)      # float32
    scaling.undo(inputs)                                         # float64, in the units of the source

A feature is a column of a table (N, F), the last dimension of sequences (N, T, F), a channel of images (N, C, H, W).
Rows pass through in chunks, so that nothing but the result is ever float.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nnvis.data.source import FloatArray, IntArray
from nnvis.errors import InputError

CHUNK_VALUES = 1 << 21
_EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Scaling:
    """scaled = (value - mean) / std, a number a feature, shaped to broadcast over rows."""

    mean: Tensor
    """(F,), or (C, 1, 1) for images; float64."""
    std: Tensor
    """As `mean`; 1 for constant features."""

    def undo(self, scaled: Tensor) -> Tensor:
        """Scaled values (N, ...) on any device -> values in the source's units, float64 on the CPU."""
        return scaled.cpu() * self.std + self.mean


def fit(values: NDArray[Any], rows: IntArray, full_scale: float = 1.0) -> Scaling:
    """Mean and std over the given rows alone, divided by `full_scale` first; what varies by rounding only has std 1.

    By hand, since importing scikit-learn takes a second; the rule for what is constant is that of its StandardScaler.
    """
    feature_axis = 1 if values.ndim > 3 else values.ndim - 1
    others = tuple(axis for axis in range(values.ndim) if axis != feature_axis)
    shape = (-1, *(1,) * (values.ndim - 1 - feature_axis))
    count = len(rows) * values[0].size // values.shape[feature_axis]
    with np.errstate(over="ignore", invalid="ignore"):  # `to_tensor` refuses what comes of it
        total = sum(chunk.sum(axis=others, dtype=np.float64) for chunk in _chunks(values, rows, full_scale))
        mean = (total / count).reshape(shape)
        squares = sum(((chunk - mean) ** 2).sum(axis=others) for chunk in _chunks(values, rows, full_scale))
        variance = (squares / count).reshape(shape)
        rounding = count * _EPSILON * variance + (count * mean * _EPSILON) ** 2
        std = np.where(variance <= rounding, 1.0, np.sqrt(variance))
    return Scaling(torch.from_numpy(mean), torch.from_numpy(std))


def to_tensor(values: NDArray[Any], rows: IntArray, full_scale: float = 1.0, scaling: Scaling | None = None) -> Tensor:
    """The given rows as float32 (N, ...), divided by `full_scale`, then scaled; raises InputError beyond float32."""
    result = np.empty((len(rows), *values.shape[1:]), np.float32)
    start = 0
    with np.errstate(over="ignore"):
        for chunk in _chunks(values, rows, full_scale):
            if scaling is not None:
                chunk -= scaling.mean.numpy().astype(chunk.dtype)
                chunk /= scaling.std.numpy().astype(chunk.dtype)
            result[start : start + len(chunk)] = chunk
            start += len(chunk)
    if not np.isfinite(result).all():
        raise InputError("data: a value lies beyond float32's range once it is scaled by the training split's std")
    return torch.from_numpy(result)


def _chunks(values: NDArray[Any], rows: IntArray, full_scale: float) -> Iterator[FloatArray]:
    """The rows in order, a few million values at a time: float32 for 8-bit sources, else float64."""
    dtype = np.float32 if values.dtype == np.uint8 else np.float64
    step = max(1, CHUNK_VALUES // max(1, int(np.prod(values.shape[1:]))))
    for start in range(0, len(rows), step):
        yield values[rows[start : start + step]].astype(dtype) / dtype(full_scale)
