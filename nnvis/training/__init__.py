"""Training: the loop and what it is made of, from devices to checkpoints.

    learner = build_learner(config, splits)       # model, objective, optimizer, schedule, number format
    Loop(learner, ...).run()                      # `nnvis.experiment` puts the rest together

Each file has one subject, and says so in its first line.
"""

from nnvis.training.checkpoints import load_checkpoint, save_checkpoint
from nnvis.training.devices import available_devices, resolve_device
from nnvis.training.divergence import DivergedError
from nnvis.training.evaluation import evaluate
from nnvis.training.learner import Learner
from nnvis.training.loop import Length, Loop
from nnvis.training.setup import build_learner, resolve
from nnvis.training.state import State

__all__ = [
    "DivergedError",
    "Learner",
    "Length",
    "Loop",
    "State",
    "available_devices",
    "build_learner",
    "evaluate",
    "load_checkpoint",
    "resolve",
    "resolve_device",
    "save_checkpoint",
]
