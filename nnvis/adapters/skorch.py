"""Watch what skorch trains.

net = skorch.NeuralNetClassifier(..., callbacks=[WatchCallback("runs/mine", every=10)])
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from nnvis.adapters.session import Session, missing

try:
    from skorch import NeuralNet
    from skorch.callbacks import Callback
except ModuleNotFoundError as error:
    raise missing(__name__, "skorch", "skorch") from error


class WatchCallback(Session, Callback):
    """A skorch callback: measures every layer while `net.fit` runs, into a TensorBoard log in `log_dir`.

    `loss/train` is the loss of each step; what the history holds after an epoch as `valid_loss`, `valid_acc` becomes
    `loss/val`, `accuracy/val`. A `log_dir` that holds a run is refused unless `resume=True` (for `partial_fit`).

    skorch does not tell its callbacks of an exception: put `with WatchCallback(...) as callback:` around the training
    to have the record say which one it was.
    """

    def on_train_begin(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:  # noqa: N803
        modules = {name: getattr(net, f"{name}_") for name in net._modules}
        model = next(iter(modules.values())) if len(modules) == 1 else nn.ModuleDict(modules)
        self.begin(model, [getattr(net, f"{name}_") for name in net._optimizers])

    def on_batch_end(
        self, net: NeuralNet, batch: Any = None, training: bool | None = None, loss: Tensor | None = None, **kwargs: Any
    ) -> None:
        if training and loss is not None:
            self.log_loss(loss)

    def on_epoch_end(self, net: NeuralNet, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any) -> None:
        newest: Any = net.history[-1]
        self.log_metrics(newest)

    def on_train_end(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:  # noqa: N803
        self.end()

    def _get_param_names(self) -> list[str]:
        return list(inspect.signature(type(self)).parameters)
