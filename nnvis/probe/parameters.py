"""What is read of the parameters at one step: their norms, their gradients before clipping, and how far they moved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nnvis.probe.histograms import SAMPLE_SIZE, magnitude_counts, sample
from nnvis.probe.readings import nonfinite_given
from nnvis.probe.statistics import Number, norms


@dataclass
class ParameterReadings:
    """Of one step, by parameter. Gradients are scaled as they came, if a GradScaler scales."""

    grad_norms: dict[nn.Parameter, Number] = field(default_factory=dict)
    grad_nonfinite: dict[nn.Parameter, Number] = field(default_factory=dict)
    grad_samples: dict[nn.Parameter, Tensor] = field(default_factory=dict)  # (m,)
    weight_norms: dict[nn.Parameter, Number] = field(default_factory=dict)  # before the update
    update_norms: dict[nn.Parameter, Number] = field(default_factory=dict)
    clipped_norm: Number | None = None  # of all gradients as the optimizer got them
    _before: dict[nn.Parameter, Tensor] = field(default_factory=dict)

    def read_gradients(self, parameters: Iterable[nn.Parameter], *, histogram: bool) -> None:
        """Read `.grad` at the end of a backward pass; a later pass of the same step has accumulated and replaces it."""
        with_grad = [(p, gradient_values(p.grad)) for p in parameters if p.grad is not None]
        grads = [grad for _, grad in with_grad]
        for (parameter, grad), norm in zip(with_grad, norms(grads), strict=True):
            self.grad_norms[parameter] = norm
            self.grad_nonfinite[parameter] = nonfinite_given(norm, grad)
            if histogram:
                self.grad_samples[parameter] = sample(grad).clone()

    def forget_gradients(self) -> None:
        self.grad_norms, self.grad_nonfinite, self.grad_samples = {}, {}, {}

    def before_update(self, parameters: Sequence[nn.Parameter]) -> None:
        """Remember where the parameters are, and what is left of the gradients after clipping."""
        values = [p.detach() for p in parameters]
        self.weight_norms.update(zip(parameters, norms(values), strict=True))
        self._before = {p: value.clone() for p, value in zip(parameters, values, strict=True)}
        if self.grad_norms:
            grads = [gradient_values(p.grad) for p in parameters if p.grad is not None]
            self.clipped_norm = total(norms(grads))

    def after_update(self) -> None:
        """Measure how far each parameter moved; the copies are let go."""
        if self._before:
            moves = list(self._before.values())
            torch._foreach_sub_(moves, [p.detach() for p in self._before])  # pyright: ignore[reportPrivateImportUsage]
            self.update_norms.update(zip(self._before, norms(moves), strict=True))
            self._before = {}

    def grad_histogram(self, parameters: Iterable[nn.Parameter]) -> Tensor | None:
        """(B + 2,) counts of the gradients of several parameters together."""
        samples = [self.grad_samples[p] for p in parameters if p in self.grad_samples]
        return magnitude_counts(sample(torch.cat(samples), SAMPLE_SIZE)) if samples else None


def total(values: Iterable[Number]) -> Number:
    """L2 norm of the whole, given the L2 norms of its parts."""
    return sum((v * v for v in values), 0.0) ** 0.5


def gradient_values(grad: Tensor) -> Tensor:
    """The values of a gradient as one plain tensor; a sparse one holds only the rows that were touched."""
    return grad.coalesce().values() if grad.is_sparse else grad.detach()
