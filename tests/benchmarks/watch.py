"""What `nnvis.watch` costs around a hand-written loop, on three networks, against the limits the project sets itself.

    python tests/benchmarks/watch.py [--pairs 20] [--seconds 0.5] [--threads 1] [--network "20 x 256 MLP"]

Bare and watched loops train networks of their own, in turn (A B B A ...), a few hundred milliseconds each; the ratio is
taken within each pair, so that a machine whose speed drifts does not matter. Opening and closing are not counted.

glibc's allocator is told to keep what it has (`--default-allocator`: it is not). Else it gives the memory of large
activations back to the system at some steps and not at others, by luck, and a step of either loop, bare or watched,
takes up to 30% longer in one process than in the next.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import nnvis
from nnvis.bench import paired

BATCH, CLASSES = 128, 10
VARIANTS: dict[str, dict[str, Any]] = {
    "every step": {"every": 1, "histograms": False},
    "with histograms": {"every": 1},
    "every=10": {"every": 10},
    "between measured steps": {"every": 1_000_000},
}
LIMITS = {
    "20 x 256 MLP": (1.45, 1.6, 1.05, 1.0),
    "20 x 64 MLP": (2.0, 2.4, 1.12, 1.0),
    "4-layer CNN": (1.10, 1.15, 1.015, 1.0),
}


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # in glibc's malloc.h


def keep_memory() -> bool:
    """Have the allocator give no memory back to the system. Returns whether it obeys."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(_MMAP_THRESHOLD, 32 * 2**20) and mallopt(_TRIM_THRESHOLD, 2**31 - 1))


def mlp(width: int) -> tuple[nn.Module, Tensor]:
    """20 hidden layers, and a batch for it."""
    hidden = (layer for _ in range(20) for layer in (nn.Linear(width, width), nn.ReLU()))
    return nn.Sequential(*hidden, nn.Linear(width, CLASSES)), torch.randn(BATCH, width)


def cnn() -> tuple[nn.Module, Tensor]:
    """4 convolutions with BatchNorm, and a batch for it."""
    blocks = [
        layer
        for before, after in ((1, 16), (16, 32), (32, 32), (32, 64))
        for layer in (nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU())
    ]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES))
    return nn.Sequential(*blocks, *head), torch.randn(BATCH, 1, 28, 28)


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "20 x 256 MLP": lambda: mlp(256),
    "20 x 64 MLP": lambda: mlp(64),
    "4-layer CNN": cnn,
}


def loop(network: str, watching: dict[str, Any] | None) -> Callable[[int], float]:
    """A loop that can be run for so many steps at a time; it tells the seconds they took.

    A watch is opened anew each time: its process-wide hooks must not be on while the bare loop runs.
    """
    torch.manual_seed(0)
    model, inputs = NETWORKS[network]()
    targets = torch.randint(CLASSES, (BATCH,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)

    def train(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()

    def run(steps: int) -> float:
        with ExitStack() as stack:
            probe = None
            if watching is not None:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                probe = stack.enter_context(nnvis.watch(model, optimizer, log_dir=f"{folder}/run", **watching))
            train(2)  # the first measured step finds out what feeds what
            began = time.perf_counter()
            train(steps)
            if probe:
                probe.flush()
            return time.perf_counter() - began

    run(5)
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each loop in a pair")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--network", choices=list(NETWORKS), action="append")
    parser.add_argument("--default-allocator", action="store_true", help="leave the allocator as it is")
    options = parser.parse_args()
    if not options.default_allocator:
        print("allocator keeps its memory" if keep_memory() else "allocator as it is", flush=True)
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    for network in options.network or NETWORKS:
        for (variant, watching), limit in zip(VARIANTS.items(), LIMITS[network], strict=True):
            bare, watched = loop(network, None), loop(network, watching)
            steps = 10 * max(1, math.ceil(options.seconds / bare(10)))
            ours, theirs = paired(partial(watched, steps), partial(bare, steps), options.pairs)
            ratios = sorted(one / other for one, other in zip(ours, theirs, strict=True))
            quarter = len(ratios) // 4
            middle = f"half of the pairs: {ratios[quarter]:.2f} to {ratios[-1 - quarter]:.2f}"
            bare_ms = 1000 * statistics.median(theirs) / steps
            figures = f"{bare_ms:8.2f} ms bare  x {statistics.median(ratios):.3f} ({middle})  limit {limit}"
            print(f"{network:<14}{variant:<24}{figures}", flush=True)


if __name__ == "__main__":
    main()
