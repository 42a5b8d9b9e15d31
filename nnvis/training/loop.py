"""The training loop.

    loop = Loop(learner, batches, train, val, length, state, recording, progress, examination, snapshots, directory)
    loop.run(interrupt)

`run` is the table of contents; what each line of it means stands below.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnvis.interrupts import Interrupt
from nnvis.training.batches import Batches, Rows
from nnvis.training.best_weights import BestWeights
from nnvis.training.checkpoints import Cadence, save_checkpoint
from nnvis.training.divergence import diverged
from nnvis.training.evaluation import evaluate
from nnvis.training.examination import Examination
from nnvis.training.learner import Learner, NonfiniteError, Passes, Placed
from nnvis.training.optimizers import needs_closure
from nnvis.training.progress import Quiet
from nnvis.training.randomness import random_state, restore_random_state
from nnvis.training.recording import Recording
from nnvis.training.snapshots import Snapshots
from nnvis.training.state import State

MOST_SKIPPED_STEPS = 25
"""GradScaler halves its scale with every step that it skips: after so many in a row it is not the scale."""
_MOST_OUTPUTS_KEPT = 2**16  # values waiting to be counted as right or wrong: step by step that costs 5% of a small step


@dataclass(frozen=True)
class Length:
    """How long a run is: so many whole epochs, or so many steps."""

    epochs: int | None
    steps: int | None

    def reached(self, state: State) -> bool:
        """Whether the run is that long by now."""
        return state.epoch == self.epochs or state.step == self.steps

    def total(self, steps_per_epoch: int) -> tuple[int, int]:
        """Steps, and whole epochs among them."""
        steps = self.steps or (self.epochs or 0) * steps_per_epoch
        return steps, steps // steps_per_epoch


@dataclass
class Loop:
    """A run in progress."""

    learner: Learner
    batches: Batches
    train: Placed
    val: Placed | None
    length: Length
    state: State
    recording: Recording
    progress: Quiet
    examination: Examination
    snapshots: Snapshots
    directory: Path  # of the run

    def __post_init__(self) -> None:
        self._before, self._best_saved = replace(self.state), -1
        self._best = BestWeights(self.directory)
        self._began_s = self._mark_s = time.perf_counter()
        self._rows_since_mark = 0
        self._outputs: list[tuple[Tensor, Tensor]] = []  # not yet counted as right or wrong
        self._values_kept = 0
        stopping = self.learner.settings.early_stopping
        self._min_delta, self._patience = (stopping.min_delta, stopping.patience) if stopping else (0.0, math.inf)

    def run(self, interrupt: Interrupt) -> None:
        """Train to the end. Raises DivergedError, and KeyboardInterrupt once an interrupted run is saved."""
        state, cadence = self.state, Cadence(self.learner.settings.checkpoint_every, self.state.epoch)
        try:
            self.snapshots.take(state.step)
            self.examine()
            while not self.finished:
                for batches in self.batches.epoch(state.epoch, first=state.batch):
                    self.make_step(batches)
                    if interrupt.requested or state.step == self.length.steps or self.examination.stopped_by:
                        break
                if state.batch == self.batches.steps_per_epoch or state.step == self.length.steps:
                    self.end_epoch()
                if interrupt.requested:
                    self.checkpoint()
                    raise KeyboardInterrupt
                if cadence.due(state.epoch):
                    with cadence.timed(state.epoch):
                        self.checkpoint()
            self.require_finite_weights("the weights are not finite")
            self.examine(at_end=True)
            self.snapshots.take(state.step, at_end=True)
            self.checkpoint()
        except NonfiniteError as overflow:
            recent = self.recording.recent()
            raise diverged(self.learner, state.step, overflow, self.directory, recent) from None
        finally:
            self.account()

    @property
    def finished(self) -> bool:
        """Whether the run has its length, stops early, or is stopped by a finding."""
        stopped = self.state.waited >= self._patience or self.examination.stopped_by is not None
        return self.length.reached(self.state) or stopped

    # ------------------------------------------------------------ a step

    def make_step(self, batches: tuple[Rows, ...]) -> None:
        """One optimizer step, and what is told of it."""
        optimizer = self.learner.optimizer
        if needs_closure(optimizer):
            seen: list[Passes] = []

            def evaluate_loss() -> float:
                seen.append(self.evaluate_loss(batches, again=bool(seen)))
                return seen[-1].loss

            optimizer.step(evaluate_loss)
            self.count(seen[-1], updated=True)
        else:
            passes = self.evaluate_loss(batches)
            self.count(passes, updated=self.learner.update())

    def evaluate_loss(self, batches: tuple[Rows, ...], *, again: bool = False) -> Passes:
        """The passes of a step, its gradients clipped; `again`: with a closure, which asks several times."""
        passes = self.learner.passes(self.train, batches, again=again)
        self.learner.clip(passes, self.train)
        if self.recording.due(self.state.step):
            self.recording.tell(self.step_scalars(passes))
        return passes

    def step_scalars(self, passes: Passes) -> dict[str, float]:
        """What is told of a step, by tag."""
        seconds = time.perf_counter() - self._mark_s
        scalars = {
            "loss/train": passes.loss,
            "lr": float(self.learner.optimizer.param_groups[0]["lr"]),
            "samples_per_second": (self._rows_since_mark + passes.rows) / seconds,
        }
        if passes.grad_norm is not None and passes.clip_factor is not None:
            scalars |= {"grad_norm/total": passes.grad_norm, "clip_factor": passes.clip_factor}
        return scalars

    def count(self, passes: Passes, *, updated: bool) -> None:
        """The step's rows join the epoch; if the parameters were updated, the step counts."""
        state = self.state
        state.batch += 1
        state.add(passes.rows, passes.loss)
        self._rows_since_mark += passes.rows
        if self.learner.objective.classifies:
            self._keep(passes)
        if not updated:
            state.skipped += 1
            if state.skipped >= MOST_SKIPPED_STEPS:
                what = f"the gradients overflowed {state.skipped} times in a row, however small GradScaler's scale"
                raise self._overflow(what, gradients_are_new=True)
            return
        if self.recording.due(state.step):
            self.recording.step_done(state.step)
            self._restart_clock()
        state.step += 1
        state.skipped = 0
        self.learner.schedule.after_step()
        self.progress.step(state.step, passes.loss)
        self.snapshots.take(state.step)
        self.examine()

    def examine(self, *, at_end: bool = False) -> None:
        """Look at the fixed rows, if that is due."""
        if (at_end or self.examination.due(self.state.step)) and self.weights_are_finite():
            self.learner.optimizer.zero_grad()  # a check takes the memory of a backward pass, which begins without them
        with self.recording.probe.pause():
            if self.examination.look(self.state.step, at_end=at_end):
                self._restart_clock()

    # ------------------------------------------------------------ an epoch

    def end_epoch(self) -> None:
        """Evaluate, tell, remember the best weights, move the schedule. A run may end in the middle of an epoch."""
        state = self.state
        whole = state.batch == self.batches.steps_per_epoch
        state.epoch += whole
        if state.step > state.evaluated_at:  # if GradScaler skipped all steps of the epoch, nothing is new
            scalars = self.evaluation_scalars()
            self.recording.log.scalars(state.step, scalars)
            self.progress.epoch(state.step, scalars)
            self.compare_with_best(scalars)
            state.evaluated_at = state.step
            if not math.isfinite(scalars.get("loss/val", 0.0)):
                self.require_finite_weights(f"the validation loss is {scalars['loss/val']}")
            if whole:
                self.learner.schedule.after_epoch(scalars.get("loss/val"))
        if whole:
            state.batch = 0
        state.clear_epoch()
        self._restart_clock()

    def evaluation_scalars(self) -> dict[str, float]:
        """Means over the epoch's training batches, and the validation split's metrics, by tag."""
        self._count_outputs()
        state = self.state
        scalars = {"loss/epoch": state.loss_sum / state.rows}
        if self.learner.objective.classifies:
            scalars["accuracy/epoch"] = state.correct / state.rows
        if self.val:
            with self.recording.probe.pause():
                metrics = evaluate(self.learner, self.val)
            scalars |= {f"{metric}/val": value for metric, value in metrics.items()}
            scalars["generalization_gap"] = scalars["loss/val"] - scalars["loss/epoch"]
        return scalars

    def compare_with_best(self, scalars: dict[str, float]) -> None:
        """Keep a copy of the weights if the validation metric has never been better."""
        metric = self.learner.deciding_metric
        if metric in scalars and self.state.note_evaluation(
            scalars[metric], higher_is_better=metric == "accuracy/val", min_delta=self._min_delta
        ):
            self._best.keep(self.learner.model.state_dict())

    def require_finite_weights(self, what: str) -> None:
        """Raises NonfiniteError if a parameter is NaN or Inf: the last update is seen by no training step."""
        if not self.weights_are_finite():
            raise self._overflow(what)

    def weights_are_finite(self) -> bool:
        """Whether no parameter holds NaN or Inf; if one does, the gradients of the last step tell where from."""
        return all(bool(torch.isfinite(parameter).all()) for parameter in self.learner.model.parameters())

    # ------------------------------------------------------------ what must not be lost

    def checkpoint(self) -> None:
        """Save everything that it takes to go on from here, and the best weights as a file of their own."""
        state, folder = self.state, self.directory / "checkpoints"
        self._count_outputs()
        state.log_bytes = self.recording.flush()
        self.account()
        content = self.learner.state_dict() | state.to_dict()
        random, best_model = random_state(self.learner.precision.device), self._best.read()
        save_checkpoint(folder / "last.pt", content | {"random": random, "best_model": best_model})
        if best_model is not None and state.best_step != self._best_saved:
            best = {"model": best_model, "epoch": state.best_epoch, "step": state.best_step}
            best |= {"metric": self.learner.deciding_metric, "value": state.best_value}
            save_checkpoint(folder / "best.pt", best | {"architecture": content["architecture"]})
            self._best_saved = state.best_step
        self._restart_clock()

    def restore(self, checkpoint: Mapping[str, Any]) -> None:
        """Go on where a checkpoint was saved; `state` has been read from it already."""
        self.learner.load_state_dict(checkpoint)
        if checkpoint["best_model"] is not None:
            self._best.keep(checkpoint["best_model"])
        restore_random_state(checkpoint["random"], self.learner.precision.device)

    def put_back_best(self) -> None:
        """The weights that are kept: with early stopping the best ones, else the last."""
        best_model = self._best.read() if self.learner.settings.early_stopping else None
        if best_model is not None:
            self.learner.model.load_state_dict(best_model)

    def account(self) -> None:
        """Bring up to date what counts by itself."""
        probe, before = self.recording.probe, self._before
        self.state.seconds = before.seconds + time.perf_counter() - self._began_s
        self.state.steps_measured = before.steps_measured + probe.steps_measured
        self.state.probe_seconds = before.probe_seconds + probe.seconds

    def _keep(self, passes: Passes) -> None:
        self._outputs += passes.outputs
        self._values_kept += passes.rows * self.learner.objective.output_size
        passed = passes.rows * self.train.inputs[0].numel()  # of a large step counting costs nothing, and what is kept
        if max(self._values_kept, passed) > _MOST_OUTPUTS_KEPT:  # from one to the next makes holes in the heap
            self._count_outputs()

    def _count_outputs(self) -> None:
        if self._outputs:
            outputs, targets = (torch.cat(parts) for parts in zip(*self._outputs, strict=True))
            self.state.correct += int(self.learner.objective.correct(outputs, targets).item())
            self._outputs, self._values_kept = [], 0

    def _restart_clock(self) -> None:
        self._mark_s, self._rows_since_mark = time.perf_counter(), 0

    def _overflow(self, what: str, *, gradients_are_new: bool = False) -> NonfiniteError:
        rows = slice(0, self.batches.sizes[0])
        return NonfiniteError(
            what, self.train.inputs[rows], self.train.targets[rows], gradients_are_new=gradients_are_new
        )
