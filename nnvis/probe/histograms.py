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
    if looking_is_free(values):  # sorting first is five times as quick as finding a bin for each value
        below = np.searchsorted(np.sort(values.numpy()), boundaries.numpy())  # NaN comes last, with +Inf
        counts = torch.from_numpy(np.diff(below, prepend=0, append=len(values)))
    else:
        code = torch.bucketize(values, boundaries, right=True)  # (m,) in 0..B + 2
        counts = (code[:, None] == torch.arange(BINS + 3, device=code.device)).sum(0)  # bincount would wait
    negative, zero, positive = counts[1 : BINS // 2 + 1], counts[BINS // 2 + 1], counts[BINS // 2 + 2 : -1]
    return torch.cat([negative, positive, zero[None], (counts[0] + counts[-1])[None]])


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
def _stride(count: int, size: int) -> int:
    stride = max(1, math.ceil(count / size))
    while math.gcd(stride, count) > 1:
        stride += 1
    return stride
