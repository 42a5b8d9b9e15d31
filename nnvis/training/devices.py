"""Where training runs, and in which number format.

device = resolve_device("auto")                   # cuda, else mps, else cpu
precision = resolve_precision("bf16", device)
outputs = precision.run(model, inputs)            # autocast for bf16 and fp16
with cpu_threads(2): ...                          # put back afterwards
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from nnvis.errors import InputError


def available_devices() -> list[str]:
    """The names that `training.device` takes on this machine."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cuda = ["cuda", *(f"cuda:{n}" for n in range(count))] if count else []
    return ["auto", "cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


def resolve_device(name: str) -> torch.device:
    """The device meant by `auto`, `cpu`, `cuda`, `cuda:N` or `mps`. Raises InputError where it is missing."""
    available = available_devices()
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if kind in available)
    if name not in available:
        reason = ""
        if name.startswith("cuda") and "cuda" not in available:
            reason = "; torch sees no GPU" if torch.version.cuda else "; this torch was built without CUDA"
        raise InputError(f"training.device: {name} is not available here{reason}; choose from {', '.join(available)}")
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """What people call it: `NVIDIA H100`, or the device's own name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


@dataclass(frozen=True)
class Precision:
    """A number format: that of the parameters, and what autocast computes in where it may."""

    device: torch.device
    dtype: torch.dtype = torch.float32
    autocast: torch.dtype | None = None

    def run(self, model: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """The outputs, of `dtype` in any case: losses are never computed in 16 bits."""
        if self.autocast is None:
            return model(inputs)
        with torch.autocast(self.device.type, self.autocast):
            outputs = model(inputs)
        return outputs.to(self.dtype)

    def scaler(self) -> torch.amp.GradScaler | None:
        """fp16 gradients need scaling, or the small ones become 0."""
        return torch.amp.GradScaler(self.device.type) if self.autocast is torch.float16 else None

    def place(self, tensor: Tensor) -> Tensor:
        """The tensor on the device; of `dtype` where it holds fractions."""
        dtype = self.dtype if tensor.is_floating_point() else tensor.dtype
        return tensor.to(self.device, dtype, non_blocking=True)


def resolve_precision(name: str, device: torch.device) -> Precision:
    """float32, float64, or autocast to bf16 or fp16. Raises InputError where the device cannot."""
    if name == "float64" and device.type == "mps":
        raise InputError("training.precision: mps has no float64; choose from float32, bf16, fp16")
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise InputError(f"training.precision: {device_name(device)} has no bf16; choose from float32, float64, fp16")
    return {
        "float32": Precision(device),
        "float64": Precision(device, torch.float64),
        "bf16": Precision(device, autocast=torch.bfloat16),
        "fp16": Precision(device, autocast=torch.float16),
    }[name]


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """torch computes with so many CPU threads inside (None: no change), and with as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
