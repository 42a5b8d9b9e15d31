"""Before training: what a single check, that of step 0, says about data, structure and start. Needs no torch.

    found = diagnose_beforehand(run)     # of a run whose only check is that of step 0, in memory or read back

Once a network trains, a finding is an error when it lasts and nothing is learned. Before, neither can be asked, and so
an error has to be certain by itself: an exact fact that no training can mend (softmax twice, a graph that is cut, units
that are all the same), or a symptom whose harm can be measured where the network stands (inputs of size 1000 are an
error where they drive the loss to 50 or saturate the first layer, and else a warning). What depends on the learning
rate, or on how long training is to be, is a warning at most. The limits are those of a run, which are legitimate at
initialisation; where a rule has one of its own its docstring says why, and when it is wrong.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy.special import bdtr

from nnvis.diagnosis.diagnose import RULES, Diagnosis, Rule, judge
from nnvis.diagnosis.evidence import (
    FEWEST_ROWS,
    NOT_BEGUN,
    NotJudged,
    at_start,
    broken,
    constant_loss,
    fact,
    interval,
    linear_loss,
    log_gradients,
    names,
    require_rows,
    rows_with_parameters,
)
from nnvis.diagnosis.fit import bad_initial_loss
from nnvis.diagnosis.gradients import (
    blocked_layers,
    causes_of_zero,
    exploding_gradients,
    few_names,
    vanishing_gradients,
)
from nnvis.diagnosis.inputs import bad_labels, rare_share, unnormalized_inputs
from nnvis.diagnosis.rates import too_high_at_the_start, too_low_at_the_start
from nnvis.diagnosis.remedies import remedies
from nnvis.diagnosis.structure import loss_mismatch
from nnvis.diagnosis.units import after_the_last_map, require_modules, share_below
from nnvis.record.run import Run
from nnvis.record.vocabulary import Check, Finding, FloatArray

SURE_ROWS = 300
"""Where none of so many rows has a property, under 1% of all have it (95%, the rule of three)."""


def diagnose_beforehand(run: Run) -> Diagnosis:
    """What is wrong before the first update, as far as one check tells. Other symptoms are not judged."""
    at_start(run)
    return judge(run, {symptom: BEFOREHAND.get(symptom, _later) for symptom in RULES})


def _later(run: Run) -> list[Finding]:
    raise NotJudged(NOT_BEGUN)


# ---------------------------------------------------------------- exact, and of the network


def twins(run: Run, *, share: float = 0.5) -> list[Finding]:
    """At least half of a hidden layer's units have the same weights, before and behind: they stay the same for ever.

    An error where all of a layer's have: it then does the work of a few units. Frozen layers are left out. Wrong where
    dropout or noise tells twins apart later, which a random start does better.
    """
    start = at_start(run)
    shares = start.values.get("diagnosis_duplicate_fraction")
    if shares is None:
        raise NotJudged("the graph of the network was not seen")
    trained = np.array([row["trainable"] for row in start.facts["layers"]])
    same = trained & (np.nan_to_num(shares) >= share)
    if not same.any():
        return []
    worst = int(np.argmax(np.where(same, shares, -1)))
    text = f"{shares[worst]:.0%} of the units of {start.layers[worst]} have a twin with the same incoming and outgoing "
    text += "weights: twins get the same gradient, and do the work of one"
    cause = "weights start the same: a constant initialisation, or units that were pruned to 0"
    severity = "error" if shares[worst] == 1 else "warning"
    return [
        _finding("symmetric_units", severity, names(start, np.flatnonzero(same)), shares[worst], share, text, cause)
    ]


def blocked_gradients(run: Run) -> list[Finding]:
    """The gradient of every layer before the output is exactly 0, and the first update does not change that.

    An output layer that starts at 0 is left out: it gets a gradient itself, and from then on lets others by. A warning
    where the output layer learns and no gradient is asked of those before it (a backbone under `no_grad`, on purpose or
    not), and where all units are off at fewer than 32 rows. Wrong where the loss is at its minimum already.
    """
    start = at_start(run)
    where = blocked_layers(start)
    if where is None:
        return []
    if not np.nan_to_num(start.values["diagnosis_row_loss"], nan=1.0).any():
        raise NotJudged("the loss is 0: there is nothing to learn on these rows")
    mapping = [i for i in rows_with_parameters(start) if start.facts["layers"][i]["trainable"]]
    gradients = start.values["diagnosis_parameter_grad_norm"][mapping]
    output_learns = bool(np.nan_to_num(gradients[-1]))
    dead = bool((start.values["diagnosis_flat_fraction"] == 1).any())
    cut = len(gradients) > 1 and bool(np.isnan(gradients[:-1]).all())
    if output_learns and not dead and not cut:
        return []
    sure = not (output_learns and cut) and (not dead or start.facts["rows"] >= FEWEST_ROWS)
    text = (
        f"the gradient of {few_names(where)} is exactly 0 at all {start.facts['rows']:,} rows: nothing can learn there"
    )
    causes = causes_of_zero(run, start)
    return [_finding("zero_gradients", "error" if sure else "warning", where, 0.0, 0.0, text, *causes)]


# ---------------------------------------------------------------- signal and gradient through depth


def vanishing(run: Run, *, invisible: float = math.log(2.0**-23)) -> list[Finding]:
    """The gradient reaches the first layers e³ times weaker than the output (Glorot & Bengio 2010).

    A warning: optimizers with steps of a fixed size (Adam) may do with it. An error where the first layer's outputs can
    all double and move an output of size 1 by less than the rounding of a float32, 2⁻²³ of it: whatever happens there,
    the loss cannot tell. Wrong for networks that are trained layer by layer.
    """
    found = vanishing_gradients(run)
    if not found:
        return []
    first, output = _sensitivity(at_start(run), least_output=1.0)
    seen = interval(first - output)
    if not seen.high < invisible:
        return found
    text = f"; {found[0].layers[0]}'s outputs could double and move the network's by {math.exp(seen.mean):.1g} of "
    text += "their size, which a float32 does not show"
    return [replace(found[0], severity="error", evidence=found[0].evidence + text)]


def exploding(run: Run) -> list[Finding]:
    """Signal or gradient grow e³ times through the network.

    An error where that does harm already: the loss starts far above that of guessing, numbers are not finite, or a
    small change at the first layer is e³ times as large at the output, relative to what is there (a chaotic network:
    Poole et al. 2016; not told of networks with norm layers, which measure by the spread and not by the size). Else a
    note: behind embeddings and before norm layers such ratios are usual, and networks train.
    """
    found = exploding_gradients(run)
    if not found:
        return []
    start = at_start(run)
    first, output = _sensitivity(start)
    chaotic = interval(first - output).low > found[0].threshold and not _normalises(start)
    harms = chaotic or broken(run) or _shows(run, bad_initial_loss)
    return [replace(found[0], severity="error" if harms else "info")]


def _normalises(start: Check) -> bool:
    """Whether the network has norm layers, or operations that normalise."""
    operations = start.facts.get("operations") or {}
    norms = (name for name in operations if "norm" in name.lower() or name == "Rsqrt")
    return any(row["norm"] for row in start.facts["layers"]) or any(norms)


def _sensitivity(start: Check, least_output: float = 0.0) -> tuple[FloatArray, FloatArray]:
    """(P,) ln of what a change of a layer's outputs by their own size does to the loss: of the first, of the last."""
    known, gradients = log_gradients(start)
    sizes = np.array([math.prod(start.facts["layers"][i]["shape"] or [1]) for i in known], float)
    rms = start.values["diagnosis_activation_norm"][known] / np.sqrt(sizes)[:, None]
    with np.errstate(divide="ignore"):
        return gradients[0] + np.log(rms[0]), gradients[-1] + np.log(np.maximum(rms[-1], least_output))


