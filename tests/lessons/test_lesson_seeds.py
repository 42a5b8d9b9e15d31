"""What the lessons claim is not luck: it holds for other seeds as well."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from rich.console import Console

from nnvis.config import Config
from nnvis.lessons.tour import open_lesson
from nnvis.lessons.tour.giving import claims_of, measured
from nnvis.lessons.tour.stage import Stage
from nnvis.lessons.tour.text import fill

NAMES = ["initialisation", "vanishing", "exploding", "overfitting", "monitoring", "applications"]


@dataclass
class Reseeded(Stage):
    """A lesson's place with another seed than its experiment asks for."""

    base: int = 0

    def config(self, *overrides: str, of: str = "config") -> Config:
        return super().config(*overrides, f"seed={self.base}", of=of)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_what_a_lesson_claims_holds_for_another_seed(name: str, seed: int, tmp_path: Path) -> None:
    lesson = open_lesson(name)
    text = lesson.sections["The experiment"].replace("torch.manual_seed(0)", f"torch.manual_seed({seed})")
    lesson = replace(lesson, sections={**lesson.sections, "The experiment": text})
    stage = Reseeded(lesson, tmp_path, Console(quiet=True), base=seed)
    numbers = measured(stage)
    assert [fill(claim.sentence, numbers) for claim in claims_of(lesson) if not claim.holds(numbers)] == []
    assert {run.config["seed"] for run in stage._runs.values()} <= {seed}
