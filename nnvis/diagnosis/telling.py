"""A diagnosis in words: for people (rich), for machines (JSON).

print_diagnosis(run, found, console)
in_a_line(finding)
as_json(found)
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from nnvis.diagnosis.diagnose import Diagnosis
from nnvis.diagnosis.evidence import not_begun
from nnvis.diagnosis.rates import tried_rates
from nnvis.record.files import plain
from nnvis.record.run import Run
from nnvis.record.vocabulary import Finding

_STYLES = {"error": "bold red", "warning": "bold yellow", "info": "bold blue"}
_MOST_LAYERS = 3
_END = "\n..."  # what YAML writes behind a lone word or number


def print_diagnosis(run: Run, found: Diagnosis, console: Console) -> None:
    """What is wrong, where, since when; evidence, causes, remedies; then what was and was not judged."""
    begun = not not_begun(run)
    say = lambda text, style="": console.print(Text(text, style=style), soft_wrap=not console.is_terminal)  # noqa: E731
    if not found.findings:
        say(f"{run.name}: nothing was found", "bold green")
    for finding in found:
        console.print(_headline(finding, with_step=begun))
        say(f"  {finding.evidence}")
        for rank, cause in enumerate(finding.causes, 1):
            say(f"  cause {rank}: {cause}" if len(finding.causes) > 1 else f"  cause: {cause}")
        for remedy in finding.remedies:
            change = in_words(remedy.overrides)
            say(f"  remedy: {remedy.title}: {remedy.why}" + (f" [{change}]" if change else ""))
        if finding.figure:
            say(f"  figure: {run.path / finding.figure}")
        say("")
    if found.judged:
        say(f"looked for and not found: {', '.join(found.judged)}", "dim")
    by_reason: dict[str, list[str]] = {}
    for symptom, reason in found.not_judged.items():
        by_reason.setdefault(reason, []).append(symptom)
    for reason, symptoms in by_reason.items():
        say(f"not judged, since {reason}: {', '.join(symptoms)}", "dim")


def print_rates(run: Run, console: Console) -> None:
    """What came of other learning rates, where they were tried: a verdict and a table for each state."""
    say = lambda text, style="": console.print(Text(text, style=style), soft_wrap=not console.is_terminal)  # noqa: E731
    for trial in tried_rates(run):
        best = "" if trial.best is trial.current else f"; the best of those tried is {trial.best.rate:.3g}"
        say(f"learning rate {trial.current.rate:.3g} at step {trial.step:,}: {trial.verdict}{best}", "bold")
        say(f"  rate       loss of {len(trial.start):,} training rows, {trial.steps} steps later", "dim")
        say(f"  0          {trial.start.mean():.4g}")
        for branch in trial.branches:
            mark = "  <- in use" if branch is trial.current else "  <- best" if branch is trial.best else ""
            ended = f"{branch.loss:.4g}" if math.isfinite(branch.gain) else "not finite"
            say(f"  {branch.rate:<9.3g}  {ended}{mark}", "bold" if mark else "")
        say("")


def as_json(found: Diagnosis, run: Run | None = None) -> dict[str, Any]:
    """The same as `findings.json`, and what came of other learning rates in a `run`; NaN and Inf are null."""
    content = {"findings": [asdict(finding) for finding in found], "not_judged": dict(found.not_judged)}
    tried = tried_rates(run) if run else ()
    return plain(content | ({"learning_rates": [trial.to_dict() for trial in tried]} if tried else {}))


def in_a_line(finding: Finding) -> str:
    """`warning unnormalized_inputs in linear1: …; do this first`."""
    remedy = f"; {finding.remedies[0].title}" if finding.remedies else ""
    return f"{finding.severity} {finding.symptom}{_where(finding)}: {finding.evidence}{remedy}"


def _where(finding: Finding) -> str:
    rest = len(finding.layers) - _MOST_LAYERS
    shown = ", ".join(finding.layers[:_MOST_LAYERS]) + (f" and {rest} more" if rest > 0 else "")
    return f" in {shown}" if finding.layers else ""


def _headline(finding: Finding, *, with_step: bool) -> Text:
    line = Text(f"{finding.severity.upper()} ", style=_STYLES[finding.severity])
    line.append(finding.symptom, style="bold")
    line.append(_where(finding))
    return line.append(f", since step {finding.first_step:,}") if with_step else line


def in_words(overrides: Mapping[str, Any]) -> str:
    """As they are written behind `nnvis train CONFIG`."""
    from nnvis.config.yaml_text import write_line

    told = [f"{key}={write_line(value).removesuffix(_END)}" for key, value in overrides.items()]
    return " ".join(map(shlex.quote, told))
