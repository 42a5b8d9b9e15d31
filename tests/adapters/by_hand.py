"""The same trainings, written by hand: what the callbacks' records are compared with."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import nnvis

BATCH = 8


def network(dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 3))


def data(rows: int = 5 * BATCH, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 6, generator=generator), torch.randint(0, 3, (rows,), generator=generator)


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)


@dataclass
class Told:
    """By step."""

    losses: list[float] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)
    grad_norms: list[list[float]] = field(default_factory=list)  # of the two linear layers
    clip_factors: list[float] = field(default_factory=list)
    stds: list[float] = field(default_factory=list)  # of the first layer's output


def train(
    model: nn.Sequential,
    *,
    epochs: int = 2,
    accumulate: int = 1,
    clip: float = math.inf,
    bf16: bool = False,
    divide_by_all: bool = True,
) -> Told:
    """`divide_by_all`: whether the last window of an epoch, which may be short, is divided by `accumulate` as well."""
    told, optimizer = Told(), optimizer_of(model)
    inputs, targets = data()
    batches = list(zip(inputs.split(BATCH), targets.split(BATCH), strict=True))
    for _ in range(epochs):
        for start in range(0, len(batches), accumulate):
            window = batches[start : start + accumulate]
            optimizer.zero_grad()
            losses, outputs = [], []
            for x, y in window:
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    outputs.append(model[0](x).detach())
                    loss = nn.functional.cross_entropy(model(x), y)
                (loss / (accumulate if divide_by_all else len(window))).backward()
                losses.append(loss.item())
            told.losses.append(float(np.mean(losses)))
            told.stds.append(torch.cat(outputs).double().std().item())
            told.grad_norms.append([_norm(model[0]), _norm(model[3])])
            told.totals.append(_norm(model))
            nn.utils.clip_grad_norm_(model.parameters(), clip)
            told.clip_factors.append(_norm(model) / told.totals[-1])
            optimizer.step()
    return told


def check(path: Path, told: Told, layers: tuple[str, str], *, rtol: float = 1e-5) -> nnvis.Run:
    """That the record of every step holds what was told."""
    run = nnvis.load_run(path)
    assert run.summary["status"] == "completed"
    column, steps = run.layers["grad_norm"], list(range(len(told.totals)))
    assert (column.layers, column.steps.tolist()) == (layers, steps)
    np.testing.assert_allclose(column.values, told.grad_norms, rtol=rtol)
    np.testing.assert_allclose(run.scalars["grad_norm/total"].values, told.totals, rtol=rtol)
    np.testing.assert_allclose(run.scalars["clip_factor"].values, told.clip_factors, rtol=rtol)
    outputs = run.layers["activation_std"]
    np.testing.assert_allclose(outputs.values[:, outputs.layers.index(layers[0])], told.stds, rtol=rtol)
    return run


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Weights, gradients and the state of the random numbers."""
    grads = {f"{name}.grad": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return copy.deepcopy({**model.state_dict(), **grads, "rng": torch.get_rng_state()})


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _norm(model: nn.Module) -> float:
    grads = [p.grad.double() for p in model.parameters() if p.grad is not None]
    return math.sqrt(sum(grad.square().sum().item() for grad in grads))
