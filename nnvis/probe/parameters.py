"""What is read of the parameters at one step: their norms, their gradients before clipping, and how far they moved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

import torch
from torch import Tensor, nn

from nnvis.probe import native
from nnvis.probe.histograms import Sample, sample
from nnvis.probe.statistics import Norms, Number, count_nonfinite, is_finite, norms, number, place_of

Readings = dict[int, Number]  # by the parameter's position in the model's list


_MOST_COPIED = 2**13
"""Values of a parameter that is copied with others into one tensor. Larger ones fit into the memory that activations
have just left, which all of them in one piece would not."""


_MOST_KNOWN = 8  # sets of parameters that are updated together


class Before:
    """What parameters were before an update: their norms, and how far each of them is from there after it.

    Made once and used at every measured step, so that their places in memory are looked up once.
    """

    def __init__(self, parameters: Mapping[int, nn.Parameter]) -> None:
        """By position. Those without values that have a size (integers, on `meta`) are left out."""
        self._parameters = parameters
        self._sort()

    def _sort(self) -> None:
        """Into those that the kernels take, and those that torch does."""
        placed = {i: place for i, p in self._parameters.items() if p.numel() <= _MOST_COPIED and (place := place_of(p))}
        self._small = [self._parameters[i] for i in placed]
        self._places = native.Places(self._small, [*placed.values()]) if placed else None
        large = {i: p for i, p in self._parameters.items() if i not in placed and _has_size(p)}
        self._large: list[Tensor] = [*large.values()]
        self.positions = [*placed, *large]
        self._left_out = [p for i, p in self._parameters.items() if i not in placed and i not in large]
        self._copies = native.scratch(sum(self._places.sizes)) if self._places else None
        self._clones: list[Tensor] = []

    def remember(self) -> Readings:
        """Their norms at present, from where distances will be measured."""
        self._clones = []
        if (self._places and not self._places.hold(self._small)) or any(map(_has_size, self._left_out)):
            self._sort()
        small = self._places.norms(self._copies) if self._places else ()
        self._clones = [p.detach().clone() for p in self._large]
        return self._by_position(small, norms(self._large))

    def let_go(self) -> None:
        """No distances will be asked for."""
        self._clones = []

    def distances(self) -> Readings:
        """Of each parameter from what it was when they were remembered last; can be asked once."""
        clones, self._clones = self._clones, []
        small: Sequence[Number] = ()
        if self._places and self._copies is not None:
            if self._places.hold(self._small):
                small = self._places.distances(self._copies)
            else:  # the optimizer has put other tensors into them
                copies = zip(self._copies.split(self._places.sizes), self._small, strict=True)
                small = _norms_of_differences([copy.view_as(p) for copy, p in copies], self._small)
        return self._by_position(small, _norms_of_differences(clones, self._large))

    def _by_position(self, small: Sequence[Number], large: Sequence[Number]) -> Readings:
        found = dict(zip(self.positions, (*small, *large), strict=True))
        return found if not large else dict(sorted(found.items()))


def _has_size(p: Tensor) -> bool:
    return (p.is_floating_point() or p.is_complex()) and not p.is_meta


def _norms_of_differences(before: list[Tensor], now: Sequence[Tensor]) -> list[Number]:
    """The differences take the place of what was before."""
    if before:
        torch._foreach_sub_(before, [p.detach() for p in now])  # pyright: ignore[reportPrivateImportUsage]
    return norms(before)


class ParameterReadings:
    """Of one step. Gradients are scaled as they came, if a GradScaler scales."""

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        sample_sizes: Mapping[int, int],
        known: dict[tuple[int, ...], Before] | None = None,
    ) -> None:
        """`sample_sizes`: by position, how many values of a gradient go into its layer's histogram.

        `known`: what was made at earlier steps, by the positions of each optimizer's parameters.
        """
        self.count = len(parameters)
        self.parameters = parameters
        self._sample_sizes = sample_sizes
        self._known = {} if known is None else known
        self._before: Before | None = None
        self._norms = Norms()  # of gradients: they are read twice, before and after clipping
        self.weight_norms: Readings = {}  # before the update
        self.update_norms: Readings = {}
        self.clipped_norms: Readings = {}  # of the gradients as the optimizer got them
        self.forget_gradients()

    def forget_gradients(self) -> None:
        self.grad_norms: Readings = {}
        self.grad_nonfinite: Readings = {}
        self._grad_samples: dict[int, Sample] = {}

    def let_go(self) -> None:
        """The step is over, perhaps before the update was."""
        if self._before is not None:
            self._before.let_go()
            self._before = None

    def read_gradients(self, *, histogram: bool) -> None:
        """Read `.grad` at the end of a backward pass; a later pass of the same step has accumulated and replaces it."""
        grads = self._gradients([i for i in range(self.count) if i not in self.clipped_norms])
        found = self._norms_of(grads)
        nonfinite = _nonfinite(found, grads)
        if self.clipped_norms:  # of what was handed over to an optimizer
            handed_over = [i for i in self.grad_norms if i in self.clipped_norms]
            found = dict(sorted(({i: self.grad_norms[i] for i in handed_over} | found).items()))
            nonfinite = {i: nonfinite[i] if i in nonfinite else self.grad_nonfinite[i] for i in found}
        self.grad_norms, self.grad_nonfinite = found, nonfinite
        if histogram:
            self._sample(grads)

    def read_gradients_of(self, positions: Iterable[int], *, histogram: bool) -> None:
        """Of parameters that an optimizer is about to update while the backward pass goes on."""
        grads = self._gradients(positions)
        found = self._norms_of(grads)
        self.grad_norms |= found
        self.grad_nonfinite |= _nonfinite(found, grads)
        if histogram:
            self._sample(grads)

    def before_update(self, positions: Iterable[int], *, gradients_are_there: bool = True) -> None:
        """Remember where these parameters are, and what is left of their gradients after clipping."""
        key = tuple(positions)
        if key not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = Before({i: self.parameters[i] for i in key})
        self._before = self._known[key]
        found = self._before.remember()
        self.weight_norms |= found
        if gradients_are_there and self.grad_norms:
            self._read_clipped(found)

    def after_update(self, *, gradients_came: bool = False) -> None:
        """Measure how far each of them moved.

        `gradients_came` during the update, from a closure: what clipping left of them is still there.
        """
        if self._before is None:
            return
        if gradients_came:
            self._read_clipped(self._before.positions)
        self.update_norms |= self._before.distances()
        self._before = None

    def _read_clipped(self, positions: Iterable[int]) -> None:
        grads = self._gradients(positions)
        self.clipped_norms |= self._norms_of(grads)

    def _gradients(self, positions: Iterable[int]) -> dict[int, Tensor]:
        """By position, where there is one."""
        parameters = self.parameters
        there = {i: grad for i in positions if (grad := parameters[i].grad) is not None}
        if any(map(attrgetter("is_sparse"), there.values())):
            return {i: gradient_values(grad) for i, grad in there.items()}
        return there

    def _norms_of(self, grads: Mapping[int, Tensor]) -> Readings:
        return dict(zip(grads, self._norms.of([*grads.values()]), strict=True))

    def _sample(self, grads: Mapping[int, Tensor]) -> None:
        sizes = self._sample_sizes
        self._grad_samples |= {i: sample(grad, sizes[i]) for i, grad in grads.items() if i in sizes}

    @property
    def sampled(self) -> bool:
        """Whether there are values for histograms."""
        return bool(self._grad_samples)

    def grad_samples(self, positions: Iterable[int]) -> tuple[Sample, ...]:
        """Values of the gradients of several parameters, for one histogram."""
        return tuple(self._grad_samples[i] for i in positions if i in self._grad_samples)


def _nonfinite(found: Readings, grads: Mapping[int, Tensor]) -> Readings:
    """How many NaN and Inf there are in gradients with such norms."""
    unsure = [i for i, norm in found.items() if not is_finite(norm)]
    return dict.fromkeys(found, 0.0) | {i: number(count_nonfinite(grads[i])) for i in unsure}


def gradient_values(grad: Tensor) -> Tensor:
    """The values of a gradient as one plain tensor; a sparse one holds only the rows that were touched."""
    return grad.coalesce().values() if grad.is_sparse else grad
