"""How good the diagnosis is on trained fault cases: `print(score(cases, records, held_out(cases)).table())`.

Of what a record alone tells; with `joint` of record, branches and the check before training together, where
`fault_branching` has left branches: of each symptom the gravest finding counts.

Written down before any record was diagnosed: which findings are acceptable for which root cause (EXPECTED), which root
causes a record cannot tell (LATER), and when a fault had a consequence at all (`consequence`), which is judged by the
loop's own losses and the healed twin and by none of nnvis's rules.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fault_branching import FILE, with_branches
from fault_facts import Case
from fault_training import Outcome, read_outcome
from scipy.stats import beta

import nnvis
from nnvis.diagnosis import diagnose_beforehand
from nnvis.diagnosis.diagnose import SEVERITIES
from nnvis.record import Run
from nnvis.record.vocabulary import Finding


@dataclass(frozen=True)
class Expected:
    """What is acceptable for a root cause."""

    symptoms: tuple[str, ...]  # the symptom of its own first; each of them is a detection
    causes: str  # a pattern that a named cause matches
    itself: bool = True  # whether its own symptom already names the cause, as `unnormalized_inputs` does


_START = "initialis|weights start|starts with large weights"
EXPECTED: dict[str, Expected] = {
    # Symptoms that have causes: the finding's causes must name one.
    "vanishing_gradient": Expected(
        ("vanishing_gradients", "zero_gradients"), f"slope|sigmoid|tanh|activation|depth|{_START}", itself=False
    ),
    "dead_relu": Expected(
        ("dead_units", "zero_gradients", "vanishing_gradients"),
        f"learning rate is too high|bias|inputs|{_START}",
        itself=False,
    ),
    "exploding_gradient": Expected(
        ("exploding_gradients", "nonfinite_values"),
        f"activation|depth|learning rate is too high|{_START}",
        itself=False,
    ),
    "saturation": Expected(("saturated_activations", "exploding_gradients"), f"inputs|{_START}", itself=False),
    "symmetric_init": Expected(("symmetric_units",), f"same|constant|{_START}"),
    "overfitting": Expected(("overfitting",), "rows|data|regularis|decay|dropout|large|long|noise|heart", itself=False),
    "missing_regularization": Expected(("overfitting",), "regularis|decay|dropout|rows|data|large|long"),
    # A bad start shows as whatever it does to signal and gradient.
    "poor_init": Expected(
        (
            "bad_initial_loss",
            "exploding_gradients",
            "vanishing_gradients",
            "saturated_activations",
            "dead_units",
            "zero_gradients",
        ),
        _START,
        itself=False,
    ),
    # Causes that can be seen as what they are.
    "lr_too_high": Expected(
        ("learning_rate_too_high", "exploding_gradients", "dead_units", "nonfinite_values"), "learning rate is too high"
    ),
    "lr_too_low": Expected(("learning_rate_too_low",), "learning rate is too low"),
    "unnormalized_input": Expected(
        ("unnormalized_inputs", "bad_initial_loss", "exploding_gradients", "saturated_activations", "dead_units"),
        "inputs .*(standardis|normalis|scale|far from)",
    ),
    "unnormalized_target": Expected(
        ("unnormalized_targets", "output_mismatch", "bad_initial_loss"), "targets .*(standardis|normalis|scale)"
    ),
    "wrong_output_activation": Expected(
        ("output_mismatch", "zero_gradients", "bad_initial_loss", "loss_mismatch"),
        "output activation|output or the loss|softmax (over|or|twice)|unit with softmax|logits|probabilit",
    ),
    "double_softmax": Expected(("output_mismatch",), "softmax|logits"),
    "wrong_loss": Expected(("loss_mismatch", "output_mismatch"), "another task|loss for|classes"),
    "loss_broadcast_bug": Expected(("loss_mismatch",), "shape|broadcast"),
    "loss_reduction_sum": Expected(("loss_mismatch", "learning_rate_too_high"), "sum"),
    "numerically_unstable_loss": Expected(("loss_mismatch", "nonfinite_values", "output_mismatch"), "log"),
    "gradient_sign_flipped": Expected(("loss_mismatch",), "sign"),
    "missing_nonlinearity": Expected(("missing_nonlinearity", "underfitting"), "nonlinear|activation is missing"),
    "wrong_hidden_activation": Expected(
        ("vanishing_gradients", "dead_units", "saturated_activations", "missing_nonlinearity"),
        "activation|slope|sigmoid|tanh",
    ),
    "capacity": Expected(("underfitting",), "capacity|narrow|small", itself=False),
    "label_degenerate": Expected(("bad_labels",), "label|class"),
    "label_corruption": Expected(("bad_labels",), "label"),
    "shuffled_labels": Expected(("bad_labels",), "label"),
    "class_imbalance": Expected(("class_imbalance",), "class"),
}

LATER: dict[str, str] = {
    "too_few_epochs": "needs a longer run to compare with",
    "batch_size_too_small": "needs branches",
    "validation_leak": "needs the two data sets, not the record",
    "over_regularization": "needs branches",
    "missing_batchnorm": "no symptom of its own: training is slower",
    "degradation_depth": "needs a shallower twin",
    "adam_epsilon_low": "needs branches",
    "fp16_adam_epsilon_underflow": "needs the optimizer's state",
}
"""Root causes that a record cannot tell, and what it would take."""

BY_BRANCHES = ("lr_too_low",)
"""Root causes that branches with other learning rates tell, and a record alone does not."""

ANY_FAULT = ("not_learning", "underfitting", "nonfinite_values")
"""Consequences: they detect a fault, whatever it is, and do not name it."""

# --- Consequence ----------------------------------------------------------------------------------------------------

NO_PROGRESS = 0.95  # of the best constant answer's loss
WORSE = 0.05  # accuracy or R², against the healed twin's median
SLOWER = 2.0  # times as many steps as the healed twin for half of what that gains
OVERFITTED = 1.1  # times the lowest validation loss


def trains(outcome: Outcome) -> bool:
    """Whether anything was learned: finite, and better than the best constant answer."""
    last = outcome.train[-1]
    return outcome.nonfinite is None and math.isfinite(last) and last < NO_PROGRESS * outcome.null


def learns(outcome: Outcome) -> bool:
    """Whether what was learned holds for other rows, too, at any time: there is something to learn."""
    return trains(outcome) and (not outcome.val or min(outcome.val) < NO_PROGRESS * outcome.null)


def consequence(case: Case, outcome: Outcome, twins: Sequence[Outcome]) -> str:
    """What a fault did to this run; "" where it did nothing that could be seen at this size."""
    if not trains(outcome):
        finite = outcome.nonfinite is None and math.isfinite(outcome.train[-1])
        return "no progress" if finite else "not finite"
    if twins:
        gap = float(np.median([twin.score for twin in twins])) - outcome.score
        if gap >= WORSE:
            return f"{gap:.2f} below its healed twin"
        goal = 1 - 0.5 * (1 - float(np.median([twin.train[-1] / twin.null for twin in twins])))
        usual = float(np.median([_steps_until(goal, twin) for twin in twins]))
        if _steps_until(goal, outcome) > SLOWER * usual:
            return f"over {SLOWER:g} times as slow as its healed twin"
    if "overfitting" in case.label and outcome.val:
        best = int(np.argmin(outcome.val))
        if outcome.val[-1] > OVERFITTED * outcome.val[best] and outcome.train[-1] < outcome.train[best]:
            return "overfitted"
    return ""


def _steps_until(goal: float, outcome: Outcome) -> float:
    for step, loss in zip(outcome.steps, outcome.train, strict=True):
        if loss / outcome.null <= goal:
            return step
    return math.inf


# --- Scoring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scored:
    """A diagnosed run."""

    case: Case
    outcome: Outcome
    findings: tuple[Finding, ...]
    consequence: str  # of a faulty run
    held_out: bool
    branched: bool = False

    @property
    def told(self) -> tuple[str, ...]:
        """The root causes that can be told."""
        labels = (label for label in self.case.label if label in EXPECTED)
        return tuple(label for label in labels if self.branched or label not in BY_BRANCHES)

    @property
    def counts(self) -> bool:
        """Whether it is to be detected (a faulty run), or to be left in peace (a healthy one)."""
        return bool(self.told and self.consequence) if self.case.sick else learns(self.outcome)

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """Findings that say something is wrong."""
        return tuple(finding for finding in self.findings if finding.severity in ("warning", "error"))

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def detected(self) -> bool:
        acceptable = {*ANY_FAULT, *(symptom for label in self.told for symptom in EXPECTED[label].symptoms)}
        return any(finding.symptom in acceptable for finding in self.alarms)

    @property
    def cause_named(self) -> bool:
        """A structural symptom that is the cause, or an acceptable one among the first three of a finding's causes."""
        return any(names(finding, label) for label in self.told for finding in self.alarms)

    def shows(self, symptom: str, severity: Iterable[str] = ("warning", "error")) -> bool:
        return any(finding.symptom == symptom and finding.severity in severity for finding in self.findings)


