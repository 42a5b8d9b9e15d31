"""The vocabulary of a config: one frozen class a section, one class a kind.

    from nnvis.config import load_config

    config = load_config("configs/digits_mlp.yaml", overrides=["optimizer.lr=0.01"])
    config.model.kind          # "mlp"

All names of `data_sections`, `model_sections` and `training_sections` are here as well. To add a dataset
or a model, write its class there and its builder in `nnvis.data` or `nnvis.models`; the JSON Schema,
`nnvis list` and the error messages follow by themselves.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from nnvis.config import base, data_sections, model_sections
from nnvis.config.consistency import inconsistencies
from nnvis.config.data_sections import *  # noqa: F403
from nnvis.config.model_sections import *  # noqa: F403
from nnvis.config.training_sections import *  # noqa: F403
from nnvis.config.training_sections import Capture, Diagnosis, Loss, Optimizer, Schedule, Snapshots, Training


class Config(base.Section):
    """One experiment."""

    name: base.Name
    """Names the run's folder: letters, digits, `.`, `_`, `-`, `=` and `,`."""
    seed: base.Seed = 0
    data: data_sections.Data
    model: model_sections.Model
    loss: Loss | None = None
    """Left out: cross entropy for classification, mean squared error for regression."""
    optimizer: Optimizer = Field(default_factory=Optimizer)
    schedule: Schedule = Field(default_factory=Schedule)
    training: Training = Field(default_factory=Training)
    capture: Capture = Field(default_factory=Capture)
    diagnosis: Diagnosis = Field(default_factory=Diagnosis)
    snapshots: Snapshots = Field(default_factory=Snapshots)

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        base.refuse(inconsistencies({name: getattr(self, name) for name in type(self).model_fields}))
        return self
