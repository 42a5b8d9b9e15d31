"""Made-up records of every sort that a figure may meet: `build_run(layers=20, story="vanishing")`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nnvis.record.run import Recorded, Run
from nnvis.record.vocabulary import (
    ABSENCE_REASONS,
    HISTOGRAM_EDGES,
    HistogramSeries,
    LayerInfo,
    LayerSeries,
    Series,
)

LONG = "transformer.encoder.layers.{}.self_attn.out_proj"
STEPS_PER_EPOCH = 23


def layer_series(steps: Any, layers: Any, values: Any, reasons: Any = None) -> LayerSeries:
    """A table; where `reasons` (T, L) is not "", the value is absent."""
    values = np.asarray(values, dtype=float)
    codes = np.zeros(values.shape, dtype=int)
    if reasons is not None:
        codes = np.vectorize(ABSENCE_REASONS.index)(np.asarray(reasons))
    return LayerSeries(np.asarray(steps), tuple(layers), np.where(codes == 0, values, np.nan), codes == 0, codes)


def build_run(
    layers: int = 20,
    story: str = "healthy",
    *,
    steps: Any = None,
    epochs: int = 30,
    names: str = "linear{}",
    val: bool = True,
    accuracy: bool = True,
    width: int = 64,
    name: str | None = None,
) -> Run:
    """A record of `layers` linear layers, each but the last followed by a nonlinearity.

    Stories: healthy, vanishing (the gradient falls fourfold a layer), dead, diverged, overfitting, stuck.
    """
    rng = np.random.default_rng(layers)
    steps = np.arange(0, epochs * STEPS_PER_EPOCH, 10) if steps is None else np.asarray(steps)
    total, time = len(steps), np.linspace(0, 1, len(steps))[:, None]  # (T, 1)
    own = [names.format(i + 1) for i in range(layers)]
    acts = [n.replace("linear", "act") if "linear" in n else n + ".act" for n in own[:-1]]
    depth = np.arange(layers)[None]  # (1, L)
    decay = {"vanishing": 0.25, "stuck": 0.25, "dead": 0.9}.get(story, 1.03)

    def noise(shape: tuple[int, int], size: float = 0.15) -> Any:
        return np.exp(rng.normal(0, size, shape))

    grads = 0.8 * decay ** (layers - 1 - depth) * np.exp(-time) * noise((total, layers))
    ratios = 1.5e-3 * (grads / grads[:, -1:]) * noise((total, layers))
    spread = np.repeat(0.97 ** (np.arange(max(layers - 1, 0)))[None], total, 0) * noise((total, layers - 1), 0.05)
    dead = np.clip(rng.normal(0.05, 0.02, (total, layers - 1)), 0, 1)
    zero = np.clip(rng.normal(0.5, 0.05, (total, layers - 1)), 0, 1)
    if story == "dead":
        gone = layers // 2
        dead[:, gone:] = np.clip(0.1 + time, 0, 1)
        dead[total // 2 :, gone:], zero[total // 2 :, gone:] = 1.0, 1.0
        grads[total // 2 :, :-1], ratios[total // 2 :, :-1], spread[total // 2 :, gone:] = 0.0, 0.0, 0.0
    if story == "diverged":
        grads *= 10 ** (4 * time**3)
        for table in (grads, ratios, spread):
            table[-2:, table.shape[1] // 2 :] = np.inf
            table[-1:] = np.nan
    dead = np.nan_to_num(dead)

    info = []
    for i, own_name in enumerate(own):
        out = 10 if i == layers - 1 else width
        parameters = (width + 1) * out
        info.append(LayerInfo(own_name, "Linear", (out,), parameters, parameters))
        if i < layers - 1:
            info.append(LayerInfo(acts[i], "ReLU", (width,), 0, 0, "nonlinearity"))

    run = Run(
        path=Path(name or f"{story}-{layers}"),
        config={"seed": 0},
        summary={"status": "diverged" if story == "diverged" else "completed"},
        scalars=Recorded(_scalars(story, steps, epochs, rng, val, accuracy)),
        layers=Recorded(
            {
                "grad_norm": layer_series(steps, own, grads),
                "update_ratio": layer_series(steps, own, ratios),
                "activation_std": layer_series(steps, acts, spread),
                "dead_fraction": layer_series(steps, acts, dead),
                "zero_fraction": layer_series(steps, acts, zero),
            }
        ),
        histograms=Recorded({"activation": _histograms(steps[::10], acts, story, rng)}),
        network=tuple(info),
        findings=(),
    )
    if layers < 2:
        for quantity in ("activation_std", "dead_fraction", "zero_fraction"):
            del run.layers[quantity]
        del run.histograms["activation"]
    return run


def _scalars(story: str, steps: Any, epochs: int, rng: Any, val: bool, accuracy: bool) -> dict[str, Series]:
    ends = np.arange(1, epochs + 1) * STEPS_PER_EPOCH
    learned = 0 if story in ("stuck", "vanishing") else 1

    def loss(at: Any) -> Any:
        epoch = at / STEPS_PER_EPOCH
        return 2.3 * np.exp(-epoch / 4) + 0.03 if learned else np.full(len(at), 2.303)

    train, batches = loss(ends), loss(steps) * np.exp(rng.normal(0, 0.25 if learned else 0.01, len(steps)))
    epoch = ends / STEPS_PER_EPOCH
    held_out = 1.1 * train + 0.03 + (0.006 * np.maximum(epoch - 12, 0) ** 1.5 if story == "overfitting" else 0)
    held_out = held_out * np.exp(rng.normal(0, 0.03 if learned else 0.001, epochs))
    if story == "diverged":
        batches *= np.exp(np.linspace(0, 8, len(steps)) ** 2 / 8)
        batches[-1], train[-1], held_out[-1] = np.nan, np.nan, np.nan
    scalars = {"loss/train": Series(steps, batches), "loss/epoch": Series(ends, train)}
    if val:
        scalars["loss/val"] = Series(ends, held_out)
    if accuracy:
        scalars["accuracy/epoch"] = Series(ends, np.exp(-train) if learned else np.full(epochs, 0.1))
        if val:
            scalars["accuracy/val"] = Series(ends, 0.97 * np.exp(-held_out) if learned else np.full(epochs, 0.11))
    return scalars


def _histograms(steps: Any, layers: Any, story: str, rng: Any) -> HistogramSeries:
    shape = (len(steps), len(layers))
    counts, zeros, bad = np.zeros((*shape, 32), dtype=int), np.zeros(shape, dtype=int), np.zeros(shape, dtype=int)
    for t in range(shape[0]):
        for layer in range(shape[1]):
            scale = 0.6**layer if story == "vanishing" else 1.0
            values = np.maximum(rng.normal(0, scale, 4096), 0)
            if story == "dead" and t >= shape[0] // 2 and layer >= shape[1] // 2:
                values[:] = 0
            if story == "diverged" and t == shape[0] - 1:
                values[: 100 * layer] = np.nan
            bad[t, layer] = (~np.isfinite(values)).sum()
            zeros[t, layer] = (values == 0).sum()
            kept = values[np.isfinite(values) & (values != 0)]
            counts[t, layer] = np.histogram(kept, HISTOGRAM_EDGES)[0]
    return HistogramSeries(steps, tuple(layers), HISTOGRAM_EDGES, counts, zeros, bad)
