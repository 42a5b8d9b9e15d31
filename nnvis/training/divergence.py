"""When numbers stop being finite: the run ends, and says which layer, direction and step came first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnvis.errors import RunError
from nnvis.probe import Nonfinite, growth, locate_nonfinite
from nnvis.record import Measurement
from nnvis.training.learner import Learner, NonfiniteError


@dataclass(frozen=True)
class Source:
    """Where the first non-finite number came from."""

    step: int  # updates completed before the step in which it appeared
    found: Nonfinite

    def to_dict(self) -> dict[str, Any]:
        return {"step": self.step, **asdict(self.found), "source": self.found.source}


class DivergedError(RunError):
    """The loss, the gradients or the weights are no longer finite."""

    def __init__(self, text: str, source: Source) -> None:
        super().__init__(text)
        self.source = source


def diverged(
    learner: Learner, step: int, overflow: NonfiniteError, directory: Path, recent: Iterable[Measurement] = ()
) -> DivergedError:
    """The error for an overflow that showed at this step of the run in `directory`, its source looked for.

    `recent`: the last measured steps, which tell how it grew.
    """
    found = locate_nonfinite(learner.model, lambda: learner.loss(overflow.inputs, overflow.targets, learner.model)[1])
    earlier = found.direction != "forward" and not overflow.gradients_are_new and step > 0
    source = Source(step - earlier, found)
    clipped = learner.settings.clip_grad_norm or learner.settings.clip_grad_value
    parts = [
        f"diverged at step {step}: {overflow}",
        f"at step {source.step}, {found}",
        growth(found.direction, found.layer, recent),
        f"lower optimizer.lr (it is {float(learner.optimizer.param_groups[0]['lr']):g})"
        + ("" if clipped else " or set training.clip_grad_norm: 1.0"),
        f"the record: {directory}",
    ]
    return DivergedError("; ".join(filter(None, parts)), source)
