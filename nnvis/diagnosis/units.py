"""Rules about units: dead, saturated, all the same."""

from __future__ import annotations

import numpy as np

from nnvis.diagnosis.evidence import NotJudged, at_start, checks, consequence, fact, last_two, names, what_follows
from nnvis.diagnosis.remedies import remedies
from nnvis.record.run import Run
from nnvis.record.vocabulary import Check, Finding, FloatArray

_FUNCTIONS = ("relu", "sigmoid", "tanh", "gelu", "silu", "elu", "leakyrelu", "softplus", "hardtanh")


def dead_units(run: Run, *, share: float = 0.5, more: float = 0.1) -> list[Finding]:
    """Over half of a layer's units have a slope of 0 at every fixed row, at two checks, and more than at the start.

    Limit: at a half, healthy networks are hardly hit (135 published cases, trained again). A unit that is never on at n
    rows is on at less than 3/n of all (95%, the rule of three). Sparse is not
    dead: a fault only where the network makes no progress, or a whole layer is dead. Wrong where the fixed rows are
    not those that the network is trained on.
    """
    before, now = (check.values["diagnosis_flat_fraction"] for check in last_two(run))
    last = last_two(run)[1]
    start = checks(run)[0]
    began = start.values["diagnosis_flat_fraction"] if start.step == 0 else np.zeros(len(now))
    if not np.isfinite(now).any():
        require_modules(run)
        return []
    dying = (before > share) & (now > share) & ((now > began + more) | (now == 1))
    if not dying.any():
        return []
    stuck, unknown = consequence(run)
    whole = (now == 1) & (before == 1)
    worst = int(np.nanargmax(np.where(dying, now, -1)))
    rows = int(last.facts["rows"])
    return [
        Finding(
            symptom="dead_units",
            severity="error" if stuck else "warning" if whole.any() or unknown else "info",
            layers=names(last, np.flatnonzero(dying)),
            first_step=_since(run, "diagnosis_flat_fraction", dying, share),
            value=float(now[worst]),
            threshold=share,
            evidence=(
                f"{now[worst]:.0%} of the units of {last.layers[worst]} have a slope of 0 at all {rows:,} probe rows "
                f"(before the first update {began[worst]:.0%}; a unit that is on at over {3 / rows:.1%} of all rows "
                f"would have shown){what_follows(stuck, unknown)}"
            ),
            causes=("the learning rate is too high, and pushed units to where they are always off",)
            if now[worst] > began[worst] + more
            else ("the network starts with units that are always off: a bad initialisation or inputs far from 0",),
            remedies=remedies("dead_units"),
        )
    ]


def saturated_activations(run: Run, *, slope: float = 0.05, share: float = 0.5) -> list[Finding]:
    """Over half of a bounded layer's units have a mean slope under 5% of the largest, at two checks in a row.

    Limits: as Glorot & Bengio 2010 draw saturation; a slope of 5% is 1.5 standard deviations out on a tanh. The output
    is left out: it may saturate on separable data. A fault only where the network makes no progress.
    """
    checked = last_two(run)
    flat = np.array([share_below(check, slope) for check in checked])
    last = checked[-1]
    if not np.isfinite(flat).any():
        require_modules(run)
        return []
    sick = (flat > share).all(axis=0) & ~after_the_last_map(last)
    if not sick.any():
        return []
    start = checks(run)[0]
    began = share_below(start, slope)
    stuck, unknown = consequence(run)
    worst = int(np.argmax(np.where(sick, flat[-1], -1)))
    return [
        Finding(
            symptom="saturated_activations",
            severity="error" if stuck else "warning" if unknown else "info",
            layers=names(last, np.flatnonzero(sick)),
            first_step=_first_saturated(run, sick, slope, share),
            value=float(flat[-1][worst]),
            threshold=share,
            evidence=(
                f"{flat[-1][worst]:.0%} of the units of {last.layers[worst]} have a mean slope below {slope:.0%} of "
                f"the largest (before the first update {began[worst]:.0%}){what_follows(stuck, unknown)}"
            ),
            causes=("the weights start too large", "the inputs are far from 0")
            if began[worst] > share
            else ("the learning rate is too high", "the inputs are far from 0"),
            remedies=remedies("saturated_activations"),
        )
    ]


