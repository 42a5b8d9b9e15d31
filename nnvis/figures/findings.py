"""The figure that shows a finding, with the place marked: the layers it is about, the step it begins at.

finding_figure(run, finding)                     # the figure that shows its symptom, marked
draw_findings(run, findings, run.path / "figures")
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nnvis.figures.gallery import FIGURES
from nnvis.figures.heatmap import QUANTITIES
from nnvis.figures.reading import Clock, NoData, layer_table, nonlinearities
from nnvis.figures.style import SICK, STYLE, retitle, save
from nnvis.record.files import disk_errors
from nnvis.record.run import Run
from nnvis.record.vocabulary import Finding

SHOWN_BY = {
    "vanishing_gradients": "gradient_flow",
    "exploding_gradients": "gradient_flow",
    "missing_nonlinearity": "gradient_flow",
    "zero_gradients": "grad_norm",
    "symmetric_units": "grad_norm",
    "nonfinite_values": "grad_norm",
    "dead_units": "dead_fraction",
    "saturated_activations": "saturated_fraction",
    "unnormalized_inputs": "activation_std",
}
"""By symptom the figure that shows it; the others are seen in the learning curves."""
MARK = "_finding"
"""The label of what marks the place."""


def finding_figure(run: Run, finding: Finding) -> Figure:
    """The figure that shows it: its layers boxed or shaded, a line at its first step. Raises NoData."""
    name = SHOWN_BY.get(finding.symptom, "learning_curves")
    fig = FIGURES[name](run)
    with matplotlib.style.context(STYLE, after_reset=True):
        if name == "gradient_flow":
            _mark_columns(fig, layer_table(run, "grad_norm").layers, finding)
        elif name in QUANTITIES:
            table = layer_table(run, name)
            _mark_cells(fig, nonlinearities(run, table).layers if QUANTITIES[name].nonlinear else table.layers, finding)
        else:
            _mark_time(fig, run, finding)
        retitle(fig, _title(finding))
    return fig


def draw_finding(run: Run, finding: Finding, out: Path) -> Path | None:
    """Writes `finding_SYMPTOM.png`; None where the record has no data for it."""
    try:
        with disk_errors(path := out / f"finding_{finding.symptom}.png"):
            return save(finding_figure(run, finding), path)
    except NoData:
        return None


def draw_findings(run: Run, findings: Iterable[Finding], out: Path) -> list[Path]:
    """Draws those that are more than a note; returns the files."""
    drawn = (draw_finding(run, finding, out) for finding in findings if finding.severity != "info")
    return [path for path in drawn if path]


def _title(finding: Finding) -> str:
    """The symptom with its number: the evidence up to its first semicolon, without what stands in brackets."""
    measured = re.sub(r" \([^()]*\)", "", finding.evidence).split(";")[0]
    return f"{finding.symptom.replace('_', ' ').capitalize()}: {measured}"


def _positions(layers: tuple[str, ...], finding: Finding) -> list[tuple[int, int]]:
    """(first, number) of the stretches of the layers that the finding is about."""
    wanted = {name.split("#")[0] for name in finding.layers}
    hits = [i for i, name in enumerate(layers) if name.split("#")[0] in wanted]
    stretches = (list(group) for _, group in groupby(enumerate(hits), key=lambda pair: pair[1] - pair[0]))
    return [(group[0][1], len(group)) for group in stretches]


def _mark_columns(fig: Figure, layers: tuple[str, ...], finding: Finding) -> None:
    for first, number in _positions(layers, finding):
        fig.axes[0].axvspan(first - 0.5, first + number - 0.5, color=SICK, alpha=0.12, linewidth=0, label=MARK)


def _mark_cells(fig: Figure, layers: tuple[str, ...], finding: Finding) -> None:
    ax = fig.axes[0]
    left, right = ax.get_xlim()
    start = min(max(finding.first_step, left), right - (right - left) / 40)  # a box at the very end is seen, too
    for first, number in _positions(layers, finding):
        box = Rectangle((start, first - 0.5), right - start, number, fill=False, edgecolor=SICK, linewidth=1.5)
        box.set_label(MARK)
        ax.add_patch(box)
    if not finding.layers:
        ax.axvline(start, color=SICK, linewidth=1.5, label=MARK)


def _mark_time(fig: Figure, run: Run, finding: Finding) -> None:
    at = float(Clock.of(run).at(np.array([finding.first_step]))[0])
    for ax in fig.axes:
        left, right = ax.get_xlim()
        ax.axvline(float(np.clip(at, left, right)), color=SICK, linewidth=1.5, alpha=0.7, label=MARK)
        ax.set_xlim(left, right)
