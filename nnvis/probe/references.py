"""What a loss is, row by row, and what predictors get that see little: the yardsticks for progress.

    rows_loss(loss_fn, outputs, targets)                    # (N,) the loss of each row by itself
    found = identify(loss_fn, outputs, targets)             # LossFacts("cross_entropy", scale=1.0)
    constant_loss(found, loss_fn, outputs, targets)         # (N,) of the best output that is the same for all rows
    linear_loss(found, features(inputs), targets, outputs)  # (N,) of a linear map, cross-validated

A loss is known by what it does, not by its name: it is asked about random outputs and compared with formulas.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LossFunction = Callable[[Any, Any], Tensor]

FEATURES = 64
"""A linear baseline sees at most so many principal components of the inputs."""
FOLDS = 4
_FIT_STEPS = 15
_ASKED_ROWS = 64
_TINY = 1e-7


class LossFacts(NamedTuple):
    """What a loss computes of a row: `kind` is a name below, "other", or "" where it has no rows."""

    kind: str
    scale: float = 1.0

    @property
    def of_probabilities(self) -> bool:
        return self.kind in ("cross_entropy_of_probabilities", "binary_cross_entropy_of_probabilities")

    @property
    def classifies(self) -> bool:
        return "cross_entropy" in self.kind or self.kind == "nll"


def rows_loss(loss_fn: LossFunction, outputs: Any, targets: Any) -> Tensor | None:
    """(N,) the loss of each row alone, whatever its reduction; None where rows cannot be told apart."""
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor) or outputs.dim() == 0 or targets.dim() == 0:
        return None
    if len(outputs) != len(targets):
        return None
    outputs, targets = outputs.detach(), targets.detach()

    def one(output: Tensor, target: Tensor) -> Tensor:
        return loss_fn(output[None], target[None]).sum()

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vmap's about speed, and torch's about targets that broadcast
        try:
            return torch.func.vmap(one)(outputs, targets).double()
        except Exception:
            try:
                return torch.stack([one(o, t) for o, t in zip(outputs, targets, strict=True)]).double()
            except Exception:
                return None


def identify(loss_fn: LossFunction, outputs: Any, targets: Any) -> LossFacts:
    """Which formula gives the loss of a row, up to a factor."""
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor) or not outputs.is_floating_point():
        return LossFacts("")
    targets = targets[:_ASKED_ROWS]
    generator = torch.Generator().manual_seed(0)
    asked = torch.rand(outputs[:_ASKED_ROWS].shape, generator=generator, dtype=torch.float64) * 0.9 + 0.05
    asked = asked.to(outputs.device, outputs.dtype)
    answer = rows_loss(loss_fn, asked, targets)
    if answer is None or len(answer) < 2 or not bool(torch.isfinite(answer).all()):
        return LossFacts("")
    for kind in _FORMULAS:
        expected = row_formula(kind, asked.double(), targets)
        if expected is None:
            continue
        scale = float(answer.sum() / expected.sum())
        if scale and torch.allclose(answer, scale * expected, rtol=1e-2, atol=1e-3 * float(answer.abs().mean())):
            return LossFacts(kind, scale)
    return LossFacts("other")


def row_formula(kind: str, outputs: Tensor, targets: Tensor) -> Tensor | None:
    """(N,) by a formula's name, of outputs in float64; None where outputs and targets do not go with it."""
    if kind in ("cross_entropy", "cross_entropy_of_probabilities", "cross_entropy_normalised", "nll"):
        share = class_shares(targets, outputs.shape)
        if share is None:
            return None
        if kind == "cross_entropy":
            logs = F.log_softmax(outputs, dim=1)
        elif kind == "nll":
            logs = outputs
        else:
            whole = outputs.sum(dim=1, keepdim=True) if kind == "cross_entropy_normalised" else 1.0
            logs = (outputs / whole).clamp_min(_TINY).log()
        return -(share * logs).flatten(1).sum(dim=1)
    if outputs.numel() != targets.numel():
        return None
    wanted, outputs = targets.reshape(len(targets), -1).double(), outputs.reshape(len(outputs), -1)
    if kind.startswith("binary"):
        if wanted.min() < 0 or wanted.max() > 1:
            return None
        if kind == "binary_cross_entropy":
            return F.binary_cross_entropy_with_logits(outputs, wanted, reduction="none").mean(dim=1)
        return F.binary_cross_entropy(outputs.clamp(_TINY, 1 - _TINY), wanted, reduction="none").mean(dim=1)
    error = outputs - wanted
    return (error.square() if kind == "mean_squared_error" else error.abs()).mean(dim=1)


