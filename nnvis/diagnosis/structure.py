"""Rules about what the network and its loss are: exact, from one pass through the graph."""

from __future__ import annotations

import math

from nnvis.diagnosis.evidence import NotJudged, broken, checks, consequence, fact
from nnvis.diagnosis.remedies import remedies
from nnvis.record.run import Run
from nnvis.record.vocabulary import Finding

_RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "softmax": (0.0, 1.0), "relu": (0.0, math.inf)}


def output_mismatch(run: Run, *, outside: float = 0.05) -> list[Finding]:
    """The output's activation, shape or range does not go with the loss or the targets. Exact.

    Softmax twice (the loss cannot fall below ln(e + K - 1) - 1), softmax over one unit, sigmoid before a loss that takes
    logits, ReLU before the loss, raw numbers where probabilities are expected, targets that the output cannot reach,
    one output for many classes. Wrong where a loss computes something else than its values at random outputs show.
    """
    output, kind = fact(run, "output"), fact(run, "loss", "kind")
    if not output or not output.get("known"):
        raise NotJudged("the output is not known")
    activations = output.get("activations") or []
    last = activations[0] if activations else ""
    shape = output["shape"]
    width = shape[-1] if shape else 1
    targets = fact(run, "targets") or {}
    low, high = _RANGES.get(last, (-math.inf, math.inf))
    found: list[tuple[str, str, float, tuple[str, ...]]] = []  # severity, evidence, value, causes
    if last == "softmax" and width == 1:
        found.append(("error", "softmax over a single output is 1 whatever the input", 1.0, ("one unit with softmax",)))
    elif last in ("softmax", "logsoftmax") and kind == "cross_entropy":
        if last == "softmax":
            floor = math.log(math.e + width - 1) - 1
            text = (
                f"softmax twice: in the output and in the loss, which cannot fall below {floor:.4g} for {width} classes"
            )
            found.append(("error", text, floor, ("the loss takes logits, and gets probabilities",)))
    elif activations[:2] == ["softmax", "softmax"]:
        found.append(("error", "softmax of softmax: its outputs are nearly the same", 1.0, ("softmax twice",)))
    elif last == "sigmoid" and kind == "binary_cross_entropy":
        floor = math.log(1 + math.exp(-1))
        text = f"sigmoid twice: in the output and in the loss, which cannot fall below {floor:.3g} for class 1"
        found.append(("error", text, floor, ("the loss takes logits, and gets probabilities",)))
    if activations[:2] == ["softmax", "relu"]:
        found.append(
            (
                "warning",
                "relu before softmax: no class can be ruled out, and dead logits get no gradient",
                0.0,
                ("relu on the logits",),
            )
        )
    if last == "relu" and not found:
        without, unknown = consequence(run)
        severity = "error" if without else "warning"
        text = f"relu is the last operation before the loss: a negative output is 0 and gets no gradient; {without or unknown or 'the network learns all the same'}"
        found.append((severity, text, 0.0, ("relu as the output activation",)))
    expects_probabilities = kind in (
        "cross_entropy_of_probabilities",
        "binary_cross_entropy_of_probabilities",
        "cross_entropy_normalised",
    )
    if expects_probabilities and last not in ("softmax", "sigmoid"):
        text = f"the loss takes the log of its inputs, and the output ({last or 'no activation'}) is no probability"
        found.append(("error", text, math.nan, ("softmax or sigmoid is missing", "the loss should take logits")))
    if kind == "nll" and last != "logsoftmax":
        text = "the loss takes log probabilities, and the output is no log softmax: the loss has no lower bound"
        found.append(("error", text, math.nan, ("log_softmax is missing",)))
    if kind in ("mean_squared_error", "mean_absolute_error", "other") and targets.get("known") and last:
        if targets["high"] > high + outside * (high - low if math.isfinite(high - low) else 1) or targets[
            "low"
        ] < low - outside * (high - low if math.isfinite(high - low) else 1):
            text = f"targets lie between {targets['low']:.4g} and {targets['high']:.4g}, the output ({last}) between {low:g} and {high:g}"
            found.append(("error", text, targets["high"], ("a bounded output activation for unbounded targets",)))
    classes = targets.get("distinct", 0)
    if (
        width == 1
        and targets.get("whole")
        and 2 < classes <= 20
        and "counts" not in targets
        and last in ("sigmoid", "softmax")
    ):
        text = f"a single {last} output for {classes} classes"
        found.append(("error", text, float(classes), ("one output a class is missing",)))
    if not found:
        return []
    severity = "error" if any(f[0] == "error" for f in found) else "warning"
    return [
        Finding(
            symptom="output_mismatch",
            severity=severity,
            layers=checks(run)[0].layers[-1:],
            first_step=0,
            value=found[0][2],
            threshold=math.nan,
            evidence="; ".join(f[1] for f in found),
            causes=tuple(cause for f in found for cause in f[3]),
            figure="learning_curves",
            remedies=remedies("output_mismatch"),
        )
    ]


