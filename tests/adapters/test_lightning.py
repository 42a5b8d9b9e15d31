"""The callback under Lightning's own Trainer: numbers against a loop by hand, bits, several optimizers, exceptions."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import by_hand
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.utils.data import DataLoader, TensorDataset

import nnvis
from nnvis.adapters.lightning import WatchCallback
from nnvis.errors import InputError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*number of training batches .* is smaller than the logging interval"),
]


class Net(pl.LightningModule):
    def __init__(self, dropout: float = 0.0, error: BaseException | None = None) -> None:
        super().__init__()
        self.net = by_hand.network(dropout)
        self.error = error

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.error and self.global_step == 3:
            raise self.error
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        outputs = self.net(batch[0])
        self.log("val_loss", nn.functional.cross_entropy(outputs, batch[1]))
        self.log("val_acc", (outputs.argmax(1) == batch[1]).float().mean())
        self.log("lonely", 1.0)

    def configure_optimizers(self) -> Any:
        return by_hand.optimizer_of(self)


def fit(model: pl.LightningModule, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", callbacks=list(callbacks), enable_model_summary=False, **quiet, **options
    )
    train, val = (DataLoader(TensorDataset(*by_hand.data(seed=seed)), by_hand.BATCH) for seed in (1, 2))
    trainer.fit(model, train, val)
    return trainer


CASES = {
    "plain": ({}, {}),
    "clipped": ({"gradient_clip_val": 0.05}, {"clip": 0.05}),
    "accumulated": ({"accumulate_grad_batches": 2}, {"accumulate": 2}),
    "bf16": ({"precision": "bf16-mixed"}, {"bf16": True}),
    "all": (
        {"gradient_clip_val": 0.05, "accumulate_grad_batches": 3, "precision": "bf16-mixed"},
        {"clip": 0.05, "accumulate": 3, "bf16": True},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_numbers_are_those_of_a_loop_by_hand(tmp_path: Path, case: str) -> None:
    options, by_hand_options = CASES[case]
    model = Net()
    fit(model, WatchCallback(tmp_path, every=1), **options)
    told = by_hand.train(twin := by_hand.network(), **by_hand_options)
    run = by_hand.check(tmp_path, told, ("net.0", "net.3"), rtol=1e-3 if "precision" in options else 1e-5)
    np.testing.assert_allclose(run.scalars["loss/train"].values, told.losses, rtol=1e-5)
    assert run.scalars["loss/train"].steps.tolist() == list(range(len(told.losses)))
    assert run.scalars["loss/val"].steps.tolist() == [
        len(told.losses) // 2,
        len(told.losses),
    ]  # none of the sanity check
    inputs, targets = by_hand.data(seed=2)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled="precision" in options):
        loss, right = nn.functional.cross_entropy(twin(inputs), targets), twin(inputs).argmax(1) == targets
    assert run.summary["metrics"]["val"]["loss"] == pytest.approx(loss.item(), rel=1e-3)
    assert run.summary["metrics"]["val"]["accuracy"] == pytest.approx(right.float().mean().item())
    assert "lonely" not in run.scalars


@pytest.mark.parametrize("case", CASES)
def test_training_is_the_same_bit_for_bit(tmp_path: Path, case: str) -> None:
    ends = []
    for callbacks in ((), (WatchCallback(tmp_path, every=2),)):
        model = Net(dropout=0.3)
        fit(model, *callbacks, **CASES[case][0])
        ends.append(by_hand.state_of(model))
    assert by_hand.same_bits(*ends)
    assert nnvis.load_run(tmp_path).summary["capture"]["steps_measured"] >= 2
    assert not torch_module._global_forward_hooks


def test_a_scaler_is_undone_and_a_skipped_step_is_no_step(tmp_path: Path) -> None:
    class Overflows(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            return loss * math.inf if self.current_epoch == 0 and batch_idx == 1 else loss

    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    fit(Overflows(), WatchCallback(tmp_path, every=1), plugins=[plugin], gradient_clip_val=0.05)
    run = nnvis.load_run(tmp_path)
    steps = list(range(9))
    assert run.layers["grad_norm"].steps.tolist() == run.scalars["loss/train"].steps.tolist() == steps
    assert np.isfinite(run.scalars["loss/train"].values).all()
    assert run.scalars["grad_norm/total"].values[0] == pytest.approx(
        by_hand.train(by_hand.network()).totals[0], rel=0.01
    )
    assert run.scalars["clip_factor"].values[0] == pytest.approx(
        0.05 / run.scalars["grad_norm/total"].values[0], rel=0.01
    )


class Adversaries(pl.LightningModule):
    """Manual optimization with two optimizers, each with a backward pass of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        torch.manual_seed(0)
        self.generator, self.discriminator = nn.Linear(6, 4), nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        first, second = self.optimizers()  # pyright: ignore[reportGeneralTypeIssues]
        loss = self.discriminator(self.generator(batch[0])).square().mean()
        first.zero_grad()
        self.manual_backward(loss)
        first.step()
        against = (1 - self.discriminator(self.generator(batch[0]).detach())).square().mean()
        second.zero_grad()
        self.manual_backward(against)
        second.step()
        return {"loss": loss.detach()}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.discriminator(self.generator(batch[0]))

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.generator, self.discriminator)]


