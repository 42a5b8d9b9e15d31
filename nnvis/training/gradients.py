"""Gradients between the backward pass and the update: their total norm, and what clipping leaves of them.

norm = total_norm(gradients_of(model.parameters()))    # 0-d
factor = clip_factor(norm.item(), max_norm=1.0)
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm


def gradients_of(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The gradients that there are."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def total_norm(gradients: list[Tensor]) -> Tensor:
    """0-d: the L2 norm of all gradients together. Waits for the device.

    float32 squares overflow from 1e19 on: a norm that is not finite is computed again in float64, on the CPU.
    """
    norm = get_total_norm(gradients)
    if torch.isfinite(norm):
        return norm
    parts = [torch.linalg.vector_norm(gradient.detach().cpu(), dtype=torch.float64) for gradient in gradients]
    return torch.linalg.vector_norm(torch.stack(parts))


def clip_factor(norm: float, max_norm: float) -> float:
    """What clipping multiplies gradients of this norm by, in (0, 1] (torch's formula)."""
    return min(1.0, max_norm / (norm + 1e-6))
