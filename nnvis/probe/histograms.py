"""Counts of a tensor's values by magnitude with sign, so that 1e-20 is as visible as 1.

    taken = sample(tensor)                        # (m,) on the tensor's own device, m <= 1024, or their counts
    magnitude_counts([[taken, ...], ...])         # (L, B + 2): the bins of HISTOGRAM_EDGES, zeros, NaN and Inf

Every edge is a number whose last 16 bits as a float32 are zero, so that the first 16 bits of a value tell its bin:
one look into a table of 2**16 entries, for the samples of all layers at once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from ctypes import Array, c_int32
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nnvis.probe import native
from nnvis.probe.statistics import place_of
from nnvis.record.vocabulary import HISTOGRAM_EDGES, IntArray

SAMPLE_SIZE = 1024
BINS = len(HISTOGRAM_EDGES) - 1
_COLUMNS = BINS + 2
_LARGEST, _SMALLEST = np.finfo(np.float32).max, np.finfo(np.float32).smallest_subnormal


Sample = Tensor | Array[c_int32]
"""Values of a tensor (m,), or how many of them are in each column (B + 2,) where that could be counted at once."""


def sample(x: Tensor, size: int = SAMPLE_SIZE) -> Sample:
    """Every k-th value, at most `size`: a copy, in float32 unless they are wider; or their counts.

    No column is favoured: k shares no factor with the number of values.
    """
    if place := place_of(x):
        counts = (c_int32 * _COLUMNS)()
        count = x.numel()
        native.kernels().magnitudes(place, count, _stride(count, size), _place_of_columns(), BINS, counts)
        return counts
    x = x.detach()
    values = (torch.view_as_real(x) if x.is_complex() else x).reshape(-1)
    taken = values[:: _stride(values.numel(), size)]
    return taken.clone() if taken.dtype in (torch.float32, torch.float64) else taken.float()


def magnitude_counts(rows: Sequence[Sequence[NDArray[Any]]]) -> IntArray:
    """(L, B + 2) counts of L rows of samples: bins of HISTOGRAM_EDGES, zeros, NaN and Inf.

    Samples are values, 1-d each, or (as integers) counts.
    """
    counts = np.zeros((len(rows), _COLUMNS), np.int64)
    samples = [(row, one) for row, several in enumerate(rows) for one in several]
    counted = [(row, one) for row, one in samples if one.dtype.kind == "i"]
    if counted:
        of_rows = np.array([row for row, _ in counted])
        starts = np.flatnonzero(np.diff(of_rows, prepend=-1))
        table = np.concatenate([one for _, one in counted]).reshape(-1, _COLUMNS)
        counts[of_rows[starts]] = np.add.reduceat(table, starts, dtype=np.int64)
    taken = [(row, _as_float32(values)) for row, values in samples if values.dtype.kind == "f"]
    if taken:
        values = np.concatenate([values for _, values in taken])
        columns = _columns_by_high_bits()[values.view(np.uint32) >> 16].astype(np.int64)
        columns[values == 0] = BINS
        starts = np.repeat([row * _COLUMNS for row, _ in taken], [len(values) for _, values in taken])
        counts += np.bincount(columns + starts, minlength=counts.size).reshape(counts.shape)
    return counts


def _as_float32(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """The same values; those that float32 cannot hold go into its outermost bins, not to 0 and Inf."""
    if values.dtype == np.float32:
        return values  # pyright: ignore[reportReturnType]
    magnitudes = np.where(values == 0, 0, np.clip(np.abs(values), _SMALLEST, _LARGEST))
    return np.copysign(np.where(np.isfinite(values), magnitudes, values), values).astype(np.float32)


@functools.cache
def _columns_by_high_bits() -> NDArray[np.int8]:
    """(2**16,) the column that values with these first 16 bits are counted in."""
    magnitudes = (np.arange(2**15, dtype=np.uint32) << 16).view(np.float32)  # those with sign follow them
    edges = HISTOGRAM_EDGES[BINS // 2 :].astype(np.float32)
    with np.errstate(invalid="ignore"):  # some of them are signalling NaNs
        bins_above_0 = (np.searchsorted(edges, magnitudes, side="right") - 1).astype(np.int8)
    columns = np.concatenate([BINS // 2 + bins_above_0, BINS // 2 - 1 - bins_above_0])
    columns[~np.isfinite(np.tile(magnitudes, 2))] = BINS + 1
    return columns


@functools.cache
def _place_of_columns() -> int:
    return _columns_by_high_bits().ctypes.data


@functools.cache
def _stride(count: int, size: int) -> int:
    stride = max(1, math.ceil(count / max(1, size)))
    while math.gcd(stride, count) > 1:
        stride += 1
    return stride
