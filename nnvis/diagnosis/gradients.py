"""Rules about gradients: vanishing, exactly zero, exploding."""

from __future__ import annotations

import math

import numpy as np

from nnvis.diagnosis.evidence import (
    NotJudged,
    at_start,
    broken,
    checks,
    consequence,
    holm,
    interval,
    last_two,
    log_gradients,
    names,
    p_below,
    rows_with_parameters,
    what_follows,
)
from nnvis.diagnosis.remedies import remedies
from nnvis.record.run import Run
from nnvis.record.vocabulary import Check, Finding

_THEN_BROKEN = "; then numbers were no longer finite"


def vanishing_gradients(run: Run, *, limit: float = -3.0) -> list[Finding]:
    """Before the first update the gradient reaches the first layers e³ times weaker than the output, and nothing moves.

    Limit: 135 published cases, trained again; Glorot & Bengio 2010 measure the same decay. It means something at
    initialisation only: later it fires on every second healthy run, which is why the loss is asked. Wrong where a first
    layer is meant to learn slowly, and where a network without progress has another disease beside it.
    """
    start = at_start(run)
    known, logs = log_gradients(start)
    starved = holm(p_below(logs, limit))
    if not starved[0] or not np.isfinite(logs[starved]).any():
        return []
    ratio = interval(logs[0])
    factor = interval(logs[0] / max(len(known) - 1, 1)).mean
    stuck, unknown = consequence(run)
    lasting = stuck is not None and all(_first_log(check) < limit for check in last_two(run))
    evidence = (
        f"before the first update {names(start, known)[0]} gets {_times(ratio.mean)} of the gradient at the output "
        f"(99% interval {_times(ratio.low)} to {_times(ratio.high)}), ×{math.exp(factor):.2g} a layer"
        f"{what_follows(stuck, unknown)}"
    )
    return [
        Finding(
            symptom="vanishing_gradients",
            severity="error" if lasting else "warning" if stuck or unknown else "info",
            layers=names(start, np.array(known)[starved]),
            first_step=0,
            value=ratio.mean,
            threshold=limit,
            evidence=evidence,
            causes=_causes_of_vanishing(run, start, known),
            remedies=remedies("vanishing_gradients"),
        )
    ]


def zero_gradients(run: Run) -> list[Finding]:
    """The gradient of every layer before the output is exactly 0, at two checks in a row, and the network is no good.

    Exact: no threshold, and from the first check on an error before anything is known of progress; a note where the
    output layer learns enough alone, as behind a frozen backbone. A loss that is perfectly fitted is left out by asking
    for progress; an output layer that starts at 0 lets gradients by from the first update on.
    """
    seen = checks(run)
    if len(seen) < 2:
        raise NotJudged("one check: two in a row are needed")
    blocked = [blocked_layers(check) for check in seen]
    for i in range(len(seen) - 1):
        if not (blocked[i] and blocked[i + 1]):
            continue
        if seen[i].step and not all(blocked[i:]):
            continue
        stuck, unknown = consequence(run)
        if seen[i].step and stuck is None:  # it worked once: converged, or dead
            if unknown:
                raise NotJudged(unknown)
            return []
        if not all(blocked[i:]):
            continue
        if stuck is None and unknown and _frozen(seen[-1]):
            raise NotJudged(unknown)
        where, last = blocked[i], blocked[-1]
        assert where is not None
        assert last is not None
        return [
            Finding(
                symptom="zero_gradients",
                severity="error" if stuck or unknown else "info",
                layers=where,
                first_step=seen[i].step,
                value=0.0,
                threshold=0.0,
                evidence=(
                    f"the gradient of {few_names(where)} is exactly 0 at step {seen[i].step:,} and at every check "
                    f"since (last: step {seen[-1].step:,}); nothing can learn there{what_follows(stuck, unknown)}"
                ),
                causes=causes_of_zero(run, seen[-1]),
                remedies=remedies("zero_gradients"),
            )
        ]
    return []