def names(finding: Finding, label: str) -> bool:
    """Whether a finding names `label` as the cause."""
    expected = EXPECTED[label]
    if expected.itself and finding.symptom == expected.symptoms[0]:
        return True
    if finding.symptom not in (*expected.symptoms, *(ANY_FAULT if expected.itself else ("nonfinite_values",))):
        return False
    return any(re.search(expected.causes, cause, re.IGNORECASE) for cause in finding.causes[:3])


def interval(found: int, runs: int, level: float = 0.95) -> tuple[float, float]:
    """The exact (Clopper-Pearson) confidence interval of a share, in [0, 1]."""
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, found, runs - found + 1)) if found else 0.0
    high = float(beta.ppf(1 - tail, found + 1, runs - found)) if found < runs else 1.0
    return low, high


@dataclass(frozen=True)
class Score:
    """All diagnosed runs, and the figures."""

    runs: tuple[Scored, ...]
    joint: bool = False

    @property
    def faulty(self) -> list[Scored]:
        """Runs with a fault that had a consequence and can be told from a record."""
        return [run for run in self.runs if run.case.sick and run.counts]

    @property
    def healthy(self) -> list[Scored]:
        """Healthy runs of the file that learn something."""
        return [run for run in self.runs if run.case.role == "healthy" and run.counts]

    @property
    def healed(self) -> list[Scored]:
        """Runs of healed faulty cases that train: healthy ones of our own making, not in the targets."""
        return [run for run in self.runs if run.case.role == "healed" and run.counts]

    def of(self, held: bool) -> Score:
        return Score(tuple(run for run in self.runs if run.held_out == held), self.joint)

    def table(self) -> str:
        note = "in brackets: exact 95% intervals, as if runs were independent; the seeds of one case are alike"
        return "\n".join([*self._symptoms(), "", *self._figures(), note, "", *self._lists()])

    def _symptoms(self) -> list[str]:
        symptoms = dict.fromkeys(expected.symptoms[0] for expected in EXPECTED.values() if expected.itself)
        symptoms |= dict.fromkeys(expected.symptoms[0] for expected in EXPECTED.values())
        symptoms |= dict.fromkeys(f.symptom for run in self.runs for f in run.alarms)
        well = [*self.healthy, *self.healed]
        lines = [
            f"{'symptom':<24}{'of a label':>12}{'found':>8}{'missed':>8}{'':>16}{'false error':>14}{'':>14}"
            f"{'false warning':>15}",
        ]
        for symptom in sorted(symptoms):
            labels = [
                label
                for label, expected in EXPECTED.items()
                if expected.symptoms[0] == symptom and label != "poor_init"
            ]
            due = [run for run in self.faulty if set(labels) & set(run.told)]
            found = sum(run.shows(symptom) for run in due)
            errors, warnings = (sum(run.shows(symptom, (s,)) for run in well) for s in ("error", "warning"))
            due_text = (len(due), found, len(due) - found) if labels else ("", "", "")
            if len(due) or errors or warnings:
                lines.append(
                    f"{symptom:<24}{due_text[0]:>12}{due_text[1]:>8}{due_text[2]:>8}{_range(found, len(due)):>16}"
                    f"{f'{errors} of {len(well)}':>14}{_range(errors, len(well)):>14}"
                    f"{f'{warnings} of {len(well)}':>15}"
                )
        return lines

    def _figures(self) -> list[str]:
        lines, aims = [], ("90% or more", "80% or more") if self.joint else ("85% or more", "75% or more")
        for title, part in (("all", self), ("development half", self.of(False)), ("held-out half", self.of(True))):
            faulty, healthy, healed = part.faulty, part.healthy, part.healed
            lines += [
                f"{title}:",
                _share("faulty, visible, can be told: detected", [run.detected for run in faulty], faulty, aims[0]),
                _share("  … by a finding of severity error", [bool(run.errors) for run in faulty], faulty),
                _share("  … with an acceptable cause named", [run.cause_named for run in faulty], faulty, aims[1]),
                _share("healthy with an error", [bool(run.errors) for run in healthy], healthy, "2% or less"),
                _share("  … with a warning or an error", [bool(run.alarms) for run in healthy], healthy),
                _share("healed by us, with an error", [bool(run.errors) for run in healed], healed),
            ]
        return lines

    def _lists(self) -> list[str]:
        wrong = [run for run in self.faulty if not run.detected]
        unnamed = [run for run in self.faulty if run.detected and not run.cause_named]
        alarmed = [run for run in (*self.healthy, *self.healed) if run.errors]
        idle = [run for run in self.runs if not run.case.sick and not run.counts]
        unseen = [run for run in self.runs if run.case.sick and run.told and not run.consequence]
        later = [run for run in self.runs if run.case.sick and not run.told]
        return [
            *_list("missed", wrong, lambda run: f"{run.consequence}; {_said(run.findings)}"),
            *_list("detected, cause not named", unnamed, lambda run: _said(run.alarms)),
            *_list("false alarms (errors)", alarmed, lambda run: _said(run.errors)),
            *_list(
                "healthy, but learned nothing that holds: left out",
                idle,
                lambda run: f"{_course(run)}; {_said(run.alarms)}",
            ),
            *_list(
                "fault not visible at this size: left out", unseen, lambda run: f"{_course(run)}; {_said(run.alarms)}"
            ),
            *_list(
                "cannot be told from a record: left out", later, lambda run: f"{run.consequence}; {_said(run.alarms)}"
            ),
        ]


