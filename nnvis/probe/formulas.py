"""The formulas that make quantities of what was read, in float64 on the host, for T measured steps at once.

What was read are plain sums, (T, ...) each. A `Block` is a quantity of L layers at T steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nnvis.probe.layers import Layer
from nnvis.record.vocabulary import ABSENCE_CODES, BoolArray, FloatArray, IntArray

GREW = 1.001
"""A gradient whose norm is more than this times what was read has been added to since: that is no clipping."""


class Block(NamedTuple):
    """A quantity of L layers at T steps."""

    layers: tuple[str, ...]  # L
    values: FloatArray  # (T, L)
    codes: IntArray  # (T, L) 0 where a value is present


class Owners:
    """The L layers that own parameters, and where their K parameters stand in the model's list (shared ones twice)."""

    def __init__(self, layers: Sequence[Layer], position_of: Mapping[int, int]) -> None:
        own = [[position_of[id(p)] for p in layer.parameters] for layer in layers]
        self.layers = tuple(layers)
        self.names = tuple(layer.name for layer in layers)
        self.own = dict(zip(self.names, own, strict=True))
        self.positions = np.array([position for one in own for position in one], np.int64)  # (K,)
        self.starts = np.cumsum([0, *(len(one) for one in own)])[:-1]  # (L,) of each layer's part of `positions`
        self.sizes = np.array([p.numel() for layer in layers for p in layer.parameters])  # (K,)
        self.count = len(position_of)  # parameters of the model
        self.none = np.zeros(len(layers), bool)

    def frozen(self) -> BoolArray:
        """(L,) whether none of a layer's parameters requires a gradient, at present."""
        return np.array([not any(p.requires_grad for p in layer.parameters) for layer in self.layers])


def call_quantities(
    names: tuple[str, ...], layers: Sequence[Layer], sums: FloatArray, scale: FloatArray
) -> dict[str, Block]:
    """The activation quantities of R calls of layers, from what was summed (T, R, 15) and the gradients' scale (T, 1).

    What stands where among the sums is said in statistics.py.
    """
    if not names:
        return {}
    count, mean, deviations, absmax, nonfinite, *others = np.moveaxis(sums, 2, 0)
    units, active, active_units, saturated, inputs_nonfinite, *gradient = others
    grad_count, grad_squares, grad_nonfinite, absent, no_grad = gradient
    absent, no_grad = absent.astype(np.int8), no_grad.astype(np.int8)
    nonlinear = [i for i, layer in enumerate(layers) if layer.nonlinearity]
    bounded = [i for i in nonlinear if layers[i].bounds]
    quantities = {
        "activation_mean": Block(names, mean, absent),
        "activation_std": Block(names, np.sqrt(deviations / np.maximum(count - 1, 1)), absent),
        "activation_absmax": Block(names, absmax, absent),
        "activation_nonfinite": Block(names, nonfinite, absent),
        "activation_grad_norm": Block(names, np.sqrt(grad_squares) / scale, no_grad),
        "activation_grad_rms": Block(names, np.sqrt(grad_squares / grad_count) / scale, no_grad),
        "activation_grad_nonfinite": Block(names, grad_nonfinite, no_grad),
    }
    if inputs_nonfinite.any():
        quantities["input_nonfinite"] = Block(names, inputs_nonfinite, absent)
    if nonlinear:
        only = tuple(names[i] for i in nonlinear)
        active, active_units = (np.where(nonfinite > 0, np.nan, sums) for sums in (active, active_units))
        quantities["zero_fraction"] = Block(only, (1 - active / count)[:, nonlinear], absent[:, nonlinear])
        quantities["dead_fraction"] = Block(only, (1 - active_units / units)[:, nonlinear], absent[:, nonlinear])
    if bounded:
        only = tuple(names[i] for i in bounded)
        quantities["saturated_fraction"] = Block(only, (saturated / count)[:, bounded], absent[:, bounded])
    return quantities


def parameter_quantities(
    owners: Owners,
    positions: Sequence[tuple[int, ...]],
    sums: Sequence[FloatArray],
    scale: FloatArray,
    frozen: BoolArray,
) -> dict[str, Block]:
    """The parameter quantities of the L layers that own parameters.

    `positions` tell of which parameters each of the `sums` (T, n) is: norms of gradients, their non-finite values,
    norms of weights and of updates. `scale` is that of the gradients, (T, 1); `frozen` (T, L).
    """

    def gather(which: int) -> tuple[FloatArray, BoolArray]:
        """(T, K) values of all owned parameters, 0 for gaps, and (K,) which there are."""
        values, there = sums[which], list(positions[which])
        by_parameter, known = np.zeros((len(values), owners.count)), np.zeros(owners.count, bool)
        by_parameter[:, there], known[there] = values, True
        return by_parameter[:, owners.positions], known[owners.positions]

    def codes(known: BoolArray, absence: str) -> IntArray:
        """(T, L)"""
        there = np.logical_or.reduceat(known, owners.starts)
        return np.where(there, 0, np.where(frozen, ABSENCE_CODES["frozen"], ABSENCE_CODES[absence])).astype(np.int8)

    grads, with_grad = gather(0)
    nonfinite, _ = gather(1)
    weights, in_optimizer = gather(2)
    updates, _ = gather(3)
    squares = np.stack([grads * grads, weights * weights, updates * updates, nonfinite])
    totals = np.add.reduceat(squares, owners.starts, axis=2)
    sizes = np.add.reduceat(owners.sizes * with_grad, owners.starts)
    grad_norm, weight_norm, update_norm = np.sqrt(totals[:3])
    grad_norm = grad_norm / scale
    no_grad, no_update = codes(with_grad, "no gradient"), codes(in_optimizer, "not in an optimizer")
    with np.errstate(divide="ignore", invalid="ignore"):  # IEEE's answer where a layer's weights are all 0
        update_ratio = update_norm / weight_norm
    return {
        "weight_norm": _block(owners, weight_norm, no_update),
        "grad_norm": _block(owners, grad_norm, no_grad),
        "grad_rms": _block(owners, grad_norm / np.sqrt(np.maximum(sizes, 1)), no_grad),
        "grad_nonfinite": _block(owners, totals[3], no_grad),
        "update_norm": _block(owners, update_norm, no_update),
        "update_ratio": _block(owners, update_ratio, no_update),
    }


def gradient_scalars(grads: FloatArray, handed_over: FloatArray, clipped: FloatArray) -> list[dict[str, float]]:
    """The norm of the whole gradient before clipping, and the factor that clipping left of it, at each of T steps.

    From norms by parameter: (T, n) of all gradients, (T, m) of those that optimizers got, before and after clipping.
    """
    if not grads.shape[1]:
        return [{} for _ in grads]
    totals = zip(*(np.linalg.norm(norms, axis=1).tolist() for norms in (grads, handed_over, clipped)), strict=True)
    return [
        {"grad_norm/total": total}
        | ({"clip_factor": after / before} if 0 < before < np.inf and not after > GREW * before else {})
        for total, before, after in totals
    ]


def _block(owners: Owners, values: FloatArray, codes: IntArray) -> Block:
    return Block(owners.names, np.where(codes == 0, values, np.nan), codes)
