"""Paired statistics: two variants over the seeds that they share, and many such pairs at once.

    gap = difference({0: 0.91, 1: 0.93}, {0: 0.85, 1: 0.88})     # by seed
    gap.mean, gap.low, gap.high, gap.p
    holm([0.01, 0.04, 0.03])                                     # [0.03, 0.06, 0.06]

Variants of a seed see the same rows in the same order, so that what a seed does to both drops out of the difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit

from nnvis.record.vocabulary import FloatArray

CONFIDENCE = 0.95
_SPREAD = 1e-9  # of the largest difference: no more than that is none


@dataclass(frozen=True)
class Difference:
    """The mean of a - b over shared seeds, with its interval.

    No interval (NaN) with fewer than two seeds, nor where the difference is the same in all of them.
    """

    mean: float  # NaN without a shared seed
    low: float
    high: float
    p: float  # two-sided, of "the mean is 0"; NaN without an interval
    seeds: tuple[int, ...]

    @property
    def judged(self) -> bool:
        """Whether there is an interval."""
        return not math.isnan(self.p)

    @property
    def constant(self) -> bool:
        """Whether it is the same in every seed, of two or more: there is no spread to judge it by."""
        return len(self.seeds) > 1 and not self.judged

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0

    @property
    def reversed(self) -> Difference:
        """b - a."""
        return Difference(-self.mean, -self.high, -self.low, self.p, self.seeds)


def difference(a: Mapping[int, float], b: Mapping[int, float], confidence: float = CONFIDENCE) -> Difference:
    """a - b over the seeds at which both are finite: mean, paired t interval, p (Student 1908, Biometrika 6:1-25).

    The interval is mean ± t · s / √n, with the standard deviation s of the n differences (n - 1 below) and the quantile
    t of Student's distribution with n - 1 degrees of freedom. Differences that are all the same (s no more than 1e-9 of
    the largest, or than rounding makes) are not judged: an accuracy counts rows, so that few seeds agree by luck, and
    s = 0 would make that a proof, with p = 0, which no correction for many comparisons raises.
    """
    seeds = tuple(seed for seed in a if seed in b and math.isfinite(a[seed]) and math.isfinite(b[seed]))
    values = np.array([a[seed] - b[seed] for seed in seeds])
    rounding = 8 * np.finfo(float).eps * max((max(abs(a[seed]), abs(b[seed])) for seed in seeds), default=0.0)
    values[np.abs(values) <= rounding] = 0.0
    mean = float(values.mean()) if seeds else math.nan
    spread = float(values.std(ddof=1)) if len(seeds) > 1 else 0.0
    if spread <= max(_SPREAD * float(np.abs(values).max(initial=0.0)), rounding):
        return Difference(mean, math.nan, math.nan, math.nan, seeds)
    error = spread / math.sqrt(len(seeds))
    half = float(stdtrit(len(seeds) - 1, 0.5 + confidence / 2)) * error
    p = 2 * float(stdtr(len(seeds) - 1, -abs(mean) / error))
    return Difference(mean, mean - half, mean + half, p, seeds)


def holm(p_values: ArrayLike) -> FloatArray:
    """(M,) p values adjusted for M comparisons (Holm 1979, Scand. J. Statist. 6:65-70); NaN, no comparison, stays NaN.

    Sorted, the i-th of M is multiplied by M - i + 1, and none is below the one before it. Rejecting what is then below
    0.05 makes an error in 5% of studies at most, however the comparisons depend on one another.
    """
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")[: np.count_nonzero(~np.isnan(p))]
    adjusted = np.full(len(p), np.nan)
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0) if len(order) else 0.0
    return adjusted
