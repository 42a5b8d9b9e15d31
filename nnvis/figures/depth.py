"""One sample through depth: what each layer puts out, and what is left of the gradient on its way back.

flow_of(stages).factor             # ‖δ_l‖ / ‖δ_(l+1)‖, (L,)
forward_values(stages)             # a figure
gradient_factors(stages)           # a figure
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnvis.figures.passes import Stage
from nnvis.record.vocabulary import FloatArray


@dataclass(frozen=True)
class Flow:
    """The gradient through the layers that the loss depends on, first to last; δ_l is ∂L/∂z of layer l.

    factor_l = ‖δ_l‖ / ‖δ_(l+1)‖ = slope_l · weights_l, for δ_l = (∂L/∂a_l) · f′(z_l) (Rumelhart et al. 1986):
    slope_l = ‖δ_l‖ / ‖∂L/∂a_l‖ is what the activation leaves, weights_l = ‖∂L/∂a_l‖ / ‖δ_(l+1)‖ what all between z
    of the next layer and a of this one passes back: W, and norms, pooling and skips where there are some.
    """

    layers: tuple[str, ...]  # L names
    norms: FloatArray  # (L,): ‖δ_l‖
    factor: FloatArray  # (L,): NaN for the last, as the next two are
    slope: FloatArray
    weights: FloatArray
    steepest: FloatArray  # (L,): the largest slope of the layer's activation; NaN where unknown
    relative: FloatArray  # (L,): ‖δ_l‖ / ‖δ_L‖
    textbook: FloatArray  # (L,): product of `steepest` from this layer on, the last one left out


def flow_of(stages: Sequence[Stage]) -> Flow:
    """The norms and factors of the layers that the loss depends on."""
    kept = [(s, s.delta, s.grad_a) for s in stages if s.delta is not None and s.grad_a is not None]
    norms = np.array([norm(delta) for _, delta, _ in kept])
    into = np.array([norm(grad_a) for _, _, grad_a in kept])
    steepest = np.array([np.nan if s.steepest is None else s.steepest for s, _, _ in kept])
    factor, slope, weights = (np.full(len(kept), np.nan) for _ in range(3))
    with np.errstate(divide="ignore", invalid="ignore"):
        factor[:-1] = norms[:-1] / norms[1:]
        slope[:-1] = norms[:-1] / into[:-1]
        weights[:-1] = into[:-1] / norms[1:]
        relative = norms / norms[-1:]
    textbook = np.ones(len(kept))
    textbook[:-1] = np.cumprod(steepest[:-1][::-1])[::-1]
    names = tuple(stage.name for stage, _, _ in kept)
    return Flow(names, norms, factor, slope, weights, steepest, relative, textbook)


def norm(values: FloatArray) -> float:
    """L2, also of numbers whose squares leave float64's range."""
    largest = float(np.abs(values).max(initial=0))
    return largest * float(np.sqrt(((values / largest) ** 2).sum())) if 0 < largest < np.inf else largest
