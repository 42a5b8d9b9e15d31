"""Watch what Lightning trains.

trainer = lightning.pytorch.Trainer(callbacks=[WatchCallback("runs/mine", every=10)])
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from nnvis.adapters.session import Session, missing

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningModule, Trainer
else:
    for name in sorted(("lightning.pytorch", "pytorch_lightning"), key=lambda name: name not in sys.modules):
        try:
            Callback = import_module(name).Callback
            break
        except ModuleNotFoundError:
            continue
    else:
        raise missing(__name__, "Lightning", "lightning")


class WatchCallback(Session, Callback):
    """A Lightning callback: measures every layer while `trainer.fit` runs, into a TensorBoard log in `log_dir`.

    `loss/train` is what the training step returned, of each step the mean of its micro-batches; metrics that the module
    logs as `val_loss`, `val_acc` become `loss/val`, `accuracy/val`. With manual optimization a step ends with the first
    optimizer's. A `log_dir` that holds a run is refused unless `resume=True`.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Lightning takes a compiled module apart, and calls its compiled parts
        compiled = getattr(pl_module, "_compiler_ctx", None) is not None
        model = cast(nn.Module, torch.compile(pl_module)) if compiled else pl_module
        self.begin(model, trainer.optimizers, getattr(trainer.precision_plugin, "scaler", None))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor):
            batches = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1
            self.log_loss(loss * batches, micro_batches=batches)  # Lightning has divided it

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log_logged(trainer, "train")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._log_logged(trainer, "val", "eval")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.end(exception)

    def _log_logged(self, trainer: Trainer, *splits: str) -> None:
        logged = trainer.callback_metrics.items()
        self.log_metrics({n: v for n, v in logged if n.startswith(splits) and not n.endswith(("_step", "_epoch"))})
