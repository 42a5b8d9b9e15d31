"""Fault cases as configs of nnvis, and whether `nnvis fix` proves a remedy for what it detects in them.

    reason = why_not(case)                     # "" where a config can say it
    write_config(case, folder)                 # folder/ID.yaml beside folder/ID.npz
    print(fix_cases(cases, folder, seeds=5).table())

A config is what somebody would write who has that fault in nnvis: the same rows, layers, optimizer and batches, a
list of layers with one initialisation for all (that of the hidden ones), and a loss of torch's, which takes logits: an
output activation before it stays where Keras would have computed a probability from it (a softmax over one unit).
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from fault_data import make_data
from fault_facts import Case
from fault_parts import ACTIVATIONS, OF_CLASSES
from fault_scoring import EXPECTED, interval

import nnvis
from nnvis.errors import RunError
from nnvis.experiment import train

MOST_STEPS = 500  # enough for a fault to show in these, and a fix is up to 35 runs
LEAST_VALIDATION_ROWS = 20
LOSSES = {"mse": "mean_squared_error", "half_mse": "mean_squared_error", "mae": "mean_absolute_error"}
INITS = {"he": "kaiming", "glorot": "xavier"}
TORCH = {"relu": "ReLU", "selu": "SELU", "tanh": "Tanh", "sigmoid": "Sigmoid", "softmax": "Softmax"}


def why_not(case: Case) -> str:
    """Why a config cannot say a case, or a fix could not judge it."""
    activations = {row.get("act", "linear") for row in case.layers if isinstance(row, dict)}
    kinds = {next(iter(row)) if isinstance(row, dict) else row for row in case.layers}
    if unknown := activations - {"linear", *TORCH}:
        return f"torch has no layer {', '.join(sorted(unknown))}"
    if "lstm" in kinds:
        return "an output at every time step"
    if case.loss in ("sse", "sum_cross_entropy_unstable"):
        return "a config's losses are means"
    if not any(label in EXPECTED for label in case.label):
        return "its fault cannot be told from a record"
    if case.optimizer["kind"] not in ("Adam", "SGD", "RMSprop", "Adagrad"):
        return f"no optimizer {case.optimizer['kind']}"
    data = make_data(case, 0)
    rows = len(data.val_inputs)
    if rows < LEAST_VALIDATION_ROWS:
        return f"{rows} validation rows"
    if len(np.unique(data.targets)) < 2:
        return "its labels are of one class"
    return (
        "targets that are no column"
        if _is_classes(case) and data.targets.dim() > 1 and data.targets.shape[1] > 1
        else ""
    )


def write_config(case: Case, folder: Path) -> Path:
    """Writes the rows and the config."""
    data = make_data(case, 0)
    x = np.concatenate([data.inputs, data.val_inputs])
    y = np.concatenate([data.targets, data.val_targets])
    classes = _is_classes(case)
    y = y.reshape(len(y)).round().astype(np.int64) if classes else y
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"{case.id}.npz", x=x, y=y)
    lr = case.optimizer["lr"] * (0.5 if case.loss == "half_mse" else 1)  # half the gradient, for SGD
    kept = {key: value for key, value in case.optimizer.items() if key in ("kind", "momentum", "nesterov")}
    config = {
        "name": case.id,
        "data": {
            "kind": "npz",
            "path": f"{case.id}.npz",
            "task": "classification" if classes else "regression",
            "val_fraction": round(len(data.val_inputs) / len(x), 6),
            "standardize": False,
        },
        "model": {"kind": "layers", "init": _init(case), "layers": _layers(case)},
        "loss": _loss(case),
        "optimizer": {**kept, "lr": lr},
        "training": {
            "steps": min(case.steps, MOST_STEPS),
            "batch_size": case.batch_size,
            "device": "cpu",
            "threads": 1,
        },
    }
    file = folder / f"{case.id}.yaml"
    about = f"# {case.id}: {', '.join(case.label)}\n"
    file.write_text(about + yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return file


def _is_classes(case: Case) -> bool:
    return case.loss in (*OF_CLASSES, "binary_crossentropy")


def _loss(case: Case) -> str:
    return LOSSES.get(case.loss) or ("binary_cross_entropy" if case.loss == "binary_crossentropy" else "cross_entropy")


def _layers(case: Case) -> list[Any]:
    """In torch's words; what the loss computes by itself is left out at the output."""
    fused = {"binary_cross_entropy": "sigmoid", "cross_entropy": "softmax"}.get(_loss(case))
    layers: list[Any] = []
    for entry in case.layers:
        row: dict[str, Any] = {entry: None} if isinstance(entry, str) else entry
        (kind, size), act = next(iter(row.items())), row.get("act", "linear")
        for _ in range(row.get("count", 1)):
            layers.append(_layer(kind, size, row, flat="Flatten" in layers or "Conv2d" not in str(layers)))
            last = entry is case.layers[-1] and act == fused and not (act == "softmax" and size == 1)
            if ACTIVATIONS[act] and not last:
                layers.append({"Softmax": {"dim": -1}} if act == "softmax" else TORCH[act])
    return layers


