"""What is computed from one tensor: pure functions, tensor in, numbers out.

    output_sums(output, unit_dim=1)   # all that is read of a layer's output, in one row of numbers
    squared_norm(gradient)            # sum of squares that neither under- nor overflows

A `Number` is a Python float where looking at a value is free (CPU), and a 0-d float64 tensor elsewhere,
so that nothing here ever waits for a device. On a CPU the quick float32 kernels are used and checked;
where they would have lost digits (cancellation, under- or overflow, NaN) the exact float64 way is taken.
On 2 CPU cores, for an activation of 6 MB, `dot` costs 0.08 ms, `var_mean` 5 ms and `isfinite().sum()` 3 ms.
"""

from __future__ import annotations

import functools
import math
from collections.abc import MutableSequence, Sequence
from ctypes import Array, c_double, c_float
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch import _foreach_norm as foreach_norm  # pyright: ignore[reportPrivateImportUsage]
from torch._C._functorch import is_functorch_wrapped_tensor, is_legacy_batchedtensor

from nnvis.probe import native
from nnvis.probe.layers import unit_dim_of

Number = float | Tensor

SAFE_SQUARES = (1e-30, 1e37)
"""Sums of squares of float32 values outside of this range have under- or overflowed, or are close to it."""
_LEAST_SQUARES, _MOST_SQUARES = SAFE_SQUARES
SAFE_NORMS = math.sqrt(SAFE_SQUARES[0]), math.sqrt(SAFE_SQUARES[1])
CANCELLATION = 1e-2
"""Below this ratio of variance to mean square, E[x²] − E[x]² has lost over 2 of float32's 7 digits."""
ROUNDING = 1e-10
"""Below this ratio of variance to mean square, float32's rounding of the mean alone would show."""
SATURATION_MARGIN = 0.03
"""Share of an activation's range, at either bound, that counts as saturated."""
_PIECE = 2**17  # values
_PLAIN = (Tensor, nn.Parameter)
_FLOAT32, _STRIDED = torch.float32, torch.strided


def looking_is_free(x: Tensor) -> bool:
    """Whether a value can be read without waiting for a device."""
    return x.is_cpu


def is_plain(x: Tensor) -> bool:
    """Whether its values can be looked at as an array."""
    odd = x.is_nested or x.is_meta or is_functorch_wrapped_tensor(x) or is_legacy_batchedtensor(x)
    return x.layout is torch.strided and not odd


def place_of(x: Tensor) -> int:
    """Where in memory the values of a tensor lie that the compiled kernels take (see native.py); 0 for any other.

    They take plain float32 values one after another on the CPU, and not too many. Raises RuntimeError for a tensor that
    has no values of its own (torch.func's).
    """
    if (
        x.dtype is _FLOAT32
        and x.is_cpu
        and type(x) in _PLAIN
        and x.layout is _STRIDED
        and 0 < (count := x.numel()) <= native.MOST_VALUES
        and (count <= native.SMALL or torch.get_num_threads() <= native.FEW_THREADS)
        and not x.is_nested
        and x.is_contiguous()
        and not x.is_neg()
        and native.kernels() is not None
    ):
        return x.data_ptr()
    return 0


Counts = Tensor | Array[c_float]
"""(U,) of each unit, how many values are not 0."""
Sums = MutableSequence[Number] | Array[c_double]
"""What is read of one call of a layer, in this order. What there is none of is NaN, and its size 1."""
(
    SIZE,
    MEAN,
    SQUARED_DEVIATIONS,  # sum of (x - mean)²
    ABSMAX,
    NONFINITE,  # number of NaN and Inf
    UNITS,
    ACTIVE,  # values that are not 0
    ACTIVE_UNITS,  # units with such a value
    SATURATED,
    INPUTS_NONFINITE,
    GRAD_SIZE,
    GRAD_SQUARES,
    GRAD_NONFINITE,
    ABSENT,  # code of the reason; 0 where there is an output
    NO_GRADIENT,  # code of the reason; 0 where there is a gradient
) = range(native.NUMBERS)
_NAN = math.nan
NO_SUMS: tuple[Number, ...] = (1.0, _NAN, _NAN, _NAN, _NAN, 1.0, _NAN, _NAN, _NAN, 0.0, 1.0, _NAN, _NAN, 0.0, 0.0)


