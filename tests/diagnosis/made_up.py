"""Records of runs that never ran: a healthy one, and what makes it sick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnvis.record import Check, LayerSeries, Run, Series
from nnvis.record.run import Recorded

LAYERS = ("hidden1", "act1", "hidden2", "act2", "output")
ROWS, BATCHES, CLASSES = 400, 8, 4
STEPS = (0, 100, 200, 300, 400)
COURSE = (1.0, 0.5, 0.3, 0.2, 0.15)  # the loss over the best constant output's
CONSTANT = float(np.log(CLASSES))


def facts(**changed: Any) -> dict[str, Any]:
    """Of a network of two hidden layers with four classes; `changed` replaces whole entries, or parts of them."""
    layers = [
        {
            "name": name,
            "kind": "Tanh" if name.startswith("act") else "Linear",
            "shape": [16] if name != "output" else [CLASSES],
            "parameters": 0 if name.startswith("act") else 100,
            "trainable": True,
            "affine": not name.startswith("act"),
            "norm": False,
            "nonlinearity": name.startswith("act"),
            "bounded": name.startswith("act"),
        }
        for name in LAYERS
    ]
    known: dict[str, Any] = {
        "rows": ROWS,
        "layers": layers,
        "inputs": {
            "numbers": True,
            "table": True,
            "features": 6,
            "constant": 0,
            "rms": 1.0,
            "mean_over_std": 0.1,
            "largest_over_median_rms": 1.2,
        },
        "targets": {
            "known": True,
            "shape": [],
            "integers": True,
            "mean": 1.5,
            "std": 1.1,
            "rms": 1.8,
            "low": 0.0,
            "high": 3.0,
            "distinct": CLASSES,
            "whole": True,
            "counts": [100, 100, 100, 100],
        },
        "output": {"known": True, "shape": [CLASSES], "activations": [], "in_graph": True},
        "loss": {"kind": "cross_entropy", "scale": 1.0, "reduction": "mean", "broadcast": False},
        "affine_pairs": [],
        "shared_rows": {"val": {"rows": 100, "in_training": 0, "training_rows": 400, "duplicates": 0}},
    }
    for key, value in changed.items():
        known[key] = {**known[key], **value} if isinstance(value, dict) else value
    return known


def regression(**targets: Any) -> dict[str, Any]:
    """Facts of a network that predicts one number."""
    found = facts(
        output={"shape": [1]},
        loss={"kind": "mean_squared_error"},
        targets={"integers": False, "whole": False, "distinct": 400, "mean": 0.0, "std": 1.0, "rms": 1.0, "low": -3.0}
        | targets,
    )
    del found["targets"]["counts"]
    return found


def check(step: int, course: float, known: Mapping[str, Any], seed: int = 0, **changed: Any) -> Check:
    """One check; `course` is the mean loss over that of the best constant output, which every row gets."""
    random = np.random.default_rng([seed, step])
    noise = random.normal(size=ROWS)
    noise -= noise.mean()  # the mean is as told
    quantiles = np.full((len(LAYERS), 21), np.nan)
    quantiles[[1, 3]] = np.linspace(0.2, 0.9, 21)
    flat = np.array([np.nan, 0, np.nan, 0, np.nan])
    gradients = np.exp(random.normal(0, 0.1, (len(LAYERS), BATCHES)))
    values: dict[str, Any] = {
        "diagnosis_activation_norm": 4 * np.exp(random.normal(0, 0.02, (len(LAYERS), BATCHES))),
        "diagnosis_activation_grad_norm": gradients,
        "diagnosis_parameter_grad_norm": np.array([1.0, np.nan, 1.0, np.nan, 1.0]),
        "diagnosis_slope_quantiles": quantiles,
        "diagnosis_flat_fraction": flat,
        "diagnosis_duplicate_fraction": np.array([0, np.nan, 0, np.nan, np.nan]),
        "diagnosis_output_range": np.array([-3.0, 3.0]),
        "diagnosis_row_loss": CONSTANT * course * (1 + 0.05 * noise),
        "diagnosis_row_loss_val": CONSTANT * course * (1 + 0.05 * noise),
        "diagnosis_recall": np.full(CLASSES, 1 - course / 2),
        "diagnosis_nonfinite": np.zeros(3),
    }
    if step == 0:
        values["diagnosis_row_loss_constant"] = np.full(ROWS, CONSTANT)
        values["diagnosis_row_loss_linear"] = np.full(ROWS, 0.5 * CONSTANT) * (1 + 0.1 * noise)
        values["diagnosis_row_loss_neighbour"] = (random.random(ROWS) < 0.1).astype(float)
    values |= changed
    return Check(step, {quantity: np.asarray(v, float) for quantity, v in values.items()}, dict(known))


def record(
    course: Sequence[float] = COURSE,
    known: Mapping[str, Any] | None = None,
    *,
    everywhere: Mapping[str, Any] | None = None,
    at: Mapping[int, Mapping[str, Any]] | None = None,
    layers: Mapping[str, np.ndarray] | None = None,
    scalars: Mapping[str, Sequence[float]] | None = None,
    summary: Mapping[str, Any] | None = None,
    steps: Sequence[int] = STEPS,
    config: Mapping[str, Any] | None = None,
) -> Run:
    """A run with a check at each of `steps`; `everywhere` and `at[step]` replace quantities."""
    made = [
        check(step, share, known or facts(), **{**(everywhere or {}), **(at or {}).get(step, {})})
        for step, share in zip(steps, course, strict=True)
    ]
    tables = {}
    for quantity, values in (layers or {}).items():
        present = np.ones(values.shape, bool)
        names = LAYERS[::2][: values.shape[1]]
        tables[quantity] = LayerSeries(
            np.arange(len(values)) * 10, names, values, present, np.zeros(values.shape, np.uint8)
        )
    told = {tag: Series(np.arange(len(v)) * 10, np.array(v, float)) for tag, v in (scalars or {}).items()}
    ending = {"status": "completed", "steps": steps[-1]} if summary is None else summary
    return Run(
        path=Path("made-up"),
        config=dict(config or {}),
        summary=dict(ending),
        scalars=Recorded(told),
        layers=Recorded(tables),
        histograms=Recorded(),
        network=(),
        findings=(),
        checks=tuple(made),
    )
