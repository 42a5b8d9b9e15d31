"""What the layers of a network make of its rows, seen in two dimensions, in float64.

projected = projections_of(open_subject("digits_mlp"))     # every layer's activations on their principal components
bent = bent_space_of(open_subject("moons_mlp"))            # the plane of two inputs with a grid, pushed through

principal(values).of(values)                               # (N, D) -> (N, 2)
linear_readout(values, targets, held_out, their_targets)   # how well a straight cut tells the classes apart
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nnvis.errors import InputError
from nnvis.figures.projections import INPUTS, Panel, Projections
from nnvis.lessons.activations import Part, evenly, finite, measured, parts_of, vectors
from nnvis.lessons.passes import in_float64, laid_open
from nnvis.lessons.planes import as_measured, grid_of, in_units, names_of, require_plane
from nnvis.lessons.subject import Subject
from nnvis.record.vocabulary import FloatArray, IntArray

ROWS = 500  # of the training split, and as many that are held out
PANELS = 12
BENT = 8  # panels of the bent input space
LINES = 15  # of the grid, each way
_ALONG = 121  # points along a line
_NUMBERS = 2**26  # of one layer, at most: half a gigabyte
PENALTIES = 10.0 ** np.arange(-3, 4)  # of the linear readout


@dataclass(frozen=True)
class Components:
    """The first two principal components of some rows."""

    centre: FloatArray  # (D,)
    axes: FloatArray  # (2, D), of length 1; 0 where there is none
    shares: FloatArray  # (2,) of the variance; 0 where there is none

    def of(self, values: FloatArray) -> FloatArray:
        """Values (..., D) in these components: (..., 2)."""
        with np.errstate(invalid="ignore", over="ignore"):
            return (values - self.centre) @ self.axes.T


def principal(values: FloatArray) -> Components:
    """The first two principal components of finite values (N, D), the largest coefficient of each above 0."""
    centre = values.mean(axis=0)
    sizes, components = _decomposed(values - centre)
    axes, shares = np.zeros((2, values.shape[1])), np.zeros(2)
    axes[: len(components[:2])] = components[:2]
    if sizes.any():
        shares[: len(sizes[:2])] = sizes[:2] ** 2 / (sizes**2).sum()
    signs = np.sign(axes[[0, 1], np.abs(axes).argmax(axis=1)])
    return Components(centre, axes * np.where(signs < 0, -1, 1)[:, None], shares)


def linear_readout(
    values: FloatArray, targets: FloatArray | IntArray, held_out: FloatArray, held_out_targets: FloatArray | IntArray
) -> float:
    """How well targets can be read from rows (N, D) by a linear map alone, on held-out rows (M, D).

    A linear probe (Alain and Bengio 2016): ridge regression on the standardised units, for classes on ±1 for each, the
    largest taken; its penalty is the one of 0.001, 0.01, … 1000 with the least leave-one-out error on the N rows (Golub
    et al. 1979). For classes (int64) the accuracy in [0, 1]; for values R², at most 1, and 0 or less for a
    readout that is no better than the mean.
    """
    from sklearn.linear_model import RidgeClassifierCV, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifies = np.issubdtype(targets.dtype, np.integer)
    if len(np.unique(targets)) == 1:
        return float((held_out_targets == targets[0]).mean()) if classifies else float("nan")
    scale = float(np.abs(values).max(initial=0)) or 1.0  # squares must not overflow
    readout = make_pipeline(StandardScaler(), (RidgeClassifierCV if classifies else RidgeCV)(PENALTIES))
    readout.fit(values / scale, targets)
    return float(readout.score(held_out / scale, held_out_targets))


def projections_of(subject: Subject) -> Projections:
    """Every layer's activations of 500 training rows on their first two principal components; 11 layers at most.

    Of more layers the evenly spaced; of very large layers fewer rows. How separable the classes are is
    measured on as many held-out rows.
    """
    network = laid_open(subject.model)
    parts = parts_of(network, subject.splits.train.inputs[:1])
    largest = max([int(np.prod(part.shape)) for part in parts], default=1)
    rows = _rows(subject, min(ROWS, max(_NUMBERS // largest, 20)))
    chosen = [parts[i] for i in evenly(len(parts), PANELS - 1)]
    found = measured(network, rows.inputs, chosen, lambda part, values: _panel(part, values, rows, subject))
    first = [] if subject.splits.vocabulary else [_panel(None, in_float64(rows.inputs), rows, subject)]
    return _projections(subject, rows, [*first, *found.values()], chosen, len(parts))


def bent_space_of(subject: Subject) -> Projections:
    """The plane of two inputs, with a grid, as each hidden layer bends it; 8 panels at most, evenly spaced.

    Layers of two units are as they are, wider ones on the first two principal components of the training rows.
    """
    require_plane(subject, "input_space")
    network, rows = laid_open(subject.model), _rows(subject, ROWS)
    parts = [part for part in parts_of(network, rows.inputs[:1]) if not part.last and len(part.shape) == 1]
    if not parts:
        raise InputError(f"--show input_space: {subject.name} has no hidden layer; --show regions works")
    chosen = [parts[i] for i in evenly(len(parts), BENT - 1)]
    lines = _lines(subject)
    inputs = torch.cat([in_float64(rows.inputs), lines.reshape(-1, 2)])
    panel = lambda part, values: _panel(part, values, rows, subject, len(lines))  # noqa: E731
    panels = [panel(None, inputs), *measured(network, inputs, chosen, panel).values()]
    return _projections(subject, rows, panels, chosen, len(parts))


# ---------------------------------------------------------------- rows


@dataclass(frozen=True)
class _Rows:
    inputs: Tensor  # (N + M, ...): training rows, then held-out ones
    train: int  # N
    held_out: int  # M
    targets: FloatArray | IntArray  # (N + M,)
    lengths: Tensor | None  # (N + M,) of texts
    where: str  # what the held-out ones are

    def halves(self, values: Any) -> tuple[Any, Any]:
        """Of training, held out."""
        return values[: self.train], values[self.train : self.train + self.held_out]


def _rows(subject: Subject, most: int) -> _Rows:
    """At most so many of each split, evenly spaced."""
    splits = subject.splits
    name, held_out = next(
        ((name, split) for name, split in (("validation", splits.val), ("test", splits.test)) if split),
        ("training", splits.train),
    )
    kept = [(split, evenly(len(split), most)) for split in (splits.train, held_out)]
    inputs = torch.cat([split.inputs[rows] for split, rows in kept])
    targets = torch.cat([split.targets[rows] for split, rows in kept])
    told = targets.numpy() if splits.classes else in_units(subject, targets)[:, 0]
    lengths = (inputs != 0).sum(1).clamp(min=1) if splits.vocabulary else None
    return _Rows(inputs, len(kept[0][1]), len(kept[1][1]), told, lengths, name)


def _lines(subject: Subject) -> Tensor:
    """(L, P, 2): lines of equal second input, then of equal first input, as the network takes them."""
    _, _, ends = grid_of(subject, 2)
    (left, low), (right, high) = ends[0].tolist(), ends[-1].tolist()
    x, y = (torch.linspace(*side, LINES, dtype=torch.float64) for side in ((left, right), (low, high)))
    along_x, along_y = (torch.linspace(*side, _ALONG, dtype=torch.float64) for side in ((left, right), (low, high)))
    across = [torch.stack([along_x, level.expand(_ALONG)], dim=1) for level in y]
    return torch.stack([*across, *(torch.stack([level.expand(_ALONG), along_y], dim=1) for level in x)])


# ---------------------------------------------------------------- panels


def _panel(part: Part | None, values: Tensor, rows: _Rows, subject: Subject, lines: int = 0) -> Panel:
    """What a part (None: the inputs) puts out for the rows, and for the points of so many lines after them."""
    flat = values.reshape(len(values), -1).numpy() if part is None else vectors(part, values, rows.lengths)
    train, held_out = rows.halves(flat)
    usable = finite(flat)
    if part is None and subject.splits.input_shape == (2,):
        places, names = as_measured(subject, values), names_of(subject)
        shares = None
    elif flat.shape[1] <= 2:
        places, names, shares = (
            np.pad(flat, ((0, 0), (0, 2 - flat.shape[1]))),
            ("unit 0", "unit 1" * (flat.shape[1] == 2)),
            None,
        )
    else:
        found = principal(train) if usable else Components(*(np.full(n, np.nan) for n in (1, 1, 2)))
        places, names = found.of(flat) if usable else np.full((len(flat), 2), np.nan), ("PC 1", "PC 2")
        shares = (float(found.shares[0]), float(found.shares[1]))
    return Panel(
        name=INPUTS if part is None else part.name,
        units=flat.shape[1],
        names=names,
        shares=shares,
        points=places[: rows.train],
        score=_score(train, held_out, rows) if usable else float("nan"),
        lines=places[rows.train + rows.held_out :].reshape(lines, -1, 2) if lines else None,
    )


def _score(train: FloatArray, held_out: FloatArray, rows: _Rows) -> float:
    targets, held_out_targets = rows.halves(rows.targets)
    return linear_readout(train, targets, held_out, held_out_targets)


def _projections(
    subject: Subject, rows: _Rows, panels: Sequence[Panel], parts: Sequence[Part], total: int
) -> Projections:
    aligned: list[Panel] = []
    for panel in panels:
        aligned.append(panel.turned_as(aligned[-1]) if aligned and panel.shares else panel)
    return Projections(
        name=subject.name,
        trained=subject.run is not None,
        panels=tuple(aligned),
        targets=rows.targets[: rows.train],
        classes=subject.splits.classes,
        total=total,
        held_out=rows.held_out,
        where=rows.where,
        reads=_how_read(parts) + _which_target(subject),
    )


def _how_read(parts: Sequence[Part]) -> str:
    """How a vector is made of steps or images, where there are any."""
    deep = [part for part in parts if len(part.shape) > 1]
    recurrent = any(isinstance(part.module, nn.RNNBase) for part in deep)
    images = any(isinstance(part.module, nn.modules.conv._ConvNd) or len(part.shape) > 2 for part in deep)
    steps = any(
        len(part.shape) == 2 and not isinstance(part.module, (nn.RNNBase, nn.modules.conv._ConvNd)) for part in deep
    )
    others = "of other layers over sequences" if recurrent else "of sequences"
    told = ["of recurrent layers the last step"] * recurrent + [f"{others} the mean over the steps"] * steps
    told += ["of convolutions every value"] * images
    return f"{'; '.join(told)[:1].upper()}{'; '.join(told)[1:]}. " if told else ""


def _which_target(subject: Subject) -> str:
    many = 0 if subject.splits.classes else subject.splits.target_size
    return f"Of {many} targets the first. " if many > 1 else ""


def _decomposed(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Singular values, and right singular vectors (K, D), of centred values."""
    largest = float(np.abs(values).max(initial=0)) or 1.0  # squares must not overflow
    _, sizes, components = np.linalg.svd(values / largest, full_matrices=False)
    return sizes, components
