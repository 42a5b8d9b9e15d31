"""What passes through the depth of a study's networks: gradients backward, signals forward.

gradient_flow(study)           # at the start and at the end of training
signal_propagation(study)      # before any training
update_ratio(study)            # how far a step moves each layer
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes

from nnvis.figures.columns import medians
from nnvis.figures.facts import decades_per_layer, first_to_last
from nnvis.figures.labels import EndLabel, arrange
from nnvis.figures.reading import nonlinearities
from nnvis.figures.scales import ORDINARY, Strips, value_kinds
from nnvis.figures.study_layers import Depth, Profile, depth, profile, tables_of, weighted
from nnvis.figures.style import INK, explain, sheet
from nnvis.figures.updates import GUIDE
from nnvis.figures.variants import Look, StudyFigure, about_seeds, drawn_study, looks, spread
from nnvis.figures.varied import naming
from nnvis.figures.words import number
from nnvis.record.study import Study
from nnvis.record.vocabulary import LayerSeries

NAME = 24  # characters of a variant's name beside its line
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
    called, note = naming(study, NAME)
    explain(fig, _flow_title(start, called), _flow_caption(study, tuple(tables)) + note)
    styles, ends, drawn = looks(study), {}, []
    for ax, when, profiles in ((upper, "at the start", start), (lower, "at the end of training", end)):
        ends[ax] = draw_profiles(ax, profiles, styles, called, places, (start, end), at="first", words=_flow_words)
        ax.set_title(f"{when[0].upper()}{when[1:]} ({_steps(profiles)})")
        drawn += profile_rows(when, profiles, places)
        ax.set_ylabel("gradient norm")
        _right_hand(ax)
    head = "first : last layer, decades a layer"
    upper.text(-0.045, 1.05, head, transform=upper.transAxes, ha="right", fontsize=8, color="#555555")
    lower.set_xlabel(places.label)
    arrange(fig, ends, names={lower: places.names} if places.names else {}, left=ends)
    return StudyFigure(fig, PROFILE_COLUMNS, drawn)


@drawn_study
def signal_propagation(study: Study) -> StudyFigure:
    """The scale of activations and of their gradients through the depth of every variant, before any training.

    Level lines are healthy. Activations that fall to the right lose the signal on its way forward, gradients that fall
    to the left on its way back. Raises NothingToDraw when no run has both in its record.
    """
    forward = _at_start(study, "activation_std")
    backward = _at_start(study, "activation_grad_rms")
    places = depth([p.layers for p in (*forward.values(), *backward.values())])
    fig = sheet(height=2 * max(1.8, 0.145 * len(forward) + 0.3) + 0.6)
    upper, lower = fig.subplots(2, 1, sharex=True)
    called, note = naming(study, NAME)
    explain(fig, _signal_title(forward, backward, called), _signal_caption(study, tuple(forward)) + note)
    styles = looks(study)
    ends = {
        upper: draw_profiles(upper, forward, styles, called, places, (forward,), at="last", words=_gain_forward),
        lower: draw_profiles(lower, backward, styles, called, places, (backward,), at="first", words=_gain_backward),
    }
    upper.set_title("Forward: the signal")
    lower.set_title("Backward: the gradient")
    upper.set_ylabel("activation std")
    lower.set_ylabel("activation gradient, rms")
    lower.set_xlabel(places.label)
    _right_hand(lower)
    arrange(fig, ends, names={lower: places.names} if places.names else {}, left=[lower])
    drawn = profile_rows("activation_std", forward, places) + profile_rows("activation_grad_rms", backward, places)
    return StudyFigure(fig, ("quantity", *PROFILE_COLUMNS[1:]), drawn)


def _at_start(study: Study, quantity: str) -> dict[str, Profile]:
    return {v: profile(by_seed, "start") for v, by_seed in tables_of(study, quantity, nonlinearities).items()}


@drawn_study
def update_ratio(study: Study) -> StudyFigure:
    """How far a step moves each layer's weights, as a share of them: the median over training, for every variant.

    Around 1e-3 is a usual pace. A layer far below it hardly learns; one far above it overwrites itself.
    Raises NothingToDraw when no run has updates in its record.
    """
    paces = {v: pace(by_seed) for v, by_seed in tables_of(study, "update_ratio", weighted).items()}
    places = depth([p.layers for p in paces.values()])
    fig = sheet(height=max(3.1, 0.145 * len(paces) + 1.2))
    ax = fig.subplots()
    called, note = naming(study, NAME)
    explain(fig, _pace_title(paces, called), _pace_caption(study, tuple(paces)) + note)
    labels = draw_profiles(
        ax, paces, looks(study), called, places, (paces,), at="first", words=_pace_words, include=GUIDE
    )
    ax.axhline(GUIDE, color=INK, linewidth=1, linestyle=(0, (5, 2)), label="_guide")
    ax.set_ylabel("update / weights")
    ax.set_xlabel(places.label)
    _right_hand(ax)
    labels.append(EndLabel(GUIDE, "10⁻³: usual pace", INK))
    arrange(fig, {ax: labels}, names={ax: places.names} if places.names else {}, left=[ax])
    return StudyFigure(fig, PROFILE_COLUMNS, profile_rows("over training", paces, places))


def draw_profiles(
    ax: Axes,
    profiles: Mapping[str, Profile],
    styles: Mapping[str, Look],
    called: Mapping[str, str],
    places: Depth,
    shared: Sequence[Mapping[str, Profile]],
    *,
    at: Literal["first", "last"],
    words: Callable[[Profile], str],
    include: float = math.nan,
) -> list[EndLabel]:
    """Draws a line and a band for each variant, on the scale of all `shared`; returns what to write at their ends.

    `at` which layer they are told apart; `words(profile)` follows the variant's name there. The scale has `include`.
    """
    everything = [p for each in shared for p in each.values()]
    middles, present = (np.concatenate([getattr(p, part) for p in everything]) for part in ("middle", "present"))
    bounds = np.concatenate([[include], *(part for p in everything for part in (p.low, p.high))])
    bounds = bounds[np.isfinite(bounds) & (bounds > 0)]
    rows = _special(shared)
    strips = Strips(ax, np.append(middles, bounds), np.append(present, bounds > 0), rows)
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
        told = f"{called[variant]}: {words(p)}"
        told = f"{told} {look.glyph}" if at == "first" else f"{look.glyph} {told}"  # the mark beside the line
        labels.append(EndLabel(float(level), told, look.colour))
    ax.margins(x=0.03)
    return labels + strips.names()


def _special(shared: Sequence[Mapping[str, Profile]]) -> int:
    """Rows of marks: one for each variant with something that has no logarithm, 1 to 5."""
    each = [sum(bool((value_kinds(p.middle, p.present) != ORDINARY).any()) for p in ps.values()) for ps in shared]
    return min(max(1, *each), 5)


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
    """The first layer's over the last layer's, and the slope in decades a layer."""
    slope = decades_per_layer(np.where(p.present, p.middle, np.nan))
    pace = f", {round(slope, 2) + 0.0:+.2f}".replace("-", "−") if math.isfinite(slope) else ""
    return "" if math.isnan(ratio(p)) else f"{number(ratio(p), 2)}{pace}"


def _signal_title(forward: Mapping[str, Profile], backward: Mapping[str, Profile], called: Mapping[str, str]) -> str:
    """The variant whose signal or gradient changes most on its way, and the one in which both change least."""
    ways = {v: (_inverse(ratio(forward[v])), ratio(backward[v])) for v in forward if v in backward}
    decades = {v: max(abs(math.log10(r)) if 0 < r < math.inf else math.inf for r in pair) for v, pair in ways.items()}
    decades = {v: size for v, size in decades.items() if not math.isnan(size)}
    if not decades:
        return "Signal and gradient through the network before any training"
    far, near = max(decades, key=decades.__getitem__), min(decades, key=decades.__getitem__)
    there, back = (number(value, 2) for value in ways[far])
    told = f"Before training, {called[far]} multiplies the signal by {there} and the gradient by {back}"
    return told if near == far else f"{told}; {called[near]}: {' and '.join(number(value, 2) for value in ways[near])}"


def _inverse(value: float) -> float:
    return math.inf if value == 0 else 1 / value


def _gain_forward(p: Profile) -> str:
    return number(_inverse(ratio(p)), 2)


def _gain_backward(p: Profile) -> str:
    return number(ratio(p), 2)


def _signal_caption(study: Study, shown: tuple[str, ...]) -> str:
    return (
        "Behind each nonlinearity, at the first measured step. Forward: standard deviation of the outputs; at the line "
        "the last layer's over the first layer's. Backward: root mean square of the loss's gradient with respect to "
        "them; at the line the first layer's over the last layer's. Level lines let a deep network learn. "
        f"{about_seeds(study, shown)}"
    )


def pace(tables: Mapping[int, LayerSeries]) -> Profile:
    """The median over a run's measured steps, layer by layer, over the seeds."""
    values = np.array([medians(table.values, table.present) for table in tables.values()])
    present = np.array([table.present.any(axis=0) for table in tables.values()]).any(axis=0)
    steps = tuple(int(table.steps[-1]) for table in tables.values())
    return Profile(next(iter(tables.values())).layers, len(tables), steps, *spread(values), np.asarray(present))


