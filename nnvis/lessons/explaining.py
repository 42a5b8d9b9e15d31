"""One sample, one step: from a config or a run to every number of its forward and backward pass.

explanation = explain("moons_mlp", sample=3)
explanation.passes.stages[0].z
tell(explanation, console)                    # nnvis.lessons.telling
draw(explanation, "explained")                # nnvis.lessons.drawing
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from nnvis.config import Config, load_config
from nnvis.data import load_splits
from nnvis.errors import InputError
from nnvis.figures.passes import Neuron, WeightFactors
from nnvis.lessons.choosing import chosen, chosen_neuron, neuron_of, weight_of
from nnvis.lessons.passes import Passes, both_passes, laid_open
from nnvis.models import build_model
from nnvis.training.losses import build_objective, resolve_loss
from nnvis.training.randomness import seeded


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
    config = load_config(run / "config.yaml" if run else source, overrides, trust=trust)
    with seeded(config.seed, torch.device("cpu")):  # as `train` does it, so that the weights are the same
        splits = load_splits(config.data, config.seed)
        loss = resolve_loss(config.loss, splits.task)
        objective = build_objective(loss, splits.target_size)
        sizes = {"output_size": objective.output_size, "vocabulary_size": len(splits.vocabulary)}
        model = _trained(run, trust) if run else build_model(config.model, splits.input_shape, **sizes)
    if not 0 <= sample < len(splits.train):
        raise InputError(
            f"--sample {sample}: the training split has {len(splits.train):,} rows; choose 0 to {len(splits.train) - 1}"
        )
    network, chosen_rows = laid_open(model), slice(sample, sample + 1)
    inputs = splits.train.inputs[chosen_rows]
    targets = objective.prepare(splits.train.targets[chosen_rows], torch.float64)
    passes = both_passes(network, objective.function, inputs, targets)
    place = chosen(passes, weight, neuron)
    unit = chosen_neuron(passes, neuron) if neuron else place and place[:2]
    return Explanation(
        name=config.name,
        state=f"as {run} has trained it" if run else f"as training starts it (seed {config.seed})",
        loss=loss.kind,
        loss_settings={"label_smoothing": loss.label_smoothing, "delta": loss.delta},
        classes=splits.classes,
        sample=sample,
        rows=len(splits.train),
        optimizer=config.optimizer.kind,
        passes=passes,
        neuron=neuron_of(passes, *unit) if unit else None,
        weight=weight_of(network, objective.function, inputs, targets, passes, place, lr_of(config)) if place else None,
    )


def lr_of(config: Config) -> float:
    """The learning rate that a config's optimizer starts with, torch's default where it says none."""
    default = inspect.signature(getattr(torch.optim, config.optimizer.kind)).parameters["lr"].default
    return float(config.optimizer.arguments.get("lr", default))


def _trained(run: Path, trust: bool) -> nn.Module:
    from nnvis.experiment import load_model  # which brings all of training; a config needs none of it

    return load_model(run, trust=trust)