# ---------------------------------------------------------------- units


def dead(run: Run, *, share: float = 0.5) -> list[Finding]:
    """Over half of a layer's units have a slope of 0 at every row: more than a random start leaves off.

    A warning where a whole layer is off, an error where nothing gets around it. Else a note: deep and narrow
    networks start so, and train. Wrong for few rows: a unit that is on at one row of n is not seen.
    """
    start = at_start(run)
    flat = start.values["diagnosis_flat_fraction"]
    if not np.isfinite(flat).any():
        require_modules(run)
        return []
    off = np.nan_to_num(flat) > share
    if not off.any():
        return []
    worst, rows = int(np.nanargmax(flat)), int(start.facts["rows"])
    severity = "info" if flat[worst] < 1 else "warning"
    if severity == "warning" and any(finding.severity == "error" for finding in blocked_gradients(run)):
        severity = "error"
    text = (
        f"{flat[worst]:.0%} of the units of {start.layers[worst]} have a slope of 0 at all {rows:,} rows (a unit that "
    )
    text += f"is on at over {3 / rows:.1%} of all rows would have shown)"
    cause = "the network starts with units that are always off: a bad initialisation or inputs far from 0"
    return [_finding("dead_units", severity, names(start, np.flatnonzero(off)), flat[worst], share, text, cause)]


