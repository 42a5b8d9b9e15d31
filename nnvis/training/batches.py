"""Which rows make a step: batches by index, shuffled anew every epoch.

    batches = Batches(rows=1437, batch_size=64, accumulate=1, seed=0, device=device)
    batches.steps_per_epoch                       # 23
    for step in batches.epoch(3, first=10):       # epoch 3 from its 11th step on
        for rows in step:                         # the batches whose gradients make one step
            inputs = take(split.inputs, rows)

The order follows from the seed and the epoch alone, so that a resumed run needs no state for it. A last short
batch is kept; one of a single row (which batch normalisation cannot take) joins the batch before it. A batch
of all rows keeps their own order and copies nothing.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

Rows = Tensor | None  # (B,) int64 row numbers on the device; None: all rows as they are


@dataclass(frozen=True)
class Batches:
    """The batches of every epoch, grouped into optimizer steps."""

    rows: int
    batch_size: int | Literal["full"]
    accumulate: int
    seed: int
    device: torch.device

    @cached_property
    def sizes(self) -> list[int]:
        """Rows in each batch of an epoch."""
        size = self.rows if self.batch_size == "full" else self.batch_size
        sizes = [size] * (self.rows // size) + [self.rows % size] * (self.rows % size > 0)
        if size > 1 and len(sizes) > 1 and sizes[-1] == 1:
            sizes[-2:] = [size + 1]
        return sizes

    @cached_property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.sizes) / self.accumulate)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[Rows, ...]]:
        """The steps of an epoch from its step `first` on, each the row numbers of its batches."""
        sizes = self.sizes
        whole = len(sizes) == 1
        order = () if whole else self.order(epoch).split(sizes)
        for start in range(first * self.accumulate, len(sizes), self.accumulate):
            yield (None,) if whole else order[start : start + self.accumulate]

    def order(self, epoch: int) -> Tensor:
        """(rows,) a permutation of all row numbers."""
        seed = zlib.crc32(f"{self.seed} {epoch}".encode())  # torch takes 32 bits; neighbours shall not be alike
        generator = torch.Generator().manual_seed(seed)
        return torch.randperm(self.rows, generator=generator).to(self.device, non_blocking=True)


def take(tensor: Tensor, rows: Rows) -> Tensor:
    """(B, ...) the rows of a tensor (N, ...)."""
    return tensor if rows is None else tensor.index_select(0, rows)
