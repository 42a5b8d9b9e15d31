"""What is read of the parameters at one step: their norms, their gradients before clipping, and how far they moved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from nnvis.probe.histograms import sample
from nnvis.probe.readings import nonfinite_given
from nnvis.probe.statistics import Number, norms

Readings = dict[int, Number]  # by the parameter's position in the model's list


class ParameterReadings:
    """Of one step. Gradients are scaled as they came, if a GradScaler scales."""

    def __init__(self, parameters: Sequence[nn.Parameter], sample_sizes: Mapping[int, int]) -> None:
        """`sample_sizes`: by position, how many values of a gradient go into its layer's histogram."""
        self.count = len(parameters)
        self.parameters = parameters
        self._sample_sizes = sample_sizes
        self._before: dict[int, Tensor] = {}
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
        found = dict(zip(grads, norms(list(grads.values())), strict=True))
        handed_over = {i: norm for i, norm in self.grad_norms.items() if i in self.clipped_norms}  # to an optimizer
        self.grad_norms = dict(sorted((handed_over | found).items()))
        self.grad_nonfinite = {
            i: nonfinite_given(found[i], grads[i]) if i in found else self.grad_nonfinite[i] for i in self.grad_norms
        }
        if histogram:
            self._sample(grads)

    @torch.no_grad()
    def read_gradients_of(self, positions: Iterable[int], *, histogram: bool) -> None:
        """Of parameters that an optimizer is about to update while the backward pass goes on."""
        grads = _gradients((i, self.parameters[i]) for i in positions)
        self.grad_norms |= zip(grads, norms([*grads.values()]), strict=True)
        self.grad_nonfinite |= {i: nonfinite_given(self.grad_norms[i], grad) for i, grad in grads.items()}
        if histogram:
            self._sample(grads)

    @torch.no_grad()
    def before_update(self, positions: Iterable[int], *, gradients_are_there: bool = True) -> None:
        """Remember where these parameters are, and what is left of their gradients after clipping."""
        chosen = ((i, self.parameters[i]) for i in positions)
        values = {i: p for i, p in chosen if not p.is_meta and (p.is_floating_point() or p.is_complex())}
        read = gradients_are_there and self.grad_norms
        grads = _gradients((i, self.parameters[i]) for i in values) if read else {}
        found = norms([*values.values(), *grads.values()])
        self.weight_norms |= zip(values, found, strict=False)
        self.clipped_norms |= zip(grads, found[len(values) :], strict=True)
        self._before = {i: value.clone() for i, value in values.items()}

    @torch.no_grad()
    def after_update(self, *, gradients_came: bool = False) -> None:
        """Measure how far each of them moved; the copies are let go.

        `gradients_came` during the update, from a closure: what clipping left of them is still there.
        """
        if gradients_came:
            grads = _gradients((i, self.parameters[i]) for i in self._before)
            self.clipped_norms |= zip(grads, norms([*grads.values()]), strict=True)
        if self._before:
            now: list[Tensor] = [self.parameters[i] for i in self._before]
            moves = list(self._before.values())
            torch._foreach_sub_(moves, now)  # pyright: ignore[reportPrivateImportUsage]
            self.update_norms |= zip(self._before, norms(moves), strict=True)
            self._before = {}

    def _sample(self, grads: Mapping[int, Tensor]) -> None:
        sizes = self._sample_sizes
        self._grad_samples |= {i: sample(grad, sizes[i]) for i, grad in grads.items() if i in sizes}

    def grad_samples(self, positions: Iterable[int]) -> tuple[Tensor, ...]:
        """(m,) each: values of the gradients of several parameters, for one histogram."""
        return tuple(self._grad_samples[i] for i in positions if i in self._grad_samples)


def _gradients(parameters: Iterable[tuple[int, nn.Parameter]]) -> dict[int, Tensor]:
    return {i: gradient_values(p.grad) for i, p in parameters if p.grad is not None}


def gradient_values(grad: Tensor) -> Tensor:
    """The values of a gradient as one plain tensor; a sparse one holds only the rows that were touched."""
    return grad.coalesce().values() if grad.is_sparse else grad