def test_manual_optimization_with_several_optimizers(tmp_path: Path) -> None:
    fit(watched := Adversaries(), WatchCallback(tmp_path, every=1))
    fit(plain := Adversaries())
    assert by_hand.same_bits(by_hand.state_of(watched), by_hand.state_of(plain))
    run = nnvis.load_run(tmp_path)
    assert run.layers["grad_norm"].steps.tolist() == run.scalars["loss/train"].steps.tolist() == list(range(10))
    assert run.layers["activation_std"].layers == ("generator", "discriminator")
    torch.manual_seed(0)
    generator, discriminator = nn.Linear(6, 4), nn.Linear(4, 1)
    inputs = by_hand.data()[0][: by_hand.BATCH]
    discriminator(generator(inputs)).square().mean().backward()
    norms = [
        math.sqrt(sum(p.grad.square().sum().item() for p in part.parameters())) for part in (generator, discriminator)
    ]
    np.testing.assert_allclose(run.layers["grad_norm"].at(0), norms, rtol=1e-5)
    np.testing.assert_allclose(run.layers["update_norm"].at(0)[0], 0.1 * norms[0], rtol=1e-3)


@pytest.mark.parametrize(("error", "status"), [(ValueError("mine"), "failed"), (KeyboardInterrupt(), "interrupted")])
def test_an_exception_concludes_the_record(tmp_path: Path, error: BaseException, status: str) -> None:
    callback = WatchCallback(tmp_path, every=1)
    with pytest.raises((type(error), SystemExit)):
        fit(Net(error=error), callback)
    run = nnvis.load_run(tmp_path)
    assert (run.summary["status"], run.summary["steps"]) == (status, 3)
    assert run.summary.get("error", "") == str(error)
    assert run.layers["grad_norm"].steps.tolist() == [0, 1, 2]
    assert not torch_module._global_forward_hooks


def test_going_on_and_being_refused(tmp_path: Path) -> None:
    model = Net()
    fit(model, WatchCallback(tmp_path, every=3))
    with pytest.raises(InputError, match="holds a run already"):
        fit(model, WatchCallback(tmp_path))
    fit(model, callback := WatchCallback(tmp_path, every=3, resume=True))
    assert nnvis.load_run(tmp_path).summary["steps"] == 20
    assert callback.probe is not None
    assert "net.0" in str(callback.probe.snapshot())
    assert pickle.loads(pickle.dumps(callback)).probe is None


@pytest.mark.filterwarnings(
    "ignore:.*torch.jit.script_method:DeprecationWarning"
)  # torch's own, at its first compiling
def test_a_compiled_module(tmp_path: Path) -> None:
    class Terse(Net):  # what logs does not compile here
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.net(batch[0])

    model = torch.compile(Terse(), backend="eager")
    with pytest.warns(UserWarning, match=r"not measured: net.0 \(compiled\)"):
        fit(model, WatchCallback(tmp_path, every=1))  # pyright: ignore[reportArgumentType]
    told = by_hand.train(by_hand.network())
    run = nnvis.load_run(tmp_path)
    np.testing.assert_allclose(run.layers["grad_norm"].values, told.grad_norms, rtol=1e-4)
    np.testing.assert_allclose(run.scalars["clip_factor"].values, told.clip_factors, rtol=1e-4)
    assert run.summary["capture"]["unseen"]["net.0"] == "compiled"
