"""What the titles claim, computed: pure functions of numpy arrays, each with a known answer in the tests.

best(val)                          # index of the smallest finite value
overfitting_onset(train, val)      # index, or None
first_to_last([1e-9, 1e-5, 1.0])   # 1e-9
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from nnvis.record.vocabulary import FloatArray, IntArray


def best(values: ArrayLike, *, largest: bool = False) -> int | None:
    """Index of the smallest (or largest) finite value, the first of equals; None without one."""
    values = np.asarray(values, dtype=float)
    finite = np.isfinite(values)
    if not finite.any():
        return None
    return int(np.argmin(np.where(finite, -values if largest else values, np.inf)))


def late(values: ArrayLike) -> float:
    """Where a curve ended, one bad evaluation forgiven: the median of its last three values."""
    values = np.asarray(values, dtype=float)
    return float(np.median(values[-3:])) if len(values) else float("nan")


def overfitting_onset(train: ArrayLike, val: ArrayLike, rise: float = 0.1) -> int | None:
    """Index of the best validation loss, if afterwards it rose by the share `rise` while the training loss fell.

    Both losses (T,) at the same times. Fewer than three evaluations after the best one prove nothing.
    """
    train, val = np.asarray(train, dtype=float), np.asarray(val, dtype=float)
    at = best(val)
    if at is None or len(val) - at <= 3:
        return None
    rose = late(val) > (1 + rise) * val[at]
    return at if rose and late(train) < train[at] else None


def never_learned(losses: ArrayLike, chance: float | None = None, drop: float = 0.05) -> bool:
    """Whether the loss (T,) never fell below its start, or below what guessing gets, by the share `drop`."""
    losses = np.asarray(losses, dtype=float)
    finite = losses[np.isfinite(losses)]
    if len(finite) < 6:  # too few to say
        return False
    start = finite[0] if chance is None else min(finite[0], chance)
    return bool(late(np.sort(finite)[::-1]) > (1 - drop) * start)


def still_improving(val: ArrayLike, share: float = 0.2, gain: float = 0.05) -> bool:
    """Whether the last `share` of the evaluations (T,) brought the best loss down by the share `gain`."""
    val = np.asarray(val, dtype=float)
    before = best(val[: max(1, round(len(val) * (1 - share)))])
    at = best(val)
    return at is not None and before is not None and bool(val[at] < (1 - gain) * val[before])


def first_nonfinite(values: ArrayLike) -> int | None:
    """Index of the first NaN or Inf; None if all are finite."""
    bad = ~np.isfinite(np.asarray(values, dtype=float))
    return int(np.argmax(bad)) if bad.any() else None


def clipped_share(factors: ArrayLike) -> float:
    """Share of the measured steps whose gradients were clipped: of clip factors (T,) below 1, rounding aside."""
    factors = np.asarray(factors, dtype=float)
    known = factors[np.isfinite(factors)]
    return float(np.mean(known < 1 - 1e-4)) if len(known) else float("nan")


def first_to_last(values: ArrayLike) -> float:
    """The first layer's value over the last layer's; NaN where that cannot be said (a non-finite one, 0 / 0)."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return float("nan")
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(values[0] / values[-1])


def decades_per_layer(values: ArrayLike) -> float:
    """Slope of the line fitted (least squares) to log10(values) (L,) over the layers 0 … L-1.

    Zeros and non-finite values are left out; NaN with fewer than three left.
    """
    values = np.asarray(values, dtype=float)
    depth = np.flatnonzero(np.isfinite(values) & (values > 0))
    if len(depth) < 3:
        return float("nan")
    return float(np.polyfit(depth, np.log10(values[depth]), 1)[0])


def factor_per_layer(values: ArrayLike) -> float:
    """By what a layer multiplies what arrives from the next one: 10 ** -decades_per_layer(values)."""
    return float(10.0 ** -decades_per_layer(values))


