"""Counts of a tensor's values by magnitude with sign, so that 1e-20 is as visible as 1.

magnitude_counts(tensor)     # (34,): 32 bins of nnvis.record.HISTOGRAM_EDGES, then zeros, then NaN and Inf
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nnvis.probe.statistics import looking_is_free, widest
from nnvis.record.vocabulary import HISTOGRAM_EDGES

SAMPLE_SIZE = 4096
BINS = len(HISTOGRAM_EDGES) - 1
_MAGNITUDES = torch.tensor(HISTOGRAM_EDGES[BINS // 2 + 1 : -1], dtype=torch.float64)  # (15,) positive, finite edges
_CODES = torch.arange(BINS + 2)


def sample(x: Tensor, size: int = SAMPLE_SIZE) -> Tensor:
    """(m,) every k-th value, at most `size`. No column is favoured: k shares no factor with the number of values."""
    if x.is_complex():
        x = torch.view_as_real(x)
    values = x.reshape(-1)
    stride = max(1, math.ceil(values.numel() / size))
    while math.gcd(stride, values.numel()) > 1:
        stride += 1
    return values[::stride]


def magnitude_counts(x: Tensor) -> Tensor:
    """(B + 2,) int64 counts of the values of a 1-d tensor: bins of HISTOGRAM_EDGES, zeros, NaN and Inf.

    A positive value lies in the bin with edges[i] <= v < edges[i + 1], a negative one in the mirrored bin.
    Waits for no device: `bincount` would, so codes are compared with all bins at once.
    """
    values = x.to(widest(x))
    rank = torch.bucketize(values.abs(), _MAGNITUDES.to(values), right=True)  # (m,) in 0..15
    code = torch.where(values > 0, BINS // 2 + rank, BINS // 2 - 1 - rank)
    code = code.masked_fill(values == 0, BINS).masked_fill(~torch.isfinite(values), BINS + 1)
    if looking_is_free(values):
        return torch.bincount(code, minlength=BINS + 2)
    return (code[:, None] == _CODES.to(code.device)).sum(0)
