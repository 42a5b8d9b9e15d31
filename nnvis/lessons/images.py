"""What a convolutional network looks for in images, and finds in one of them, in float64.

first = filters_of(open_subject("digits_cnn"))             # the first layer's filters
maps = feature_maps_of(open_subject("digits_cnn"), 3)      # what every convolution makes of row 3

Raises InputError for a network without 2-D convolutions, with what would work.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from nnvis.errors import InputError
from nnvis.figures.images import FeatureMaps, Filters, LayerMaps
from nnvis.lessons.activations import Part, evenly, measured, outputs_of, parts_of
from nnvis.lessons.explaining import row_of
from nnvis.lessons.passes import laid_open
from nnvis.lessons.planes import as_measured, in_units, probabilities
from nnvis.lessons.subject import Subject
from nnvis.record.vocabulary import FloatArray

FILTERS = 64
MAPS = 8  # of a layer
LAYERS = 8


def filters_of(subject: Subject) -> Filters:
    """The filters of the first convolution that runs; of more than 64 those of the largest norm (L2)."""
    parts = _convolutions(laid_open(subject.model), subject, "filters")
    convolution = parts[0].module
    assert isinstance(convolution, nn.Conv2d)
    weights = convolution.weight.detach().numpy()
    norms = np.sqrt((weights**2).sum(axis=(1, 2, 3)))
    drawn = np.sort(np.argsort(-norms, kind="stable")[:FILTERS])
    return Filters(subject.name, subject.run is not None, parts[0].name, weights[drawn], drawn, norms)


def feature_maps_of(subject: Subject, sample: int) -> FeatureMaps:
    """What the convolutions make of one row of the training split, after their activations: 8 layers of 8 maps at most.

    Of more layers the evenly spaced, of more maps those that vary most over the image.
    """
    network = laid_open(subject.model)
    parts = _convolutions(network, subject, "feature_maps")
    rows = row_of(subject, sample)
    train = subject.splits.train
    inputs = train.inputs[rows]
    chosen = [parts[i] for i in evenly(len(parts), LAYERS)]
    found = measured(network, inputs, chosen, lambda part, values: _maps(part, values[0].numpy()))
    return FeatureMaps(
        name=subject.name,
        trained=subject.run is not None,
        sample=sample,
        image=as_measured(subject, inputs)[0],
        said=_said(subject, outputs_of(network, inputs), train.targets[rows]),
        layers=tuple(found.values()),
        total=len(parts),
    )


def _convolutions(network: nn.Module, subject: Subject, topic: str) -> list[Part]:
    """The 2-D convolutions over images, in the order in which they run. Raises InputError where there is none."""
    row = subject.splits.train.inputs[:1]
    found = [part for part in parts_of(network, row, whole=False) if isinstance(part.module, nn.Conv2d)]
    if not found or row.dim() != 4:
        raise InputError(
            f"--show {topic}: {subject.name} has no 2-D convolution over images; --show projections draws any network, "
            "and digits_cnn has convolutions"
        )
    return found


def _maps(part: Part, values: FloatArray) -> LayerMaps:
    """Of maps (C, H, W)."""
    with np.errstate(invalid="ignore", over="ignore"):
        spread = values.std(axis=(1, 2))
    drawn = np.sort(np.argsort(-np.where(np.isfinite(spread), spread, np.inf), kind="stable")[:MAPS])
    silent = int((values == 0).all(axis=(1, 2)).sum())
    return LayerMaps(part.name, part.activation.lower(), len(values), silent, drawn, values[drawn])


def _said(subject: Subject, outputs: Tensor, target: Tensor) -> str:
    """What the row is, and what the network says: `class 7, and the network says 7 (99.8%)`."""
    classes = subject.splits.classes
    told = f"class {classes[int(target[0])]}" if classes else f"target {in_units(subject, target)[0, 0]:.4g}"
    if not outputs.isfinite().all():
        return f"{told}, and the network puts out no finite numbers"
    if not classes:
        return f"{told}, and the network says {in_units(subject, outputs)[0, 0]:.4g}"
    shares = probabilities(subject, outputs)[0]
    k = int(torch.argmax(shares))
    return f"{told}, and the network says {classes[k]} ({float(shares[k]):.1%})"