def output_sums(
    x: Tensor, unit_dim: int | None = None, bounds: tuple[float, float] | None = None, non_negative: bool = False
) -> tuple[Sums, Counts | None] | None:
    """All that is read of an output, and how many of each unit's values are not 0; None for integers and odd tensors.

    Units lie in the dimension `unit_dim`, or in the last one where there are not so many; without it none are looked
    at, and without `bounds` no saturation. `non_negative`: whether no value can be below 0, which is quicker. May raise
    RuntimeError and NotImplementedError for a tensor that is not `is_plain`.
    """
    if place := place_of(x):
        form = _form(x.shape, unit_dim, bounds)
        sums, counts = native.Row(), form.counts and form.counts()
        if native.kernels().output(place, form.place, counts, sums):
            return sums, counts
    elif not (x.is_floating_point() or x.is_complex()) or not x.numel() or not (x.is_cpu or is_plain(x)):
        return None
    x, sums, counts = x.detach(), [*NO_SUMS], None
    sums[:UNITS] = moments(x)
    if unit_dim is not None and x.dim():
        counts = active_counts(x, unit_dim_of(x.dim(), unit_dim), non_negative=non_negative)
        sums[UNITS:SATURATED] = unit_sums(counts)
    if bounds:
        sums[SATURATED] = saturated_count(x, bounds)
    return sums, counts


@functools.lru_cache(maxsize=1024)
def _form(shape: Sequence[int], unit_dim: int | None, bounds: tuple[float, float] | None) -> native.Form:
    units = None if unit_dim is None or not shape else unit_dim_of(len(shape), unit_dim)
    return native.Form(shape, units, *(_saturation(bounds) if bounds else ()))


def both_counts(one: Counts, other: Counts) -> Tensor:
    """Of two batches; those of units of different batches, where there are not equally many."""
    a, b = (c if isinstance(c, Tensor) else torch.frombuffer(c, dtype=torch.float32) for c in (one, other))
    return a + b if a.shape == b.shape else torch.cat([a, b])


def unit_sums(counts: Tensor) -> tuple[Number, Number, Number]:
    """Of the (U,) active values of each unit: U, their sum, and how many are not 0."""
    return counts.numel(), number(counts.sum(dtype=widest(counts))), number(torch.count_nonzero(counts))


class Moments(NamedTuple):
    """Sums over one or several tensors that can be merged without losing digits."""

    size: Number
    mean: Number
    squared_deviations: Number  # sum of (x - mean)²
    absmax: Number
    nonfinite: Number  # number of NaN and Inf

    def merge(self, other: Moments) -> Moments:
        """The moments of both together (Chan, Golub & LeVeque 1979)."""
        size = self.size + other.size
        delta = other.mean - self.mean
        return Moments(
            size,
            self.mean + delta * (other.size / size),
            self.squared_deviations + other.squared_deviations + delta * delta * (self.size * other.size / size),
            larger(self.absmax, other.absmax),
            self.nonfinite + other.nonfinite,
        )


def moments(x: Tensor) -> Moments:
    """Moments of a non-empty tensor of any shape. NaN and Inf are counted, and make the other values NaN or Inf."""
    count = x.numel()
    if x.dtype is torch.float32 and looking_is_free(x):
        values = x.reshape(-1)
        low, high = values.aminmax()
        mean, squares = values.sum().item() / count, values.dot(values).item()
        deviations = squares - count * mean * mean
        if deviations < CANCELLATION * squares:
            centred = values - mean
            deviations = centred.dot(centred).item()
        if _LEAST_SQUARES < deviations > ROUNDING * squares and squares < _MOST_SQUARES:
            return Moments(count, mean, deviations, max(-low.item(), high.item()), 0.0)
    values = _flat(x.detach())
    count = values.numel()
    exact = values.to(widest(values))
    mean = exact.mean()
    centred = exact - mean
    low, high = exact.aminmax()
    return Moments(
        count,
        number(mean),
        number(centred.square().sum()),
        number(torch.maximum(-low, high)),
        number(count_nonfinite(values)),
    )


def squared_norm(x: Tensor) -> Number:
    """Sum of the squares of a real tensor: NaN where it holds a NaN, Inf where an Inf, right for 1e-23 and for 1e20."""
    if place := place_of(x):
        return native.kernels().squares(place, x.numel())
    if x.dtype is torch.float32 and looking_is_free(x):
        values = x.reshape(-1)
        squares = values.dot(values).item()
        if _LEAST_SQUARES < squares < _MOST_SQUARES:
            return squares
    values = _flat(x)
    return number(torch.linalg.vector_norm(values, dtype=widest(values))) ** 2


class Norms:
    """Reads norms; of tensors that lie where those before did it is quicker."""

    def __init__(self) -> None:
        self._places: native.Places | None = None

    def of(self, tensors: list[Tensor]) -> list[Number]:
        """L2 norm of each of many tensors; right for 1e-23 and for 1e20."""
        if self._places is None or not self._places.hold(tensors):
            places = [place_of(t) for t in tensors]
            if not places or not all(places):
                return _norms_of_any(tensors, places)
            self._places = native.Places(tensors, places)
        return [*self._places.norms()]