def exploding_gradients(run: Run, *, limit: float = 3.0, sigmas: float = 6.0) -> list[Finding]:
    """Before the first update gradients, or signals, grow e³ times through the network; or later they leave their past.

    Limits: e³ as for vanishing; later e³ and 6 robust sigmas above the running median of 20 measured steps, three times
    in a row: single outliers are usual (Pascanu et al. 2013 clip them). Wrong for a network that starts so and trains
    well: that is why it is a warning until the loss says otherwise.
    """
    seen = bool(run.checks) and run.checks[0].step == 0
    found = _exploding_at_start(run, limit) if seen else []
    try:
        return found or _exploding_later(run, limit, sigmas)
    except NotJudged:
        if seen:
            return []
        raise


def _exploding_at_start(run: Run, limit: float) -> list[Finding]:
    start = at_start(run)
    try:
        known, logs = log_gradients(start)
    except NotJudged:
        return []
    backward = interval(logs[0])
    norms = start.values["diagnosis_activation_norm"]
    sizes = np.array([math.prod(start.facts["layers"][i]["shape"] or [1]) for i in known], float)
    with np.errstate(divide="ignore", invalid="ignore"):
        forward_logs = np.log(norms[known] / np.sqrt(sizes)[:, None])
        forward = interval(forward_logs[-1] - forward_logs[0])  # NaN where all weights are zero
    worse = max(backward.low, forward.low if math.isfinite(forward.low) else -math.inf)
    if not worse > limit:
        return []
    stuck, unknown = consequence(run)
    is_broken = broken(run)
    if backward.low >= forward.low:
        what = f"the gradient at {names(start, known)[0]} is {_times(backward.mean)} that at the output"
        value = backward
    else:
        what = f"the outputs of {names(start, known)[-1]} are {_times(forward.mean)} those of {names(start, known)[0]}"
        value = forward
    return [
        Finding(
            symptom="exploding_gradients",
            severity="error" if stuck or is_broken else "warning",
            layers=names(start, known),
            first_step=0,
            value=value.mean,
            threshold=limit,
            evidence=(
                f"before the first update {what} (99% interval {_times(value.low)} to {_times(value.high)})"
                + (_THEN_BROKEN if is_broken else what_follows(stuck, unknown))
            ),
            causes=("the weights start too large for this depth",),
            remedies=remedies("exploding_gradients"),
        )
    ]


def _exploding_later(run: Run, limit: float, sigmas: float, window: int = 20, sustained: int = 3) -> list[Finding]:
    norms = run.layers.get("grad_norm")
    if norms is None or len(norms.steps) < window + sustained:
        raise NotJudged("the initialisation was not checked, and there are too few measured steps")
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        totals = np.log(np.sqrt(np.nansum(np.square(norms.values), axis=1)))
    totals[~np.isfinite(totals)] = np.nan
    past = np.lib.stride_tricks.sliding_window_view(totals, window)[:-1]  # (T - window, window) before each step
    known = np.isfinite(past).sum(axis=1) >= window // 2
    middle = np.nanmedian(past[known], axis=1)
    sigma = np.maximum(1.4826 * np.nanmedian(np.abs(past[known] - middle[:, None]), axis=1), 0.05)
    above = np.zeros(len(totals), bool)
    above[window:][known] = np.nan_to_num(totals[window:][known], nan=-np.inf) > middle + np.maximum(
        sigmas * sigma, limit
    )
    runs_of = np.convolve(above, np.ones(sustained), "valid") == sustained
    if not runs_of.any():
        return []
    first = int(runs_of.argmax())
    stuck, unknown = consequence(run)
    is_broken = broken(run)
    grown = float(totals[first] - np.nanmedian(totals[first - window : first]))
    return [
        Finding(
            symptom="exploding_gradients",
            severity="error" if stuck or is_broken else "info",
            layers=(),
            first_step=int(norms.steps[first]),
            value=grown,
            threshold=sigmas,
            evidence=(
                f"at step {norms.steps[first]:,} the gradient's norm is {_times(grown)} its "
                f"running median, and stays so for {sustained} measured steps"
                + (_THEN_BROKEN if is_broken else what_follows(stuck, unknown))
            ),
            causes=("the learning rate is too high",),
            remedies=remedies("exploding_gradients"),
        )
    ]


