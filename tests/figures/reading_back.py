"""What was drawn, read back from the axes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnvis.record.run import Recorded, Run


def with_layers(run: Run, **tables: Any) -> Run:
    """The run with these layer quantities only."""
    return replace(run, layers=Recorded(tables))


def lines(ax: Axes, label: str | None = None) -> list[Any]:
    """The lines with this label, or all that are data."""
    found = [line for line in ax.lines if not str(line.get_label()).startswith("_")]
    return found if label is None else [line for line in ax.lines if line.get_label() == label]


def title(fig: Figure) -> str:
    """The message, on one line."""
    return fig.get_suptitle().replace("\n", " ")


def caption(fig: Figure) -> str:
    """The explanation, on one line."""
    return fig.get_supxlabel().replace("\n", " ")


def end_labels(ax: Axes) -> list[str]:
    """All texts written in the axes."""
    return [text.get_text() for text in ax.texts]
