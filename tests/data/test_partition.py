"""Splits, subsets and label noise: what must hold for any rows, sizes and seeds."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nnvis.config import schema
from nnvis.data.partition import PURPOSES, draw, partition, stream
from nnvis.data.source import Source
from nnvis.errors import InputError

labels = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)
fractions = st.floats(0, 0.99)


@settings(deadline=None)
@given(labels, st.data(), st.integers(0, 2**32))
def test_a_draw_is_stratified_and_loses_no_row(strata: np.ndarray, data: st.DataObject, seed: int) -> None:
    classes, counts = np.unique(strata, return_counts=True)
    size = data.draw(st.integers(len(classes), len(strata)))
    drawn, left = draw(strata, size, np.random.default_rng(seed))
    assert len(drawn) == size
    assert sorted([*drawn, *left]) == list(range(len(strata)))
    taken = np.array([np.sum(strata[drawn] == k) for k in classes])
    shares = counts * size / len(strata)
    assert (taken >= 1).all()
    if (shares >= 1).all():
        assert (np.abs(taken - shares) < 1 + 1e-9).all()


@settings(deadline=None)
@given(labels, fractions, fractions, st.none() | st.integers(1, 60), st.integers(0, 5))
def test_any_partition_is_disjoint_and_trains_on_every_class_or_says_why_not(
    strata: np.ndarray, val: float, test: float, train_size: int | None, seed: int
) -> None:
    assume(val + test < 1)
    names, numbers = np.unique(strata, return_inverse=True)
    source = Source(np.zeros((len(strata), 1)), numbers, tuple(map(str, names)))
    section = schema.Npz(kind="npz", path="", val_fraction=val, test_fraction=test, train_size=train_size)
    try:
        rows = partition(source, section, seed)
    except InputError:
        left = len(strata) - sum(max(1, round(share * len(strata))) for share in (val, test) if share)
        assert left < len(names) or (train_size is not None and not len(names) <= train_size <= left)
        return
    used = np.concatenate([rows.train, rows.val, rows.test])
    assert len(np.unique(used)) == len(used)
    assert len(rows.val) == (max(1, round(val * len(strata))) if val else 0)
    assert len(rows.train) == (train_size or len(strata) - len(rows.val) - len(rows.test))
    assert set(numbers[rows.train]) == set(numbers)


@settings(deadline=None)
@given(st.integers(2, 80), st.integers(0, 10), fractions, fractions)
def test_in_time_order_no_value_is_in_two_splits(count: int, overlap: int, val: float, test: float) -> None:
    assume(val + test < 1)
    source = Source(np.zeros((count, 1)), np.zeros((count, 1)), overlap=overlap)
    section = schema.Sunspots(kind="sunspots", val_fraction=val, test_fraction=test)
    try:
        rows = partition(source, section, seed=0)
    except InputError:
        return
    parts = [part for part in (rows.train, rows.val, rows.test) if len(part)]
    for part in parts:
        assert (np.diff(part) == 1).all()
    for earlier, later in pairwise(parts):
        assert later[0] - earlier[-1] == overlap + 1
    assert parts[-1][-1] == count - 1


def test_time_series_train_size_keeps_the_latest(load: Any) -> None:
    whole, recent = load(kind="sunspots"), load(kind="sunspots", train_size=50)
    assert torch.equal(recent.train.rows, whole.train.rows[-50:])
    assert torch.equal(recent.val.rows, whole.val.rows)


def test_each_purpose_draws_from_a_stream_of_its_own() -> None:
    draws = {stream(seed, purpose).random() for seed in range(5) for purpose in PURPOSES}
    assert len(draws) == 5 * len(PURPOSES)


def test_train_size_leaves_validation_as_it_was(load: Any) -> None:
    whole, small = load(kind="digits"), load(kind="digits", train_size=20)
    assert torch.equal(whole.val.rows, small.val.rows)
    assert set(small.train.rows.tolist()) < set(whole.train.rows.tolist())
    assert torch.bincount(small.train.targets).tolist() == [2] * 10


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 0.99), st.integers(0, 100))
def test_label_noise_replaces_exactly_its_share(load: Any, share: float, seed: int) -> None:
    clean = load(kind="iris", seed=seed)
    noisy = load(kind="iris", seed=seed, label_noise=share)
    changed = noisy.train.targets != clean.train.targets
    assert torch.equal(changed, noisy.flipped)
    assert changed.sum() == round(share * len(clean.train))
    assert torch.equal(noisy.train.rows, clean.train.rows)
    assert torch.equal(noisy.train.inputs, clean.train.inputs)
    assert torch.equal(noisy.val.targets, clean.val.targets)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"train_size": 121}, "data.train_size: 121, but the training split has 120 rows"),
        (
            {"val_fraction": 0.5, "test_fraction": 0.49},
            "data.val_fraction, data.test_fraction: of 150 rows 1 are left for training, "
            "expected one for each of the 3 classes at least",
        ),
        (
            {"kind": "sunspots", "val_fraction": 0.95},
            "data.val_fraction, data.test_fraction: 285 windows leave none for training once 271 + 0 are held out and "
            "the 24 that reach into the next split are dropped; expected a longer series, or a shorter window",
        ),
    ],
)
def test_what_cannot_be_split(section: dict, message: str, load: Any) -> None:
    with pytest.raises(InputError) as caught:
        load(**{"kind": "iris"} | section)
    assert str(caught.value) == message
