"""Numbers on their way from the device to the host: one copy a device and step, started early and waited for late.

transfer = Transfer([0.5, device_scalar, device_counts])      # floats, arrays, tensors of any shape; starts the copy
transfer.arrays()                                             # waits; one array for each
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Array
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nnvis.probe.statistics import Number, widest
from nnvis.record.vocabulary import FloatArray


class Transfer:
    """A list of numbers and tensors that is being copied to the host."""

    def __init__(self, values: Sequence[Number | Array[Any]]) -> None:
        self._values = values
        self._arrivals: list[torch.cuda.Event] = []
        self._host: dict[int, Tensor] = {}  # by the id of a tensor that is on a device
        by_device: dict[torch.device, list[Tensor]] = {}
        for value in values:
            if isinstance(value, Tensor) and not value.is_cpu:
                by_device.setdefault(value.device, []).append(value)
        for device, tensors in by_device.items():
            self._start(device, tensors)

    @property
    def under_way(self) -> bool:
        """Whether reading now might wait for a device."""
        return bool(self._arrivals)

    def floats(self) -> FloatArray:
        """(n,) all values, which must be single numbers. The device is waited for here."""
        self._wait()
        return np.array([self._on_host(v).item() if isinstance(v, Tensor) else v for v in self._values], np.float64)

    def arrays(self) -> list[NDArray[Any]]:
        """Each value as an array of its shape. The device is waited for here."""
        self._wait()
        return [self._on_host(v).numpy() if isinstance(v, Tensor) else np.array(v) for v in self._values]

    def _start(self, device: torch.device, tensors: list[Tensor]) -> None:
        packed = torch.cat([t.reshape(-1).to(widest(t)) for t in tensors])
        host = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=device.type == "cuda")
        host.copy_(packed, non_blocking=device.type == "cuda")
        if device.type == "cuda":
            arrival = torch.cuda.Event()
            arrival.record(torch.cuda.current_stream(device))
            self._arrivals.append(arrival)
        places = host.split([t.numel() for t in tensors])
        self._host.update({id(t): place.view(t.shape) for t, place in zip(tensors, places, strict=True)})

    def _wait(self) -> None:
        for arrival in self._arrivals:
            arrival.synchronize()

    def _on_host(self, value: Tensor) -> Tensor:
        return self._host.get(id(value), value)