def saturated(run: Run, *, slope: float = 0.05, share: float = 0.5) -> list[Finding]:
    """Over half of a bounded hidden layer's units have a mean slope under 5% of the largest (Glorot & Bengio 2010).

    A warning, and an error where all of a layer's units have: a twentieth of the gradient, at most, gets through it.
    Wrong for layers that are meant to be binary.
    """
    start = at_start(run)
    flat = share_below(start, slope)
    if not np.isfinite(flat).any():
        require_modules(run)
        return []
    sick = (np.nan_to_num(flat) > share) & ~after_the_last_map(start)
    if not sick.any():
        return []
    worst = int(np.argmax(np.where(sick, flat, -1)))
    severity = "error" if flat[worst] == 1 and start.facts["rows"] >= FEWEST_ROWS else "warning"
    text = f"{flat[worst]:.0%} of the units of {start.layers[worst]} have a mean slope below {slope:.0%} of the largest"
    causes = ("the weights start too large", "the inputs are far from 0")
    where = names(start, np.flatnonzero(sick))
    return [_finding("saturated_activations", severity, where, flat[worst], share, text, *causes)]


# ---------------------------------------------------------------- loss and data


def initial_loss(run: Run, *, sure: float = 10.0) -> list[Finding]:
    """The loss starts 1 nat above that of guessing (classes), or at twice E[y²] (numbers).

    A warning, and an error from 10 nats on: a network that gives the right answer a chance of e⁻¹⁰ has outputs of a
    size that only large weights, or inputs, make. Wrong for networks that start from trained weights.
    """
    return [_graver(one, one.threshold == 1.0 and one.value > sure) for one in bad_initial_loss(run)]


def inputs_that_harm(run: Run) -> list[Finding]:
    """Inputs far from size 1, far from 0 against their spread, or of sizes that differ 100-fold.

    A warning, and an error where the network shows what they do to it: the loss starts far above that of guessing, or
    units are saturated or dead.
    """
    found = unnormalized_inputs(run)
    if not found:
        return []
    harm = [what for what, rule in _HARM.items() if _shows(run, rule)]
    text = f"; already {' and '.join(harm)}" if harm else ""
    return [replace(_graver(one, bool(harm)), evidence=one.evidence + text) for one in found]


_HARM: dict[str, Rule] = {
    "the loss starts far above that of guessing": bad_initial_loss,
    "units are saturated": saturated,
    "units are dead": dead,
}


