"""Every row once an epoch, in an order that follows from seed and epoch alone."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from nnvis.training.batches import Batches, take

CPU = torch.device("cpu")


def batches(rows: int, size: int | Literal["full"], accumulate: int = 1, seed: int = 0) -> Batches:
    return Batches(rows, size, accumulate, seed, CPU)


def order(of: Batches, epoch: int, first: int = 0) -> list[int]:
    steps = of.epoch(epoch, first)
    return [int(row) for step in steps for rows in step if rows is not None for row in rows]


@pytest.mark.parametrize(
    ("rows", "size", "sizes"),
    [
        (10, 4, [4, 4, 2]),
        (9, 4, [4, 5]),  # a last batch of one row joins the one before
        (8, 4, [4, 4]),
        (3, 1, [1, 1, 1]),
        (3, 5, [3]),
        (1, 4, [1]),
        (7, "full", [7]),
    ],
)
def test_sizes(rows: int, size: int | Literal["full"], sizes: list[int]) -> None:
    assert batches(rows, size).sizes == sizes


def test_every_row_comes_once_an_epoch_in_a_new_order() -> None:
    epochs = [order(batches(50, 8), epoch) for epoch in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != list(range(50))
    assert epochs[1] == order(batches(50, 8), 1)
    assert epochs[1] != order(batches(50, 8, seed=1), 1)


def test_an_epoch_goes_on_at_any_step() -> None:
    of = batches(50, 8, accumulate=3)
    assert of.steps_per_epoch == 3
    assert order(of, 2, first=1) == order(of, 2)[24:]


def test_global_random_numbers_are_left_alone() -> None:
    before = torch.get_rng_state()
    order(batches(20, 4), 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_of_everything_copies_nothing() -> None:
    data = torch.arange(6.0)
    ((rows,),) = batches(6, "full").epoch(0)
    assert rows is None
    assert take(data, rows) is data
    assert take(data, torch.tensor([4, 1])).tolist() == [4.0, 1.0]
