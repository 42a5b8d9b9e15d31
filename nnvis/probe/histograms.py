"""Counts of a tensor's values by magnitude with sign, so that 1e-20 is as visible as 1.

    taken = sample(tensor)                        # (m,) on the tensor's own device, m <= 1024
    magnitude_counts([taken.numpy(), ...])        # (L, B + 2): the bins of HISTOGRAM_EDGES, zeros, NaN and Inf

Every edge is a number whose last 16 bits as a float32 are zero, so that the first 16 bits of a value tell its bin:
one look into a table of 2**16 entries, for the samples of all layers at once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nnvis.record.vocabulary import HISTOGRAM_EDGES, IntArray

SAMPLE_SIZE = 1024
BINS = len(HISTOGRAM_EDGES) - 1
_COLUMNS = BINS + 2
_LARGEST, _SMALLEST = np.finfo(np.float32).max, np.finfo(np.float32).smallest_subnormal


def sample(x: Tensor, size: int = SAMPLE_SIZE) -> Tensor:
    """(m,) a copy of every k-th value, at most `size`, in float32 unless they are wider.

    No column is favoured: k shares no factor with the number of values.
    """
    values = (torch.view_as_real(x) if x.is_complex() else x).reshape(-1)
    taken = values[:: _stride(values.numel(), size)]
    return taken.clone() if taken.dtype in (torch.float32, torch.float64) else taken.float()


def magnitude_counts(samples: Sequence[NDArray[np.floating]]) -> IntArray:
    """(L, B + 2) counts of the values of L samples, 1-d each: bins of HISTOGRAM_EDGES, zeros, NaN and Inf."""
    values = np.concatenate([_as_float32(values) for values in samples])
    codes = _columns_by_high_bits()[values.view(np.uint32) >> 16]
    codes[values == 0] = BINS
    rows = np.repeat(np.arange(len(samples)) * _COLUMNS, [len(values) for values in samples])
    return np.bincount(codes + rows, minlength=len(samples) * _COLUMNS).reshape(-1, _COLUMNS)


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
def _stride(count: int, size: int) -> int:
    stride = max(1, math.ceil(count / max(1, size)))
    while math.gcd(stride, count) > 1:
        stride += 1
    return stride
