"""A study's runs -> statistics, a verdict in words, comparison.json.

comparison = compare(load_study("runs/vanishing"))
print(*comparison.sentences, sep="\\n")
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from nnvis.comparison.expected import Checked, evaluate
from nnvis.comparison.outcomes import Outcome, deciding_metrics, outcomes_of
from nnvis.comparison.pairs import Ranking, rankings
from nnvis.comparison.verdict import verdict
from nnvis.config.expectations import UnclearExpectationError, parse_expectation
from nnvis.errors import InputError
from nnvis.record import Study, write_json

COMPARISON_FILE = "comparison.json"


@dataclass(frozen=True)
class Comparison:
    """What came out of a study."""

    study: str
    question: str
    outcomes: dict[str, Outcome] = field(repr=False)  # by variant, in the study's order
    rankings: dict[str, Ranking] = field(repr=False)  # by metric that decides, the first one first
    expectations: tuple[Checked, ...] = field(repr=False)

    @property
    def sentences(self) -> list[str]:
        """The verdict, and whether what was expected came out."""
        return [*verdict(self.outcomes, self.rankings), *_expected(self.expectations)]

    def to_json(self) -> dict[str, Any]:
        """What comparison.json holds; NaN becomes null when it is written."""
        return {
            "study": self.study,
            "question": self.question,
            "variants": {name: _variant(outcome) for name, outcome in self.outcomes.items()},
            "pairs": [
                {
                    "metric": pair.metric,
                    "variant": pair.variant,
                    "other": pair.other,
                    **asdict(pair.difference),
                    "p_holm": pair.p_holm,
                    "shown": pair.shown,
                }
                for ranking in self.rankings.values()
                for pair in ranking.pairs
            ],
            "rankings": {metric: ranking.order for metric, ranking in self.rankings.items()},
            "verdict": self.sentences,
            "expectations": [asdict(each) for each in self.expectations],
        }


def compare(study: Study) -> Comparison:
    """Reads the runs that there are. Raises InputError where study.yaml expects what nobody can check."""
    outcomes = outcomes_of(study)
    checked = []
    for line in study.expect:
        try:
            checked.append(evaluate(parse_expectation(line, study.variants, len(study.seeds)), outcomes))
        except UnclearExpectationError as problem:
            raise InputError(f"{study.path / 'study.yaml'}: expect: {problem}") from None
    return Comparison(study.name, study.question, outcomes, rankings(outcomes, deciding_metrics(study)), tuple(checked))


def write_comparison(study: Study) -> Comparison:
    """Compares, and writes comparison.json. Raises RunError (full disk) or InputError."""
    comparison = compare(study)
    write_json(study.path / COMPARISON_FILE, comparison.to_json())
    return comparison


def _variant(outcome: Outcome) -> dict[str, Any]:
    seen = len(outcome.seen)
    symptoms = sorted({*outcome.errors, *outcome.warnings})
    return {
        "overrides": outcome.overrides,
        "runs": {seed: outcome.places[seed] for seed in outcome.runs},
        "metrics": {name: _statistics(values) for name, values in outcome.values.items()},
        "findings": {symptom: len(outcome.shows(symptom)) / seen for symptom in symptoms},
        "errors": {symptom: len(seeds) / seen for symptom, seeds in outcome.errors.items()},
        "status": {
            "finished": len(outcome.finished),
            "diverged": len(outcome.diverged),
            "missing": len(outcome.missing),
        },
    }


def _statistics(values: Mapping[int, float]) -> dict[str, float]:
    """Mean and sample standard deviation over the seeds (n - 1 below); NaN where there are too few."""
    numbers = np.array([*values.values()], float)
    return {
        "mean": float(numbers.mean()) if len(numbers) else math.nan,
        "std": float(numbers.std(ddof=1)) if len(numbers) > 1 else math.nan,
        "n": len(numbers),
        "median": float(np.median(numbers)) if len(numbers) else math.nan,
        "min": float(numbers.min()) if len(numbers) else math.nan,
        "max": float(numbers.max()) if len(numbers) else math.nan,
    }


def _expected(checked: tuple[Checked, ...]) -> list[str]:
    if not checked:
        return []
    failed = [f"“{each.text}”: {each.measured}" for each in checked if each.holds is False]
    unclear = [f"“{each.text}”: {each.measured}" for each in checked if each.holds is None]
    told = [f"{sum(each.holds is True for each in checked)} of {len(checked)} expectations hold"]
    told += [f"not: {'; '.join(failed)}"] if failed else []
    told += [f"cannot be told: {'; '.join(unclear)}"] if unclear else []
    return [f"{'; '.join(told)}."]