def _pace_words(p: Profile) -> str:
    finite = p.middle[np.isfinite(p.middle)]
    return number(float(finite[0]), 1) if len(finite) else ""


def _pace_title(paces: Mapping[str, Profile], called: Mapping[str, str]) -> str:
    """The slowest layer of all, or the fastest where that is further from the guide, and the variant nearest to it."""
    ends = {v: p.middle[np.isfinite(p.middle)] for v, p in paces.items()}
    away = {v: np.abs(np.log10(np.maximum(end, 1e-300) / GUIDE)) for v, end in ends.items() if len(end)}
    if not away:
        return "No layer of any variant has a finite update"
    far = max(away, key=lambda v: away[v].max())
    near = min(away, key=lambda v: away[v].max())
    layer = int(np.argmax(away[far]))
    told = f"{called[far]}: a step changes layer {layer + 1} by {number(float(ends[far][layer]), 1)} of its weights"
    low, high = (number(float(f"{end:.1g}"), 1) for end in (ends[near].min(), ends[near].max()))
    span = low if low == high else f"{low} to {high}"
    return told if near == far else f"{told}; {called[near]}: every layer by {span}"


def _pace_caption(study: Study, shown: tuple[str, ...]) -> str:
    return (
        "L2 norm of a step's change of a layer's weights over the norm of the weights, the median over all measured "
        "steps; at the line: the first layer's. Far below 10⁻³ a layer hardly learns, far above it overwrites itself. "
        f"{about_seeds(study, shown)}"
    )


