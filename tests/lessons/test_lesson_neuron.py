"""The reference example, as the first lesson computes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from nnvis.lessons.tour import open_lesson
from nnvis.lessons.tour.giving import measured
from nnvis.lessons.tour.stage import Stage


def test_the_reference_example(tmp_path: Path) -> None:
    """Inputs 1.0 and 0.5, weights 0.3 and 0.7, bias 0.1: z = 0.75, a = 0.68."""
    numbers = measured(Stage(open_lesson("neuron"), tmp_path, Console(quiet=True)))
    assert numbers["z"] == pytest.approx(0.75, abs=1e-15)
    assert round(numbers["a"], 2) == 0.68
    assert numbers == pytest.approx(
        {
            "product1": 0.3,
            "product2": 0.35,
            "z": 0.75,
            "a": 1 / (1 + np.exp(-0.75)),
            "push1": 0.1,
            "push2": 0.05,
            "a_steep": 1 / (1 + np.exp(-3.0)),
            "z_large": 75.0,
            "a_large": 1.0,
        },
        abs=1e-12,
    )
