"""A model run on the side, between two steps of its training, which leaves no trace.

with on_the_side(model) as side:
    model(inputs)       # no dropout; batch norm by the batch's own statistics; nothing is updated
    side.validate()
    model(inputs)       # as in validation: batch norm by its running statistics
"""

from __future__ import annotations

import contextlib
import random
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import is_
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


@contextmanager
def on_the_side(model: nn.Module, *, parameters_stay: bool = False) -> Iterator[Side]:
    """Eval mode inside, but norm layers use the statistics of the batch at hand, as they do in training.

    What modules hold (modes, parameters, buffers, attributes of their own) and random numbers (python's, numpy's,
    torch's on every device of the model) are afterwards as they were. Modes are set without `train()` and `eval()`,
    where some models merge weights.

    `parameters_stay`: nothing inside writes to parameters, so that no copy of them is needed, which a large model's
    memory would be short of. For passes of a model that `only_reads_parameters`; never where parameters are moved.
    """
    modes = [(module, module.training) for module in model.modules()]
    side = Side(model, parameters_stay)
    with _random_numbers_kept(model):
        try:
            side.train()
            yield side
        finally:
            for module, mode in modes:
                module.training = mode
            side.held.put_back()


@contextmanager
def gradients_kept(parameters: Sequence[Tensor]) -> Iterator[None]:
    """`.grad` of each is afterwards the tensor that it was."""
    before = [parameter.grad for parameter in parameters]
    try:
        yield
    finally:
        for parameter, gradient in zip(parameters, before, strict=True):
            parameter.grad = gradient


def only_reads_parameters(model: nn.Module) -> bool:
    """Whether no forward pass of this model writes to its parameters.

    All modules are torch's or nnvis's, and nobody hooks into them. Of somebody else's model that is no proof: hooks on
    tensors, global ones and a loss function can write, too.
    """
    return all(
        type(module).__module__.startswith(("torch.nn.modules.", "nnvis.models."))
        and not (module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))
        and getattr(module, "max_norm", None) is None  # an embedding's, which the forward pass enforces
        for module in model.modules()
    )


class Side:
    """Which statistics norm layers go by while a model runs on the side."""

    def __init__(self, model: nn.Module, parameters_stay: bool) -> None:
        self._modules = list(model.modules())
        self.held = _Held(model, parameters_stay)

    def train(self) -> None:
        """By those of the batch at hand."""
        for module in self._modules:
            # cuDNN goes backward through recurrent layers in training mode only
            module.training = isinstance(module, nn.RNNBase) and not module.dropout
            if isinstance(module, _NormBase) and not isinstance(module, nn.SyncBatchNorm):
                module.training, module.track_running_stats = True, False  # the other waits for other processes

    def resume(self) -> None:
        """As they were: dropout, and running statistics that are updated; whatever is, is put back in the end."""
        self.held.put_back_containers()

    def validate(self) -> None:
        """By their running ones; modules are what they were before the passes so far."""
        self.held.put_back_containers()
        for module in self._modules:
            module.training = isinstance(module, nn.RNNBase) and not module.dropout


class _Held:
    """What a model holds, at any depth: what is in containers, what is in tensors, where generators stand."""

    def __init__(self, model: nn.Module, parameters_stay: bool) -> None:
        self._containers: dict[int, tuple[Any, Any]] = {}
        self._tensors: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self._generators: list[tuple[torch.Generator, Tensor]] = []
        self._parameters_stay = parameters_stay
        self._keep([model, *model.buffers()])  # those of scripted modules are in no container

    def _keep(self, values: Iterable[Any]) -> None:
        for value in values:
            if id(value) in self._containers or id(value) in self._tensors:
                continue
            if type(value) in (dict, OrderedDict, defaultdict, list, set, deque):
                self._containers[id(value)] = value, value.copy() if value else ()
                if value:
                    self._keep(value.values() if isinstance(value, dict) else value)
            elif isinstance(value, nn.Module):
                self._keep([vars(value)])
            elif isinstance(value, tuple):
                self._keep(value)
            elif type(value) is nn.Parameter and self._parameters_stay:
                continue
            elif type(value) in (Tensor, nn.Parameter) and value.layout == torch.strided and not value.is_meta:
                self._tensors[id(value)] = value, value.data, value.detach().clone()
            elif isinstance(value, torch.Generator):
                self._generators.append((value, value.get_state()))

    def put_back(self) -> None:
        """Everything that has changed."""
        self.put_back_containers()
        for tensor, place, content in self._tensors.values():
            if tensor.shape != place.shape or tensor.data_ptr() != place.data_ptr():
                tensor.data = place
            if not torch.equal(place, content):
                place.copy_(content)
        for generator, state in self._generators:
            generator.set_state(state)

    def put_back_containers(self) -> None:
        """Modes, attributes, lists; not what tensors hold."""
        for container, content in self._containers.values():
            if len(container) != len(content) or (content and not _same(container, content)):
                container.clear()
                if content:
                    (container.extend if isinstance(container, list | deque) else container.update)(content)


def _same(container: Any, content: Any) -> bool:
    """Whether two containers of one length hold the same objects in the same order."""
    if isinstance(container, dict) and not all(map(is_, container.values(), content.values())):
        return False
    return all(map(is_, container, content))


@contextmanager
def _random_numbers_kept(model: nn.Module) -> Iterator[None]:
    devices = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    python, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002 (a model of the user's may draw from it)
    with torch.random.fork_rng(devices=[d for d in devices if d is not None]):
        try:
            yield
        finally:
            random.setstate(python)
            with contextlib.suppress(TypeError):
                np.random.set_state(numbers)  # noqa: NPY002
