"""One sample, one step: from a config or a run to every number of its forward and backward pass.

explanation = explain("moons_mlp", sample=3)
explanation.passes.stages[0].z
tell(explanation, console)                    # nnvis.lessons.telling
draw(explanation, "explained")                # nnvis.lessons.drawing
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nnvis.config import Config, load_config
from nnvis.data import load_splits
from nnvis.errors import InputError
from nnvis.experiment import load_model
from nnvis.figures.passes import Neuron, WeightFactors
from nnvis.lessons.choosing import chosen, chosen_neuron, neuron_of, weight_of
from nnvis.lessons.passes import Passes, both_passes, laid_open
from nnvis.training.randomness import seeded
from nnvis.training.setup import build_learner, with_loss


@dataclass(frozen=True)
class Explanation:
    """All that is shown of one sample."""

    name: str
    state: str  # which weights: "as it starts, seed 0", "as runs/x/1-seed0 has trained it"
    loss: str  # its kind
    loss_settings: dict[str, float]
    classes: tuple[str, ...]  # empty for regression
    sample: int  # of the training split
    rows: int  # in the training split
    optimizer: str
    passes: Passes
    neuron: Neuron | None  # None for a network without Linear layers
    weight: WeightFactors | None


def explain(
    source: str | Path,
    overrides: Sequence[str] = (),
    *,
    sample: int = 0,
    weight: str | None = None,
    neuron: str | None = None,
    trust: bool = False,
) -> Explanation:
    """Explain one row of the training split: of a config's network as training starts it, or of a run's as trained.

    `source` is a config's file or name, or a run's directory. `weight` is LAYER:ROW,COL, `neuron` LAYER:INDEX.
    Computed on the CPU in float64 and eval mode, from the same weights that training has in its own number format.
    Global random state is put back. Raises InputError.
    """
    run = Path(source) if Path(source).is_dir() else None
    if run and overrides:
        raise InputError(f"{overrides[0]}: overrides do not go with a run: its weights belong to its own config")
    if run and not (run / "config.yaml").is_file():
        raise InputError(f"{run}: holds no config.yaml; name a run that a config trained, or a config")
    config = _here(load_config(run / "config.yaml" if run else source, overrides, trust=trust))
    with seeded(config.seed, torch.device("cpu")):  # as `train` does it, so that the weights are the same
        splits = load_splits(config.data, config.seed)
        config = with_loss(config, splits)
        learner = build_learner(config, splits)
    network = laid_open(load_model(run, trust=trust) if run else learner.model)
    if not 0 <= sample < len(splits.train):
        raise InputError(
            f"--sample {sample}: the training split has {len(splits.train):,} rows; choose 0 to {len(splits.train) - 1}"
        )
    placed = learner.place(splits.train)
    inputs, targets = placed.inputs[sample : sample + 1], placed.targets[sample : sample + 1]
    function = learner.objective.function
    passes = both_passes(network, function, inputs, targets)
    place, lr = chosen(passes, weight, neuron), float(learner.optimizer.param_groups[0]["lr"])
    unit = chosen_neuron(passes, neuron) if neuron else place and place[:2]
    assert config.loss is not None  # with_loss has seen to it
    return Explanation(
        name=config.name,
        state=f"as {run} has trained it" if run else f"as training starts it (seed {config.seed})",
        loss=config.loss.kind,
        loss_settings={"label_smoothing": config.loss.label_smoothing, "delta": config.loss.delta},
        classes=splits.classes,
        sample=sample,
        rows=len(splits.train),
        optimizer=config.optimizer.kind,
        passes=passes,
        neuron=neuron_of(passes, *unit) if unit else None,
        weight=weight_of(network, function, inputs, targets, passes, place, lr) if place else None,
    )


def _here(config: Config) -> Config:
    """The config on this machine's CPU; how it is computed when it trains does not matter here."""
    plain: dict[str, Any] = {"device": "cpu", "precision": "float32", "compile": False, "early_stopping": None}
    return config.model_copy(update={"training": config.training.model_copy(update=plain)})
