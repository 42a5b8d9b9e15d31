"""Branches: the same few steps from the same state at several learning rates, after which everything is as before.

    values = try_rates(checker, optimizer, batches)      # arrays by quantity, to go into the check of this step

Which rate is right is asked of the network itself: 20 steps at 1/10, 1/3, 1, 3 and 10 times the learning rate, on the
same batches, with the same random numbers, judged row by row on the checker's fixed rows. Where the best one lies at an
end of what was tried, ten times more (or less) is tried as well. What the branches say is read in
`nnvis.diagnosis.rates`.

Twenty steps are two time constants of momentum 0.9, so that a rate takes its full effect, and on the same batches few
are enough: how far each row gets at two rates differs by what the rates do and by nothing else. All branches together
cost about as much as 120 steps of training.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nnvis.errors import out_of_memory
from nnvis.probe.checks import Checker, Rows
from nnvis.probe.curvature import NotKnown, largest_curvature, stability
from nnvis.probe.untouched import gradients_kept, on_the_side
from nnvis.record.vocabulary import FloatArray

STEPS = 20
FACTORS = (1 / 10, 1 / 3, 1.0, 3.0, 10.0)
FURTHEST = 1e4
"""What the learning rate is multiplied or divided by at most."""

Step = Sequence[Rows]  # the batches whose gradients make one step
Batches = Callable[[], Iterable[Step]]  # gives the same steps every time
Clip = Callable[[list[Tensor]], object]  # clips the `.grad` of parameters as training does


def try_rates(
    checker: Checker, optimizer: torch.optim.Optimizer, batches: Batches, *, clip: Clip = lambda parameters: None
) -> dict[str, FloatArray]:
    """(F, …) arrays of all branches from the state that model and optimizer are in, and the largest curvature there.

    The model runs as in training (dropout, running statistics); its rows are judged as a check does. Model, loss,
    optimizer, `.grad` and random numbers are afterwards what they were, bit for bit: a branch moves the live
    parameters, since not every model can be copied, with a copy of the optimizer, and puts them back.
    """
    parameters = parameters_of(optimizer)
    known = {id(parameter) for parameter in checker.trained.parameters()}
    others = nn.ParameterList(p for p in parameters if id(p) not in known)
    aside = nn.ModuleList([*checker.trained, others])
    trial = _Trial(checker, aside, optimizer, parameters, batches, clip)
    with gradients_kept(parameters):
        for factor in (0.0, *FACTORS):
            trial.branch(factor)
        while (factor := trial.worth_trying()) is not None:
            trial.branch(factor)
        return {**trial.values(), **_sharpness(checker, optimizer, aside)}


def parameters_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """All that the optimizer moves."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


class _Trial:
    """The branches so far, by factor."""

    def __init__(
        self,
        checker: Checker,
        aside: nn.ModuleList,
        optimizer: torch.optim.Optimizer,
        parameters: list[Tensor],
        batches: Batches,
        clip: Clip,
    ) -> None:
        self._checker, self._aside, self._optimizer = checker, aside, optimizer
        self._parameters, self._batches, self._clip = parameters, batches, clip
        self._rows: dict[float, FloatArray] = {}  # (N,)
        self._courses: dict[float, list[float]] = {}  # a loss a step

    def branch(self, factor: float) -> None:
        """Make the steps at so many times the learning rate (0: none), and look at the fixed rows."""
        course: list[float] = []
        with on_the_side(self._aside) as side, torch.enable_grad():
            if factor:
                side.resume()
                optimizer = twin(self._optimizer, self._parameters)
                for group in optimizer.param_groups:
                    group["lr"] = group["lr"] * factor
                for step in self._batches():
                    course.append(self._make_step(optimizer, step))
                    if not math.isfinite(course[-1]):
                        break
            side.train()
            self._rows[factor] = self._checker.row_losses()
        self._courses[factor] = course

    def _make_step(self, optimizer: torch.optim.Optimizer, step: Step) -> float:
        """The loss before the update; with a closure the first one."""
        seen: list[float] = []

        def evaluate() -> float:
            rows, total = sum(map(len, step)), 0.0
            for parameter in self._parameters:
                parameter.grad = None
            for batch in step:
                loss = self._checker.loss(batch) * (len(batch) / rows)
                add_gradients(loss, self._parameters)
                total += float(loss.detach())
            self._clip(self._parameters)
            seen.append(total)
            return total

        optimizer.step(evaluate)
        return seen[0]

    def worth_trying(self) -> float | None:
        """Ten times more where the largest is the best so far; ten times less while none leads down.

        None where neither is so, where nothing differs, or where the rows lose what is not finite before any step.
        """
        start, means = self._mean(0.0), {factor: self._mean(factor) for factor in self._rows if factor}
        best = min(means.values())
        if not math.isfinite(start) or (math.isfinite(best) and len(set(means.values())) == 1):
            return None
        least, most = min(means), max(means)
        alone = math.isfinite(best) and means[most] < min(means[factor] for factor in means if factor < most)
        if alone and most * 10 <= FURTHEST:
            return most * 10
        return least / 10 if not best < start and least / 10 >= 1 / FURTHEST else None

    def _mean(self, factor: float) -> float:
        mean = float(self._rows[factor].mean())
        return mean if math.isfinite(mean) else math.inf

    def values(self) -> dict[str, FloatArray]:
        """The arrays, by factor in rising order."""
        factors = sorted(self._rows)
        length = max(map(len, self._courses.values()))
        courses = np.full((len(factors), length), math.nan)
        for place, factor in enumerate(factors):
            courses[place, : len(self._courses[factor])] = self._courses[factor]
        return {
            "diagnosis_branch_factor": np.array(factors),
            "diagnosis_branch_rate": np.array(factors) * float(self._optimizer.param_groups[0]["lr"]),
            "diagnosis_branch_row_loss": np.stack([self._rows[factor] for factor in factors]),
            "diagnosis_branch_batch_loss": courses,
        }


def add_gradients(loss: Tensor, parameters: Sequence[Tensor], *, dense: bool = False) -> None:
    """To the `.grad` of parameters that are trained; without a graph nothing. `dense`: for an optimizer that asks."""
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    if not loss.requires_grad or not wanted:
        return
    for parameter, gradient in zip(wanted, torch.autograd.grad(loss, wanted, allow_unused=True), strict=True):
        if gradient is not None:
            gradient = gradient.to_dense() if dense and gradient.is_sparse else gradient
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def _sharpness(checker: Checker, optimizer: torch.optim.Optimizer, aside: nn.ModuleList) -> dict[str, FloatArray]:
    """Nothing where the optimizer has no known limit, or the model no second derivative."""
    try:
        parameters, scales, limit = stability(optimizer)
        with on_the_side(aside), torch.enable_grad():
            largest = largest_curvature(lambda: checker.loss(checker.gradient_rows), parameters, scales)
    except (NotKnown, NotImplementedError):
        return {}
    except RuntimeError as error:  # torch's, of what has no double backward; it says so in many ways
        if out_of_memory(error):
            raise
        return {}
    return {"diagnosis_sharpness": np.array([largest, limit])}


def twin(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> Any:
    """A copy of the optimizer with its state, of the same parameters; without hooks and schedulers."""
    memo: dict[int, Any] = {id(parameter): parameter for parameter in parameters}
    copied = copy.deepcopy(optimizer, memo)
    for name, value in vars(optimizer).items():  # LBFGS keeps more than torch's optimizers say they do
        if name not in vars(copied) and not callable(value):
            setattr(copied, name, copy.deepcopy(value, memo))
    return copied
