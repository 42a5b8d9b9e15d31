"""Variants of a lesson's config side by side, as a study whose figures can be drawn.

study = side_by_side(stage, {"He": (), "too large": ("model.init={kind: normal, std: 0.5}",)})
stage.draw("signal", signal_propagation(study).figure)
result(study.runs["He"][0], "accuracy", "val")
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from nnvis.figures.reading import layer_table, nonlinearities
from nnvis.figures.style import drawn, retitle
from nnvis.lessons.tour.stage import Stage
from nnvis.record import Run, Study
from nnvis.record.run import Recorded

SEED = 0


def side_by_side(stage: Stage, variants: Mapping[str, Sequence[str]]) -> Study:
    """Trains each variant, overrides of the lesson's config, with one seed: the same rows in the same order."""
    runs = {name: {SEED: stage.train(*overrides)} for name, overrides in variants.items()}
    lesson = stage.lesson
    return Study(
        path=stage.folder,
        name=lesson.name,
        question=lesson.question,
        variants=tuple(variants),
        overrides={name: {} for name in variants},
        axes={},
        seeds=(SEED,),
        figures=(),
        expect=(),
        runs=Recorded(runs),
        missing={},
    )


def result(run: Run, metric: str, split: str) -> float:
    """A metric of a run's end: of the weights that are kept. NaN where the run diverged before it was measured."""
    value = run.summary["metrics"].get(split, {}).get(metric)
    return math.nan if value is None else float(value)


@drawn
def titled(figure: Figure, title: str) -> Figure:
    """The figure, with what it shows in this lesson above it."""
    retitle(figure, title)
    return figure


def diverged_at(run: Run) -> float:
    """The step at which a run diverged; NaN where it did not."""
    return int(run.summary["steps"]) if run.summary["status"] == "diverged" else math.nan


def growth_per_layer(run: Run, quantity: str = "activation_std") -> float:
    """By which factor a quantity grows from one nonlinearity to the next, before any training: the geometric mean."""
    values = nonlinearities(run, layer_table(run, quantity)).values[0]
    return float(np.exp(np.mean(np.diff(np.log(values)))))
