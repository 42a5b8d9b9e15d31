"""How strongly the loss curves in the directions in which an optimizer steps, against what it can bear.

    parameters, scales, limit = stability(optimizer)                   # of SGD, Adam, RMSprop and Adagrad
    largest_curvature(lambda: loss_of_a_fixed_batch(), parameters, scales) / limit     # above 1: steps climb

On a quadratic gradient descent descends as long as learning rate times curvature is below 2; with momentum β below
2 (1 + β), with Nesterov's below 2 (1 + β) / (1 + 2 β) (Goh 2017; Cohen et al. 2021). Adam steps along the gradient over
√v + ε, and its momentum is an average: the curvature is that of the preconditioned Hessian, and the limit
2 (1 + β₁) / (1 - β₁), 38 for β₁ = 0.9 (Cohen et al. 2022, "Adaptive gradient methods at the edge of stability").
Networks that train well sit at the limit: this supports what the loss shows, and is no finding by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

ITERATIONS = 30
_SETTLED = 1e-3  # of the eigenvalue, by which two iterations differ


class NotKnown(Exception):  # noqa: N818 (not an error: the optimizer has no limit that anybody knows)
    """Why there is no limit of stability."""


def largest_curvature(
    loss: Callable[[], Tensor], parameters: Sequence[Tensor], scales: Sequence[Tensor | float], *, seed: int = 0
) -> float:
    """The largest eigenvalue of S H S, by Lanczos: H the Hessian of `loss()`, S the diagonal of `scales`.

    With S = √(lr / P), P what the optimizer divides gradients by, that is learning rate times the largest curvature of
    the preconditioned Hessian. Products with H by double backward; the start is drawn from a generator of its own.
    Raises RuntimeError for what has no second derivative; NaN where it is not finite.
    """
    gradients = torch.autograd.grad(loss(), parameters, create_graph=True, allow_unused=True)
    used = [(p, g, s) for p, g, s in zip(parameters, gradients, scales, strict=True) if g is not None]
    if not any(g.requires_grad for _, g, _ in used):
        return 0.0  # the loss is linear

    def product(vector: Tensor) -> Tensor:
        parts = vector.split([p.numel() for p, _, _ in used])
        along = [part.reshape(p.shape) * s for part, (p, _, s) in zip(parts, used, strict=True)]
        slope = torch.stack([(g * v).sum() for (_, g, _), v in zip(used, along, strict=True)]).sum()
        seconds = torch.autograd.grad(slope, [p for p, _, _ in used], retain_graph=True, allow_unused=True)
        return torch.cat(
            [
                (s * (torch.zeros_like(p) if h is None else h)).flatten()
                for h, (p, _, s) in zip(seconds, used, strict=True)
            ]
        ).detach()

    first = used[0][0]
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(sum(p.numel() for p, _, _ in used), generator=generator).to(first.device, first.dtype)
    return _lanczos(product, start)


def _lanczos(product: Callable[[Tensor], Tensor], start: Tensor) -> float:
    """The largest eigenvalue of a symmetric map; copies of it that rounding brings do not change the largest."""
    vector, before = start / start.norm(), torch.zeros_like(start)
    diagonal: list[float] = []
    beside: list[float] = []
    largest = math.nan
    for _ in range(min(ITERATIONS, len(start))):
        image = product(vector)
        diagonal.append(float(image.dot(vector)))
        image = image - diagonal[-1] * vector - (beside[-1] if beside else 0.0) * before
        size = float(image.norm())
        if not math.isfinite(size) or not math.isfinite(diagonal[-1]):
            return math.nan
        last, largest = largest, _largest_eigenvalue(diagonal, beside)
        if size < 1e-6 * max(map(abs, diagonal)) or abs(largest - last) < _SETTLED * abs(largest):
            break
        beside.append(size)
        vector, before = image / size, vector
    return largest


def _largest_eigenvalue(diagonal: list[float], beside: list[float]) -> float:
    """Of the tridiagonal matrix."""
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    if beside:
        matrix = matrix + torch.diag(torch.tensor(beside, dtype=torch.float64), 1)
        matrix = matrix + torch.diag(torch.tensor(beside, dtype=torch.float64), -1)
    return float(torch.linalg.eigvalsh(matrix)[-1])


def stability(optimizer: torch.optim.Optimizer) -> tuple[list[Tensor], list[Tensor | float], float]:
    """The parameters that move, what scales each (√(lr / P)), and below what lr · curvature the steps descend.

    Raises NotKnown for other optimizers, and before the first step of one that divides by what it has seen.
    """
    kind, first = type(optimizer).__name__, optimizer.param_groups[0]
    parameters: list[Tensor] = []
    scales: list[Tensor | float] = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.requires_grad:
                parameters.append(parameter)
                scales.append(_scale(kind, group, optimizer.state.get(parameter, {}), parameter))
    if not parameters:
        raise NotKnown("no parameter moves")
    return parameters, scales, _limit(kind, first)


def _limit(kind: str, group: dict) -> float:
    momentum = float(group.get("momentum") or 0.0)
    if kind in ("Adam", "AdamW"):
        first = float(group["betas"][0])
        return 2 * (1 + first) / (1 - first)
    if group.get("nesterov"):
        return 2 * (1 + momentum) / (1 + 2 * momentum)
    return 2 * (1 + momentum) / (1 - float(group.get("dampening") or 0.0))


def _scale(kind: str, group: dict, state: dict, parameter: Tensor) -> Tensor | float:
    rate = float(group["lr"])
    if kind == "SGD":
        return math.sqrt(rate)
    if kind not in ("Adam", "AdamW", "RMSprop", "Adagrad"):
        raise NotKnown(f"what {kind} can bear is not known")
    squares = state.get("max_exp_avg_sq", state.get("exp_avg_sq", state.get("square_avg", state.get("sum"))))
    if not isinstance(squares, Tensor) or not float(state["step"]):
        raise NotKnown("no step has been made")
    if kind in ("Adam", "AdamW"):
        squares = squares / (1 - float(group["betas"][1]) ** float(state["step"]))
    if "grad_avg" in state:
        squares = (squares - state["grad_avg"].square()).clamp_min(0)  # rounding
    return (rate / (squares.sqrt() + group["eps"])).sqrt().to(parameter.dtype)
