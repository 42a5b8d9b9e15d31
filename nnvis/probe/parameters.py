"""What is read of the parameters at one step: their norms, their gradients before clipping, and how far they moved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from nnvis.probe import native
from nnvis.probe.histograms import sample
from nnvis.probe.readings import nonfinite_given
from nnvis.probe.statistics import Number, norms, place_of

Readings = dict[int, Number]  # by the parameter's position in the model's list


_MOST_COPIED = 2**13
"""Values of a parameter that is copied with others into one tensor. Larger ones fit into the memory that activations
have just left, which all of them in one piece would not."""


class Before:
    """What parameters were before an update: their norms, and how far each of them is from there at present."""

    def __init__(self, parameters: Mapping[int, nn.Parameter]) -> None:
        """By position. Those without values that have a size (integers, on `meta`) are left out."""
        self._small: dict[int, nn.Parameter] = {}
        self._places: list[int] = []  # of these
        self._sizes: list[int] = []
        self._large: dict[int, nn.Parameter] = {}
        for i, p in parameters.items():
            place, size = place_of(p), p.numel()
            if place and size <= _MOST_COPIED:
                self._small[i] = p
                self._places.append(place)
                self._sizes.append(size)
            elif (p.is_floating_point() or p.is_complex()) and not p.is_meta:
                self._large[i] = p
        small_norms: Sequence[Number] = ()
        if self._small:
            self._copies = native.scratch(sum(self._sizes))
            small_norms = native.norms(self._places, self._sizes, self._copies)
        large: list[Tensor] = [*self._large.values()]
        found = (*small_norms, *norms(large))
        self._clones = [p.clone() for p in large]
        together = dict(zip((*self._small, *self._large), found, strict=True))
        self.norms: Readings = {i: together[i] for i in parameters if i in together} if large else together

    def distances(self) -> Readings:
        """Of each parameter from what it was; can be asked once."""
        now, large = [*self._small.values()], [*self._large.values()]
        moved: Sequence[Number] = ()
        if now and [place_of(p) for p in now] == self._places and [p.numel() for p in now] == self._sizes:
            moved = native.distances(self._places, self._sizes, self._copies)
        elif now:  # the optimizer has put other tensors into them
            copies = zip(self._copies.split(self._sizes), now, strict=True)
            moved = _norms_of_differences([copy.view_as(p) for copy, p in copies], now)
        moved_far = _norms_of_differences(self._clones, large)
        return dict(zip((*self._small, *self._large), (*moved, *moved_far), strict=True))


def _norms_of_differences(before: list[Tensor], now: Sequence[Tensor]) -> list[Number]:
    """The differences take the place of what was before."""
    if before:
        torch._foreach_sub_(before, list(now))  # pyright: ignore[reportPrivateImportUsage]
    return norms(before)


class ParameterReadings:
    """Of one step. Gradients are scaled as they came, if a GradScaler scales."""

    def __init__(self, parameters: Sequence[nn.Parameter], sample_sizes: Mapping[int, int]) -> None:
        """`sample_sizes`: by position, how many values of a gradient go into its layer's histogram."""
        self.count = len(parameters)
        self.parameters = parameters
        self._sample_sizes = sample_sizes
        self._before = Before({})
        self.weight_norms: Readings = {}  # before the update
        self.update_norms: Readings = {}
        self.clipped_norms: Readings = {}  # of the gradients as the optimizer got them
        self.forget_gradients()

    def forget_gradients(self) -> None:
        self.grad_norms: Readings = {}
        self.grad_nonfinite: Readings = {}
        self._grad_samples: dict[int, Tensor] = {}  # (m,)

    @torch.no_grad()
    def read_gradients(self, *, histogram: bool) -> None:
        """Read `.grad` at the end of a backward pass; a later pass of the same step has accumulated and replaces it."""
        grads = _gradients((i, p) for i, p in enumerate(self.parameters) if i not in self.clipped_norms)
        found = _norms_of(grads)
        handed_over = {i: norm for i, norm in self.grad_norms.items() if i in self.clipped_norms}  # to an optimizer
        self.grad_norms = dict(sorted((handed_over | found).items()))
        nonfinite = {i: nonfinite_given(norm, grads[i]) for i, norm in found.items()}
        self.grad_nonfinite = {i: nonfinite[i] if i in found else self.grad_nonfinite[i] for i in self.grad_norms}
        if histogram:
            self._sample(grads)

    @torch.no_grad()
    def read_gradients_of(self, positions: Iterable[int], *, histogram: bool) -> None:
        """Of parameters that an optimizer is about to update while the backward pass goes on."""
        grads = _gradients((i, self.parameters[i]) for i in positions)
        self.grad_norms |= _norms_of(grads)
        self.grad_nonfinite |= {i: nonfinite_given(self.grad_norms[i], grad) for i, grad in grads.items()}
        if histogram:
            self._sample(grads)

    @torch.no_grad()
    def before_update(self, positions: Iterable[int], *, gradients_are_there: bool = True) -> None:
        """Remember where these parameters are, and what is left of their gradients after clipping."""
        self._before = Before({i: self.parameters[i] for i in positions})
        self.weight_norms |= self._before.norms
        if gradients_are_there and self.grad_norms:
            self._read_clipped(self._before.norms)

    @torch.no_grad()
    def after_update(self, *, gradients_came: bool = False) -> None:
        """Measure how far each of them moved; the copies are let go.

        `gradients_came` during the update, from a closure: what clipping left of them is still there.
        """
        if gradients_came:
            self._read_clipped(self._before.norms)
        self.update_norms |= self._before.distances()
        self._before = Before({})

    def _read_clipped(self, positions: Iterable[int]) -> None:
        grads = _gradients((i, self.parameters[i]) for i in positions)
        self.clipped_norms |= _norms_of(grads)

    def _sample(self, grads: Mapping[int, Tensor]) -> None:
        sizes = self._sample_sizes
        self._grad_samples |= {i: sample(grad, sizes[i]) for i, grad in grads.items() if i in sizes}

    @property
    def sampled(self) -> bool:
        """Whether there are values for histograms."""
        return bool(self._grad_samples)

    def grad_samples(self, positions: Iterable[int]) -> tuple[Tensor, ...]:
        """(m,) each: values of the gradients of several parameters, for one histogram."""
        return tuple(self._grad_samples[i] for i in positions if i in self._grad_samples)


def _gradients(parameters: Iterable[tuple[int, nn.Parameter]]) -> dict[int, Tensor]:
    return {i: gradient_values(p.grad) for i, p in parameters if p.grad is not None}


def _norms_of(grads: Mapping[int, Tensor]) -> Readings:
    return dict(zip(grads, norms([*grads.values()]), strict=True))


def gradient_values(grad: Tensor) -> Tensor:
    """The values of a gradient as one plain tensor; a sparse one holds only the rows that were touched."""
    return grad.coalesce().values() if grad.is_sparse else grad
