"""How a run begins its record and ends it: whatever happens, the log is closed and summary.json says how it went.

log = open_log(directory, config, learner, state)
with Conclusion(directory, config, learner, state, recording, illustrate, examination, print) as conclusion:
    loop.run(interrupt)
    conclusion.metrics = {"val": evaluate(learner, val)}
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch

from nnvis.config import Config, dump_config, flatten
from nnvis.diagnosis import diagnose
from nnvis.record import EventLog, Run, load_run, write_json
from nnvis.record.files import disk_errors
from nnvis.record.study_log import log_run
from nnvis.record.summary import Status, run_summary
from nnvis.training.divergence import DivergedError
from nnvis.training.evaluation import evaluating
from nnvis.training.examination import Examination, as_markdown, conclude_diagnosis
from nnvis.training.learner import Learner
from nnvis.training.randomness import untouched
from nnvis.training.recording import Recording
from nnvis.training.state import State

_COLUMNS = ("loss/val", "accuracy/val", "loss/epoch", "accuracy/epoch")  # beside the hyperparameters in TensorBoard


def open_log(directory: Path, config: Config, learner: Learner, state: State | None) -> EventLog:
    """The log of a run that goes on from `state`, or of one that begins (again, where it was killed at once)."""
    if state is not None:
        return EventLog.resume(directory, state.log_bytes)
    for leftover in directory.glob("events.out.tfevents.*"):
        with disk_errors(leftover):
            leftover.unlink()
    log = EventLog.create(directory)
    log.layout()
    classifies = learner.objective.classifies
    log_run(log, directory, flatten(config), [tag for tag in _COLUMNS if classifies or not tag.startswith("accuracy")])
    log.text(0, "config", f"```yaml\n{dump_config(config)}```")
    if config.capture.graph:
        log.graph(model_graph(learner))
    return log


def model_graph(learner: Learner) -> bytes:
    """The model's graph as TensorBoard's GraphDef, traced in eval mode (over a second)."""
    from torch.utils.tensorboard._pytorch_graph import graph

    tokens = learner.architecture["vocabulary_size"] > 0
    inputs = torch.zeros(1, *learner.architecture["input_shape"], dtype=torch.int64 if tokens else torch.float32)
    with warnings.catch_warnings(), evaluating(learner.model), untouched(learner.precision.device):
        warnings.simplefilter("ignore")  # torch deprecates tracing, and has no other way to TensorBoard's graph
        return graph(learner.model, learner.precision.place(inputs))[0].SerializeToString()


@dataclass
class Conclusion:
    """Closes the record of a run, however it ends."""

    directory: Path
    config: Config
    learner: Learner
    state: State
    recording: Recording
    illustrate: Callable[[Run], Mapping[str, bytes]]  # -> figures as PNG, by name
    examination: Examination
    say: Callable[[str], None]
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)  # of the weights that are kept, by split

    def __enter__(self) -> Self:
        with disk_errors(summary := self.directory / "summary.json"):
            summary.unlink(missing_ok=True)
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        summary, log = self.summary(error), self.recording.log
        # one error is enough: what fails on the way out of a failure is not told
        with contextlib.suppress(Exception) if error else contextlib.nullcontext(), log:
            self._write_ending(log, summary)
        with contextlib.suppress(Exception) if error else contextlib.nullcontext():
            write_json(self.directory / "summary.json", summary)

    def _write_ending(self, log: EventLog, summary: dict[str, Any]) -> None:
        if "test" in self.metrics:
            log.scalars(self.state.step, {f"{metric}/test": value for metric, value in self.metrics["test"].items()})
        if summary["status"] == "diverged":
            log.text(self.state.step, "nonfinite", summary["error"])
        if summary["status"] in ("completed", "diverged", "stopped"):
            log.flush()
            run = replace(load_run(self.directory), summary=summary)
            found = diagnose(run)
            text = "\n\n---\n\n".join(map(as_markdown, found)) or "nothing was found"
            log.text(self.state.step, "findings", text)
            for name, png in self._figures(replace(run, findings=found.findings)).items():
                log.image(self.state.step, f"figures/{name}", png)
            conclude_diagnosis(run)  # again: it names the figures that there are now
            for finding in found:
                if finding.severity == "error" and finding.symptom not in self.examination.told:
                    self.say(f"{finding.symptom}: {finding.evidence}")
            if found.sick:
                self.say(f"causes and remedies: nnvis diagnose {self.directory}")
        log.hparams_end(summary["status"] == "completed")

    def _figures(self, run: Run) -> Mapping[str, bytes]:
        try:
            return self.illustrate(run)
        except Exception as problem:  # a picture is no reason to lose a run: its record is there to draw from again
            text = f"the figures could not be drawn: {problem}; try again with nnvis figures {self.directory}"
            warnings.warn(text, stacklevel=2)  # seen with --quiet too
            return {}

    def summary(self, error: BaseException | None) -> dict[str, Any]:
        """What summary.json holds."""
        state = self.state
        best = {"epoch": state.best_epoch, "metric": self.learner.deciding_metric, "value": state.best_value}
        finding = self.examination.stopped_by
        return run_summary(
            "stopped" if finding and error is None else _status(error),
            epochs=state.epoch,
            steps=state.step,
            seconds=state.seconds,
            device=str(self.learner.precision.device),
            seed=self.config.seed,
            metrics=self.metrics,
            best=None if math.isnan(state.best_value) else best,
            steps_measured=state.steps_measured,
            probe_seconds=state.probe_seconds,
            unseen=self.recording.probe.unseen,
            failure=self.recording.probe.failure,
            diagnosis=self.examination.account,
            stopped_by=finding.symptom if finding else "",
            nonfinite=error.source.to_dict() if isinstance(error, DivergedError) else None,
            error=str(error) if error and not isinstance(error, KeyboardInterrupt) else "",
        )


def _status(error: BaseException | None) -> Status:
    match error:
        case None:
            return "completed"
        case KeyboardInterrupt():
            return "interrupted"
        case DivergedError():
            return "diverged"
    return "failed"
