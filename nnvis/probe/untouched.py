"""A model run on the side, between two steps of its training, which leaves no trace.

with on_the_side(model):
    model(inputs)       # no dropout; batch norm by the batch's own statistics; nothing is updated
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase


@contextmanager
def on_the_side(model: nn.Module, *, own_statistics: bool = True) -> Iterator[None]:
    """Eval mode inside, but norm layers use the statistics of the batch at hand, as they do in training.

    With `own_statistics=False` they use their running ones, as in validation. Modes, buffers and random numbers
    (python's, numpy's, torch's on every device of the model) are afterwards as they were.
    """
    modules = list(model.modules())
    modes = [(module, module.training) for module in modules]
    norms = [(module, module.track_running_stats) for module in modules if isinstance(module, _NormBase)]
    buffers = [(module, dict(module._buffers)) for module in modules if module._buffers]
    versions = [(b, b._version, b.detach().clone()) for _, own in buffers for b in own.values() if b is not None]
    with _random_numbers_kept(model):
        try:
            model.eval()
            for module in modules:
                if isinstance(module, nn.RNNBase) and not module.dropout:
                    module.training = True  # cuDNN goes backward through recurrent layers in training mode only
            if own_statistics:
                for norm, _ in norms:
                    if isinstance(norm, nn.SyncBatchNorm):
                        continue  # it would wait for processes that do not run this
                    norm.training, norm.track_running_stats = True, False
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            for norm, tracked in norms:
                norm.track_running_stats = tracked
            for module, own in buffers:
                module._buffers.update(own)
            with torch.no_grad():
                for buffer, version, content in versions:
                    if buffer._version != version:
                        buffer.copy_(content)


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
