"""What is explained: a network with its data and its loss, of a config or of a run.

subject = open_subject("moons_mlp", ["data.samples=100"])     # as training starts it
subject = open_subject("runs/moons-mlp/1-seed0")              # as it was trained
subject.model, subject.splits.train.inputs, subject.objective.function
for snapshot in subject.snapshots(): subject.model.load_state_dict(snapshot.model)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from nnvis.config import Config, load_config
from nnvis.data import Splits, load_splits
from nnvis.errors import InputError
from nnvis.models import build_model
from nnvis.training.losses import Objective, build_objective, resolve_loss
from nnvis.training.randomness import seeded
from nnvis.training.snapshots import Snapshot, load_snapshots


@dataclass(frozen=True)
class Subject:
    """A network, its data and its loss, on the CPU."""

    config: Config  # its loss is resolved
    run: Path | None  # None: a config's network
    splits: Splits
    objective: Objective
    model: nn.Module  # in eval mode where a run trained it; in the run's number format

    @property
    def name(self) -> str:
        """The config's."""
        return self.config.name

    @property
    def state(self) -> str:
        """Which weights, in words."""
        return f"as {self.run} has trained it" if self.run else f"as training starts it (seed {self.config.seed})"

    def snapshots(self) -> list[Snapshot]:
        """The weights on the way, the first step first; empty where none were saved. Raises InputError."""
        return load_snapshots(self.run) if self.run else []


def open_subject(source: str | Path | Config, overrides: Sequence[str] = (), *, trust: bool = False) -> Subject:
    """Opens a config (its file, its name, or itself) or a run (its directory). Global random state is put back.

    `overrides` go with a file or a name. Raises InputError.
    """
    run = Path(source) if not isinstance(source, Config) and Path(source).is_dir() else None
    if run and overrides:
        raise InputError(f"{overrides[0]}: overrides do not go with a run: its weights belong to its own config")
    if run and not (run / "config.yaml").is_file():
        raise InputError(f"{run}: holds no config.yaml; name a run that a config trained, or a config")
    if isinstance(source, Config):
        config = source
    else:
        config = load_config(run / "config.yaml" if run else source, overrides, trust=trust)
    with seeded(config.seed, torch.device("cpu")):  # as `train` does it, so that the weights are the same
        splits = load_splits(config.data, config.seed)
        config = config.model_copy(update={"loss": resolve_loss(config.loss, splits.task)})
        assert config.loss is not None
        objective = build_objective(config.loss, splits.target_size)
        sizes = {"output_size": objective.output_size, "vocabulary_size": len(splits.vocabulary)}
        model = build_model(config.model, splits.input_shape, **sizes)
        model = _trained(run, model, trust) if run else model
    return Subject(config, run, splits, objective, model)


def _trained(run: Path, model: nn.Module, trust: bool) -> nn.Module:
    """The run's model; where it ended before its first checkpoint, `model` with the weights of its last snapshot."""
    from nnvis.experiment import load_model  # which brings all of training; a config needs none of it

    taken = [] if any((run / "checkpoints").glob("*.pt")) else load_snapshots(run)
    if not taken:
        return load_model(run, trust=trust)
    model.load_state_dict(taken[-1].model, assign=True)
    return model.eval()
