"""All rules over a record: findings, and what could not be judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from nnvis.diagnosis.evidence import NotJudged
from nnvis.diagnosis.fit import bad_initial_loss, not_learning, overfitting, underfitting
from nnvis.diagnosis.gradients import exploding_gradients, vanishing_gradients, zero_gradients
from nnvis.diagnosis.inputs import (
    bad_labels,
    class_imbalance,
    constant_features,
    shared_rows,
    unnormalized_inputs,
    unnormalized_targets,
)
from nnvis.diagnosis.nonfinite import nonfinite_values
from nnvis.diagnosis.rates import learning_rate_too_high, learning_rate_too_low
from nnvis.diagnosis.remedies import TREAT_CAUSES, fitted
from nnvis.diagnosis.structure import loss_mismatch, missing_nonlinearity, output_mismatch
from nnvis.diagnosis.units import dead_units, saturated_activations, symmetric_units
from nnvis.record.run import Run, load_run
from nnvis.record.vocabulary import Finding

Rule = Callable[[Run], list[Finding]]

RULES: dict[str, Rule] = {
    "nonfinite_values": nonfinite_values,
    "output_mismatch": output_mismatch,
    "loss_mismatch": loss_mismatch,
    "bad_labels": bad_labels,
    "symmetric_units": symmetric_units,
    "zero_gradients": zero_gradients,
    "vanishing_gradients": vanishing_gradients,
    "exploding_gradients": exploding_gradients,
    "dead_units": dead_units,
    "saturated_activations": saturated_activations,
    "missing_nonlinearity": missing_nonlinearity,
    "constant_features": constant_features,
    "unnormalized_inputs": unnormalized_inputs,
    "unnormalized_targets": unnormalized_targets,
    "learning_rate_too_high": learning_rate_too_high,
    "learning_rate_too_low": learning_rate_too_low,
    "class_imbalance": class_imbalance,
    "shared_rows": shared_rows,
    "not_learning": not_learning,
    "underfitting": underfitting,
    "overfitting": overfitting,
    "bad_initial_loss": bad_initial_loss,
}
"""By symptom; the order is that in which findings of one severity are told: what may cause others comes first."""

SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True)
class Diagnosis:
    """Findings, the gravest first; and by symptom why it could not be judged."""

    findings: tuple[Finding, ...]
    not_judged: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    @property
    def sick(self) -> bool:
        """Whether a finding is an error."""
        return any(finding.severity == "error" for finding in self.findings)

    @property
    def judged(self) -> tuple[str, ...]:
        """The symptoms that were looked for and not found."""
        found = {finding.symptom for finding in self.findings}
        return tuple(symptom for symptom in RULES if symptom not in found and symptom not in self.not_judged)


def diagnose(run: Run | str | Path) -> Diagnosis:
    """What is wrong with a run (or the one in a directory), finished or not, as far as its record tells.

    `figure` of a finding is the file in the run's directory that shows it, where that has been drawn. `overrides` of
    its remedies fit the run's config; a watched run's are advice.
    """
    return judge(run if isinstance(run, Run) else load_run(run), RULES)


def judge(run: Run, rules: Mapping[str, Rule]) -> Diagnosis:
    """All of these rules over a record."""
    findings: list[Finding] = []
    not_judged: dict[str, str] = {}
    for symptom, rule in rules.items():
        try:
            findings += rule(run)
        except NotJudged as reason:
            not_judged[symptom] = str(reason)
        except KeyError as missing:  # a record of another version, or of a check that was cut short
            not_judged[symptom] = f"the record has no {missing.args[0]}"
    judged = sorted(_with_causes(findings), key=lambda finding: SEVERITIES.index(finding.severity))
    judged = [replace(finding, remedies=fitted(finding, run.config)) for finding in judged]
    return Diagnosis(tuple(_with_figure(run, finding) for finding in judged), not_judged)


def _with_figure(run: Run, finding: Finding) -> Finding:
    file = f"figures/finding_{finding.symptom}.png"
    return replace(finding, figure=file) if (run.path / file).is_file() else finding


_STRUCTURAL = tuple(RULES)[: tuple(RULES).index("not_learning")]
_OF_LAYERS = ("vanishing_gradients", "exploding_gradients", "dead_units", "saturated_activations")


def _with_causes(findings: list[Finding]) -> Iterator[Finding]:
    """That little or nothing is learned is blamed on what else there is; errors are to be treated first.

    A symptom of layers that is a note by itself is a warning where the network does less than a linear baseline.
    """
    underfits = any(finding.symptom == "underfitting" for finding in findings)
    for finding in findings:
        if finding.symptom in ("not_learning", "underfitting"):
            blamed = ("error",) if finding.symptom == "not_learning" else SEVERITIES
            others = [f for f in findings if f.symptom in _STRUCTURAL and f.severity in blamed]
            first = (TREAT_CAUSES,) if any(f.severity == "error" for f in others) else ()
            causes = (*(f.symptom for f in others), *finding.causes)
            finding = replace(finding, causes=causes, remedies=(*first, *finding.remedies))
        elif underfits and finding.severity == "info" and finding.symptom in _OF_LAYERS:
            finding = replace(finding, severity="warning")
        yield finding
