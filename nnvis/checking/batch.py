"""Anybody's model, checked before it is trained, by one batch.

    found = check(model, nn.CrossEntropyLoss(), inputs, targets)
    for finding in found: print(finding.severity, finding.symptom, finding.evidence)

Where something raises, the passes are made once more, one after the other, to say which of them it was.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nnvis.checking.deep import branches_of, look_deep
from nnvis.diagnosis import Diagnosis, diagnose_beforehand
from nnvis.errors import InputError
from nnvis.probe.branches import parameters_of
from nnvis.probe.checks import LEAST_ROWS, Checker, Rows, call, tensors
from nnvis.probe.references import LossFunction
from nnvis.probe.untouched import on_the_side
from nnvis.record import Run


def check(
    model: nn.Module,
    loss_fn: LossFunction,
    inputs: Any,
    targets: Any,
    *,
    deep: bool = False,
    optimizer: torch.optim.Optimizer | None = None,
) -> Diagnosis:
    """What is wrong with a model before it is trained, as far as one batch tells; nothing of it changes, bit for bit.

    `inputs` (N, …), a tensor, or a tuple or dict that is spread over the model's arguments; `targets` (N, …);
    `loss_fn(outputs, targets)` is a loss module, or a function that keeps nothing between its calls. A few hundred rows
    are enough, drawn as training draws them; of more than 1024 some are looked at. An `error` will hurt the training,
    whatever its length and learning rate; a `warning` may. NaN in the data is a finding.

    `deep` takes seconds instead of some hundredths: 16 of the rows are to be learned by heart, and with the `optimizer`
    of the model's parameters 20 steps of 32 rows are tried at 1/10 to 10 times its learning rate (and beyond, where the
    best lies at an end). All of that is put back as well.

    Raises InputError for what cannot be checked: under 2 rows, inputs and targets of different lengths, complex
    numbers, or a forward pass, a loss or a backward pass that raises; it says which, and the shapes.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"check: model should be a torch.nn.Module, got {_kind(model)}")
    if not callable(loss_fn):
        raise InputError(f"check: loss_fn should be a function of outputs and targets, got {_kind(loss_fn)}")
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise InputError("check: the model has lazy layers that know no sizes yet; run one batch through it first")
    _require_optimizer(optimizer, model, deep=deep)
    if any(tensor.is_complex() for tensor in [*model.parameters(), *tensors(inputs), *tensors(targets)]):
        raise InputError("check: weights and data should be real, got complex numbers; nnvis.watch measures those")
    _require_rows(inputs, targets)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    rows = Rows(inputs, targets).to(device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of shapes that are broadcast say: a finding says more
        try:
            checker = Checker(model, loss_fn, rows)
            measured = checker.check(0)
            if deep:
                branches = partial(branches_of, checker, optimizer, rows) if optimizer else "no optimizer was given"
                measured = look_deep(checker, measured, branches)
        except Exception as error:
            _explain(error, model, loss_fn, rows)
    return diagnose_beforehand(Run.of_checks(Path(type(model).__name__), [measured]))


def _require_optimizer(optimizer: Any, model: nn.Module, *, deep: bool) -> None:
    if optimizer is None:
        return
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(f"check: optimizer should be a torch.optim.Optimizer, got {_kind(optimizer)}")
    if not deep:
        raise InputError("check: an optimizer is tried with deep=True only")
    if {id(p) for p in parameters_of(optimizer)}.isdisjoint(id(p) for p in model.parameters()):
        raise InputError("check: the optimizer holds none of the model's parameters")


def _require_rows(inputs: Any, targets: Any) -> None:
    given = tensors(inputs)
    if not given:
        raise InputError(f"check: inputs should be a tensor, or a tuple or dict of tensors, got {_kind(inputs)}")
    lengths = {len(tensor) if tensor.dim() else 0 for tensor in [*given, *tensors(targets)]}
    if len(lengths) > 1 or max(lengths) < LEAST_ROWS:
        few = "as many rows of each are needed" if len(lengths) > 1 else f"at least {LEAST_ROWS} rows are needed"
        raise InputError(f"check: inputs are {shapes(inputs)}, targets {shapes(targets)}; {few}")


def _explain(error: Exception, model: nn.Module, loss_fn: LossFunction, rows: Rows) -> NoReturn:
    """Raises InputError that says which pass raises; the error itself where none of them does."""
    modules = nn.ModuleList([module for module in (model, loss_fn) if isinstance(module, nn.Module)])
    few = rows.some(256)
    given = f"inputs {shapes(few.inputs)}"
    with on_the_side(modules), torch.enable_grad():
        outputs = _tried("the forward pass", lambda: call(model, few.inputs), given)
        given = f"outputs {shapes(outputs)}, targets {shapes(few.targets)}"
        loss = _tried("the loss", lambda: loss_fn(outputs, few.targets), given)
        if not isinstance(loss, Tensor):
            raise InputError(f"check: the loss should be a tensor, got {_kind(loss)}; {given}") from None
        with torch.no_grad():
            _tried("the loss, called without gradients,", lambda: loss_fn(outputs, few.targets), given)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if loss.requires_grad and parameters:
            backward = lambda: torch.autograd.grad(loss.mean(), parameters, allow_unused=True)  # noqa: E731
            _tried("the backward pass", backward, f"{given}, loss {shapes(loss)}")
    raise error


def _tried(what: str, action: Callable[[], Any], given: str) -> Any:
    try:
        return action()
    except Exception as error:
        text = " ".join(str(error).split())
        raise InputError(f"check: {what} raises {type(error).__name__}: {text}; {given}") from error


def shapes(value: Any) -> str:
    """`(32, 10)`, `[(32, 3), (32,)]` or `{ids: (32, 7)}`."""
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shapes(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(shapes, value))}]"
    return _kind(value)


def _kind(value: Any) -> str:
    return type(value).__name__
