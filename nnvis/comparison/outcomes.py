"""What came out of each variant: metrics by seed, diverged and unfinished runs, symptoms.

outcome = outcomes_of(study)["sigmoid"]
outcome.values["accuracy/val"]           # {seed: value} of the runs that finished
outcome.diverged                         # seeds
outcome.errors["vanishing_gradients"]    # seeds
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnvis.record import Run, Study


@dataclass(frozen=True)
class Outcome:
    """One variant over its seeds. A run that diverged has no metric; one that has not finished counts as missing.

    A run that finished may lack a metric that others have: without validation rows, or without classes.
    """

    variant: str
    overrides: dict[str, Any]
    runs: dict[int, Run] = field(repr=False)  # all there are, by seed
    places: dict[int, str] = field(repr=False)  # their folders, seen from the study's
    values: dict[str, dict[int, float]] = field(repr=False)  # by metric, by seed: finite, of finished runs
    finished: tuple[int, ...]  # seeds
    diverged: tuple[int, ...]  # seeds
    missing: dict[int, str]  # seed -> why there is no result
    errors: dict[str, tuple[int, ...]]  # symptom -> seeds in which it is an error
    warnings: dict[str, tuple[int, ...]]  # symptom -> seeds in which it is a warning and no error

    @property
    def seen(self) -> tuple[int, ...]:
        """The seeds with a result, diverged ones too."""
        return tuple(sorted((*self.finished, *self.diverged)))

    def mean(self, metric: str, seeds: Sequence[int] | None = None) -> float:
        """Over the finished runs (of `seeds`); NaN without any."""
        values = self.values.get(metric, {})
        chosen = [value for seed, value in values.items() if seeds is None or seed in seeds]
        return float(np.mean(chosen)) if chosen else math.nan

    def shows(self, symptom: str) -> tuple[int, ...]:
        """The seeds in which it is a warning or an error."""
        return tuple(sorted((*self.errors.get(symptom, ()), *self.warnings.get(symptom, ()))))


def outcomes_of(study: Study) -> dict[str, Outcome]:
    """Of every variant, in the study's order."""
    deciding = deciding_metrics(study)
    return {variant: _outcome(study, variant, deciding) for variant in study.variants}


def deciding_metrics(study: Study) -> tuple[str, ...]:
    """What variants are judged by, first things first: on the validation rows, without any on the training rows."""
    there = {name for _, _, run in study.each_run() for name in run_metrics(run)}
    return _deciding(there)


def higher_is_better(metric: str) -> bool:
    """True for accuracy; losses, seconds and parameters are the better the lower they are."""
    return metric.startswith("accuracy")


def run_metrics(run: Run) -> dict[str, float]:
    """`accuracy/val`, `loss/val`, … of the weights that are kept, and `seconds`, `parameters`; NaN for null."""
    found = {
        f"{name}/{split}": math.nan if value is None else float(value)
        for split, values in run.summary.get("metrics", {}).items()
        for name, value in values.items()
    }
    found["seconds"] = float(run.summary.get("seconds", math.nan))
    if run.network:  # a layer that is called twice has two rows
        found["parameters"] = float(sum({row.name.split("#")[0]: row.parameters for row in run.network}.values()))
    return found


def _deciding(there: Collection[str]) -> tuple[str, ...]:
    choices = (("accuracy/val", "loss/val"), ("accuracy/train", "loss/train"))
    found = (tuple(name for name in names if name in there) for names in choices)
    return next(filter(None, found), ())


def _outcome(study: Study, variant: str, deciding: Sequence[str]) -> Outcome:
    runs = study.runs[variant]
    measured = {seed: run_metrics(run) for seed, run in runs.items()}
    missing = {seed: reason for (name, seed), reason in study.missing.items() if name == variant}
    finished, diverged = [], []
    for seed, run in runs.items():
        status = run.summary.get("status", "")
        if status == "diverged":
            diverged.append(seed)
        elif status not in ("completed", "stopped"):
            missing[seed] = run.summary.get("error") or status or "has not ended"
        elif all(math.isfinite(measured[seed].get(name, 0.0)) for name in (*deciding, *_deciding(measured[seed]))):
            finished.append(seed)  # a metric that is not there says nothing
        else:
            diverged.append(seed)
    names = dict.fromkeys(name for values in measured.values() for name in values)
    values = {
        name: {
            seed: value
            for seed in (runs if name == "parameters" else finished)
            if math.isfinite(value := measured[seed].get(name, math.nan))
        }
        for name in names
    }
    found = {seed: runs[seed].findings for seed in (*finished, *diverged)}
    errors = _by_symptom({seed: {f.symptom for f in each if f.severity == "error"} for seed, each in found.items()})
    warnings = _by_symptom({seed: {f.symptom for f in each if f.severity == "warning"} for seed, each in found.items()})
    return Outcome(
        variant=variant,
        overrides=study.overrides[variant],
        runs=dict(runs),
        places={seed: Path(os.path.relpath(run.path, study.path)).as_posix() for seed, run in runs.items()},
        values=values,
        finished=tuple(sorted(finished)),
        diverged=tuple(sorted(diverged)),
        missing=dict(sorted(missing.items())),
        errors=errors,
        warnings={
            symptom: rest
            for symptom, seeds in warnings.items()
            if (rest := tuple(seed for seed in seeds if seed not in errors.get(symptom, ())))
        },
    )


def _by_symptom(found: Mapping[int, set[str]]) -> dict[str, tuple[int, ...]]:
    symptoms = sorted({symptom for each in found.values() for symptom in each})
    return {symptom: tuple(sorted(seed for seed in found if symptom in found[seed])) for symptom in symptoms}
