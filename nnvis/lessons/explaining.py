"""One sample, one step: every number of its forward and backward pass.

explanation = explain(open_subject("moons_mlp"), sample=3)
explanation.passes.stages[0].z
tell(explanation, console)                    # nnvis.lessons.telling
draw(explanation, "explained")                # nnvis.lessons.drawing
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import torch

from nnvis.config import Config
from nnvis.errors import InputError
from nnvis.figures.passes import Neuron, WeightFactors
from nnvis.lessons.choosing import chosen, chosen_neuron, neuron_of, weight_of
from nnvis.lessons.passes import Passes, both_passes, laid_open
from nnvis.lessons.subject import Subject


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


def explain(subject: Subject, *, sample: int = 0, weight: str | None = None, neuron: str | None = None) -> Explanation:
    """Explain one row of the training split.

    `weight` is LAYER:ROW,COL, `neuron` LAYER:INDEX. Computed on the CPU in float64 and eval mode, from the same weights
    that training has in its own number format. Raises InputError.
    """
    splits, objective, config = subject.splits, subject.objective, subject.config
    network, chosen_rows = laid_open(subject.model), row_of(subject, sample)
    inputs = splits.train.inputs[chosen_rows]
    targets = objective.prepare(splits.train.targets[chosen_rows], torch.float64)
    passes = both_passes(network, objective.function, inputs, targets)
    place = chosen(passes, weight, neuron)
    unit = chosen_neuron(passes, neuron) if neuron else place and place[:2]
    loss = config.loss
    assert loss is not None
    return Explanation(
        name=subject.name,
        state=subject.state,
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


def row_of(subject: Subject, sample: int) -> slice:
    """The one row of the training split that is meant, as a slice. Raises InputError where there is none."""
    rows = len(subject.splits.train)
    if not 0 <= sample < rows:
        raise InputError(f"--sample {sample}: the training split has {rows:,} rows; choose 0 to {rows - 1}")
    return slice(sample, sample + 1)


def lr_of(config: Config) -> float:
    """The learning rate that a config's optimizer starts with, torch's default where it says none."""
    default = inspect.signature(getattr(torch.optim, config.optimizer.kind)).parameters["lr"].default
    return float(config.optimizer.arguments.get("lr", default))