def _times(log: float) -> str:
    return f"{math.exp(min(log, 700)):.2g} times" if log > 0 else f"{math.exp(log):.2g}"


def _first_log(check: Check) -> float:
    try:
        return float(log_gradients(check)[1][0].mean())
    except NotJudged:
        return math.inf


def few_names(where: tuple[str, ...]) -> str:
    """`3 layers (first … last)`, or the only one's name."""
    first, *others = where
    return f"{len(where)} layers ({first}{' … ' if len(others) > 1 else ', '}{others[-1]})" if others else first


def _frozen(check: Check) -> bool:
    """Whether no gradient at all comes to the layers before the output, while the output gets one: under no_grad."""
    norms = check.values["diagnosis_parameter_grad_norm"][rows_with_parameters(check)]
    return len(norms) > 1 and bool(np.isnan(norms[:-1]).all()) and not math.isnan(norms[-1])


def blocked_layers(check: Check) -> tuple[str, ...] | None:
    """The layers before the output, where the gradient of all their parameters is exactly 0; None elsewhere."""
    hidden = [i for i in rows_with_parameters(check) if check.facts["layers"][i]["trainable"]]
    gradients = check.values["diagnosis_parameter_grad_norm"]
    before = hidden[:-1] if len(hidden) > 1 else hidden
    if not before or check.values["diagnosis_nonfinite"].any():
        return None
    # a layer that no gradient reached at all has none to be read
    return names(check, before) if not np.nan_to_num(gradients[before]).any() else None


def causes_of_zero(run: Run, check: Check) -> tuple[str, ...]:
    """What blocks the gradient, nearest to the loss."""
    output = check.facts["output"]
    if output.get("activations", [""])[:1] == ["softmax"] and output.get("shape") == [1]:
        return ("softmax over a single output is always 1: its slope is 0",)
    if not output.get("in_graph"):
        return ("the loss is not connected with the parameters: detached, or computed without gradients",)
    flat = check.values["diagnosis_flat_fraction"]
    dead = [name for name, share in zip(check.layers, flat, strict=True) if share == 1]
    if dead:
        return (f"all units of {dead[-1]} are dead: no row gets a slope through them",)
    if output.get("activations"):
        return (f"the {output['activations'][0]} before the loss is saturated at every row",)
    return ("the gradient at the output is exactly 0",)


def _causes_of_vanishing(run: Run, start: Check, known: list[int]) -> tuple[str, ...]:
    causes = []
    kinds = {row["kind"] for row in start.facts["layers"] if row["nonlinearity"]}
    quantiles = start.values["diagnosis_slope_quantiles"]
    norms = start.values["diagnosis_activation_norm"].mean(axis=1)
    sizes = np.array([math.prod(row["shape"] or [1]) for row in start.facts["layers"]], float)
    rms = norms / np.sqrt(sizes)
    shrinks = len(known) > 2 and rms[known[-2]] < math.exp(-2) * rms[known[0]]
    if kinds & {"Sigmoid", "Hardsigmoid", "LogSigmoid"}:
        causes.append("sigmoid's slope is at most 1/4: every layer passes on less than that")
    slopes = quantiles[np.isfinite(quantiles).all(axis=1)]
    if len(slopes) and float(np.median(slopes[:, 10])) < 0.2:
        causes.append(
            "the nonlinearities are saturated, or mostly off: their median slope is below a fifth of the largest"
        )
    if shrinks or not causes:
        causes.append("the weights start too small for this depth: the signal shrinks from layer to layer")
    return tuple(causes)
