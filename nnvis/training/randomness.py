"""Where random numbers come from, kept and put back: python's, numpy's, torch's and the accelerator's.

with seeded(0, device):                  # everything inside draws from seed 0; afterwards as before
    state = random_state(device)         # plain tensors, lists and numbers: goes into a checkpoint
    restore_random_state(state, device)
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of every generator that training may draw from."""
    name, keys, *position = np.random.get_state(legacy=True)  # noqa: NPY002 (user code may draw from it)
    state = {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *position],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Puts every generator back to where `random_state` found it."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *position = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *position))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    if device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Every generator starts from `seed` inside, and goes on afterwards as if nothing had happened."""
    with untouched(device):
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)
        yield


@contextmanager
def untouched(device: torch.device) -> Iterator[None]:
    """What is drawn inside leaves no trace."""
    state = random_state(device)
    try:
        yield
    finally:
        restore_random_state(state, device)