def norms(tensors: list[Tensor]) -> list[Number]:
    """L2 norm of each of many tensors; right for 1e-23 and for 1e20."""
    return Norms().of(tensors)


def _norms_of_any(tensors: list[Tensor], places: Sequence[int]) -> list[Number]:
    """Of those with a place by the kernels, of the others by torch."""
    placed = [(t, place) for t, place in zip(tensors, places, strict=True) if place]
    others = [t for t, place in zip(tensors, places, strict=True) if not place]
    by_kernels = iter(native.Places(*zip(*placed, strict=True)).norms() if placed else ())
    by_torch = iter(_norms(others) if others else ())
    return [next(by_kernels if place else by_torch) for place in places]


@torch.no_grad()
def _norms(tensors: list[Tensor]) -> list[Number]:
    if not all(t.dtype is torch.float32 and t.is_cpu for t in tensors):
        real = [torch.view_as_real(t) if t.is_complex() else t for t in tensors]
        return [number(n) for n in foreach_norm(real, 2, dtype=widest(real[0]))]
    quick: list[Number] = torch.stack(foreach_norm(tensors)).tolist()
    low, high = SAFE_NORMS
    return [
        n if low < n < high else torch.linalg.vector_norm(t, dtype=torch.float64).item()
        for n, t in zip(quick, tensors, strict=True)
    ]


def is_finite(size: Number) -> bool:
    """Whether it is known to be; of what is on a device nothing is."""
    return isinstance(size, float) and math.isfinite(size)


def count_nonfinite(x: Tensor) -> Tensor:
    """() number of NaN and Inf."""
    return x.numel() - torch.isfinite(x).sum()


def active_counts(x: Tensor, unit_dim: int, *, non_negative: bool = False) -> Tensor:
    """(U,) how many of each unit's values are not exactly 0. A unit is an index of dimension `unit_dim`."""
    if unit_dim and x.is_cpu and x.numel() > _PIECE:
        return sum((_active_counts(part, unit_dim, non_negative) for part in pieces(x)), torch.zeros(()))
    return _active_counts(x, unit_dim, non_negative)


def _active_counts(x: Tensor, unit_dim: int, non_negative: bool) -> Tensor:
    active = x.sign() if non_negative else (x != 0).float() if x.is_complex() else x.sign().abs_()
    other_dims = _other_dims(x.dim(), unit_dim)
    return active.sum(other_dims, dtype=torch.float32) if other_dims else active.float()  # half would round counts


def pieces(x: Tensor) -> Sequence[Tensor]:
    """A large tensor by its rows, so that what is made of each piece on the way is small.

    What is as large as an activation, and lives between two of them, leaves a hole in the heap when it goes: a network
    whose activations take 33 MiB took 50 more.
    """
    return x.split(max(1, _PIECE // max(1, x[0].numel())))


@functools.cache
def _other_dims(dims: int, dim: int) -> tuple[int, ...]:
    return tuple(d for d in range(dims) if d != dim % dims)


def _saturation(bounds: tuple[float, float]) -> tuple[float, float]:
    """Saturated are values that are at least so far from the middle, which comes first."""
    low, high = bounds
    return (low + high) / 2, (high - low) * (0.5 - SATURATION_MARGIN)


def saturated_count(x: Tensor, bounds: tuple[float, float]) -> Number:
    """How many values lie within 3% of the range from either bound."""
    middle, far = _saturation(bounds)
    distance = _flat(x).sub(middle).abs_()
    return number(torch.ge(distance, far, out=distance).sum())


def larger(a: Number, b: Number) -> Number:
    """The larger of two numbers; NaN if one is NaN."""
    if isinstance(a, float) and isinstance(b, float):
        return math.nan if math.isnan(a) or math.isnan(b) else max(a, b)
    return torch.maximum(torch.as_tensor(a), torch.as_tensor(b))


def number(x: Tensor) -> Number:
    """A 0-d tensor as a `Number`: a Python float where that is free, otherwise a float64 tensor on its device."""
    return float(x) if looking_is_free(x) else x.to(widest(x))


def widest(x: Tensor) -> torch.dtype:
    """float64, where the device has it."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def _flat(x: Tensor) -> Tensor:
    """(n,) real values, float32 or wider."""
    if x.dtype != torch.float32:
        if x.is_complex():
            x = torch.view_as_real(x)
        if x.dtype != torch.float64:
            x = x.float()
    return x.reshape(-1)