def score(cases: dict[str, Case], records: Path, held: set[str], *, joint: bool = False) -> Score:
    """Diagnose every record under `records` and compare with what is known; `held` names the held-out cases.

    `joint`: with branches and the check before training, of those runs alone of which there are branches.
    """
    folders = {
        name: sorted((outcome.parent for outcome in (records / name).glob("*/outcome.json")), key=lambda f: int(f.name))
        for name in cases
    }
    outcomes = {name: [read_outcome(folder) for folder in folders[name]] for name in cases}
    runs = []
    for name, case in cases.items():
        twins = [twin for twin in outcomes.get(case.healed_by, []) if trains(twin)]
        for folder, outcome in zip(folders[name], outcomes[name], strict=True):
            branched = joint and (folder / FILE).exists()
            if joint and not branched:
                continue
            findings = _found(nnvis.load_run(folder), folder, joint=joint)
            what = consequence(case, outcome, twins) if case.sick else ""
            runs.append(Scored(case, outcome, findings, what, name in held, branched))
    return Score(tuple(runs), joint)


def _found(run: Run, folder: Path, *, joint: bool) -> tuple[Finding, ...]:
    if not joint:
        return tuple(nnvis.diagnose(run))
    run = with_branches(run, folder)
    start = Run.of_checks(folder, run.checks[:1], summary={"budget": run.summary.get("steps", 0)})
    found: dict[str, Finding] = {}
    for finding in (*nnvis.diagnose(run), *diagnose_beforehand(start)):
        known = found.get(finding.symptom)
        if known is None or SEVERITIES.index(finding.severity) < SEVERITIES.index(known.severity):
            found[finding.symptom] = finding
    return tuple(found.values())


