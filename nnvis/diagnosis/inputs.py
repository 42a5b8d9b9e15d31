"""Rules about data: inputs and targets far from 1, columns without a spread, rare classes, shared rows, bad labels."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri

from nnvis.diagnosis.evidence import (
    FEWEST_ROWS,
    NotJudged,
    at_start,
    checks,
    consequence,
    constant_loss,
    fact,
    interval,
    last_two,
    linear_loss,
    spoilt_data,
    what_follows,
)
from nnvis.diagnosis.remedies import remedies
from nnvis.record.run import Run
from nnvis.record.vocabulary import Finding


def constant_features(run: Run) -> list[Finding]:
    """Input features that are the same at every fixed row: exact. An error where all are, of 32 rows or more.

    A note in a table, where a column that tells nothing is usually a slip; nothing is said of images and sequences,
    whose borders are often empty. Wrong of columns that are rarely filled: n rows show what 3/n of all have (95%).
    """
    facts = fact(run, "inputs")
    if not facts or not facts.get("numbers") or "constant" not in facts:
        raise NotJudged("the inputs are no floating numbers, or not known")
    constant, features, rows = facts["constant"], facts["features"], fact(run, "rows")
    if not constant or (constant < features and not facts["table"]):
        return []
    text = f"{constant:,} of {features:,} input features have the same value at all {rows:,} rows"
    if constant == features:
        text = f"the inputs of all {rows:,} rows are the same: the best output is the same for all"
    cause = "a column that is empty, or was filled with one value"
    return [
        Finding(
            symptom="constant_features",
            severity="info" if constant < features else "error" if rows >= FEWEST_ROWS else "warning",
            layers=(),
            first_step=0,
            value=float(constant),
            threshold=0.0,
            evidence=text,
            causes=(cause,),
            remedies=remedies("constant_features"),
        )
    ]


def shared_rows(run: Run, *, level: float = 0.01, least: float = 0.01, grave: float = 0.1) -> list[Finding]:
    """Rows of another split whose inputs are a training row's: more than duplicates within training explain.

    Where rows are drawn one by one, a row of another split has a twin in training as often as a training row has
    one among the others. More is a leak: a one-sided test of the two shares (99%; twice the variance of single rows,
    since twins come in pairs), and 1% of the rows at least; an error from a tenth on, since the split then says little
    about new rows. No more than that is a note. Wrong where the same inputs are meant to come again.
    """
    splits = fact(run, "shared_rows")
    if not splits:
        raise NotJudged("rows of other splits were not compared")
    found: list[tuple[str, float, str]] = []
    for split, counts in splits.items():
        rows, twins = counts["rows"], counts["in_training"]
        within = counts["duplicates"] / max(counts["training_rows"], 1)
        share = twins / max(rows, 1)
        if share < least:
            continue
        text = f"{twins:,} of {rows:,} rows of {split} ({share:.1%}) have the inputs of a training row"
        text += f", against {within:.1%} of the training rows that have those of another one"
        extra, pooled = share - within, (twins + counts["duplicates"]) / (rows + counts["training_rows"])
        error = math.sqrt(2 * pooled * (1 - pooled) * (1 / rows + 1 / counts["training_rows"]))  # twins: twice as much
        leaks = extra > ndtri(1 - level) * error
        severity = ("error" if extra >= grave else "warning") if leaks and extra >= least else "info"
        found.append((severity, share, text))
    if not found:
        return []
    severity, share, _ = min(found, key=lambda one: ("error", "warning", "info").index(one[0]))
    leak = "the same rows were put into both splits: copied before the split, or split by something else than rows"
    return [
        Finding(
            symptom="shared_rows",
            severity=severity,
            layers=(),
            first_step=0,
            value=share,
            threshold=least,
            evidence="; ".join(text for *_, text in found),
            causes=("the data hold duplicates",) if severity == "info" else (leak,),
            remedies=remedies("shared_rows"),
        )
    ]


def unnormalized_inputs(
    run: Run, *, low: float = 0.03, high: float = 10.0, offset: float = 10.0, spread: float = 100.0
) -> list[Finding]:
    """Inputs whose rms lies outside [0.03, 10], far from 0 against their spread, or of sizes that differ 100-fold.

    Limits: a factor of 10 to 30 around what initialisations are made for (LeCun et al. 1998: mean 0, spread 1). A fault
    only where the network makes no progress: large first weights, or a normalisation
    right behind the inputs, make up for any scale (then nothing is said).
    """
    facts = fact(run, "inputs")
    if not facts or not facts.get("numbers"):
        raise NotJudged("the inputs are no floating numbers, or not known")
    if "inputs" in spoilt_data(run):
        raise NotJudged("the inputs hold NaN or Inf")
    start = checks(run)[0]
    first = next((row for row in start.facts["layers"] if row["parameters"]), None)
    if first is None or first["norm"]:
        return []
    problems = []
    if not low <= facts["rms"] <= high:
        problems.append((facts["rms"], high if facts["rms"] > high else low, f"their rms is {facts['rms']:.3g}"))
    if facts["mean_over_std"] is None or facts["mean_over_std"] > offset:
        ratio = facts["mean_over_std"] or float("inf")
        problems.append((ratio, offset, f"their mean is {ratio:.3g} times their spread"))
    if facts["largest_over_median_rms"] > spread:
        ratio = facts["largest_over_median_rms"]
        problems.append((ratio, spread, f"the largest feature is {ratio:.3g} times the middle one"))
    if not problems:
        return []
    stuck, unknown = consequence(run)
    value, limit, _ = problems[0]
    return [
        Finding(
            symptom="unnormalized_inputs",
            severity="error" if stuck else "warning",
            layers=(first["name"],),
            first_step=0,
            value=value,
            threshold=limit,
            evidence=(
                f"{facts['features']:,} input features: {'; '.join(p[2] for p in problems)}"
                f"{what_follows(stuck, unknown)}"
            ),
            causes=("the inputs are not standardised",),
            remedies=remedies("unnormalized_inputs"),
        )
    ]


def unnormalized_targets(run: Run, *, low: float = 0.03, high: float = 10.0, offset: float = 10.0) -> list[Finding]:
    """Numbers to be predicted whose spread lies outside [0.03, 10], or that lie far from 0 against their spread.

    Limits: as for inputs. Wrong where the output layer starts at the targets' mean and scale.
    """
    facts, kind = fact(run, "targets"), fact(run, "loss", "kind")
    if not facts or not facts.get("known"):
        raise NotJudged("the targets are not known")
    if "counts" in facts or (kind == "other" and facts.get("integers")):  # classes, for a loss that is not known
        return []
    if kind not in ("mean_squared_error", "mean_absolute_error", "other"):
        return []
    if "targets" in spoilt_data(run):
        raise NotJudged("the targets hold NaN or Inf")
    problems = []
    if not low <= facts["std"] <= high:
        limit = high if facts["std"] > high else low
        problems.append((facts["std"], limit, f"their standard deviation is {facts['std']:.3g}"))
    if facts["std"] and abs(facts["mean"]) / facts["std"] > offset:
        ratio = abs(facts["mean"]) / facts["std"]
        problems.append((ratio, offset, f"their mean is {ratio:.3g} times their standard deviation"))
    if not problems or not facts["std"]:
        return []
    stuck, unknown = consequence(run)
    value, limit, _ = problems[0]
    return [
        Finding(
            symptom="unnormalized_targets",
            severity="error" if stuck else "warning",
            layers=(),
            first_step=0,
            value=value,
            threshold=limit,
            evidence=(
                f"the targets lie between {facts['low']:.4g} and {facts['high']:.4g}: "
                f"{'; '.join(p[2] for p in problems)}{what_follows(stuck, unknown)}"
            ),
            causes=("the targets are not standardised",),
            remedies=remedies("unnormalized_targets"),
        )
    ]


def rare_share(classes: int) -> float:
    """The share of the rows below which a class is rare: a fifth of an even one, 0.5% at least."""
    return max(0.2 / classes, 0.005)


def class_imbalance(run: Run, *, recall: float = 0.1) -> list[Finding]:
    """A class with at most a fifth of an even share, of which hardly a row is right at two checks in a row.

    An error where the network makes no progress. Wrong where rare rows are the hard ones for a reason of their own.
    """
    counts = fact(run, "targets", "counts")
    if not counts:
        raise NotJudged("the targets are no classes, or not known")
    shares = np.array(counts) / sum(counts)
    pair = last_two(run)
    if any("diagnosis_recall" not in check.values for check in pair):
        raise NotJudged("which rows are right was not measured")
    recalls = np.array([check.values["diagnosis_recall"][: len(shares)] for check in pair])
    present = shares > 0
    limit = rare_share(len(shares))
    starved = present & (shares < limit + 1e-9) & (np.nan_to_num(recalls) <= recall).all(axis=0)
    common = float(shares.max())
    if not starved.any():
        return []
    stuck, _ = consequence(run)
    return [
        Finding(
            symptom="class_imbalance",
            severity="error" if stuck else "warning",
            layers=(),
            first_step=pair[0].step,
            value=float(shares[starved].min()),
            threshold=limit,
            evidence=(
                f"class {', '.join(map(str, np.flatnonzero(starved)))} has {shares[starved].sum():.1%} of the rows, "
                f"the commonest {common:.1%}; {np.nan_to_num(recalls[-1][starved]).mean():.0%} of its rows are right"
            ),
            causes=("the loss hardly feels the rare class",),
            remedies=remedies("class_imbalance"),
        )
    ]


def bad_labels(run: Run) -> list[Finding]:
    """One class only, or constant targets: an error where nothing is learned; or labels that no baseline can tell.

    The second is a warning at most: what a linear and a nearest-neighbour baseline do not see may still be
    there. It is said only where the network makes no progress either.
    """
    facts = fact(run, "targets")
    if not facts or not facts.get("known"):
        raise NotJudged("the targets are not known")
    stuck, unknown = consequence(run)
    if facts["distinct"] == 1 or sum(count > 0 for count in facts.get("counts", [1, 1])) == 1:
        # rows of nnvis's own are drawn from all; those of a watch may be sorted, or targets that no loss looks at
        drawn = bool(run.config) and fact(run, "loss", "kind") != "other"
        text = f"the targets of all {fact(run, 'rows'):,} probe rows are the same{what_follows(stuck, unknown)}"
        causes = ("the labels are broken", "the probe rows are sorted by class, or their targets are not used")
        severity = "error" if stuck or (drawn and unknown) else "warning"
        return [_bad_labels(run, severity, text, 1.0, causes)]
    if stuck is None:
        if unknown:
            raise NotJudged(unknown)
        return []
    linear = linear_loss(run)
    errors = at_start(run).values.get("diagnosis_row_loss_neighbour")
    if linear is None or errors is None or "counts" not in facts:
        raise NotJudged("there is no baseline for these inputs and targets")
    constant = constant_loss(run)
    shares = np.array(facts["counts"]) / sum(facts["counts"])
    by_chance = 1 - float(np.square(shares).sum())
    better = interval(by_chance - errors)
    if interval(constant - linear).low > 0 or better.low > 0:
        return []
    return [
        _bad_labels(
            run,
            "warning",
            f"a nearest-neighbour baseline is wrong at {errors.mean():.0%} of the rows (by chance: {by_chance:.0%}), "
            f"and a linear one gets {linear.mean():.4g} (the best constant output: {constant.mean():.4g})",
            float(errors.mean() / by_chance),
            ("the labels are not related to the inputs: shuffled, or joined wrongly", "the inputs hold no signal"),
        )
    ]


def _bad_labels(run: Run, severity: str, evidence: str, value: float, causes: tuple[str, ...]) -> Finding:
    return Finding("bad_labels", severity, (), 0, value, 1.0, evidence, causes, remedies=remedies("bad_labels"))