def _shows(run: Run, rule: Rule) -> bool:
    try:
        return bool(rule(run))
    except NotJudged:
        return False


def loss_that_may_harm(run: Run) -> list[Finding]:
    """Outputs broadcast against targets, the wrong sign: exact. A sum over rows, an absolute error for classes.

    These two are warnings: whether a sum harms depends on the learning rate; an absolute error is least where the
    commonest class is always given, and may stay there.
    """
    loss = fact(run, "loss") or {}
    of_classes = bool((fact(run, "targets") or {}).get("counts")) and loss.get("kind") == "mean_absolute_error"
    doubtful = loss.get("reduction") == "sum" or of_classes
    return [
        replace(one, severity="warning") if doubtful and one.severity == "info" else one for one in loss_mismatch(run)
    ]


def labels(run: Run, *, unsure: float = 0.2) -> list[Finding]:
    """One class only, or constant targets; or labels that neither neighbours nor a linear map can tell.

    The first is an error where 300 rows are looked at: under 1% are of another kind (fewer may be one batch of sorted
    rows, or lack a rare class). The second is a warning, said only where the rows are enough to rule out that a
    neighbour is right a fifth more often than by chance. Wrong where only a network can see what there is.
    """
    start = at_start(run)
    found = bad_labels(run) if _all_the_same(run) else []
    if found:
        return [replace(one, severity="error" if start.facts["rows"] >= SURE_ROWS else one.severity) for one in found]
    linear, errors = linear_loss(run), start.values.get("diagnosis_row_loss_neighbour")
    counts = fact(run, "targets", "counts")
    if linear is None or errors is None or not counts:
        raise NotJudged("there is no baseline for these inputs and targets")
    constant = constant_loss(run)
    shares = np.array(counts) / sum(counts)
    by_chance = 1 - float(np.square(shares).sum())
    better = interval(by_chance - errors)
    if better.low > 0 or float((constant - linear).mean()) > 0:
        return []
    if better.high > unsure * by_chance:
        raise NotJudged(f"{len(errors):,} rows are too few to tell whether labels have to do with inputs")
    text = (
        f"a nearest neighbour has another label at {errors.mean():.0%} of the rows (by chance: {by_chance:.0%}), and a "
    )
    text += f"linear baseline gets {linear.mean():.4g} (the best constant output: {constant.mean():.4g})"
    causes = ("the labels are not related to the inputs: shuffled, or joined wrongly", "the inputs hold no signal")
    return [_finding("bad_labels", "warning", (), float(errors.mean() / by_chance), 1.0, text, *causes)]


def _all_the_same(run: Run) -> bool:
    facts = fact(run, "targets") or {}
    if not facts.get("known"):
        raise NotJudged("the targets are not known")
    return facts["distinct"] == 1 or sum(count > 0 for count in facts.get("counts", [1, 1])) == 1


def rare_classes(run: Run, *, level: float = 0.01) -> list[Finding]:
    """A class with under a fifth of an even share of the rows, by an exact binomial test.

    A warning: whether the network finds rare rows all the same is seen once it trains. Corrected for the number of
    classes. Wrong where the rows are not drawn from those that training sees.
    """
    counts = np.array(fact(run, "targets", "counts") or [])
    if not len(counts):
        raise NotJudged("the targets are no classes, or not known")
    if _all_the_same(run):
        return []
    limit = rare_share(len(counts))
    few = np.flatnonzero(bdtr(counts, int(counts.sum()), limit) < level / len(counts))
    if not len(few):
        return []
    share, common = counts[few].sum() / counts.sum(), counts.max() / counts.sum()
    shown = ", ".join(map(str, few[:5])) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
    text = f"class {shown} {'has' if len(few) == 1 else 'have'} {share:.1%} of the rows, the commonest {common:.1%}"
    cause = "the loss hardly feels the rare class"
    return [_finding("class_imbalance", "warning", (), float(counts[few].min() / counts.sum()), limit, text, cause)]