_FORMULAS = (
    "binary_cross_entropy",
    "binary_cross_entropy_of_probabilities",
    "cross_entropy",
    "cross_entropy_of_probabilities",
    "cross_entropy_normalised",
    "nll",
    "mean_squared_error",
    "mean_absolute_error",
)


def class_shares(targets: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor | None:
    """(N, K) float64: what part of each row's target every class has; None where targets are no classes."""
    if len(shape) != 2 or shape[1] < 2:
        return None
    classes = shape[1]
    if targets.shape == shape and targets.is_floating_point():
        sums = targets.sum(dim=1)
        plausible = bool((targets >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)
        return targets.double() if plausible else None
    if targets.dim() == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.dim() != 1 or targets.is_floating_point() or targets.numel() == 0:
        return None
    if int(targets.min()) < 0 or int(targets.max()) >= classes:
        return None
    return F.one_hot(targets.long(), classes).double()


def constant_loss(
    found: LossFacts, loss_fn: LossFunction, outputs: Any, targets: Any, activation: str = ""
) -> Tensor | None:
    """(N,) row losses of the best predictor that puts out the same for every row: class prior, mean, median.

    For a loss that no formula gives it is searched for, among what the output's `activation` can put out.
    """
    if not found.kind:
        return None
    if found.kind == "other":
        return _searched_constant(loss_fn, outputs, targets, activation)
    share = class_shares(targets, outputs.shape) if found.kind != "mean_squared_error" else None
    if found.classifies and not found.kind.startswith("binary"):
        assert share is not None
        best = share.mean(dim=0).clamp_min(_TINY)
        return -found.scale * (share * best.log()).sum(dim=1)
    wanted = targets.reshape(len(targets), -1).double()
    best = wanted.median(dim=0).values if found.kind == "mean_absolute_error" else wanted.mean(dim=0)
    kind = "binary_cross_entropy_of_probabilities" if found.kind.startswith("binary") else found.kind
    rows = row_formula(kind, best.expand_as(wanted), wanted)
    return None if rows is None else found.scale * rows


def least_loss(found: LossFacts, targets: Any, shape: torch.Size) -> Tensor | None:
    """(N,) what rows lose at best: the entropy of soft targets, else 0; None for a loss that no formula gives."""
    if found.kind in ("", "other"):
        return None
    if not found.classifies:
        return torch.zeros(len(targets), dtype=torch.float64)
    binary = found.kind.startswith("binary")
    share = targets.reshape(len(targets), -1).double() if binary else class_shares(targets, shape)
    if share is None:
        return None
    if not binary:
        return found.scale * torch.special.entr(share).sum(dim=1)
    return found.scale * (torch.special.entr(share) + torch.special.entr(1 - share)).mean(dim=1)


def _searched_constant(loss_fn: LossFunction, outputs: Tensor, targets: Tensor, activation: str) -> Tensor | None:
    """By gradient descent on the constant; None where that has no end, or fails."""
    squash = _SQUASHES.get(activation, lambda x: x)
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mean = outputs.detach().float().mean(dim=0)
        constant = (torch.zeros_like(mean) if activation in _SQUASHES else mean.clone()).requires_grad_()
        optimizer = torch.optim.LBFGS([constant], max_iter=30, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = loss_fn(squash(constant).expand(outputs.shape), targets)
            loss.backward()
            return loss

        try:
            optimizer.step(closure)  # pyright: ignore[reportArgumentType]
        except Exception:
            return None
    best = squash(constant.detach())
    rows = rows_loss(loss_fn, best.expand(outputs.shape).to(outputs.dtype), targets)
    endless = float(best.abs().max()) > 1e6 * max(float(mean.abs().max()), 1.0)
    return rows if rows is not None and not endless and bool(torch.isfinite(rows).all()) else None


_SQUASHES: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda x: x.softmax(dim=0),
    "logsoftmax": lambda x: x.log_softmax(dim=0),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": F.softplus,
    "softplus": F.softplus,
    "exp": torch.exp,
}


def features(inputs: Any) -> Tensor | None:
    """(N, D) standardised principal components of inputs, D <= 64; None where they are no numbers."""
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point() or inputs.dim() < 2:
        return None
    x = inputs.detach().flatten(1).double()
    x = x - x.mean(dim=0)
    spread = x.std(dim=0)
    x = x[:, spread > 1e-12 * spread.max().clamp_min(1e-300)]
    if not x.shape[1] or not bool(torch.isfinite(x).all()):
        return None
    x = x / x.std(dim=0)
    if x.shape[1] > FEATURES:
        _, _, directions = torch.pca_lowrank(x, q=min(FEATURES, *x.shape), center=False)
        x = x @ directions
        x = x / x.std(dim=0).clamp_min(1e-12)
    return x


def linear_loss(found: LossFacts, x: Tensor | None, targets: Tensor, outputs: Tensor) -> Tensor | None:
    """(N,) row losses of a linear map of `features` (N, D), each row predicted by a map that was fitted without it."""
    if x is None or found.kind in ("", "other") or len(x) < 4 * FOLDS:
        return None
    share = class_shares(targets, outputs.shape) if found.kind != "mean_squared_error" else None
    if found.classifies:
        kind = "binary_cross_entropy" if found.kind.startswith("binary") else "cross_entropy"
        if kind == "cross_entropy" and share is None:
            return None
    else:
        kind = found.kind
    wanted = share if kind == "cross_entropy" and share is not None else targets.reshape(len(targets), -1).double()
    fold = torch.arange(len(x), device=x.device) % FOLDS
    predicted = torch.zeros_like(wanted)
    for held_out in range(FOLDS):
        fit = fold != held_out
        fitted = _fit(kind, x[fit], wanted[fit])
        predicted[~fit] = _with_bias(x[~fit]) @ fitted
    if kind == "cross_entropy":
        rows: Tensor | None = -(wanted * F.log_softmax(predicted, dim=1)).sum(dim=1)
    else:
        rows = row_formula(kind, predicted, wanted)
    return None if rows is None else found.scale * rows


def _fit(kind: str, x: Tensor, wanted: Tensor) -> Tensor:
    """(D + 1, K) weights; ridge regression, or a few steps towards the maximum of the likelihood (Nesterov 1983)."""
    x = _with_bias(x)
    ridge = torch.eye(x.shape[1], dtype=x.dtype, device=x.device) * (1e-2 * len(x))
    ridge[-1, -1] = 1e-9
    gram = x.T @ x + ridge
    weights = torch.linalg.solve(gram, x.T @ wanted)
    if "cross_entropy" not in kind:
        return weights
    weights = ahead = torch.zeros_like(weights)
    step = torch.linalg.inv(gram) * (2.0 if kind == "cross_entropy" else 4.0)  # a bound on the curvature: it descends
    towards, back = step @ x.T, step @ ridge * 0.25
    for number in range(_FIT_STEPS):
        scores = x @ ahead
        chance = scores.softmax(dim=1) if kind == "cross_entropy" else scores.sigmoid()
        before, weights = weights, ahead - towards @ (chance - wanted) - back @ ahead
        ahead = weights + number / (number + 3) * (weights - before)
    return weights


def _with_bias(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)


def neighbour_errors(x: Tensor | None, classes: Tensor | None) -> Tensor | None:
    """(N,) 1 where the row that is nearest by `features` (N, D) is of another class, else 0."""
    if x is None or classes is None or len(x) < 16:
        return None
    distance = torch.cdist(x, x)
    distance.fill_diagonal_(float("inf"))
    return (classes[distance.argmin(dim=1)] != classes).double()