def _range(found: int, runs: int) -> str:
    """The exact interval in percent."""
    return "[{:.0%}, {:.0%}]".format(*interval(found, runs)) if runs else ""


def _share(what: str, hits: Sequence[bool], runs: Sequence[Scored], target: str = "") -> str:
    found, total, cases = sum(hits), len(hits), len({run.case.id for run in runs})
    if not total:
        return f"  {what:<44} none"
    low, high = interval(found, total)
    aim = f"; wanted: {target}" if target else ""
    return f"  {what:<44} {found} of {total} runs = {found / total:.1%} [{low:.1%}, {high:.1%}] ({cases} cases){aim}"


def _list(title: str, runs: Sequence[Scored], say) -> list[str]:  # pyright: ignore[reportMissingParameterType]
    if not runs:
        return [f"{title}: none"]
    return [f"{title}: {len(runs)}", *(f"  {run.case.id} {run.outcome.seed}: {say(run)}" for run in runs)]


def _said(findings: Sequence[Finding]) -> str:
    return ", ".join(f"{finding.symptom} ({finding.severity})" for finding in findings) or "no finding"


def _course(run: Scored) -> str:
    losses = run.outcome.train
    start, end = (loss / run.outcome.null if run.outcome.null else math.nan for loss in (losses[0], losses[-1]))
    return f"loss over the best constant answer's {start:.3g} -> {end:.3g}, score {run.outcome.score:.3f}"
