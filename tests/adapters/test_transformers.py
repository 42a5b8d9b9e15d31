"""The callback under Hugging Face's own Trainer: numbers against a loop by hand, bits, evaluation, exceptions."""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path
from typing import Any

import by_hand
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

import nnvis
from nnvis.adapters.transformers import WatchCallback
from nnvis.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:.*'pin_memory' argument is set as true but no accelerator")


class Net(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.net = by_hand.network(dropout)
        self.calls, self.error_at = 0, -1

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        self.calls += self.training
        if self.calls == self.error_at:
            raise ValueError("mine")
        logits = self.net(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Rows(Dataset[dict[str, Tensor]]):
    def __init__(self, seed: int) -> None:
        self.inputs, self.targets = by_hand.data(seed=seed)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"x": self.inputs[row], "labels": self.targets[row]}


class InOrder(Trainer):
    def _get_train_sampler(self, *args: Any) -> torch.utils.data.Sampler[int]:
        return torch.utils.data.SequentialSampler(range(len(Rows(1))))


def trainer_of(model: nn.Module, folder: Path, *callbacks: TrainerCallback, **options: Any) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(folder / "theirs"),
        per_device_train_batch_size=by_hand.BATCH,
        num_train_epochs=2,
        lr_scheduler_type="constant",
        eval_strategy="epoch",
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        use_cpu=True,
        **{"max_grad_norm": 0.0, **options},
    )
    return InOrder(
        model=model,
        args=arguments,
        train_dataset=Rows(1),
        eval_dataset=Rows(2),
        callbacks=list(callbacks),
        optimizers=(by_hand.optimizer_of(model), None),
        compute_metrics=lambda told: {"accuracy": np.mean(np.argmax(told.predictions, 1) == told.label_ids)},
    )


CASES = {
    "plain": ({}, {}),
    "clipped": ({"max_grad_norm": 0.05}, {"clip": 0.05}),
    "accumulated": ({"gradient_accumulation_steps": 2}, {"accumulate": 2, "divide_by_all": False}),
    "bf16": ({"bf16": True}, {"bf16": True}),
    "all": (
        {"max_grad_norm": 0.05, "gradient_accumulation_steps": 3, "bf16": True},
        {"clip": 0.05, "accumulate": 3, "bf16": True, "divide_by_all": False},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_numbers_are_those_of_a_loop_by_hand(tmp_path: Path, case: str) -> None:
    options, by_hand_options = CASES[case]
    trainer_of(Net(), tmp_path, WatchCallback(tmp_path / "run", every=1), **options).train()
    told = by_hand.train(twin := by_hand.network(), **by_hand_options)
    run = by_hand.check(tmp_path / "run", told, ("net.0", "net.3"), rtol=1e-3 if "bf16" in options else 1e-5)
    np.testing.assert_allclose(run.scalars["loss/train"].values, told.losses, rtol=1e-3)
    assert run.scalars["loss/train"].steps.tolist() == list(range(len(told.losses)))
    assert run.scalars["loss/val"].steps.tolist() == [len(told.losses) // 2, len(told.losses)]
    inputs, targets = by_hand.data(seed=2)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled="bf16" in options):
        loss, right = nn.functional.cross_entropy(twin(inputs), targets), twin(inputs).argmax(1) == targets
    assert run.summary["metrics"]["val"]["loss"] == pytest.approx(loss.item(), rel=1e-3)
    assert run.summary["metrics"]["val"]["accuracy"] == pytest.approx(right.float().mean().item())


@pytest.mark.parametrize("case", CASES)
def test_training_is_the_same_bit_for_bit(tmp_path: Path, case: str) -> None:
    ends = []
    for callbacks in ((), (WatchCallback(tmp_path / "run", every=2),)):
        model = Net(dropout=0.3)
        trainer_of(model, tmp_path, *callbacks, **CASES[case][0]).train()
        ends.append(by_hand.state_of(model))
    assert by_hand.same_bits(*ends)
    assert nnvis.load_run(tmp_path / "run").summary["capture"]["steps_measured"] >= 2
    assert not torch_module._global_forward_hooks


def test_an_exception_concludes_the_record(tmp_path: Path) -> None:
    """Named, with the callback's own block; else when the callback is let go."""

    def fail(name: str, *, block: bool) -> None:
        model = Net()
        model.error_at = 4
        callback = WatchCallback(tmp_path / name, every=1)
        trainer = trainer_of(model, tmp_path, callback)
        with pytest.raises(ValueError, match="mine"), callback if block else contextlib.nullcontext():
            trainer.train()

    for name, block, words in (("block", True, "mine"), ("alone", False, "the training was left before its end")):
        fail(name, block=block)
        gc.collect()
        run = nnvis.load_run(tmp_path / name)
        assert (run.summary["status"], run.summary["steps"], run.summary["error"]) == ("failed", 3, words)
        assert run.layers["grad_norm"].steps.tolist() == [0, 1, 2]
        assert run.scalars["loss/train"].steps.tolist() == [0, 1, 2]
    assert not torch_module._global_forward_hooks


def test_going_on_and_being_refused(tmp_path: Path) -> None:
    model = Net()
    trainer_of(model, tmp_path, WatchCallback(tmp_path / "run", every=3)).train()
    with pytest.raises(InputError, match="holds a run already"):
        trainer_of(model, tmp_path, WatchCallback(tmp_path / "run")).train()
    trainer_of(model, tmp_path, WatchCallback(tmp_path / "run", every=3, resume=True)).train()
    assert nnvis.load_run(tmp_path / "run").summary["steps"] == 20


@pytest.mark.filterwarnings(
    "ignore:.*torch.jit.script_method:DeprecationWarning"
)  # torch's own, at its first compiling
def test_a_compiled_model(tmp_path: Path) -> None:
    options = {"torch_compile": True, "torch_compile_backend": "eager"}
    with pytest.warns(UserWarning, match=r"not measured: net.0 \(compiled\)"):
        trainer_of(Net(), tmp_path, WatchCallback(tmp_path / "run", every=1), **options).train()
    told = by_hand.train(by_hand.network())
    run = nnvis.load_run(tmp_path / "run")
    np.testing.assert_allclose(run.layers["grad_norm"].values, told.grad_norms, rtol=1e-4)