def _flow_title(start: Mapping[str, Profile], called: Mapping[str, str]) -> str:
    ratios = {variant: ratio(p) for variant, p in start.items() if not math.isnan(ratio(p))}
    if not ratios:
        return "Gradients at the start and at the end of training"
    decades = {v: math.inf if r in (0, math.inf) else abs(math.log10(r)) for v, r in ratios.items()}
    far, near = max(decades, key=decades.__getitem__), min(decades, key=decades.__getitem__)
    if decades[far] < 1:
        levels = {v: float(np.median(p.middle[np.isfinite(p.middle)])) for v, p in start.items() if v in ratios}
        low, high = min(levels, key=levels.__getitem__), max(levels, key=levels.__getitem__)
        if levels[high] > 100 * levels[low]:
            return (
                f"At the start {called[high]} has gradients of {number(levels[high], 1)} in its middle layer, "
                f"{called[low]} of {number(levels[low], 1)}"
            )
        low, high = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
        return (
            f"Gradient reaches the first layer in every variant: {number(ratios[low], 2)} ({called[low]}) "
            f"to {number(ratios[high], 2)} ({called[high]}) of the last layer's at the start"
        )
    of = "no gradient at all" if ratios[far] == 0 else f"{_times(ratios[far])} the last layer's gradient"
    other = "" if near == far else f"; {called[near]}: {number(ratios[near], 2)}"
    return f"{called[far]}: the first layer gets {of} at the start{other}"


def _times(value: float) -> str:
    return f"{number(value, 2)} {'of' if value < 1 else 'times'}"


def _flow_caption(study: Study, shown: tuple[str, ...]) -> str:
    return (
        "L2 norm of the gradient of each layer's own weights, before clipping; it arrives from the right. At each "
        "line: the first layer's over the last layer's, and its slope. Level lines are healthy; a fall to "
        f"the left starves the first layers, a rise blows them up. {about_seeds(study, shown)}"
    )
