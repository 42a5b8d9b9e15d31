"""The fault cases as facts: `read_facts()` gives a Case for each entry of facts.yaml, and healed forms of faulty ones.

cases = read_facts()
cases["at_circle_sigmoid8_vanish"].steps     # 1500
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

FACTS = Path(__file__).with_name("facts.yaml")
MOST_STEPS = 1500


@dataclass(frozen=True)
class Case:
    """One training run: what is trained on what, how, and what is known to be wrong with it."""

    id: str
    role: str  # faulty, healthy, mislabelled_healthy; healed for the repaired form of a faulty one
    label: tuple[str, ...]  # root causes
    task: str  # binary, multiclass, regression
    data: dict[str, Any]
    source_rows: int
    layers: tuple[dict[str, Any] | str, ...]
    optimizer: dict[str, Any]
    batch_size: int
    loss: str
    epochs: int | None = None  # None: until most_steps
    most_steps: int = MOST_STEPS  # fewer where a step is slow
    healed_by: str = ""
    healed: dict[str, Any] | None = None

    @property
    def sick(self) -> bool:
        return self.role in ("faulty", "mislabelled_healthy")

    @property
    def family(self) -> str:
        """The same for a fault and for what heals it: `so_48385830_fixed` belongs to `so_48385830`."""
        return self.id.partition("~")[0].removesuffix("_fixed")

    @property
    def steps(self) -> int:
        """As many as in the source, though the rows may be fewer here; at most `most_steps`."""
        if self.epochs is None:
            return self.most_steps
        return min(self.most_steps, self.epochs * math.ceil(self.source_rows / self.batch_size))


def read_facts(path: Path = FACTS) -> dict[str, Case]:
    """The cases by name; after a faulty one that has no healthy twin in the file its healed form, `NAME~healed`."""
    cases: dict[str, Case] = {}
    for entry in yaml.safe_load(path.read_text()):
        case = Case(**{**entry, "label": tuple(entry["label"]), "layers": tuple(entry["layers"])})
        cases[case.id] = case
        if case.healed:
            changed = {key: tuple(value) if key == "layers" else value for key, value in case.healed.items()}
            twin = replace(case, id=f"{case.id}~healed", role="healed", label=("healthy",), healed=None, **changed)
            cases[twin.id] = twin
            cases[case.id] = replace(case, healed_by=twin.id)
    return cases


def held_out(cases: dict[str, Case], seed: int = 4) -> set[str]:
    """Names of a random half of the cases, drawn by family: rules are tuned on the other half alone."""
    families = sorted({_cluster(case, cases) for case in cases.values()})
    drawn = np.random.default_rng(seed).permutation(len(families))[: len(families) // 2]
    chosen = {families[index] for index in drawn}
    return {name for name, case in cases.items() if _cluster(case, cases) in chosen}


def _cluster(case: Case, cases: dict[str, Case]) -> str:
    """A case belongs with the case that heals it: the first of those that share one, in the file's order."""
    target = case.healed_by if case.healed_by and "~" not in case.healed_by else case.id
    relatives = [other.family for other in cases.values() if target in (other.healed_by, other.id)]
    return min([*relatives, case.family])