def symmetric_units(run: Run, *, share: float = 0.5) -> list[Finding]:
    """At least half of a hidden layer's units have a twin with the same weights, at the start and at every check.

    Twins get the same gradient for ever (relative 1e-6, incoming and outgoing weights). A warning where some units
    differ and the network learns: pruned units are twins too. An output layer that starts at zero is healthy, and is
    not counted.
    """
    start = at_start(run)
    last = checks(run)[-1]
    if last is start:
        raise NotJudged("one check: two in a row are needed")
    shares = [check.values.get("diagnosis_duplicate_fraction") for check in checks(run)]
    if any(share is None for share in shares):  # not looked for any more, since there were none
        return []
    always = np.array(shares)
    with np.errstate(invalid="ignore"):
        same = (always >= share).all(axis=0)
    if not same.any():
        return []
    stuck, unknown = consequence(run)
    worst = int(np.argmax(np.where(same, always[-1], -1)))
    return [
        Finding(
            symptom="symmetric_units",
            severity="error" if stuck or unknown or always[-1][worst] == 1 else "warning",
            layers=names(last, np.flatnonzero(same)),
            first_step=0,
            value=float(always[-1][worst]),
            threshold=share,
            evidence=(
                f"{always[-1][worst]:.0%} of the units of {last.layers[worst]} have a twin with the same incoming and "
                f"outgoing weights at the start and still at step {last.step:,}: they do the work of one"
                f"{what_follows(stuck, unknown)}"
            ),
            causes=("weights start the same: a constant initialisation, or units that were pruned to 0",),
            remedies=remedies("symmetric_units"),
        )
    ]


def require_modules(run: Run) -> None:
    """Raises NotJudged where the nonlinearities are functions that only the graph shows: no unit of theirs is seen."""
    operations = fact(run, "operations") or {}
    functions = [name for name in operations if name.lower() in _FUNCTIONS]
    if functions and not any(row["nonlinearity"] for row in checks(run)[0].facts["layers"]):
        raise NotJudged(f"the nonlinearities ({', '.join(functions)}) are functions, not modules: no unit is seen")


def share_below(check: Check, slope: float) -> FloatArray:
    """(L,) share of a bounded nonlinearity's units with a smaller mean slope, by the quantiles; NaN for others."""
    quantiles = check.values["diagnosis_slope_quantiles"]
    bounded = np.array([row["bounded"] and row["nonlinearity"] for row in check.facts["layers"]])
    below = (quantiles < slope).mean(axis=1)
    return np.where(bounded & np.isfinite(quantiles).all(axis=1), below, np.nan)


def after_the_last_map(check: Check) -> np.ndarray:
    """(L,) whether a layer stands behind the last one with parameters: it is the output's."""
    with_parameters = [i for i, row in enumerate(check.facts["layers"]) if row["parameters"]]
    return np.arange(len(check.layers)) > (with_parameters[-1] if with_parameters else -1)


def _since(run: Run, quantity: str, where: np.ndarray, limit: float) -> int:
    """The first check from which on all later ones lie above a limit, in any of the layers."""
    first = checks(run)[-1].step
    for check in reversed(checks(run)):
        if not (check.values[quantity][where] > limit).any():
            break
        first = check.step
    return first


def _first_saturated(run: Run, where: np.ndarray, slope: float, share: float) -> int:
    first = checks(run)[-1].step
    for check in reversed(checks(run)):
        if not (share_below(check, slope)[where] > share).any():
            break
        first = check.step
    return first
