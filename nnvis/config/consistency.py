"""What the sections of a config ask of each other. A check names the sections that it looks at.

To add a check, write a generator of complaints whose parameters are sections, and list it in `CHECKS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nnvis.config.data_sections import Data
from nnvis.config.model_sections import Model
from nnvis.config.torch_arguments import Complaint
from nnvis.config.training_sections import LOSSES, Diagnosis, Loss, Schedule, Training

Complaints = Iterator[Complaint]

_FORMS = {"table": "rows of a table", "image": "images", "sequence": "sequences of numbers", "text": "text"}
_INPUTS = {"mlp": ("table", "image", "sequence"), "cnn": ("image",), "rnn": ("sequence", "text")}
_INPUTS["transformer"] = _INPUTS["rnn"]


def _loss_fits_task(data: Data, loss: Loss | None) -> Complaints:
    if loss and data.task and loss.task != data.task:
        fit = ", ".join(kind for kind, task in LOSSES.items() if task == data.task)
        yield Complaint(("loss",), f"{loss.kind} is for {loss.task}, {data.kind} is {data.task}; choices: {fit}")
    classes = getattr(data, "classes", None)
    if loss and loss.kind == "binary_cross_entropy" and classes not in (None, 2):
        yield Complaint(
            ("loss",), f"binary_cross_entropy is for 2 classes; {data.kind} has {classes}; use cross_entropy"
        )


def _network_fits_inputs(data: Data, model: Model) -> Complaints:
    takes = _INPUTS.get(model.kind)
    if takes and data.form and data.form not in takes:
        wanted = " or ".join(_FORMS[form] for form in takes)
        yield Complaint(("model", "kind"), f"{model.kind} takes {wanted}; {data.kind} has {_FORMS[data.form]}")
    elif model.kind == "rnn" and model.embedding and data.form not in (None, "text"):
        yield Complaint(("model", "embedding"), f"is for text; {data.kind} has {_FORMS[data.form]}")


def _early_stopping_can_judge(data: Data, training: Training) -> Complaints:
    stopping = training.early_stopping
    path = ("training", "early_stopping")
    if stopping and not data.val_fraction:
        yield Complaint(path, "needs a validation split: set data.val_fraction above 0")
    if stopping and stopping.metric == "accuracy" and data.task == "regression":
        yield Complaint((*path, "metric"), f"accuracy is for classification; {data.kind} is regression; use loss")


def _plateau_has_validation(data: Data, schedule: Schedule) -> Complaints:
    if schedule.kind == "ReduceLROnPlateau" and not data.val_fraction:
        yield Complaint(
            ("schedule", "kind"), "ReduceLROnPlateau needs a validation split: set data.val_fraction above 0"
        )


def _branches_have_checks(diagnosis: Diagnosis) -> Complaints:
    if diagnosis.branches and diagnosis.every is None:
        yield Complaint(
            ("diagnosis", "branches"), "belong to checks, which diagnosis.every: null turns off; leave that out"
        )


def _batch_norm_has_a_batch(model: Model, training: Training) -> Complaints:
    if model.kind == "mlp" and model.norm == "batch" and training.batch_size == 1:
        yield Complaint(("model", "norm"), "batch normalization needs more than one row: training.batch_size is 1")


CHECKS: tuple[Callable[..., Complaints], ...] = (
    _loss_fits_task,
    _network_fits_inputs,
    _early_stopping_can_judge,
    _plateau_has_validation,
    _branches_have_checks,
    _batch_norm_has_a_batch,
)


def inconsistencies(sections: Mapping[str, Any]) -> Complaints:
    """What is wrong between sections; a check whose sections are not all there is left out."""
    for check in CHECKS:
        needed = inspect.signature(check).parameters
        if needed.keys() <= sections.keys():
            yield from check(**{name: sections[name] for name in needed})
