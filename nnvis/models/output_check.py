"""Whether a network gives what data and loss need, tried with a batch of two rows. Leaves no trace in it."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nnvis.config.targets import run_theirs
from nnvis.errors import InputError
from nnvis.models.shapes import shown

_ROWS = 2


def check_output(
    model: nn.Module, kind: str, input_shape: tuple[int, ...], output_size: int, vocabulary_size: int
) -> None:
    """Raises InputError unless inputs (N, *input_shape) run through and come out as (N, output_size), trainable."""
    if vocabulary_size:  # the highest id, which an embedding that is too small does not have
        inputs = torch.full((_ROWS, *input_shape), vocabulary_size - 1)
    else:
        inputs = torch.zeros(_ROWS, *input_shape)
    arrives = shown(input_shape)
    outputs = run_theirs(lambda: _try(model, inputs), f"model: inputs {arrives} do not run through it")
    if not isinstance(outputs, Tensor):
        raise InputError(f"model: gives {type(outputs).__name__}; a tensor (N, {output_size}) is needed")
    if outputs.shape != (_ROWS, output_size):
        raise InputError(
            f"model: inputs {arrives} come out as {_shown_batch(outputs)}, but data and loss need (N, {output_size}); "
            + _advice(kind, outputs, output_size)
        )
    if not outputs.is_floating_point() or not any(parameter.requires_grad for parameter in model.parameters()):
        advice = f"end with `- Linear: {output_size}`" if kind == "layers" else "let its parameters require a gradient"
        raise InputError(f"model: has nothing to train; {advice}")


def _try(model: nn.Module, inputs: Tensor) -> Any:
    """The outputs of the model in eval mode: of a copy, so that buffers and counters stay as they are.

    Lazy layers get their sizes here, and draw their weights: that must happen in the model itself.
    """
    lazy = any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers()))
    trial = model if lazy else _copied(model)
    with nullcontext() if lazy else torch.random.fork_rng(devices=[]):
        try:
            return trial.eval()(inputs)
        finally:
            trial.train()


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception:  # computed tensors as attributes (weight_norm) cannot be copied; training does not need it
        return model


def _shown_batch(outputs: Tensor) -> str:
    rows, *rest = outputs.shape or (0,)
    return shown(rest) if rows == _ROWS else f"{tuple(outputs.shape)} for {_ROWS} rows"


def _advice(kind: str, outputs: Tensor, output_size: int) -> str:
    if kind != "layers":
        return f"let its last layer give {output_size} numbers a row"
    if outputs.ndim > 2:
        return f"put `- Flatten` before a last `- Linear: {output_size}`"
    return f"end with `- Linear: {output_size}`"
