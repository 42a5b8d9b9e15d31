"""The callback under skorch's own fit: numbers against a loop by hand, bits, copies, exceptions."""

from __future__ import annotations

import contextlib
import functools
import gc
import math
import pickle
from pathlib import Path
from typing import Any

import by_hand
import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch import NeuralNet, NeuralNetClassifier
from skorch.callbacks import Callback, GradientNormClipping
from skorch.helper import predefined_split
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.utils.data import TensorDataset

import nnvis
from nnvis.adapters.skorch import WatchCallback
from nnvis.errors import InputError


def net_of(*callbacks: Callback, dropout: float = 0.0, kind: Any = NeuralNetClassifier) -> NeuralNet:
    return kind(
        lambda: by_hand.network(dropout),
        criterion=nn.CrossEntropyLoss,
        optimizer=functools.partial(torch.optim.SGD, momentum=0.9),
        lr=0.5,
        max_epochs=2,
        batch_size=by_hand.BATCH,
        train_split=predefined_split(TensorDataset(*by_hand.data(seed=2))),
        iterator_train__shuffle=False,
        callbacks=list(callbacks),
        verbose=0,
    )


class Accumulating(NeuralNetClassifier):
    """As skorch's documentation does it: two batches a step, in bf16."""

    def train_step(self, batch: Any, **fit_params: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            outputs = self.infer(batch[0])
            loss = self.get_loss(outputs, batch[1], training=True)
        (loss / 2).backward()
        self.batches = getattr(self, "batches", 0) + 1
        if self.batches % 5 in (2, 4, 0):
            self.optimizer_.step()
            self.optimizer_.zero_grad()
        return {"loss": loss, "y_pred": outputs}


CASES = {
    "plain": ((), NeuralNetClassifier, {}),
    "clipped": ((lambda: GradientNormClipping(0.05),), NeuralNetClassifier, {"clip": 0.05}),
    "accumulated": ((), Accumulating, {"accumulate": 2, "bf16": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_numbers_are_those_of_a_loop_by_hand(tmp_path: Path, case: str) -> None:
    others, kind, by_hand_options = CASES[case]
    net_of(WatchCallback(tmp_path, every=1), *(other() for other in others), kind=kind).fit(*by_hand.data())
    told = by_hand.train(twin := by_hand.network(), **by_hand_options)
    run = by_hand.check(tmp_path, told, ("0", "3"), rtol=1e-3 if kind is Accumulating else 1e-5)
    np.testing.assert_allclose(run.scalars["loss/train"].values, told.losses, rtol=1e-5)
    assert run.scalars["loss/train"].steps.tolist() == list(range(len(told.losses)))
    assert run.scalars["loss/val"].steps.tolist() == [len(told.losses) // 2, len(told.losses)]
    inputs, targets = by_hand.data(seed=2)
    with torch.no_grad():
        loss, right = nn.functional.cross_entropy(twin(inputs), targets), twin(inputs).argmax(1) == targets
    assert run.summary["metrics"]["val"]["loss"] == pytest.approx(loss.item(), rel=1e-3)
    assert run.summary["metrics"]["val"]["accuracy"] == pytest.approx(right.float().mean().item())


@pytest.mark.parametrize("case", CASES)
def test_training_is_the_same_bit_for_bit(tmp_path: Path, case: str) -> None:
    others, kind, _ = CASES[case]
    ends = []
    for callbacks in ((), (WatchCallback(tmp_path, every=2),)):
        net = net_of(*callbacks, *(other() for other in others), dropout=0.3, kind=kind).fit(*by_hand.data())
        ends.append(by_hand.state_of(net.module_))
    assert by_hand.same_bits(*ends)
    assert nnvis.load_run(tmp_path).summary["capture"]["steps_measured"] >= 2
    assert not torch_module._global_forward_hooks


class Fails(Callback):
    def on_batch_begin(self, net: Any, batch: Any = None, training: bool | None = None, **kwargs: Any) -> None:
        self.count = getattr(self, "count", 0) + 1
        if self.count == 4:
            raise ValueError("mine")


def test_an_exception_concludes_the_record(tmp_path: Path) -> None:
    """Named, with the callback's own block; else when the callback is let go."""

    def fail(name: str, *, block: bool) -> None:
        callback = WatchCallback(tmp_path / name, every=1)
        net = net_of(callback, Fails())
        with pytest.raises(ValueError, match="mine"), callback if block else contextlib.nullcontext():
            net.fit(*by_hand.data())

    for name, block, words in (("block", True, "mine"), ("alone", False, "the training was left before its end")):
        fail(name, block=block)
        gc.collect()
        run = nnvis.load_run(tmp_path / name)
        assert (run.summary["status"], run.summary["steps"], run.summary["error"]) == ("failed", 3, words)
        assert run.layers["grad_norm"].steps.tolist() == [0, 1, 2]
    assert not torch_module._global_forward_hooks


def test_copies_and_pickles_are_not_of_the_training_under_way(tmp_path: Path) -> None:
    class Copies(Callback):
        def on_batch_end(self, net: Any, **kwargs: Any) -> None:
            copied = pickle.loads(pickle.dumps(net.callbacks[0]))
            assert copied.probe is None
            cloned: Any = clone(net)
            assert vars(cloned.callbacks[0]) == vars(copied) == callback.get_params()

    callback = WatchCallback(tmp_path, every=2, layers=["0", "3"])
    net_of(callback, Copies()).fit(*by_hand.data())
    assert callback.probe is not None
    assert nnvis.load_run(tmp_path).summary["steps"] == 10


def test_going_on_and_being_refused(tmp_path: Path) -> None:
    net = net_of(WatchCallback(tmp_path, every=3)).fit(*by_hand.data())
    with pytest.raises(InputError, match="holds a run already"):
        net.partial_fit(*by_hand.data())
    net.set_params(callbacks__WatchCallback__resume=True)
    net.partial_fit(*by_hand.data())
    assert nnvis.load_run(tmp_path).summary["steps"] == 20


class TwoParts(NeuralNetClassifier):
    """Two modules, each with an optimizer of its own."""

    def initialize_module(self) -> TwoParts:
        torch.manual_seed(0)
        self.encoder_, self.head_ = nn.Linear(6, 8), nn.Linear(8, 3)
        return self

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> TwoParts:
        self.first_ = torch.optim.SGD(self.encoder_.parameters(), lr=0.1)
        self.second_ = torch.optim.SGD(self.head_.parameters(), lr=0.1)
        return self

    def infer(self, x: Tensor, **fit_params: Any) -> Tensor:
        return self.head_(self.encoder_(x))

    def train_step(self, batch: Any, **fit_params: Any) -> Any:
        outputs = self.infer(batch[0])
        loss = self.get_loss(outputs, batch[1], training=True)
        self._zero_grad_optimizer()
        loss.backward()
        self.second_.step()
        self.first_.step()
        return {"loss": loss, "y_pred": outputs}


def test_several_modules_and_optimizers(tmp_path: Path) -> None:
    net_of(WatchCallback(tmp_path, every=1), kind=TwoParts).fit(*by_hand.data())
    run = nnvis.load_run(tmp_path)
    assert run.layers["activation_std"].layers == run.layers["grad_norm"].layers == ("encoder", "head")
    assert run.layers["grad_norm"].steps.tolist() == list(range(10))
    torch.manual_seed(0)
    encoder, head = nn.Linear(6, 8), nn.Linear(8, 3)
    inputs, targets = (values[: by_hand.BATCH] for values in by_hand.data())
    nn.functional.cross_entropy(head(encoder(inputs)), targets).backward()
    norms = [math.sqrt(sum(p.grad.square().sum().item() for p in part.parameters())) for part in (encoder, head)]
    np.testing.assert_allclose(run.layers["grad_norm"].at(0), norms, rtol=1e-5)
