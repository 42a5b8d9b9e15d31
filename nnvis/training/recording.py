"""What training leaves in the log: the probe's measurements with a step's scalars beside them.

with Recording(log, config.capture, learner) as recording:
    if recording.due(step): recording.tell({"loss/train": 0.3})    # before the update
    optimizer.step()                                               # here the probe writes
    if recording.due(step): recording.step_done(step)
    length = recording.flush()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress

from nnvis.config import schema
from nnvis.errors import InputError, RunError
from nnvis.probe import NullProbe, Probe, coverage
from nnvis.probe.untouched import only_reads_parameters
from nnvis.record import EventLog, Measurement
from nnvis.training.learner import Learner

SCALARS_EVERY = 100
"""Steps between a step's scalars where capture is off; else they go with the measured steps."""


class Recording(AbstractContextManager["Recording"]):
    """A log and the probe that feeds it, if capture is on."""

    def __init__(self, log: EventLog, capture: schema.Capture, learner: Learner, first_step: int = 0) -> None:
        self.log = log
        self.probe: Probe | NullProbe = NullProbe()
        if capture.every:
            self.probe = Probe(
                learner.forward,
                [learner.optimizer],
                write=self._write,
                every=capture.every,
                layers=capture.layers,
                histograms=capture.histograms,
                histogram_every=capture.histogram_every,
                first_step=first_step,
                scaler=learner.scaler,
                may_be_wrapped=not only_reads_parameters(learner.model),  # not where all parts are torch's or nnvis's
            )
        self.say: Callable[[str], None] | None = None  # told once which layers are not seen, and why
        self._every = capture.every or SCALARS_EVERY
        self._scalars: Mapping[str, float] = {}
        self._measured = 0
        self._failure: Exception | None = None

    def __enter__(self) -> Recording:
        self.probe.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.probe.close()

    def due(self, step: int) -> bool:
        """Whether something of this step is recorded."""
        return step % self._every == 0

    def tell(self, scalars: Mapping[str, float]) -> None:
        """The scalars of the step in progress; told again, they replace what was told before."""
        self._scalars = scalars
        self.probe.log(scalars)

    def step_done(self, step: int) -> None:
        """The update of this due step has been made. Raises RunError where the log could not be written."""
        if self.probe.steps_measured == self._measured:  # no probe, or one that has stopped
            self.log.scalars(step, self._scalars)
        self._measured = self.probe.steps_measured
        self._raise_failure()

    def flush(self) -> int:
        """Makes durable what is recorded. Returns the log's length in bytes. Raises RunError on a full disk."""
        self.probe.flush()
        self._raise_failure()
        return self.log.flush()

    def recent(self) -> Sequence[Measurement]:
        """The last measured steps; none of those that could not be written."""
        with suppress(Exception):
            self.flush()
        return [*self.probe.recent]

    def _write(self, measurement: Measurement) -> None:
        try:
            self.log.network(self.probe.network, measurement.step)
            self.log.write(measurement)
            if self.say and self.probe.unseen:
                self.say(coverage(self.probe.unseen))
            self.say = None
        except (RunError, InputError) as error:  # a full disk: the probe would only warn and stop
            self._failure = error

    def _raise_failure(self) -> None:
        if self._failure:
            raise self._failure