# ---------------------------------------------------------------- by trying


def not_by_heart(run: Run, *, known: float = 0.2, nothing: float = 0.9) -> list[Finding]:
    """A few rows are not learned by heart, at neither of two learning rates of Adam: a bug, or a mismatch.

    Their loss stays above a fifth of the way from the least that targets allow to the best constant output's (a
    warning), or above nine tenths of it (an error). Where nobody knows the least, as of smoothed labels and of losses
    that no formula gives, only rows that are learned are judged.
    Not judged of networks with fewer weights than ten times the rows: they may not have the room. Wrong where rows
    differ by nothing that the network sees, and for networks that take more than a few hundred steps to begin.
    """
    start = at_start(run)
    losses, constant = (start.values.get(f"diagnosis_heart_row_loss{end}") for end in ("", "_constant"))
    if losses is None or constant is None:
        raise NotJudged((start.facts.get("not_tried") or {}).get("heart", NOT_BEGUN))
    require_rows(run)
    weights = sum(row["parameters"] for row in start.facts["layers"] if row["trainable"])
    if weights < 10 * len(losses):
        raise NotJudged(f"{weights} weights may not have the room to learn {len(losses)} rows by heart")
    if not constant.mean() > 0.1 * float(np.abs(constant_loss(run)).mean()):
        raise NotJudged(f"the {len(losses)} rows to be learned by heart are all alike")
    least = start.values.get("diagnosis_heart_row_loss_least")
    floor = 0.0 if least is None else float(least.mean())
    if constant.mean() - floor <= 0.1 * constant.mean():
        raise NotJudged("the best constant output is nearly as good as targets of this kind allow")
    share = float((losses.mean() - floor) / (constant.mean() - floor))
    if share <= known:
        return []
    if least is None:
        raise NotJudged("what this loss is at best is not known")
    if not math.isfinite(share):
        raise NotJudged(f"the loss of the {len(losses)} rows to be learned by heart is not finite")
    made = int(start.values["diagnosis_heart_steps"][0])
    text = (
        f"{len(losses)} rows cannot be learned by heart: after {made} steps of Adam their loss is {losses.mean():.4g}, "
    )
    text += f"that of the best constant output {constant.mean():.4g}"
    text += f", the least possible {floor:.4g}" if floor else ""
    severity = "warning" if share <= nothing else "error"
    causes = ("the output or the loss does not go with the targets", "something blocks the gradient", "a bug")
    return [_finding("underfitting", severity, (), share, known, text, *causes)]


# ---------------------------------------------------------------- together


def _graver(finding: Finding, harms: bool) -> Finding:
    return replace(finding, severity="error") if harms else finding


def _finding(
    symptom: str, severity: str, layers: tuple[str, ...], value: float, threshold: float, evidence: str, *causes: str
) -> Finding:
    return Finding(symptom, severity, layers, 0, float(value), threshold, evidence, causes, remedies=remedies(symptom))


BEFOREHAND: dict[str, Rule] = {
    **{
        symptom: RULES[symptom]
        for symptom in (
            "nonfinite_values",
            "output_mismatch",
            "missing_nonlinearity",
            "constant_features",
            "unnormalized_targets",
            "shared_rows",
        )
    },
    "loss_mismatch": loss_that_may_harm,
    "bad_labels": labels,
    "symmetric_units": twins,
    "zero_gradients": blocked_gradients,
    "vanishing_gradients": vanishing,
    "exploding_gradients": exploding,
    "dead_units": dead,
    "saturated_activations": saturated,
    "unnormalized_inputs": inputs_that_harm,
    "class_imbalance": rare_classes,
    "bad_initial_loss": initial_loss,
    "learning_rate_too_high": too_high_at_the_start,
    "learning_rate_too_low": too_low_at_the_start,
    "underfitting": not_by_heart,
}
"""By symptom: the rules of a run where they are exact, and those that judge by one check."""
