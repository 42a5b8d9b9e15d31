"""Made-up studies, whole on disk and read back: nothing is trained, and what should be seen in them is known.

study = made_up_study(tmp_path / "vanishing", ["sigmoid", "relu"], seeds=5, layers=20)
study = made_up_study(tmp_path / "rates", axes={"optimizer.lr": [0.1, 0.01], "model.width": [16, 64]}, seeds=[0])
study = made_up_study(tmp_path / "broken", ["low", "high"], diverged={("high", 3)}, missing={("low", 0)})
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from nnvis.record import (
    EventLog,
    Finding,
    LayerInfo,
    LayerValues,
    Measurement,
    Study,
    load_study,
    write_findings,
    write_json,
)
from nnvis.record.study_log import log_run
from nnvis.record.summary import run_summary

BOUNDED = ("sigmoid", "tanh")  # variants with such a name saturate, the others have dead units
EPOCHS = 10


def made_up_study(
    folder: Path,
    variants: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("sigmoid", "relu"),
    seeds: int | Sequence[int] = 3,
    layers: int = 6,
    steps: int = 200,
    diverged: Collection[tuple[str, int]] = (),
    missing: Collection[tuple[str, int]] = (),
    axes: Mapping[str, Sequence[Any]] | None = None,
    *,
    gains: Mapping[str, float] = {},
    scores: Mapping[str, float] = {},
    noise: float = 0.01,
    gaps: Mapping[str, float] = {},
    symptoms: Mapping[str, Mapping[str, Collection[int]]] = {},
    severity: str = "warning",
    seconds: Mapping[str, float] = {},
    expect: Sequence[str] = (),
    figures: Sequence[str] = (),
    question: str = "Which of these learns?",
    accuracy: bool = True,
) -> Study:
    """A study in `folder`, whose last part is its name.

    `variants`: names, or names with their overrides; with `axes` they are the grid's points. Of each variant: `gains`,
    by how much the gradient changes a layer on its way back (0.3 for sigmoid, else 1); `scores`, its final validation
    accuracy (0.95 downwards; of regression its loss), to which each seed adds its own part, alike for all variants,
    and noise (standard deviations `noise`); `gaps`, by how much the validation loss rises above the training loss by
    the end; `symptoms`, in which seeds.
    """
    seeds = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if axes:
        points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
        overrides = {_point_name(point): point for point in points}
    elif isinstance(variants, Mapping):
        overrides = {name: dict(values) for name, values in variants.items()}
    else:
        overrides = {name: {"model.activation": name} for name in variants}
    told = {
        "name": folder.name,
        "question": question,
        "base": _config("base", 0, layers, {}),
        "variants": overrides,
        "axes": {key: list(values) for key, values in (axes or {}).items()},
        "seeds": list(seeds),
        "figures": list(figures),
        "expect": list(expect),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(yaml.safe_dump(told, sort_keys=False), encoding="utf-8")
    places: dict[str, dict[str, str]] = {name: {} for name in overrides}
    for (position, name), seed in itertools.product(enumerate(overrides), seeds):
        if (name, seed) in missing:
            continue
        places[name][str(seed)] = f"{name}/1-seed{seed}"
        write_run(
            folder / places[name][str(seed)],
            config=_config(name, seed, layers, overrides[name]),
            layers=layers,
            steps=steps,
            gain=gains.get(name, 0.3 if "sigmoid" in name else 1.0),
            score=scores.get(name, _score(name, position / len(overrides), accuracy)),
            noise=noise,
            gap=gaps.get(name, 0.0),
            rng=np.random.default_rng([position, seed]),
            diverged=(name, seed) in diverged,
            bounded=any(word in name for word in BOUNDED),
            symptoms=[symptom for symptom, where in symptoms.get(name, {}).items() if seed in where],
            severity=severity,
            seconds=seconds.get(name, 1.0 + position),
            accuracy=accuracy,
        )
    write_json(folder / "runs.json", places)
    return load_study(folder)


def write_run(
    path: Path,
    *,
    config: Mapping[str, Any],
    layers: int,
    steps: int,
    gain: float,
    score: float,
    noise: float,
    gap: float,
    rng: np.random.Generator,
    diverged: bool,
    bounded: bool,
    symptoms: Sequence[str],
    severity: str,
    seconds: float,
    accuracy: bool,
) -> None:
    """One run: layers linear1, act1, … of which the last has no nonlinearity; measured 20 times."""
    seed = config["seed"]
    of_seed = np.random.default_rng(seed).normal(0, noise)
    score = score + of_seed + rng.normal(0, noise)
    final_loss = 1.0 - score if accuracy else score
    linear = [f"linear{i + 1}" for i in range(layers)]
    acts = [f"act{i + 1}" for i in range(layers - 1)]
    every, epoch = max(steps // 20, 1), max(steps // EPOCHS, 1)
    end = int(steps * 0.6) if diverged else steps
    metrics: dict[str, dict[str, float]] = {}
    with EventLog.create(path) as log:
        log.layout()
        log_run(log, path, _flat(config), ["loss/val"])
        for step in range(end):
            share = step / steps
            if step % every == 0:
                spread = np.exp(rng.normal(0, 0.1, layers))
                grads = 0.8 * np.exp(-share) * gain ** (layers - 1 - np.arange(layers)) * spread
                if diverged:
                    grads *= 10 ** (6 * share)
                total = float(np.sqrt((grads**2).sum()))
                quantities = {
                    "grad_norm": _row(linear, grads),
                    "activation_grad_norm": _row(linear, 2 * grads),
                    "activation_grad_rms": _row(acts, 0.01 * grads[:-1]),
                    "update_ratio": _row(linear, 1e-3 * grads / grads[-1]),
                    "weight_norm": _row(linear, np.full(layers, 4 + 2 * share)),
                    "activation_mean": _row(acts, np.full(layers - 1, 0.5 if bounded else 0.1)),
                    "activation_std": _row(acts, np.sqrt(gain) ** np.arange(layers - 1)),
                    "saturated_fraction" if bounded else "dead_fraction": _row(
                        acts, np.clip(0.05 + 0.3 * share * np.linspace(1, 0, layers - 1), 0, 1)
                    ),
                }
                clip = min(1.0, 2.0 / total)
                scalars = {"lr": 0.1, "grad_norm/total": total, "clip_factor": clip}
                log.write(Measurement(step, quantities), {**scalars, "loss/train": _loss(share, final_loss, diverged)})
                if step == 0:
                    log.network(_network(linear, acts, config["model"]["width"]))
            if (step + 1) % epoch == 0:
                share = (step + 1) / steps
                train = _loss(share, final_loss - gap, diverged)
                val = _loss(share, final_loss, diverged)
                values = {"loss/epoch": train, "loss/val": val, "generalization_gap": val - train}
                metrics = {"train": {"loss": train}, "val": {"loss": val}}
                if accuracy:
                    right = score * (1 - np.exp(-5 * share)) / (1 - np.exp(-5))
                    values |= {"accuracy/epoch": min(right + gap, 1.0), "accuracy/val": right}
                    metrics["train"]["accuracy"], metrics["val"]["accuracy"] = min(right + gap, 1.0), right
                log.scalars(step + 1, values)
        if diverged:
            log.scalars(end, {"loss/train": np.nan})
        log.hparams_end(not diverged)
    (path / "config.yaml").write_text(yaml.safe_dump({**config}, sort_keys=False), encoding="utf-8")
    summary = run_summary(
        "diverged" if diverged else "completed",
        epochs=end // epoch,
        steps=end,
        seconds=seconds + 0.01 * seed,
        device="cpu",
        seed=seed,
        metrics={} if diverged else metrics,
        steps_measured=end // every,
        probe_seconds=0.1,
        unseen={},
        error="the loss is NaN at step 120" if diverged else "",
    )
    write_json(path / "summary.json", summary)
    findings = [Finding(symptom, severity, ("linear1",), 0, 1e-9, 1e-3, "made up") for symptom in symptoms]
    if diverged:
        findings.append(Finding("nonfinite_values", "error", ("linear1",), end, 1.0, 0.0, "made up"))
    write_findings(path, findings)


def _loss(share: float, final: float, diverged: bool) -> float:
    """From 2.3 to exactly `final`; of a run that diverges, up."""
    left = (np.exp(-5 * share) - np.exp(-5)) / (1 - np.exp(-5))
    return float(2.3 * np.exp(20 * share**2) if diverged else final + (2.3 - final) * left)


def _row(layers: Sequence[str], values: Any) -> LayerValues:
    return LayerValues(tuple(layers), np.asarray(values, float), np.zeros(len(layers), int))


def _network(linear: Sequence[str], acts: Sequence[str], width: int) -> list[LayerInfo]:
    table = []
    for name, act in zip(linear, acts, strict=False):
        parameters = (width + 1) * width
        table += [LayerInfo(name, "Linear", (width,), parameters, parameters)]
        table += [LayerInfo(act, "ReLU", (width,), 0, 0, "nonlinearity")]
    parameters = (width + 1) * 10
    return [*table, LayerInfo(linear[-1], "Linear", (10,), parameters, parameters)]


def _score(name: str, share: float, accuracy: bool) -> float:
    """The first variant is the best, and sigmoid has learned little."""
    right = 0.3 if "sigmoid" in name else 0.95 - 0.3 * share
    return right if accuracy else 1 - right


def _config(name: str, seed: int, layers: int, overrides: Mapping[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "name": name,
        "seed": seed,
        "data": {"kind": "digits"},
        "model": {"kind": "mlp", "depth": layers - 1, "width": 16, "activation": "relu"},
        "optimizer": {"kind": "SGD", "lr": 0.1},
        "training": {"epochs": EPOCHS, "batch_size": 64},
    }
    for key, value in overrides.items():
        *path, last = key.split(".")
        section = config
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
    return config


def _flat(section: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for key, value in section.items():
        pairs |= (
            _flat(value, f"{path}{key}.")
            if isinstance(value, Mapping)
            else {f"{path}{key}": value}
            if value is not None
            else {}
        )
    return pairs


def _point_name(point: Mapping[str, Any]) -> str:
    return ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in point.items())
