"""Counts of a tensor's values by magnitude with sign, so that 1e-20 is as visible as 1.

magnitude_counts(tensor)     # (34,): 32 bins of nnvis.record.HISTOGRAM_EDGES, then zeros, then NaN and Inf
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from nnvis.probe.statistics import looking_is_free, widest
from nnvis.record.vocabulary import HISTOGRAM_EDGES

SAMPLE_SIZE = 4096
BINS = len(HISTOGRAM_EDGES) - 1


def sample(x: Tensor, size: int = SAMPLE_SIZE) -> Tensor:
    """(m,) every k-th value, at most `size`. No column is favoured: k shares no factor with the number of values."""
    values = (torch.view_as_real(x) if x.is_complex() else x).reshape(-1)
    return values[:: _stride(values.numel(), size)].contiguous()


def magnitude_counts(x: Tensor) -> Tensor:
    """(B + 2,) int64 counts of the values of a 1-d tensor: bins of HISTOGRAM_EDGES, zeros, NaN and Inf.

    A bin holds edges[i] <= v < edges[i + 1], as in `numpy.histogram`. Waits for no device.
    """
    values = x if x.dtype in (torch.float32, torch.float64) else x.to(widest(x))
    boundaries = _boundaries(values.dtype, values.device)
    if looking_is_free(values):  # sorting first is quicker than finding a bin for each value; NaN comes last, with Inf
        below = np.zeros(len(boundaries) + 2, np.int64)
        below[1:-1], below[-1] = np.searchsorted(np.sort(values.numpy()), boundaries.numpy()), values.numel()
        counts = torch.from_numpy(below[1:] - below[:-1])  # (B + 3,)
    else:
        codes = torch.bucketize(values, boundaries, right=True)  # (m,) in 0..B + 2
        counts = (codes[:, None] == torch.arange(BINS + 3, device=codes.device)).sum(0)  # bincount would wait
    ordered = counts.index_select(0, _order(counts.device))
    ordered[-1] += counts[0]  # -Inf joins Inf and NaN
    return ordered


@functools.cache
def _boundaries(dtype: torch.dtype, device: torch.device) -> Tensor:
    """(B + 2,) where codes change: -Inf | negative bins | exact 0 | positive bins | +Inf and NaN."""
    info = np.finfo(np.float32 if dtype == torch.float32 else np.float64)
    half = BINS // 2
    inner = HISTOGRAM_EDGES[1:-1].astype(info.dtype)  # negative edges, 0, positive edges
    zero = [info.dtype.type(0), info.smallest_subnormal]
    edges = np.concatenate([[info.min], inner[: half - 1], zero, inner[half:], [np.inf]])
    return torch.tensor(edges, dtype=dtype, device=device)


@functools.cache
def _order(device: torch.device) -> Tensor:
    """(B + 2,) where negative bins, positive bins, zeros, and Inf with NaN stand among the codes."""
    half = BINS // 2
    return torch.tensor([*range(1, half + 1), *range(half + 2, BINS + 2), half + 1, BINS + 2], device=device)


@functools.cache
def _stride(count: int, size: int) -> int:
    stride = max(1, math.ceil(count / size))
    while math.gcd(stride, count) > 1:
        stride += 1
    return stride
