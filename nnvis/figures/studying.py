"""All figures of a study, into a folder, each with its numbers beside it.

draw_study(study, study.path / "figures")                       # what the study's file asks for, or all that suit
draw_study(study, folder, names=["gradient_flow"])
STUDY_FIGURES["gradient_flow"](study).figure                    # one, as a matplotlib Figure
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from nnvis.errors import InputError, RunError, tell
from nnvis.figures.study_curves import learning_curves, overfitting
from nnvis.figures.study_flow import gradient_flow, signal_propagation, update_ratio
from nnvis.figures.study_heatmaps import gradient_difference, quantity_heatmaps
from nnvis.figures.study_rates import learning_rate, lr_range_test
from nnvis.figures.study_results import parallel_coordinates, summary
from nnvis.figures.study_weights import clip_factor, weight_norm
from nnvis.figures.style import save
from nnvis.figures.variants import NothingToDraw, StudyFigure
from nnvis.record.files import disk_errors
from nnvis.record.study import Study

__all__ = ["STUDY_FIGURES", "NothingToDraw", "StudyFigure", "draw_study"]

STUDY_FIGURES: dict[str, Callable[[Study], StudyFigure]] = {
    "summary": summary,
    "learning_curves": learning_curves,
    "gradient_flow": gradient_flow,
    "grad_norm_heatmap": quantity_heatmaps("grad_norm"),
    "difference": gradient_difference,
    "activation_std_heatmap": quantity_heatmaps("activation_std"),
    "signal_propagation": signal_propagation,
    "update_ratio": update_ratio,
    "weight_norm": weight_norm,
    "clip_factor": clip_factor,
    "dead_heatmap": quantity_heatmaps("dead_fraction"),
    "saturated_heatmap": quantity_heatmaps("saturated_fraction"),
    "overfitting": overfitting,
    "learning_rate": learning_rate,
    "lr_range_test": lr_range_test,
    "parallel_coordinates": parallel_coordinates,
}
"""What is drawn of a study: file name -> figure, the most telling first."""


def draw_study(
    study: Study, folder: Path, names: Collection[str] = (), say: Callable[[str], None] = tell
) -> list[Path]:
    """Draws the named figures, else those that the study's file names, else all; returns the pictures.

    Beside each NAME.png lies NAME.csv, the numbers that it draws. A figure that the study has no data for is left out;
    where it was asked for by name, `say` is told why. One that fails does not cost the others; `say` is told of it.
    Raises InputError for an unknown name or a folder that cannot be written to, RunError where the disk is full.
    """
    asked = tuple(names or study.figures)
    if unknown := [name for name in asked if name not in STUDY_FIGURES]:
        raise InputError(f"{study.path}: no figure {unknown[0]!r} of a study; there is {', '.join(STUDY_FIGURES)}")
    study = replace(study, figures=asked)  # so that a figure knows whether it was asked for
    files: list[Path] = []
    for name in asked or STUDY_FIGURES:
        try:
            drawing = STUDY_FIGURES[name](study)
            with disk_errors(picture := folder / f"{name}.png"):
                files.append(save(drawing.figure, picture))
                _write_rows(drawing, picture.with_suffix(".csv"))
        except NothingToDraw as nothing:
            if asked:
                say(f"{name} is not drawn: {nothing}")
        except (InputError, RunError):  # the others would not find room either
            raise
        except Exception as error:
            say(f"{name} could not be drawn: {type(error).__name__}: {error}; please report it")
    return files


def remove_stale(folder: Path, drawn: Collection[Path]) -> None:
    """Removes a study's figures that were drawn before and are not among those of now."""
    for name in STUDY_FIGURES:
        if folder / f"{name}.png" not in drawn:
            for suffix in (".png", ".csv"):
                (folder / name).with_suffix(suffix).unlink(missing_ok=True)


def _write_rows(drawing: StudyFigure, path: Path) -> None:
    """A header and the rows; a number that is not there is empty."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(drawing.columns)
        writer.writerows(drawing.rows)
    partial.replace(path)
