"""How the weights of a study's variants fare in time: their growth, and what clipping leaves of the gradient.

weight_norm(study)
clip_factor(study)
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nnvis.figures.facts import running_median, wants_log
from nnvis.figures.labels import EndLabel, arrange
from nnvis.figures.scales import linear_limits, log_axis, log_limits
from nnvis.figures.seeds import Course, Spread, over_seeds
from nnvis.figures.study_layers import tables_of, weighted
from nnvis.figures.style import INK, explain, sheet
from nnvis.figures.variants import NothingToDraw, StudyFigure, about_seeds, drawn_study, looks
from nnvis.figures.varied import naming
from nnvis.figures.words import listing, number, percent
from nnvis.record.run import Run
from nnvis.record.study import Study
from nnvis.record.vocabulary import LayerSeries, Series

CURVE_COLUMNS = ("variant", "step", "median", "smallest", "largest", "seeds")
NAME = 24  # characters of a variant's name beside its line
SMOOTHED = 50  # a running median over a 50th of the steps


@drawn_study
def weight_norm(study: Study) -> StudyFigure:
    """The norm of all weights over its value at the start, in time, for every variant.

    Steady growth asks for weight decay; a leap is a step that was too large. Raises NothingToDraw when no run has
    weight norms in its record.
    """
    tables = tables_of(study, "weight_norm", weighted)
    curves = {variant: over_seeds([growth(table) for table in each.values()]) for variant, each in tables.items()}
    caption = (
        "L2 norm of all weights over its value at the first measured step; a run that diverged ends where it did. "
        f"Steady growth asks for weight decay; a leap is a step that was too large. {about_seeds(study, tuple(curves))}"
    )
    return _figure(study, curves, _growth_title(curves, naming(study, NAME)[0]), caption, "weight norm : at the start")


def growth(table: LayerSeries) -> Course:
    """The norm of all layers' weights together, over its first value."""
    known = np.where(table.present, table.values, 0.0)
    norms = np.sqrt((known**2).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return Course(table.steps.astype(float), norms / norms[0])


def _growth_title(curves: Mapping[str, Spread], called: Mapping[str, str]) -> str:
    ends = {variant: curve.last for variant, curve in curves.items() if not math.isnan(curve.last)}
    if not ends:
        return "No variant has finite weights"
    most, least = max(ends, key=ends.__getitem__), min(ends, key=ends.__getitem__)
    if number(ends[most], 2) == number(ends[least], 2):
        return f"In every variant the weights end at {number(ends[most])} times their first norm"
    return (
        f"The weights of {called[most]} end at {number(ends[most])} times their first norm, "
        f"those of {called[least]} at {number(ends[least])} times"
    )


@drawn_study
def clip_factor(study: Study) -> StudyFigure:
    """What clipping by norm multiplies the gradient by, in (0, 1], in time, for every variant that clips.

    At 1 clipping does nothing; far below it, the limit sets the size of every step, whatever the gradient is.
    Raises NothingToDraw when no run clips by norm.
    """
    series: dict[str, list[Series]] = {}
    for variant, _, run in study.each_run():
        if "clip_factor" in run.scalars and clips(run):
            series.setdefault(variant, []).append(run.scalars["clip_factor"])
    if not series:
        raise NothingToDraw(f"{study.path}: no run clips its gradients by norm (training.clip_grad_norm)")
    window = max(max(len(s.values) // SMOOTHED, 1) for each in series.values() for s in each)
    curves = {
        variant: over_seeds([Course(s.steps.astype(float), running_median(s.values, window)) for s in each])
        for variant, each in series.items()
    }
    smooth = f", as a running median of {window} measurements" if window > 1 else ""
    others = [variant for variant in study.variants if variant not in series]
    caption = (
        f"What clipping by norm multiplies the gradient by{smooth}. At 1 it does nothing; far below, the limit sets "
        f"the size of the steps. {about_seeds(study, tuple(curves), rest=False)}"
        + (f" Without clipping: {listing(others, most=6)}." if others else "")
    )
    return _figure(study, curves, _clip_title(series, naming(study, NAME)[0]), caption, "clip factor", least=0.0)


def clips(run: Run) -> bool:
    """Whether the run clips by norm: as its config says, or, of a run without one, as its factors show."""
    asked = run.config.get("training", {}).get("clip_grad_norm") is not None
    return asked or bool((run.scalars["clip_factor"].values < 1).any())


def _clip_title(series: Mapping[str, list[Series]], called: Mapping[str, str]) -> str:
    """The variant that is clipped most often, with its smallest factor, and the one least often."""
    values = {variant: np.concatenate([s.values for s in each]) for variant, each in series.items()}
    often = {variant: float(np.mean(~(v >= 1))) for variant, v in values.items()}
    most, least = max(often, key=often.__getitem__), min(often, key=often.__getitem__)
    if not often[most]:
        return "Clipping never acts: no gradient was longer than the limit"
    deepest = number(float(np.nanmin(values[most])), 2)
    told = f"Clipping acts at {percent(often[most])} of the steps of {called[most]}, down to {deepest} of the gradient"
    return told if most == least else f"{told}; at {percent(often[least])} in {called[least]}"


def _figure(
    study: Study, curves: Mapping[str, Spread], title: str, caption: str, label: str, least: float = 1.0
) -> StudyFigure:
    """Lines of factors over the steps, from `least` if not by log, with 1 marked; their last values at their ends."""
    fig = sheet(height=max(2.6, 0.145 * len(curves) + 0.7))
    called, note = naming(study, NAME)
    explain(fig, title, caption + note)
    ax = fig.subplots()
    every = np.concatenate([[1.0], *(part for c in curves.values() for part in (c.median, c.low, c.high))])
    if wants_log(every):
        log_axis(ax, *log_limits(every))
    else:
        ax.set_ylim(*linear_limits(np.append(every, least), least=0.1))
    ax.axhline(1, color=INK, linewidth=1, linestyle=(0, (5, 2)), label="_one")
    labels, rows, styles = [], [], looks(study)
    for variant, curve in curves.items():
        look = styles[variant]
        if curve.seeds.max(initial=0) > 1:
            ax.fill_between(curve.times, curve.low, curve.high, color=look.colour, alpha=0.15, linewidth=0)
        every_nth = max(1, math.ceil(len(curve.times) / 10))
        shown = np.where(np.isfinite(curve.median), curve.median, np.nan)
        ax.plot(curve.times, shown, label=variant, markevery=every_nth, **look.line)
        finite = np.flatnonzero(np.isfinite(shown))
        if len(finite):
            early = f" (to step {curve.times[finite[-1]]:,.0f})" if finite[-1] < len(shown) - 1 else ""
            told = f"{look.glyph} {called[variant]}: {number(float(shown[finite[-1]]))}{early}"
            labels.append(EndLabel(float(shown[finite[-1]]), told, look.colour))
        parts = (curve.times, curve.median, curve.low, curve.high, curve.seeds)
        rows += [(variant, *row) for row in zip(*(part.tolist() for part in parts), strict=True)]
    ax.set_ylabel(label)
    ax.set_xlabel("step (optimizer updates completed)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}"))
    ax.margins(x=0.02)
    arrange(fig, {ax: labels})
    return StudyFigure(fig, CURVE_COLUMNS, rows)