def loss_mismatch(run: Run) -> list[Finding]:
    """The loss does not go with outputs and targets: broadcast, a sum over rows, an unstable log, another task's.

    Exact where outputs are broadcast against targets (the loss of all rows is not the mean of the rows' losses, and is
    with targets of the outputs' shape). A sum is a fault only where the network makes no progress or breaks.
    """
    loss, targets, output = (fact(run, key) or {} for key in ("loss", "targets", "output"))
    if not loss.get("kind"):
        raise NotJudged("the loss cannot be told row by row")
    kind = loss["kind"]
    without, unknown = consequence(run)
    is_broken = broken(run)
    found: list[tuple[str, str, tuple[str, ...]]] = []
    if loss.get("broadcast"):
        text = f"outputs of shape (N, {', '.join(map(str, output['shape']))}) are broadcast against targets of shape (N{''.join(f', {s}' for s in targets['shape'])}): every row is compared with every target, and the best output is the mean"
        found.append(("error", text, ("outputs and targets have different shapes",)))
    if loss["reduction"] == "sum":
        text = "the loss is a sum over the rows: gradients, and with them the learning rate, grow with the batch"
        found.append(
            (
                "error" if without or is_broken else "info",
                f"{text}; {without or ('then numbers were no longer finite' if is_broken else unknown or 'the network learns all the same')}",
                ("sum instead of mean",),
            )
        )
    if loss.get("unstable"):
        text = "the log of a probability of 0 is not finite: one sure and wrong row breaks the run"
        found.append(("error" if is_broken else "warning", text, ("softmax and log are computed apart",)))
    if loss["scale"] < 0:
        found.append(("error", "the loss has the wrong sign: it falls as the outputs get worse", ("a sign",)))
    counts = targets.get("counts")
    if kind in ("mean_squared_error", "mean_absolute_error") and counts:
        text = f"{kind.replace('_', ' ')} for {len(counts)} classes"
        found.append(
            (
                "error" if without else "info",
                f"{text}; {without or unknown or 'the network learns all the same'}",
                ("a loss for regression",),
            )
        )
    if not found:
        return []
    order = ("info", "warning", "error")
    return [
        Finding(
            symptom="loss_mismatch",
            severity=max((f[0] for f in found), key=order.index),
            layers=(),
            first_step=0,
            value=float(loss["scale"]),
            threshold=math.nan,
            evidence="; ".join(f[1] for f in found),
            causes=tuple(cause for f in found for cause in f[2]),
            figure="learning_curves",
            remedies=remedies("loss_mismatch"),
        )
    ]


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
    layers = checks(run)[0].facts["layers"]
    affine = [row["name"] for row in layers if row["affine"]]
    linear = len(pairs) >= len(affine) - 1
    without, _ = consequence(run)
    first, second = pairs[-1]
    many = f" (and {len(pairs) - 1} more)" if len(pairs) > 1 else ""
    return [
        Finding(
            symptom="missing_nonlinearity",
            severity="error" if linear and without else "warning" if linear or without else "info",
            layers=tuple(dict.fromkeys(name for pair in pairs for name in pair)),
            first_step=0,
            value=float(len(pairs)),
            threshold=0.0,
            evidence=(
                f"{second} takes the output of {first} with nothing in between{many}: two such layers are one"
                + ("; the whole network is a linear map" if linear else "")
                + (f"; {without}" if without else "")
            ),
            causes=("an activation is missing",),
            figure="gradient_flow",
            remedies=remedies("missing_nonlinearity"),
        )
    ]
