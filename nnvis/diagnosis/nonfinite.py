"""The rule about numbers that are no longer finite."""

from __future__ import annotations

import numpy as np

from nnvis.diagnosis.evidence import spoilt_data
from nnvis.diagnosis.remedies import remedies
from nnvis.record.run import Run
from nnvis.record.vocabulary import Finding


def nonfinite_values(run: Run, *, back: int = 10) -> list[Finding]:
    """The first NaN or Inf: layer, direction and step, and how the gradient grew over the last ten measured steps.

    Any is an error in the loss, in gradients and in parameters; in a layer's output alone it is a warning, since masks
    hold -Inf on purpose. Wrong where a loop skips such steps by itself.
    """
    source = _told(run) or _measured(run) or _checked(run)
    if source is None:
        return []
    severity, step, direction, layer, detail = source
    return [
        Finding(
            symptom="nonfinite_values",
            severity=severity,
            layers=(layer,) if layer else (),
            first_step=step,
            value=1.0,
            threshold=0.0,
            evidence=(
                f"NaN or Inf at step {step:,}, {direction}{f', {layer}' if layer else ''}{detail}"
                f"{_growth(run, step, back)}"
            ),
            causes=_causes(run, step, back),
            remedies=remedies("nonfinite_values"),
        )
    ]


def _causes(run: Run, step: int, back: int) -> tuple[str, ...]:
    if spoilt := spoilt_data(run):
        return (f"NaN or Inf in the {' and the '.join(spoilt)} of the probe rows",)
    grown = ("numbers grew beyond all bounds: the learning rate is too high, or the weights start too large",)
    undefined = ("an operation without a value: a log of 0, a division by 0", "NaN in the data")
    if step == 0:  # nothing has been learned yet
        start = "the weights start too large for this depth, or for an activation that grows without bound, as exp does"
        return (start, *undefined)
    return grown if _grew(run, step, back) else (*undefined, *grown)


def _told(run: Run) -> tuple[str, int, str, str, str] | None:
    """What stopped training, or what the watch saw."""
    found = run.summary.get("nonfinite")
    if not found:
        return None
    inner = found.get("found", found)
    layer, direction = inner.get("layer", ""), inner.get("direction", "")
    harmless = direction == "forward" and run.summary.get("status") == "completed" and _loss_is_finite(run)
    detail = inner.get("detail") or inner.get("source") or ""
    direction = f"{direction} pass"
    return ("warning" if harmless else "error"), int(found["step"]), direction, layer, f" ({detail})" if detail else ""


def _measured(run: Run) -> tuple[str, int, str, str, str] | None:
    """The first measured step with NaN or Inf in gradients or outputs."""
    firsts = []
    for quantity, direction in (
        ("activation_nonfinite", "forward"),
        ("activation_grad_nonfinite", "backward"),
        ("grad_nonfinite", "backward"),
    ):
        table = run.layers.get(quantity)
        if table is None:
            continue
        bad = np.nan_to_num(table.values) > 0
        rows = np.flatnonzero(bad.any(axis=1))
        if len(rows):
            at = np.flatnonzero(bad[rows[0]])
            layer = table.layers[at[0] if direction == "forward" else at[-1]]
            firsts.append((int(table.steps[rows[0]]), 0 if direction == "forward" else 1, f"{direction} pass", layer))
    for tag in ("loss/train", "loss/epoch", "loss/val"):
        series = run.scalars.get(tag)
        if series is not None and (bad := np.flatnonzero(~np.isfinite(series.values))).size:
            firsts.append((int(series.steps[bad[0]]), 2, tag, ""))
    if not firsts:
        return None
    step, _, direction, layer = min(firsts)
    harmless = all(first[1] == 0 for first in firsts)
    return ("warning" if harmless else "error"), step, direction, layer, ""


def _checked(run: Run) -> tuple[str, int, str, str, str] | None:
    for check in run.checks:
        outputs, losses, gradients = check.values["diagnosis_nonfinite"]
        if outputs or losses or gradients:
            where = "outputs" if outputs else "loss" if losses else "gradients"
            severity = "error" if losses or gradients else "warning"
            return (
                severity,
                check.step,
                "forward" if outputs or losses else "backward",
                "",
                f" ({where} of the probe rows)",
            )
    return None


def _loss_is_finite(run: Run) -> bool:
    checked = [check.values["diagnosis_nonfinite"][1:].any() for check in run.checks]
    told = [bool(np.isfinite(s.values).all()) for tag, s in run.scalars.items() if tag.startswith("loss/")]
    return (any(told) or bool(checked)) and all(told) and not any(checked)


def _norms(run: Run, step: int, back: int) -> np.ndarray:
    table = run.layers.get("grad_norm")
    if table is None:
        return np.zeros(0)
    values = table.values[table.steps <= step]
    with np.errstate(over="ignore", invalid="ignore"):
        totals = np.sqrt(np.nansum(np.square(values), axis=1))
    return totals[np.isfinite(totals)][-back:]


def _grew(run: Run, step: int, back: int, times: float = 100.0) -> bool:
    norms = _norms(run, step, back)
    return len(norms) > 1 and bool(norms[-1] > times * max(norms[0], 1e-30))


def _growth(run: Run, step: int, back: int) -> str:
    norms = _norms(run, step, back)
    if len(norms) < 2:
        return ""
    return (
        f"; over the last {len(norms)} measured steps the gradient's norm went from {norms[0]:.3g} to {norms[-1]:.3g}"
    )
