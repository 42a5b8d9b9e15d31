"""Rows that are in two splits: counted before training, since no record of a run shows it.

shared_rows(splits)     # {"val": {"rows": 360, "in_training": 0, "training_rows": 1437, "duplicates": 0}}
"""

from __future__ import annotations

from collections import Counter

from torch import Tensor

from nnvis.data.splits import Splits


def shared_rows(splits: Splits) -> dict[str, dict[str, int]]:
    """By split: its rows, those whose inputs are some training row's, and how often that is so within training.

    Inputs are compared bit by bit; `duplicates` counts the training rows that have the inputs of another one.
    """
    others = {"val": splits.val, "test": splits.test}
    known = Counter(_keys(splits.train.inputs))
    duplicates = sum(count for count in known.values() if count > 1)
    return {
        name: {
            "rows": len(split),
            "in_training": sum(key in known for key in _keys(split.inputs)),
            "training_rows": len(splits.train),
            "duplicates": duplicates,
        }
        for name, split in others.items()
        if split is not None
    }


def _keys(inputs: Tensor) -> list[int]:
    """A 64-bit hash of each row's bytes: two that differ agree once in 10¹⁹ pairs."""
    rows = inputs.detach().reshape(len(inputs), -1).contiguous().cpu().numpy()
    return [hash(row.tobytes()) for row in rows]
