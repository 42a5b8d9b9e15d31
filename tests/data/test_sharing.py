"""Rows of other splits that are training rows, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import torch

from nnvis.config import parse_config
from nnvis.data import Split, load_splits, shared_rows


def split(*rows: tuple[float, float]) -> Split:
    return Split(torch.tensor(rows), torch.zeros(len(rows)).long(), torch.arange(len(rows)))


def test_rows_are_counted_by_their_inputs() -> None:
    config = parse_config("name: x\ndata: {kind: moons, val_fraction: 0.2}\nmodel: {kind: mlp, hidden: [4]}\n")
    splits = load_splits(config.data, 0)
    assert shared_rows(splits) == {"val": {"rows": 200, "in_training": 0, "training_rows": 800, "duplicates": 0}}
    train = split((1.0, 2.0), (3.0, 4.0), (1.0, 2.0), (5.0, 6.0))
    test = split((1.0, 2.0), (1.0, 2.0), (3.0, 4.0), (2.0, 1.0), (9.0, 9.0))
    found = shared_rows(replace(splits, train=train, val=None, test=test))
    assert found == {"test": {"rows": 5, "in_training": 3, "training_rows": 4, "duplicates": 2}}


def test_no_other_split_no_fact() -> None:
    config = parse_config("name: x\ndata: {kind: moons, val_fraction: 0}\nmodel: {kind: mlp, hidden: [4]}\n")
    assert shared_rows(load_splits(config.data, 0)) == {}
