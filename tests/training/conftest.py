"""`configured(**sections)` is a tiny experiment; `learner_for` what learns in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from nnvis.config import Config
from nnvis.data import Splits, load_splits
from nnvis.training.learner import Learner
from nnvis.training.setup import build_learner, resolve, with_loss

Configured = Callable[..., Config]
LearnerFor = Callable[[Config], tuple[Learner, Splits]]


@pytest.fixture
def configured() -> Configured:
    def config(**sections: Any) -> Config:
        tiny = {
            "name": "tiny",
            "data": {"kind": "spirals", "samples": 60},
            "model": {"kind": "mlp", "hidden": [5]},
            "training": {"epochs": 2, "batch_size": 16, "device": "cpu", "threads": 1},
        }
        return Config.model_validate({**tiny, **sections})

    return config


@pytest.fixture
def learner_for() -> LearnerFor:
    def build(config: Config) -> tuple[Learner, Splits]:
        splits = load_splits(config.data, config.seed)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            return build_learner(with_loss(resolve(config), splits), splits), splits

    return build
