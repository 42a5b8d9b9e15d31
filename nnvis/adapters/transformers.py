"""Watch what Hugging Face's Trainer trains.

trainer = transformers.Trainer(..., callbacks=[WatchCallback("runs/mine", every=10)])
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from nnvis.adapters.session import Session, missing

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ModuleNotFoundError as error:
    raise missing(__name__, "transformers", "transformers") from error

_NO_METRICS = ("runtime", "per_second", "compilation_time")


class WatchCallback(Session, TrainerCallback):
    """A Trainer callback: measures every layer while `trainer.train` runs, into a TensorBoard log in `log_dir`.

    `loss/train` is the loss that the Trainer logs (the mean since it logged last: `logging_steps`); evaluations become
    `loss/val`, `accuracy/val`, ... A `log_dir` that holds a run is refused unless `resume=True`.

    The Trainer does not tell its callbacks of an exception: put `with WatchCallback(...) as callback:` around the
    training to have the record say which one it was.
    """

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        assert model is not None
        if args.torch_compile:  # the Trainer runs a compiled twin of the model
            model = cast(nn.Module, torch.compile(model))
        scaler = getattr(optimizer, "scaler", None)
        while hasattr(optimizer, "optimizer"):
            optimizer = optimizer.optimizer  # Accelerate's wrapper calls the one in it
        self.begin(model, [optimizer], scaler)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if self.probe is not None and logs and "loss" in logs:
            self.probe.log(max(0, self.probe.steps - 1), loss=logs["loss"])

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.log_metrics({name: value for name, value in (metrics or {}).items() if not name.endswith(_NO_METRICS)})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.end()
