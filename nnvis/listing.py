"""What there is to choose from, as (name, one line) rows. Read from the schema and the tables, so it is never behind.

listing()             # the topics
listing("datasets")   # [("moons", "Two interleaved half circles (2 inputs, 2 classes)."), …]
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from nnvis.config import schema, shipped_configs, shipped_studies
from nnvis.config.problems import among
from nnvis.config.torch_signatures import Signature, torch_table
from nnvis.diagnosis import RULES
from nnvis.errors import InputError
from nnvis.record.vocabulary import DIAGNOSIS_QUANTITIES, HISTOGRAM_QUANTITIES, LAYER_QUANTITIES

Rows = list[tuple[str, str]]

LOSSES = {
    "cross_entropy": "classes; the negative log probability of the right one, in nats (label_smoothing)",
    "binary_cross_entropy": "two classes, one output: the log odds of the second",
    "mean_squared_error": "regression; the mean of the squared errors",
    "mean_absolute_error": "regression; the mean of the absolute errors: outliers count less",
    "huber": "regression; squared up to `delta`, then linear",
}


EXPLANATIONS = {
    "passes": "One sample forward and backward, every number.",
    "regions": "Two inputs: what the network says over the plane of them, sure or not, with the rows.",
    "neurons": "Two inputs: what every neuron of every layer puts out over the plane of them.",
    "input_space": "Two inputs: the plane of them as each hidden layer bends it.",
    "filters": "Images: the filters of the first convolution.",
    "feature_maps": "Images: one of them (--sample), and what every convolution makes of it.",
    "projections": "Every layer's activations in two dimensions, and how well a linear readout tells classes apart.",
    "functions": "Activation functions and losses as curves, with their slopes: the same for every network.",
    "landscape": "The loss around the weights, and in the plane of training with the path that it took.",
    "descent": "Gradient descent on one landscape: three learning rates; full batch, mini-batch, single samples.",
}
"""The topics of `nnvis.lessons`, which bring torch, in their own words."""


def listing(topic: str | None = None) -> Rows:
    """The rows of a topic; without one, the topics. Raises InputError for a topic that there is not."""
    if topic is None:
        return [(name, f"{len(rows()):>3}  {about}") for name, (about, rows) in TOPICS.items()]
    if topic not in TOPICS:
        raise InputError(f"nnvis list: there is no topic {topic}{among(topic, TOPICS)}")
    return TOPICS[topic][1]()


def _kinds(union: Any) -> Rows:
    """The members of a tagged union by kind, with the first line of their docstrings."""
    members = get_args(get_args(union)[0])
    return [
        (get_args(member.model_fields["kind"].annotation)[0], (member.__doc__ or "").strip().partition("\n")[0])
        for member in members
    ]


def _quantities() -> Rows:
    histograms = [(name, f"histogram: {about}") for name, about in HISTOGRAM_QUANTITIES.items()]
    return [*LAYER_QUANTITIES.items(), *histograms, *DIAGNOSIS_QUANTITIES.items()]


def _symptoms() -> Rows:
    """The rules' own words: the first line of their docstrings."""
    return [(symptom, (rule.__doc__ or "").partition("\n")[0]) for symptom, rule in RULES.items()]


def _torch(kind: Literal["optimizers", "schedulers", "layers"]) -> Rows:
    """Torch's classes by name, with the arguments that a config gives them."""
    return [(name, _arguments(name, signature)) for name, signature in getattr(torch_table(), kind).items()]


def _layers() -> Rows:
    """The blocks, then torch's layers."""
    return [
        ("residual", "a list of layers; their input is added to their output"),
        ("sequential", "a list of layers, one after the other"),
        *_torch("layers"),
    ]


def _activations() -> Rows:
    table = torch_table()
    return [(name, _arguments(layer, table.layers[layer])) for name, layer in table.activations.items()]


def _arguments(name: str, signature: Signature) -> str:
    """`out_features, bias=true`: what follows from the layer's input is left out."""
    inferred = torch_table().inferred.get(name)
    return ", ".join(
        argument if parameter.required else f"{argument}={json.dumps(parameter.default)}"
        for argument, parameter in signature.items()
        if argument != inferred
    )


def _questions(files: dict[str, Path]) -> Rows:
    """Shipped files by name, each with the question that it opens with."""
    return [(name, _opening(path.read_text(encoding="utf-8"))) for name, path in files.items()]


def _opening(text: str) -> str:
    """The first comment line that is not an editor's hint."""
    comments = (line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))
    return next((comment for comment in comments if not comment.startswith("yaml-language-server")), "")


TOPICS: dict[str, tuple[str, Callable[[], Rows]]] = {
    "configs": ("shipped experiments: nnvis train NAME", lambda: _questions(shipped_configs())),
    "studies": ("shipped studies: nnvis compare NAME", lambda: _questions(shipped_studies())),
    "datasets": ("data.kind", lambda: _kinds(schema.Data)),
    "models": ("model.kind", lambda: _kinds(schema.Model)),
    "layers": ("blocks and torch.nn classes for a list of layers, with their arguments", _layers),
    "activations": (
        "model.activation: those of torch",
        _activations,
    ),
    "losses": ("loss", lambda: list(LOSSES.items())),
    "optimizers": ("optimizer.kind: those of torch, with their arguments", partial(_torch, "optimizers")),
    "schedulers": ("schedule.kind: those of torch, with their arguments", partial(_torch, "schedulers")),
    "quantities": ("what is measured of every layer, and at checks", _quantities),
    "symptoms": ("what a diagnosis looks for", _symptoms),
    "explanations": ("nnvis explain --show", lambda: list(EXPLANATIONS.items())),
}
"""What each topic is, and its rows."""
