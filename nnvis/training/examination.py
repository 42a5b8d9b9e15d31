"""Checks while training runs: measured when due, judged at once, told when a finding becomes certain.

examination = Examination(checker, Schedule(plan.steps), log, budget=690, tell=progress.found)
examination.look(step)          # after every update; cheap where no check is due
examination.stopped_by          # the finding that `stop_on` ends the run for
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from nnvis.diagnosis import Diagnosis, diagnose, diagnose_beforehand
from nnvis.errors import InputError, RunError, tell
from nnvis.probe.checks import Checker
from nnvis.probe.schedule import Schedule
from nnvis.record import Check, EventLog, Finding, Run, load_run, write_findings
from nnvis.record.vocabulary import FloatArray

Picture = Callable[[Finding], bytes | None]


class Branching(NamedTuple):
    """Other learning rates: when they are tried, and what comes of them, as arrays by quantity."""

    steps: Collection[int]
    values: Callable[[], dict[str, FloatArray]]


class Examination:
    """Looks at a run's fixed rows between its steps. What goes wrong here warns once and spares the training."""

    def __init__(
        self,
        checker: Checker | None,
        schedule: Schedule,
        log: EventLog,
        *,
        earlier: Sequence[Check] = (),
        budget: int | None = None,
        planned_rate: float = 0.0,
        stop_on: Collection[str] = (),
        tell: Callable[[str, str], None] = lambda symptom, text: None,
        picture: Picture = lambda finding: None,
        beforehand: Callable[[Diagnosis], None] | None = None,
        branches: Branching | None = None,
    ) -> None:
        """`earlier`: the checks of a run that goes on; `budget`: its updates, where known; `planned_rate`: the
        largest learning rate that is meant; `picture`: draws a PNG.

        `tell` gets a finding's symptom, and a line that says all of it; `beforehand` what the check of step 0 says of
        a network that has not begun to train. `branches` tries other learning rates at its steps. Nothing that
        training does depends on either.
        """
        self._checker, self._schedule, self._log = checker, schedule, log
        self._checks = list(earlier)
        self._budget, self._planned_rate, self._stop_on = budget, planned_rate, stop_on
        self._tell, self._picture, self._beforehand = tell, picture, beforehand
        self._branches = branches
        self._undrawn: list[Finding] = []
        self.stopped_by: Finding | None = None
        self.told = {finding.symptom for finding in self._certain()} if earlier else set[str]()
        if earlier:
            schedule.last = earlier[-1].step

    @property
    def account(self) -> dict[str, Any]:
        """How many checks there are, and what those of this process took."""
        return {"checks": len(self._checks), "seconds": self._schedule.seconds}

    @property
    def checking(self) -> bool:
        """Whether there are rows to look at."""
        return self._checker is not None

    def due(self, step: int) -> bool:
        """Whether there is something to look at after so many updates; asked once for each step."""
        return self._checker is not None and self._schedule.due(step)

    def look(self, step: int, *, at_end: bool = False) -> bool:
        """Check if that is due, or (`at_end`) if the newest step has not been checked. Returns whether it was.

        Raises RunError where the log cannot be written.
        """
        if not (self.due(step) or (at_end and self._checker is not None and step > self._schedule.last)):
            return False
        try:
            self._look(step)
        except (RunError, InputError):
            raise
        except Exception as error:
            self._checker = None
            text = f"nnvis stops checking its fixed rows, training goes on: {type(error).__name__}: {error}"
            tell(text)
        return True

    def _look(self, step: int) -> None:
        assert self._checker is not None
        with self._schedule.timed(step):
            check = self._with_branches(self._checker.check(step))
            self._log.check(check)
            self._checks.append(check)
            certain = self._certain()
        said: set[str] = set()
        if step == 0 and self._beforehand is not None:
            found = diagnose_beforehand(self._run())
            self._beforehand(found)
            said = {finding.symptom for finding in found if finding.severity == "error"}
        for finding in certain:
            if finding.symptom not in self.told:
                self.told.add(finding.symptom)
                self._announce(finding, step, aloud=finding.symptom not in said)
            if finding.symptom in self._stop_on and self.stopped_by is None:
                self.stopped_by = finding
        self._draw(step)

    def _with_branches(self, check: Check) -> Check:
        """The check with what other learning rates do from there, if that is due. What goes wrong is told once."""
        if self._branches is None or check.step not in self._branches.steps:
            return check
        try:
            return replace(check, values={**check.values, **self._branches.values()})
        except Exception as error:
            self._branches = None
            tell(f"nnvis tries no other learning rates, training goes on: {type(error).__name__}: {error}")
            return check

    def _certain(self) -> list[Finding]:
        """Errors, as far as the checks alone tell."""
        return [finding for finding in diagnose(self._run()) if finding.severity == "error"]

    def _run(self) -> Run:
        summary = {} if self._budget is None else {"budget": self._budget, "planned_rate": self._planned_rate}
        return Run.of_checks(self._log.path.parent, self._checks, summary=summary)

    def _announce(self, finding: Finding, step: int, *, aloud: bool) -> None:
        if aloud:
            self._tell(finding.symptom, f"step {step:,}: {finding.symptom}: {finding.evidence}")
        self._log.text(step, f"findings/{finding.symptom}", as_markdown(finding))
        self._undrawn.append(finding)

    def conclude(self, step: int) -> Diagnosis:
        """Judge the whole record of a run that has ended, write findings.json, draw what is not drawn yet."""
        path = self._log.path.parent
        certain = [finding for finding in diagnose(load_run(path)) if finding.severity == "error"]
        self._undrawn += [finding for finding in certain if finding.symptom not in self.told]
        self._draw(step)
        return conclude_diagnosis(load_run(path))

    def _draw(self, step: int) -> None:
        """The figures of what was told; one that has no data yet is tried again at the next check."""
        waiting, self._undrawn = self._undrawn, []
        if waiting:
            self._log.flush()
        for finding in waiting:
            try:
                png = self._picture(finding)
            except Exception:  # a picture is no reason to stop looking
                continue
            if png:
                self._log.image(step, f"findings/{finding.symptom}/figure", png)
            else:
                self._undrawn.append(finding)


def as_markdown(finding: Finding) -> str:
    """A finding for TensorBoard's Text dashboard."""
    lines = [
        f"**{finding.symptom}** ({finding.severity}), since step {finding.first_step:,}",
        "",
        finding.evidence,
        "",
        *(f"- cause: {cause}" for cause in finding.causes),
        *(f"- remedy: {remedy.title}: {remedy.why}" for remedy in finding.remedies),
    ]
    return "\n".join(lines)


def conclude_diagnosis(run: Run) -> Diagnosis:
    """Judge a run that has ended, and write findings.json."""
    found = diagnose(run)
    write_findings(run.path, found.findings, found.not_judged)
    return found