def _layer(kind: str, size: Any, row: dict[str, Any], *, flat: bool) -> Any:
    bias = {} if row.get("use_bias", True) else {"bias": False}
    match kind:
        case "dense":
            return {"Linear": {"out_features": size, **bias}}
        case "conv2d":
            return {
                "Conv2d": {"out_channels": size, "kernel_size": row["kernel"], "padding": row["kernel"] // 2, **bias}
            }
        case "batchnorm":
            return "BatchNorm1d" if flat else "BatchNorm2d"
        case "maxpool2d":
            return {"MaxPool2d": {"kernel_size": size}}
        case "dropout":
            return {"Dropout": {"p": size}}
    return "Flatten"


def _init(case: Case) -> Any:
    """The initialisation of the first layer that has one."""
    rows = [row for row in case.layers if isinstance(row, dict) and "init" in row]
    scheme, width = str(rows[0]["init"]), float(rows[0].get("dense", 1))
    name, _, argument = scheme.rpartition("_")
    if scheme == "zeros":
        return {"kind": "constant", "value": 0.0}
    if name == "uniform":
        return {"kind": "normal", "std": float(argument) / math.sqrt(3)}
    if name in ("normal", "truncnormal"):
        return {"kind": "normal", "std": float(argument)}
    if name == "normal_gain":
        return {"kind": "normal", "std": float(argument) / math.sqrt(width)}
    return f"{INITS[name]}_{argument}"


@dataclass(frozen=True)
class Fixed:
    """What became of one case."""

    case: Case
    symptoms: tuple[str, ...]  # errors and warnings of the run; () where nothing was detected
    proved: tuple[str, ...]  # changes
    said: str


@dataclass(frozen=True)
class FixScore:
    """All cases, and the share of detected faults for which a remedy is proved."""

    fixed: tuple[Fixed, ...]
    left_out: dict[str, str]  # case -> why
    not_run: tuple[str, ...]  # for want of time

    def table(self) -> str:
        detected = [each for each in self.fixed if each.symptoms]
        proved = [each for each in detected if each.proved]
        low, high = interval(len(proved), len(detected)) if detected else (0.0, 1.0)
        lines = [
            f"{each.case.id}: {', '.join(each.symptoms) or 'nothing detected'}: {each.said}" for each in self.fixed
        ]
        lines += [f"{name}: left out: {why}" for name, why in self.left_out.items()]
        lines += [f"not run, out of time: {', '.join(self.not_run)}"] if self.not_run else []
        share = len(proved) / len(detected) if detected else math.nan
        return "\n".join(
            [
                *lines,
                f"written as configs and run: {len(self.fixed)}; detected: {len(detected)}",
                f"with a remedy proved: {len(proved)} of {len(detected)} ({share:.0%}, exact 95% interval {low:.0%} to "
                f"{high:.0%}; wanted: 85%)",
            ]
        )


def fix_cases(cases: dict[str, Case], folder: Path, seeds: int, seconds: float) -> FixScore:
    """Writes, trains, diagnoses and fixes the faulty cases; what is there already is not trained again."""
    began_s, fixed, left_out, not_run = time.monotonic(), [], dict[str, str](), []
    for case in cases.values():
        if not case.sick:
            continue
        if reason := why_not(case):
            left_out[case.id] = reason
            continue
        if time.monotonic() - began_s > seconds:
            not_run.append(case.id)
            continue
        fixed.append(_fix(case, folder, seeds))
        print(f"{case.id} [{', '.join(case.label)}]: {fixed[-1].said}", flush=True)
    return FixScore(tuple(fixed), left_out, tuple(not_run))


def _fix(case: Case, folder: Path, seeds: int) -> Fixed:
    run = folder / "runs" / case.id / "1-seed0"
    if not (run / "summary.json").exists():
        with contextlib.suppress(RunError):  # it diverged: that is a result
            train(write_config(case, folder), runs=folder / "runs", quiet=True, figures=False)
    fix = nnvis.fix(run, seeds=seeds, runs=folder / "runs", quiet=True)
    symptoms = tuple(dict.fromkeys(finding.symptom for finding in fix.findings))
    return Fixed(case, symptoms, tuple(each.change for each in fix.proved), fix.sentence)
