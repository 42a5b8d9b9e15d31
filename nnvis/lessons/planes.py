"""A network of two inputs over the plane of them: what it says, and what each of its neurons does, in float64.

said = plane_of(open_subject("moons_mlp"))          # decision regions, or the surface of one output
neurons = neurons_of(open_subject("moons_mlp"))     # every neuron of every layer

Places are in the units of the data. Raises InputError for any other network, with what would work.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nnvis.data import Split
from nnvis.errors import InputError
from nnvis.figures.planes import Neurons, Plane, Response, Rows
from nnvis.lessons.activations import Part, evenly, measured, outputs_of, parts_of
from nnvis.lessons.passes import laid_open
from nnvis.lessons.subject import Subject
from nnvis.record.vocabulary import FloatArray
from nnvis.words import plural

GRID = 201  # points along each side, of decision regions
COARSE = 61  # of the maps of neurons
DRAWN = 1000  # rows of a split
LAYERS = 8  # whose neurons are drawn
NEURONS = 8  # of a layer
_MARGIN = 0.1  # share of the data's extent that is seen around it
_FLAT = 1e-9  # share of the layer's largest value: less variation is rounding error


def require_plane(subject: Subject, topic: str) -> None:
    """Raises InputError for a network whose rows are not two numbers."""
    splits, shape = subject.splits, subject.splits.input_shape
    if splits.vocabulary:
        what = f"{subject.name} reads {plural(shape[0], 'token')} a row"
    elif shape == (2,):
        return
    else:
        many = " × ".join(map(str, shape)) + (f" = {int(np.prod(shape)):,}" if len(shape) > 1 else "")
        what = f"{subject.name} has {many} input" + ("" if shape == (1,) else "s")
    raise InputError(
        f"--show {topic}: draws the plane of two inputs, and {what}; --show projections draws any network, and "
        "moons_mlp and spirals_mlp have two inputs"
    )


def plane_of(subject: Subject) -> Plane:
    """What the network says over the plane, and of the rows of each split."""
    require_plane(subject, "regions")
    splits, objective = subject.splits, subject.objective
    if not objective.classifies and objective.output_size != 1:
        raise InputError(
            f"--show regions: draws classes or one output, and {subject.name} puts out {objective.output_size} "
            "numbers; --show neurons draws each of them"
        )
    network, (x, y, grid) = laid_open(subject.model), grid_of(subject, GRID)
    values = in_units(subject, probabilities(subject, outputs_of(network, grid)))
    held_out = [("validation", splits.val)] if splits.val else []
    return Plane(
        name=subject.name,
        trained=subject.run is not None,
        loss=objective.kind,
        x=x,
        y=y,
        values=values[:, : len(splits.classes) or 1].T.reshape(-1, GRID, GRID),
        names=names_of(subject),
        classes=splits.classes,
        rows=tuple(_rows(subject, name, split, network) for name, split in [("training", splits.train), *held_out]),
    )


def neurons_of(subject: Subject) -> Neurons:
    """What the neurons of each layer put out over the plane, after their activation: at most 8 layers, 8 neurons each.

    Of more layers the evenly spaced, of more neurons those that vary most.
    """
    require_plane(subject, "neurons")
    network, (x, y, grid) = laid_open(subject.model), grid_of(subject, COARSE)
    parts = [part for part in parts_of(network, grid[:1], whole=False) if len(part.shape) == 1]
    chosen = [parts[i] for i in evenly(len(parts), LAYERS)]
    found = measured(network, grid, chosen, lambda part, values: _response(part, values.numpy(), x, y))
    if not found:
        raise InputError(f"--show neurons: no layer of {subject.name} puts out one vector a row; --show regions works")
    return Neurons(subject.name, subject.run is not None, len(parts), names_of(subject), tuple(found.values()))


def straightness(values: FloatArray, x: FloatArray, y: FloatArray) -> float:
    """In [0, 1]: share of the variance of neurons (G·G, U) over a grid that planes through them explain; NaN of none.

    R² of least squares on (1, x, y), the sums of squares pooled over the neurons.
    """
    at = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    terms = np.column_stack(
        [np.ones(len(at)), (at - at.mean(axis=0)) / (np.ptp(at, axis=0) + (np.ptp(at, axis=0) == 0))]
    )
    largest = float(np.abs(values).max(initial=0)) or 1.0  # squares must not overflow
    values = (values - values.mean(axis=0)) / largest
    total = float((values**2).sum())
    if not np.isfinite(total) or total == 0:
        return float("nan")
    rest = values - terms @ np.linalg.lstsq(terms, values, rcond=None)[0]
    return 1 - float((rest**2).sum()) / total


def grid_of(subject: Subject, points: int) -> tuple[FloatArray, FloatArray, Tensor]:
    """(G,), (G,) in the units of the data, and the rows (G·G, 2) as the network takes them, y slowest."""
    inputs = subject.splits.train.inputs.double()
    low, high = inputs.amin(0).numpy(), inputs.amax(0).numpy()
    air = _MARGIN * np.where(high > low, high - low, 1.0)
    sides = [np.linspace(low[k] - air[k], high[k] + air[k], points) for k in (0, 1)]
    grid = torch.from_numpy(np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2))
    x, y = as_measured(subject, torch.from_numpy(np.stack(sides, axis=1))).T
    return x, y, grid


def as_measured(subject: Subject, inputs: Tensor) -> FloatArray:
    """Inputs (N, ...) in the units of the data."""
    scaling = subject.splits.input_scaling
    return (scaling.undo(inputs) if scaling else inputs.double()).numpy()


def in_units(subject: Subject, outputs: Tensor) -> FloatArray:
    """Outputs of regression (N, K), or targets, in the units of the data; anything else as it is."""
    scaling = subject.splits.target_scaling
    return (scaling.undo(outputs) if scaling else outputs.double()).numpy()


def names_of(subject: Subject) -> tuple[str, str]:
    """What the two inputs are called."""
    first, second = subject.splits.feature_names or ("x[0]", "x[1]")
    return first, second


def probabilities(subject: Subject, outputs: Tensor) -> Tensor:
    """(N, K): of every class; the outputs themselves for regression."""
    if subject.objective.kind == "cross_entropy":
        return outputs.softmax(1)
    if subject.objective.kind == "binary_cross_entropy":
        return torch.cat([(-outputs).sigmoid(), outputs.sigmoid()], dim=1)
    return outputs


def _rows(subject: Subject, name: str, split: Split, network: torch.nn.Module) -> Rows:
    """Some rows of a split, and how well all of them fare."""
    objective = subject.objective
    outputs = outputs_of(network, split.inputs)
    targets = objective.prepare(split.targets, torch.float64)
    kept = evenly(len(split), DRAWN)
    if objective.classifies:
        told = split.targets.double().numpy()
        wrong = (probabilities(subject, outputs).argmax(1).numpy() != told) | ~outputs.isfinite().all(1).numpy()
    else:
        told, wrong = in_units(subject, split.targets)[:, 0], np.zeros(len(split), dtype=bool)
    return Rows(
        name=name,
        total=len(split),
        points=as_measured(subject, split.inputs[kept]),
        targets=told[kept],
        wrong=wrong[kept],
        loss=float(objective.function(outputs, targets)),
        accuracy=1 - float(wrong.mean()) if objective.classifies else None,
    )


def _response(part: Part, values: FloatArray, x: FloatArray, y: FloatArray) -> Response:
    with np.errstate(invalid="ignore", over="ignore"):
        spread = values.std(axis=0)
        largest = float(np.abs(values[np.isfinite(values)]).max(initial=0))
    flat = spread <= _FLAT * largest
    order = np.argsort(-np.where(np.isfinite(spread), spread, np.inf), kind="stable")
    drawn = np.sort(order[:NEURONS])
    return Response(
        layer=part.label,
        units=values.shape[1],
        flat=int(flat.sum()),
        straight=straightness(values, x, y),
        drawn=drawn,
        x=x,
        y=y,
        values=values[:, drawn].T.reshape(-1, len(y), len(x)),
    )
