"""The figures of an explanation.

draw(explain("moons_mlp"), "explained")      # the files
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from nnvis.figures.functions import activation_functions, loss_functions
from nnvis.figures.style import save
from nnvis.lessons.explaining import Explanation


def draw(explanation: Explanation, folder: str | Path) -> list[Path]:
    """Draws what there are numbers for, as PNG, and returns the files."""
    return [save(figure(), Path(folder) / f"{name}.png") for name, figure in figures_of(explanation).items()]


def figures_of(explanation: Explanation) -> dict[str, Callable[[], Figure]]:
    """What is drawn of an explanation, by file name."""
    return {"activation_functions": activation_functions, "loss_functions": loss_functions}
