"""What `nnvis.check` alone finds in the fault cases, before training: `check_cases(cases, 5, held).table()`.

Each case is built as training would start it, and checked by one batch, the first 256 of its training rows. Written
down here: which root causes one batch can show (ONE_BATCH), and which it cannot, and why (NOT_YET). A root cause is
found by a warning or an error whose symptom is acceptable for it (EXPECTED of fault_scoring.py).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from fault_data import make_data
from fault_facts import Case
from fault_parts import build_loss, build_model
from fault_scoring import EXPECTED, interval

import nnvis
from nnvis.record.vocabulary import Finding

ROWS = 256

ONE_BATCH: dict[str, tuple[str, ...]] = {
    "initialisation": (
        "poor_init",
        "vanishing_gradient",
        "exploding_gradient",
        "saturation",
        "wrong_hidden_activation",
    ),
    "output": ("wrong_output_activation", "double_softmax", "unnormalized_target"),
    "loss": (
        "wrong_loss",
        "loss_broadcast_bug",
        "loss_reduction_sum",
        "numerically_unstable_loss",
        "gradient_sign_flipped",
    ),
    "input scale": ("unnormalized_input",),
    "symmetry": ("symmetric_init",),
    "structure and labels": ("missing_nonlinearity", "label_degenerate", "class_imbalance", "shuffled_labels"),
}
"""By what is wrong: root causes that are there before the first step."""

NOT_YET = {
    "dead_relu": "units die while the network trains; a start with most of them off is found, and not all have one",
    "lr_too_high": "needs steps",
    "lr_too_low": "needs steps",
    "too_few_epochs": "needs steps",
    "overfitting": "needs steps",
    "missing_regularization": "needs steps",
    "missing_batchnorm": "needs steps: training is slower",
    "capacity": "needs steps",
    "label_corruption": "some wrong labels are like noise",
}
"""Root causes that no batch shows before training, and why."""


@dataclass(frozen=True)
class Checked:
    """A case with a seed, checked."""

    case: Case
    seed: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def alarms(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity != "info")

    @property
    def due(self) -> tuple[str, ...]:
        """The root causes that one batch can show."""
        return tuple(label for label in self.case.label if any(label in labels for labels in ONE_BATCH.values()))

    def found(self, label: str) -> bool:
        return any(finding.symptom in EXPECTED[label].symptoms for finding in self.alarms)


def check_case(case: Case, seed: int) -> Checked:
    """One batch of a case as training would start it."""
    data = make_data(case, seed)
    torch.manual_seed(seed)
    model, loss_fn = build_model(case, data.inputs), build_loss(case)
    with warnings.catch_warnings(action="ignore"):
        return Checked(case, seed, tuple(nnvis.check(model, loss_fn, data.inputs[:ROWS], data.targets[:ROWS])))


@dataclass(frozen=True)
class Checks:
    """All checked cases, and the figures."""

    runs: tuple[Checked, ...]
    held_out: frozenset[str]

    @property
    def due(self) -> list[tuple[Checked, str]]:
        """Every root cause of every run that is to be found."""
        return [(run, label) for run in self.runs if run.case.sick for label in run.due]

    @property
    def healthy(self) -> list[Checked]:
        return [run for run in self.runs if run.case.role == "healthy"]

    @property
    def healed(self) -> list[Checked]:
        return [run for run in self.runs if run.case.role == "healed"]

    def table(self) -> str:
        lines = [f"{'before training, one batch of 256 rows':<44}{'there':>7}{'found':>7}{'missed':>8}"]
        for kind, labels in ONE_BATCH.items():
            for label in labels:
                there = [run for run, due in self.due if due == label]
                if there:
                    found = sum(run.found(label) for run in there)
                    lines.append(f"{f'{kind}: {label}':<44}{len(there):>7}{found:>7}{len(there) - found:>8}")
        for title, part in (("all", lambda name: True), ("held-out half", lambda name: name in self.held_out)):
            lines += ["", f"{title}:", *self._figures(part)]
        missed = [(run, label) for run, label in self.due if not run.found(label)]
        lines += ["", *_list("missed", missed, lambda one: f"{_called(one[0])}: {one[1]}; {_said(one[0].findings)}")]
        alarmed = [run for run in (*self.healthy, *self.healed) if run.errors]
        lines += _list("errors on healthy cases", alarmed, lambda run: f"{_called(run)}: {_said(run.errors)}")
        warned = [run for run in (*self.healthy, *self.healed) if run.alarms and not run.errors]
        lines += _list("warnings on healthy cases", warned, lambda run: f"{_called(run)}: {_said(run.alarms)}")
        silent = [run for run in self.runs if run.case.sick and not run.due]
        lines += _list("not to be seen before training", silent, _why)
        return "\n".join(lines)

    def _figures(self, counts: Callable[[str], bool]) -> list[str]:
        due = [(run, label) for run, label in self.due if counts(run.case.id)]
        healthy, healed = ([run for run in runs if counts(run.case.id)] for runs in (self.healthy, self.healed))
        return [
            _share("root causes found", [run.found(label) for run, label in due]),
            _share("  … with an error", [bool(run.errors) for run, label in due if run.found(label)]),
            _share("healthy with an error", [bool(run.errors) for run in healthy]),
            _share("  … with a warning or an error", [bool(run.alarms) for run in healthy]),
            _share("healed by us, with an error", [bool(run.errors) for run in healed]),
        ]


def check_cases(cases: dict[str, Case], seeds: int, held: set[str]) -> Checks:
    """All cases with so many seeds."""
    return Checks(tuple(check_case(case, seed) for case in cases.values() for seed in range(seeds)), frozenset(held))


def _share(what: str, hits: Sequence[bool]) -> str:
    if not hits:
        return f"  {what:<44} none"
    low, high = interval(sum(hits), len(hits))
    return f"  {what:<44} {sum(hits)} of {len(hits)} = {sum(hits) / len(hits):.1%} [{low:.1%}, {high:.1%}]"


def _list(title: str, entries: Sequence, say) -> list[str]:  # pyright: ignore[reportMissingParameterType, reportMissingTypeArgument]
    return [f"{title}: {len(entries) or 'none'}", *(f"  {say(entry)}" for entry in entries)]


def _why(run: Checked) -> str:
    reasons = "; ".join(f"{label}: {NOT_YET[label]}" for label in run.case.label)
    return f"{_called(run)}: {_said(run.alarms)} ({reasons})"


def _called(run: Checked) -> str:
    return f"{run.case.id} {run.seed}"


def _said(findings: Sequence[Finding]) -> str:
    return ", ".join(f"{finding.symptom} ({finding.severity})" for finding in findings) or "no finding"