def growth(table: ArrayLike) -> float:
    """By what the median over the layers of a (T, L) table grew from the first to the last row; 1 where unknown.

    Only finite positive values count, and only rows that have some.
    """
    table = np.asarray(table, dtype=float)
    usable = np.isfinite(table) & (table > 0)
    rows = np.flatnonzero(usable.any(axis=1))
    if not len(rows):
        return 1.0
    first, last = (float(np.median(table[row][usable[row]])) for row in (rows[0], rows[-1]))
    return last / first


def running_median(values: ArrayLike, window: int) -> FloatArray:
    """(T,) median over `window` neighbours, fewer at the ends; NaN only where all of them are non-finite."""
    values = np.asarray(values, dtype=float)
    if not len(values):
        return values
    half = window // 2
    padded = np.pad(np.where(np.isfinite(values), values, np.nan), half, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    known = ~np.isnan(windows).all(axis=1)
    smooth = np.full(len(values), np.nan)
    smooth[known] = np.nanmedian(windows[known], axis=1)
    return smooth


def median_magnitude(counts: IntArray, edges: FloatArray) -> float:
    """Median of |v| from signed counts (2K,) over edges (2K + 1,), 0 in the middle; by log10 within a bin.

    Exact zeros are not in the counts. NaN of nothing; the inner end of a bin that has no outer one, and reverse.
    """
    middle = len(counts) // 2
    both = counts[middle:] + counts[:middle][::-1]
    if not both.sum():
        return float("nan")
    below = np.cumsum(both)
    k = int(np.searchsorted(below, below[-1] / 2))
    low, high = edges[middle + k], edges[middle + k + 1]
    if low == 0 or np.isinf(high):
        return float(high if low == 0 else low)
    part = (below[-1] / 2 - (below[k] - both[k])) / both[k]
    return float(low * (high / low) ** part)


def wants_log(*curves: ArrayLike, ratio: float = 30.0) -> bool:
    """Whether the finite values ask for a log axis: all positive, and the largest over the smallest beyond `ratio`."""
    values = np.concatenate([np.ravel(np.asarray(c, dtype=float)) for c in curves])
    values = values[np.isfinite(values)]
    return bool(len(values) and values.min() > 0 and values.max() / values.min() > ratio)


def spread_out(centres: Sequence[float], gap: float, low: float = 0.0, high: float = 1.0) -> list[float]:
    """The centres moved as little as needed (least squares) to lie `gap` apart within [low, high], order kept.

    Labels that do not fit stand evenly over the whole range.
    """
    if len(centres) > 1:
        gap = min(gap, (high - low) / (len(centres) - 1))
    order = np.argsort(centres, kind="stable")
    blocks: list[list[float]] = []  # [mean of the shifted wishes, size]
    for rank, i in enumerate(order):
        blocks.append([centres[i] - rank * gap, 1.0])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            mean, size = blocks.pop()
            blocks[-1][0] = (blocks[-1][0] * blocks[-1][1] + mean * size) / (blocks[-1][1] + size)
            blocks[-1][1] += size
    wishes = np.repeat([mean for mean, _ in blocks], [int(size) for _, size in blocks])
    placed = np.clip(wishes, low, max(high - (len(centres) - 1) * gap, low)) + np.arange(len(centres)) * gap
    result = np.empty(len(centres))
    result[order] = placed
    return [float(y) for y in result]


def repeats(signatures: Sequence[object], most: int = 12) -> list[tuple[int, int, int]]:
    """Folds runs of the same: (start, period, times) groups, in order, that together cover the sequence once.

    `times` is 1 for what stands alone (period 1), and at least 3 for a folded pattern, or 2 for one of four
    and more. The pattern that folds most is taken at each place.
    """
    groups: list[tuple[int, int, int]] = []
    start = 0
    while start < len(signatures):
        period, times = 1, 1
        for p in range(1, min(most, (len(signatures) - start) // 2) + 1):
            pattern, n = signatures[start : start + p], 1
            while signatures[start + n * p : start + (n + 1) * p] == pattern:
                n += 1
            if n >= (2 if p >= 4 else 3) and (n - 1) * p > (times - 1) * period:
                period, times = p, n
        groups.append((start, period, times))
        start += period * times
    return groups
