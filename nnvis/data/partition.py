"""Which row goes where: train, validation and test, drawn by class or cut in time order.

    rows = partition(source, section, seed)
    rows.train, rows.val, rows.test           # indices into the source's rows, disjoint

Every class keeps one training row at least, and its share otherwise; scikit-learn's `train_test_split` instead
refuses classes of one row and splits smaller than the number of classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nnvis.data.source import IntArray, Source
from nnvis.errors import InputError

if TYPE_CHECKING:
    from nnvis.config import schema

PURPOSES = ("generation", "split", "train_size", "label_noise")


def stream(seed: int, purpose: str) -> np.random.Generator:
    """A generator of its own for each purpose: turning one knob leaves the draws of the others as they were."""
    return np.random.default_rng([seed, PURPOSES.index(purpose)])


@dataclass(frozen=True)
class Partition:
    """Row indices of the three splits; validation and test may be empty."""

    train: IntArray
    val: IntArray
    test: IntArray


def partition(source: Source, section: schema.DataSection, seed: int) -> Partition:
    """The splits that `val_fraction`, `test_fraction` and `train_size` ask for; raises InputError for too few rows."""
    count = len(source.targets) - source.official_test
    val = _share(section.val_fraction, count)
    test = 0 if source.official_test else _share(section.test_fraction, count)
    strata = source.targets[:count] if source.classes else np.zeros(count, np.int64)
    _refuse_absent_classes(source, strata)
    if source.overlap is None:
        rows = _at_random(strata, val, test, stream(seed, "split"))
    else:
        rows = _in_time_order(count, val, test, source.overlap)
    if source.official_test:
        rows = Partition(rows.train, rows.val, np.arange(count, len(source.targets)))
    if section.train_size is None:
        return rows
    return Partition(_smaller(rows.train, strata, section.train_size, source, seed), rows.val, rows.test)


def draw(strata: IntArray, size: int, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Strata (N,) -> positions of `size` rows and of the others, both in random order.

    Each stratum keeps one row at least (`size` must allow for it), and where its share is a row or more for every
    stratum, that share to within one row.
    """
    counts = np.unique(strata, return_counts=True)[1]
    shuffled = rng.permutation(len(strata))
    by_stratum = shuffled[np.argsort(strata[shuffled], kind="stable")]
    rank_in_stratum = np.arange(len(strata)) - np.repeat(np.cumsum(counts) - counts, counts)
    drawn = rank_in_stratum < np.repeat(_allocation(counts, size), counts)
    return rng.permutation(by_stratum[drawn]), rng.permutation(by_stratum[~drawn])


def _allocation(counts: IntArray, size: int) -> IntArray:
    """How many of each stratum: proportional, rounded by largest remainder, one at least."""
    shares = counts * (size / counts.sum())
    taken = np.maximum(np.floor(shares).astype(np.int64), 1)
    while (missing := size - int(taken.sum())) != 0:
        step = 1 if missing > 0 else -1
        movable = taken < counts if step > 0 else taken > 1
        taken[np.argmax(np.where(movable, (shares - taken) * step, -np.inf))] += step
    return taken


def _at_random(strata: IntArray, val: int, test: int, rng: np.random.Generator) -> Partition:
    strata_count = len(np.unique(strata))
    train = len(strata) - val - test
    if train < strata_count:
        expected = f"one for each of the {strata_count} classes" if strata_count > 1 else "one"
        raise InputError(
            f"data.val_fraction, data.test_fraction: of {len(strata)} rows {max(train, 0)} are left for training, "
            f"expected {expected} at least"
        )
    kept, test_rows = draw(strata, len(strata) - test, rng)
    train_rows, val_rows = draw(strata[kept], train, rng)
    return Partition(kept[train_rows], kept[val_rows], test_rows)


def _in_time_order(count: int, val: int, test: int, overlap: int) -> Partition:
    """Train, then validation, then test; rows that share a value with a later split are left out."""
    test_start = count - test
    val_end = test_start - (overlap if test else 0)
    val_start = val_end - val
    train_end = val_start - (overlap if val else 0)
    if train_end < 1:
        raise InputError(
            f"data.val_fraction, data.test_fraction: {count} windows leave none for training once {val} + {test} are "
            f"held out and the {overlap} that reach into the next split are dropped; expected a longer series, or a "
            "shorter window"
        )
    return Partition(np.arange(train_end), np.arange(val_start, val_end), np.arange(test_start, count))


def _smaller(train: IntArray, strata: IntArray, size: int, source: Source, seed: int) -> IntArray:
    if size > len(train):
        raise InputError(f"data.train_size: {size}, but the training split has {len(train)} rows")
    if source.overlap is not None:
        return train[-size:]
    if size < len(source.classes):
        raise InputError(
            f"data.train_size: {size}, expected one row for each of the {len(source.classes)} classes at least"
        )
    return train[draw(strata[train], size, stream(seed, "train_size"))[0]]


def _share(fraction: float, count: int) -> int:
    return max(1, round(fraction * count)) if fraction else 0


def _refuse_absent_classes(source: Source, labels: IntArray) -> None:
    counts = np.bincount(labels, minlength=len(source.classes))
    if absent := [name for name, rows in zip(source.classes, counts, strict=False) if not rows]:
        raise InputError(f"data: {len(labels)} rows, but none of class {absent[0]!r}, expected rows of every class")
