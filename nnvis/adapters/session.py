"""What the callbacks share: a watch that begins and ends with a training that somebody else's loop runs.

class WatchCallback(Session, TheirCallback):
    def on_train_begin(self, ...): self.begin(model, optimizers)
    def on_batch_end(self, ...):   self.log_loss(loss)                        # of each micro-batch
    def on_evaluation(self, ...):  self.log_metrics({"val_loss": ..., "val_acc": ...})
    def on_train_end(self, ...):   self.end()
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nnvis.errors import RunError
from nnvis.watching import Watch, watch

Every = int | Callable[[int], bool] | Literal["auto"]
_NAME = re.compile(r"(?:(?P<train>train)|val|valid|validation|eval)[_/](?P<metric>.+)")
_METRICS = {"acc": "accuracy"}


class Session:
    """One watched training. Its `probe` is there from the beginning of the training on: `callback.probe.snapshot()`.

    Where the library does not tell its callbacks of an exception, the record is concluded when the callback is let go,
    at the latest with the program. `with WatchCallback(...) as callback:` around the training does it at once.
    """

    probe: Watch | None = None

    def __init__(
        self,
        log_dir: str | Path,
        *,
        every: Every = 10,
        layers: str | type[nn.Module] | Sequence[str | type[nn.Module]] = "*",
        histograms: bool = True,
        budget: float | None = None,
        resume: bool = False,
    ) -> None:
        """All as in `nnvis.watch`; what cannot be is told when the training begins."""
        super().__init__()
        self.every: Every = every
        self.log_dir, self.layers = log_dir, layers
        self.histograms, self.budget, self.resume = histograms, budget, resume

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end(error or _left_early())

    def __getstate__(self) -> dict[str, Any]:
        """A copy and a pickle are of the callback, not of the training under way."""
        return {name: value for name, value in vars(self).items() if name != "probe" and name[0] != "_"}

    def begin(
        self, model: nn.Module, optimizers: Sequence[Optimizer], scaler: torch.amp.GradScaler | None = None
    ) -> None:
        self.end(_left_early())  # an earlier training that nobody has ended
        self.probe = watch(
            model,
            optimizers,
            log_dir=self.log_dir,
            every=self.every,
            layers=self.layers,
            histograms=self.histograms,
            budget=self.budget,
            scaler=scaler,
            resume=self.resume,
        )
        self._losses: list[Tensor] = []  # of the micro-batches since the newest update
        self._steps = self.probe.steps
        self._let_go = weakref.finalize(self, _conclude, self.probe, _left_early())

    def log_loss(self, loss: Tensor, *, micro_batches: int = 1024) -> None:
        """The loss of one batch; of those of one step (the newest `micro_batches` at most) the mean is logged."""
        if self.probe is None:
            return
        self._losses.append(loss.detach().float())
        del self._losses[:-micro_batches]
        if self.probe.steps > self._steps:
            self._steps = self.probe.steps
            self.probe.log(self._steps - 1, loss=torch.stack(self._losses).mean())
            self._losses.clear()

    def log_metrics(self, metrics: Mapping[str, Any]) -> None:
        """`val_loss`, `valid_acc`, `eval/f1`, `train_f1` become `loss/val`, `accuracy/val`, `f1/val`, `f1/train`.

        Names without a split are left out, as is the loss of the training, which `log_loss` tells.
        """
        tags = {tag_of(name): value for name, value in metrics.items() if _is_number(value)}
        if self.probe is not None:
            self.probe.log(**{tag: value for tag, value in tags.items() if tag not in ("", "loss/train")})

    def end(self, error: BaseException | None = None) -> None:
        """Conclude the record; nothing where no training is under way."""
        if self.probe is not None and self._let_go.detach():
            _conclude(self.probe, error)


def tag_of(name: str) -> str:
    """The tag of a metric that is named for its split; empty where it is not."""
    match = _NAME.fullmatch(name)
    if match is None:
        return ""
    metric = match["metric"]
    return f"{_METRICS.get(metric, metric)}/{'train' if match['train'] else 'val'}"


def missing(module: str, library: str, extra: str) -> ImportError:
    """What to raise where a library is not installed."""
    return ImportError(f'{module} needs {library}: pip install "nnvis-trainer[{extra}]"')


def _is_number(value: Any) -> bool:
    return value.numel() == 1 if isinstance(value, Tensor) else isinstance(value, Real)


def _left_early() -> RunError:
    return RunError("the training was left before its end")


def _conclude(probe: Watch, error: BaseException | None) -> None:
    probe.__exit__(type(error) if error else None, error, None)
