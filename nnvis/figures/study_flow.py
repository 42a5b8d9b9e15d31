"""What passes through the depth of a study's networks: gradients backward, signals forward.

gradient_flow(study)           # at the start and at the end of training
signal_propagation(study)      # before any training
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from nnvis.figures.facts import decades_per_layer, first_to_last
from nnvis.figures.labels import EndLabel, arrange
from nnvis.figures.scales import ORDINARY, Strips, value_kinds
from nnvis.figures.study_layers import Depth, Profile, depth, profile, tables_of, weighted
from nnvis.figures.style import explain, sheet
from nnvis.figures.variants import Look, StudyFigure, about_seeds, drawn_study, looks
from nnvis.figures.words import number
from nnvis.record.study import Study

PROFILE_COLUMNS = ("when", "variant", "layer", "place", "median", "smallest", "largest", "seeds")


@drawn_study
def gradient_flow(study: Study) -> StudyFigure:
    """The norm of the gradient that reaches each layer's weights, for every variant, first and last measured step.

    Level lines are healthy: every layer learns. Vanishing looks like a line that falls towards the first layer, at
    the left, since the gradient arrives from the loss, at the right; exploding like one that rises to the left.
    Raises NothingToDraw when no run has gradients in its record.
    """
    tables = tables_of(study, "grad_norm", weighted)
    start = {variant: profile(by_seed, "start") for variant, by_seed in tables.items()}
    end = {variant: profile(by_seed, "end") for variant, by_seed in tables.items()}
    places = depth([p.layers for p in start.values()])
    fig = sheet(height=2 * max(1.9, 0.145 * len(tables) + 0.4) + 0.6)
    upper, lower = fig.subplots(2, 1, sharex=True, sharey=True)
    explain(fig, _flow_title(start), _flow_caption(study, tuple(tables)))
    rows = _hidden([start, end])
    styles, ends, drawn = looks(study), {}, []
    for ax, when, profiles in ((upper, "at the start", start), (lower, "at the end of training", end)):
        ends[ax] = draw_profiles(ax, profiles, styles, places, [start, end], rows, at="first", words=_flow_words)
        ax.set_title(f"{when[0].upper()}{when[1:]} ({_steps(profiles)})")
        drawn += profile_rows(when, profiles, places)
        ax.set_ylabel("gradient norm")
        _right_hand(ax)
    head = "first : last layer, decades a layer"
    upper.text(-0.045, 1.05, head, transform=upper.transAxes, ha="right", fontsize=8, color="#555555")
    lower.set_xlabel(places.label)
    arrange(fig, ends, names={lower: places.names} if places.names else {}, side="left")
    return StudyFigure(fig, PROFILE_COLUMNS, drawn)


def draw_profiles(
    ax: Axes,
    profiles: Mapping[str, Profile],
    styles: Mapping[str, Look],
    places: Depth,
    shared: list[Mapping[str, Profile]],
    rows: int,
    *,
    at: str,
    words: Any,
) -> list[EndLabel]:
    """Draws a line and a band for each variant, on the scale of all `shared`; returns what to write at their ends.

    `at` "first" or "last": at which layer; `words(profile)` follows the variant's name there.
    """
    everything = [p for each in shared for p in each.values()]
    values = np.concatenate([np.concatenate([p.middle, p.low[p.low > 0], p.high[p.high > 0]]) for p in everything])
    present = np.concatenate(
        [np.concatenate([p.present, p.low[p.low > 0] > 0, p.high[p.high > 0] > 0]) for p in everything]
    )
    strips = Strips(ax, values, present, rows=rows)
    labels, row = [], 0
    for variant, p in profiles.items():
        look, x = styles[variant], places.at(len(p.layers))
        kinds = value_kinds(p.middle, p.present)
        ordinary = np.where(kinds == ORDINARY, p.middle, np.nan)
        if p.seeds > 1:
            low = np.where(p.low > 0, p.low, ax.get_ylim()[0])  # a seed's exact 0 reaches to the bottom
            ax.fill_between(x, low, p.high, color=look.colour, alpha=0.15, linewidth=0, label=f"_{variant}")
        every = max(1, math.ceil(len(x) / 12))
        ax.plot(x, ordinary, label=variant, markevery=every, **look.line)
        strips.mark(x, kinds, look.colour, row % rows)
        row += bool((kinds != ORDINARY).any())
        finite = ordinary[np.isfinite(ordinary)]
        level = finite[0 if at == "first" else -1] if len(finite) else ax.get_ylim()[0]
        labels.append(EndLabel(float(level), f"{variant}: {words(p)} {look.glyph}", look.colour))
    ax.margins(x=0.03)
    return labels + strips.names()


def _hidden(shared: list[dict[str, Profile]]) -> int:
    """Rows that marks need: one for each variant with something that has no logarithm, up to 5."""
    most = max(sum((value_kinds(p.middle, p.present) != ORDINARY).any() for p in each.values()) for each in shared)
    return min(max(int(most), 1), 5)


def profile_rows(when: str, profiles: Mapping[str, Profile], places: Depth) -> list[tuple[Any, ...]]:
    """The rows of PROFILE_COLUMNS."""
    return [
        (when, variant, layer, float(x), float(middle), float(low), float(high), p.seeds)
        for variant, p in profiles.items()
        for layer, x, middle, low, high in zip(p.layers, places.at(len(p.layers)), p.middle, p.low, p.high, strict=True)
    ]


def _right_hand(ax: Axes) -> None:
    """Moves the y axis to the right, since the lines are told apart at the first layer, at the left."""
    ax.yaxis.tick_right()
    ax.yaxis.set_label_position("right")
    ax.spines["right"].set_visible(True)
    ax.spines["left"].set_visible(False)


def _steps(profiles: Mapping[str, Profile]) -> str:
    steps = [step for p in profiles.values() for step in p.steps]
    low, high = min(steps), max(steps)
    return f"step {low:,}" if low == high else f"step {low:,} to {high:,}"


def ratio(p: Profile) -> float:
    """The first layer's value over the last layer's, of those that were measured."""
    return first_to_last(p.middle[p.present])


def _flow_words(p: Profile) -> str:
    slope = decades_per_layer(np.where(p.present, p.middle, np.nan))
    pace = f", {round(slope, 2) + 0.0:+.2f}".replace("-", "−") if math.isfinite(slope) else ""
    return f"{number(ratio(p), 2)}{pace}" if math.isfinite(ratio(p)) else ""


def _flow_title(start: Mapping[str, Profile]) -> str:
    ratios = {variant: ratio(p) for variant, p in start.items() if not math.isnan(ratio(p))}
    if not ratios:
        return "Gradients at the start and at the end of training"
    decades = {v: math.inf if r in (0, math.inf) else abs(math.log10(r)) for v, r in ratios.items()}
    far, near = max(decades, key=decades.__getitem__), min(decades, key=decades.__getitem__)
    if decades[far] < 1:
        low, high = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
        return (
            "Gradient reaches the first layer in every variant: "
            f"{number(ratios[low], 2)} ({low}) to {number(ratios[high], 2)} ({high}) of the last layer's at the start"
        )
    of = "no gradient at all" if ratios[far] == 0 else f"{_times(ratios[far])} the last layer's gradient"
    other = "" if near == far else f"; {near}: {number(ratios[near], 2)}"
    return f"{far}: the first layer gets {of} at the start{other}"


def _times(value: float) -> str:
    return f"{number(value, 2)} {'of' if value < 1 else 'times'}"


def _flow_caption(study: Study, shown: tuple[str, ...]) -> str:
    return (
        "L2 norm of the gradient of each layer's own weights, before clipping; it arrives from the right. At each "
        "line: the first layer's over the last layer's, and its slope. Level lines are healthy; a fall to "
        f"the left starves the first layers, a rise blows them up. {about_seeds(study, shown)}"
    )
