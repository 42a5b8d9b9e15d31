"""What a builder returns: all rows of a data set, before anything is split, fitted or turned into tensors.

Source(inputs, targets, classes=("cat", "dog"))     # classification: targets (N,) int64
Source(inputs, targets)                             # regression: targets (N, K) float
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nnvis.errors import InputError

IntArray = NDArray[np.integer]
FloatArray = NDArray[np.floating]

FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Source:
    """All rows, in their original order and units."""

    inputs: NDArray[Any]
    """(N, F), (N, C, H, W) or (N, T, F) numbers of any type; (N, T) token ids where there is a vocabulary."""
    targets: NDArray[Any]
    """(N,) class numbers, or (N, K) numbers."""
    classes: tuple[str, ...] = ()
    """Names by class number; none: regression."""
    feature_names: tuple[str, ...] = ()
    """Of tables and sequences."""
    full_scale: float = 1.0
    """Inputs are divided by it; 255 brings 8-bit pixels into [0, 1]."""
    vocabulary: tuple[str, ...] = ()
    """Every token of the set by its id; the first two are padding and unknown."""
    max_vocabulary: int | None = None
    """Ids that may remain once the training split is known, padding and unknown counted."""
    official_test: int = 0
    """So many rows at the end are the official test split."""
    overlap: int | None = None
    """Rows are in time order, and each shares values with so many rows after it; None: the order means nothing."""

    @property
    def task(self) -> Literal["classification", "regression"]:
        """What the targets ask for."""
        return "classification" if self.classes else "regression"


def number_classes(labels: NDArray[Any], where: str) -> tuple[IntArray, tuple[str, ...]]:
    """Labels (N,), names or whole numbers from 0 up -> class numbers (N,) int64 and the classes' names, sorted.

    Raises InputError, opening with `where`, for any other label, and where all labels are alike.
    """
    if labels.dtype.kind in "fiu":
        bad = np.flatnonzero(~((labels >= 0) & (labels < 2**53) & (labels == np.floor(labels))))  # ~ catches NaN too
        if bad.size:
            raise InputError(
                f"{where}[{bad[0]}]: found {labels[bad[0]]}, expected a class label: a whole number from 0 up"
                + (f" ({bad.size} labels are like it)" if bad.size > 1 else "")
            )
        labels = labels.astype(np.int64)
    names, numbers = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise InputError(f"{where}: found one class ({names[0]}), expected two or more")
    return numbers.astype(np.int64), tuple(map(str, names))


def all_finite(values: NDArray[Any]) -> NDArray[np.bool_]:
    """(N, ...) numbers -> (N,) whether all numbers of the row are finite in float32."""
    usable = np.less_equal(np.abs(values), FLOAT32_MAX)  # false for NaN
    return np.all(usable.reshape(len(values), -1), axis=1)
