"""Rules about what the network and its loss are: exact, from one pass through the graph."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from nnvis.diagnosis.evidence import NotJudged, broken, checks, consequence, fact, what_follows
from nnvis.diagnosis.remedies import remedies
from nnvis.record.run import Run
from nnvis.record.vocabulary import Finding

_RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "softmax": (0.0, 1.0), "relu": (0.0, math.inf)}
_OF_PROBABILITIES = (
    "cross_entropy_of_probabilities",
    "binary_cross_entropy_of_probabilities",
    "cross_entropy_normalised",
)
_OF_NUMBERS = ("mean_squared_error", "mean_absolute_error", "other")
_ORDER = ("info", "warning", "error")


class Mismatch(NamedTuple):
    """One thing that does not go with another."""

    severity: str
    evidence: str
    cause: str
    value: float = math.nan


def output_mismatch(run: Run, *, outside: float = 0.05) -> list[Finding]:
    """The output's activation, shape or range does not go with the loss or the targets. Exact.

    Softmax twice (the loss cannot fall below ln(e + K - 1) - 1), softmax over one unit, sigmoid before a loss that
    takes logits, ReLU before the loss, raw numbers where probabilities are expected, targets further than `outside` of
    its width from the output's range, one bounded output for many classes. Wrong where a loss computes something else
    than its values at random outputs show.
    """
    output, kind = fact(run, "output"), fact(run, "loss", "kind") or ""
    if not output or not output.get("known"):
        raise NotJudged("the output is not known")
    activations = output.get("activations") or [""]
    width = output["shape"][-1] if output["shape"] else 1
    found = [
        *_squashed_twice(activations, width, kind, always_1=_within(run, 1.0, 1.0)),
        *_no_probability(run, activations[0], kind),
        *_out_of_reach(activations[0], width, kind, fact(run, "targets") or {}, outside),
        *_one_for_many(run, activations[0], width),
    ]
    if activations[0] == "relu" and not found:
        without, unknown = consequence(run)
        text = "relu is the last operation before the loss: a negative output is 0 and gets no gradient"
        severity = "error" if without else "warning"
        found.append(Mismatch(severity, f"{text}{what_follows(without, unknown)}", "relu as the output activation"))
    return _finding("output_mismatch", checks(run)[0].layers[-1:], found)


def _within(run: Run, low: float, high: float, slack: float = 1e-6) -> bool:
    """Whether all outputs lay in a range, at all checks."""
    ranges = [check.values.get("diagnosis_output_range") for check in checks(run)]
    return all(r is not None and low - slack <= r[0] and r[1] <= high + slack for r in ranges)


def _squashed_twice(activations: list[str], width: int, kind: str, *, always_1: bool) -> Iterator[Mismatch]:
    last, twice = activations[0], "the loss takes logits, and gets probabilities: softmax or sigmoid twice"
    if last == "softmax" and width == 1 and always_1:  # not one column of several
        yield Mismatch("error", "softmax over a single output is 1 whatever the input", "softmax over one unit", 1.0)
    elif last in ("softmax", "sigmoid") and kind == "cross_entropy":
        floor = math.log(math.e + width - 1) - 1  # of outputs between 0 and 1, taken for logits
        what = "softmax twice, in the output and" if last == "softmax" else "sigmoid in the output and softmax"
        text = f"{what} in the loss, which cannot fall below {floor:.4g} for {width} classes"
        yield Mismatch("error", text, twice, floor)
    elif activations[:2] == ["softmax", "softmax"]:
        yield Mismatch("error", "softmax of softmax: its outputs are nearly the same", "softmax twice")
    elif last == "sigmoid" and kind == "binary_cross_entropy":
        floor = math.log(1 + math.exp(-1))
        text = f"sigmoid twice, in the output and in the loss, which cannot fall below {floor:.3g} for class 1"
        yield Mismatch("error", text, twice, floor)
    if activations[:2] == ["softmax", "relu"]:
        text = "relu before softmax: no class can be ruled out, and a negative logit gets no gradient"
        yield Mismatch("warning", text, "relu on the logits")


def _no_probability(run: Run, last: str, kind: str) -> Iterator[Mismatch]:
    """By the operation before the loss, or by the outputs themselves: a network may normalise them in its own way."""
    if kind in _OF_PROBABILITIES and last not in ("softmax", "sigmoid") and not _within(run, 0.0, 1.0):
        text = f"the loss takes the log of its inputs, and the output ({last or 'no activation'}) is no probability"
        yield Mismatch("error", text, "softmax or sigmoid is missing, or a loss that takes logits")
    if kind == "nll" and last != "logsoftmax" and not fact(run, "output", "log_probabilities"):
        text = "the loss takes log probabilities, and the output is no log softmax: the loss has no lower bound"
        yield Mismatch("error", text, "log_softmax is missing")


def _out_of_reach(last: str, width: int, kind: str, targets: dict[str, Any], outside: float) -> Iterator[Mismatch]:
    if not targets.get("known") or targets["low"] is None or last not in _RANGES:  # None: there is NaN among them
        return
    low, high = _RANGES[last]
    slack = outside * (high - low) if math.isfinite(high) else outside * targets["std"]
    if kind in _OF_NUMBERS and (targets["low"] < low - slack or targets["high"] > high + slack):
        text = (
            f"targets lie between {targets['low']:.4g} and {targets['high']:.4g}, the output ({last}) between {low:g} "
            f"and {high:g}"
        )
        yield Mismatch("error", text, "an output activation that cannot reach the targets", targets["high"])


def _one_for_many(run: Run, last: str, width: int) -> Iterator[Mismatch]:
    """An error where nothing is learned: a value of -1, 0 or 1 is well told by one tanh."""
    targets = fact(run, "targets") or {}
    if width != 1 or not targets.get("known") or not math.isfinite(_RANGES.get(last, (0, math.inf))[1]):
        return
    if targets["whole"] and 2 < targets["distinct"] <= 20 and "counts" not in targets:
        without, unknown = consequence(run)
        text = f"a single {last} output for {targets['distinct']} classes{what_follows(without, unknown)}"
        severity = "error" if without else "warning" if unknown else "info"
        yield Mismatch(severity, text, "one output a class is missing", float(targets["distinct"]))


def loss_mismatch(run: Run) -> list[Finding]:
    """The loss does not go with outputs and targets: broadcast, a sum over rows, an unstable log, another task's.

    Exact where outputs are broadcast against targets: the loss of outputs that equal the targets is then not 0. A sum
    is a fault only where the loss breaks or ends far above the best constant output's, an unstable log where it breaks,
    a loss of another task where the network makes no progress.
    """
    loss, targets, output = (fact(run, key) or {} for key in ("loss", "targets", "output"))
    if not loss.get("kind"):
        raise NotJudged("the loss cannot be told row by row")
    return _finding("loss_mismatch", (), [*_wrong_shapes(loss, targets, output), *_wrong_use(run, loss, targets)])


def _wrong_shapes(loss: dict[str, Any], targets: dict[str, Any], output: dict[str, Any]) -> Iterator[Mismatch]:
    if loss.get("broadcast"):
        shapes = [f"({', '.join(map(str, ['N', *part['shape']]))})" for part in (output, targets)]
        text = (
            f"outputs of shape {shapes[0]} are broadcast against targets of shape {shapes[1]}: every row is compared "
            "with every target, and the best output is the same for all"
        )
        yield Mismatch("error", text, "outputs and targets have different shapes")


def _wrong_use(run: Run, loss: dict[str, Any], targets: dict[str, Any]) -> Iterator[Mismatch]:
    without, unknown = consequence(run)
    is_broken = broken(run)
    then = "; then numbers were no longer finite" if is_broken and not without else what_follows(without, unknown)
    if loss["reduction"] == "sum":
        text = "the loss is a sum over the rows: gradients, and so the learning rate, grow with the batch"
        too_large = is_broken or (without is not None and without.last.gain.high < -0.1)
        yield Mismatch("error" if too_large else "info", f"{text}{then}", "sum instead of mean")
    if loss.get("unstable"):
        text = "the log of a probability of 0 is not finite: one sure and wrong row breaks the run"
        yield Mismatch("error" if is_broken else "warning", text, "softmax and log are computed apart")
    if loss["scale"] < 0:
        yield Mismatch("error", "the loss has the wrong sign: it falls as the outputs get worse", "the loss is negated")
    if loss["kind"] in ("mean_squared_error", "mean_absolute_error") and targets.get("counts"):
        text = f"{loss['kind'].replace('_', ' ')} for {len(targets['counts'])} classes"
        yield Mismatch("error" if without else "info", f"{text}{then}", "a loss for another task: for numbers")


def missing_nonlinearity(run: Run) -> list[Finding]:
    """Two affine layers in a row with nothing in between: together they are one. Exact.

    An error where no nonlinearity is left in the network and it makes no progress; a warning where none is left; else
    a note: bottlenecks and factorised layers are built so on purpose.
    """
    if not fact(run, "output", "in_graph"):
        raise NotJudged("the graph of the network was not seen")
    pairs = fact(run, "affine_pairs") or []
    if not pairs:
        return []
    affine = [row["name"] for row in checks(run)[0].facts["layers"] if row["affine"]]
    linear = len(pairs) >= len(affine) - 1
    without, _ = consequence(run)
    first, second = pairs[-1]
    many = f" (and {len(pairs) - 1} more)" if len(pairs) > 1 else ""
    text = f"{second} takes the output of {first} with nothing in between{many}: two such layers are one"
    text += "; the whole network is a linear map" if linear else ""
    text += f"; {without}" if without else ""
    severity = "error" if linear and without else "warning" if linear or without else "info"
    layers = tuple(dict.fromkeys(name for pair in pairs for name in pair))
    found = [Mismatch(severity, text, "an activation is missing", float(len(pairs)))]
    return _finding("missing_nonlinearity", layers, found)


def _finding(symptom: str, layers: tuple[str, ...], found: list[Mismatch]) -> list[Finding]:
    """One finding of all that does not match."""
    if not found:
        return []
    return [
        Finding(
            symptom=symptom,
            severity=max((one.severity for one in found), key=_ORDER.index),
            layers=layers,
            first_step=0,
            value=found[0].value,
            threshold=math.nan,
            evidence="; ".join(one.evidence for one in found),
            causes=tuple(one.cause for one in found),
            remedies=remedies(symptom),
        )
    ]
