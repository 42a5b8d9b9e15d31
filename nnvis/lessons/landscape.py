"""The loss as a function of all weights, seen in a plane: after Li et al. 2018, "Visualizing the loss landscape of
neural nets" (arXiv 1712.09913).

landscape = landscape_of(subject)                               # the loss on some rows of the training split, float64
plane = random_plane(landscape, seed=0)                         # two filter-normalised directions around the weights
plane, way = plane_of_training(landscape, subject.snapshots())  # the two components that hold most of the path
loss_surface(landscape, plane, x, y)                            # (len(y), len(x)), nothing about `subject` changes
losses_at(landscape, plane, way.points)                         # (T,), where the path runs in the plane

surface_of, trail_of, seen_of                                   # the same as the figures take it
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from nnvis.errors import InputError
from nnvis.figures.landscape import Seen, Surface, Trail
from nnvis.lessons.passes import LossFunction, in_float64, laid_open
from nnvis.lessons.subject import Subject
from nnvis.record.vocabulary import FloatArray, IntArray
from nnvis.training.randomness import untouched
from nnvis.training.snapshots import Snapshot

ROWS = 512
SIDES = (51, 31, 21)  # points along a side; odd, so that one is the centre
_PATIENCE_S = 45.0
_NUMBERS = 2**17  # of input at most, and 64 rows at least: a step of training holds no more
# On a CPU a network of some size keeps the cores busy by itself. Measured with 512 rows: 354 parameters take 0.30 ms a
# point alone and 0.15 side by side, 1,441 take 0.17 and 0.08; but 301,066 take 10 and 13, a CNN of 36,234 103 and 127.
_SMALL = 2**14
_AT_ONCE = 16
_SAME = 1e-9  # relative: two ways to compute one number in float64
_STRAIGHT = 1e-12  # share of the squared distances below which a second component is rounding error
_NORMS = nn.modules.batchnorm._NormBase  # batch and instance norm, which keep running statistics

Tell = Callable[[int, int], None]
"""(points done, points in all)."""


@dataclass(frozen=True)
class Landscape:
    """The mean loss over some rows, as a function of a network's parameters, which are one vector of P numbers."""

    network: nn.Module  # a copy in float64 and eval mode; holds the weights that were evaluated last
    loss_function: LossFunction
    inputs: Tensor  # (R, ...)
    targets: Tensor  # (R,) or (R, K)
    weights: Tensor  # (P,) float64: those that the network came with

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.inputs)

    @property
    def normalizes(self) -> bool:
        """Whether there is a norm with statistics of the batch in it."""
        return any(isinstance(module, _NORMS) for module in self.network.modules())

    def loss_at(self, weights: Tensor) -> float:
        """The loss with these weights (P,)."""
        with torch.no_grad(), untouched(torch.device("cpu")):
            return self._loss_at(weights)

    def slope_at(self, weights: Tensor, rows: Tensor | None = None) -> tuple[float, Tensor]:
        """The loss of these rows (of all, if none are named), and its gradient (P,)."""
        inputs, targets = (self.inputs, self.targets) if rows is None else (self.inputs[rows], self.targets[rows])
        parameters = list(self.network.parameters())
        wanted = [parameter for parameter in parameters if parameter.requires_grad]
        with untouched(torch.device("cpu")):
            self._write(weights)
            with torch.enable_grad():
                loss = self.loss_function(self.network(inputs), targets)
            found = dict(zip(wanted, torch.autograd.grad(loss, wanted, allow_unused=True), strict=True))
        parts = [torch.zeros_like(p) if (g := found.get(p)) is None else g for p in parameters]
        return float(loss.detach()), torch.cat([part.reshape(-1) for part in parts])

    def _loss_at(self, weights: Tensor) -> float:
        self._write(weights)
        return float(self.loss_function(self.network(self.inputs), self.targets))

    def _write(self, weights: Tensor) -> None:
        """In place: recurrent layers hold their parameters in lists of their own as well."""
        parameters = list(self.network.parameters())
        with torch.no_grad():
            for parameter, part in zip(parameters, weights.split([p.numel() for p in parameters]), strict=True):
                parameter.copy_(part.view_as(parameter))


@dataclass(frozen=True)
class Plane:
    """Weights centre + x·directions[0] + y·directions[1]."""

    centre: Tensor  # (P,) float64
    directions: Tensor  # (2, P) float64
    explained: tuple[float, float] | None = None  # shares of the path's squared distances from its end, in [0, 1]

    def at(self, point: Sequence[float] | FloatArray) -> Tensor:
        """The weights (P,) at (x, y)."""
        return self.centre + float(point[0]) * self.directions[0] + float(point[1]) * self.directions[1]


@dataclass(frozen=True)
class Way:
    """Where training went, seen in a plane."""

    steps: IntArray  # (T,) updates completed
    points: FloatArray  # (T, 2): the nearest point of the plane
    distances: FloatArray  # (T,) of the weights from that point, L2


def landscape_of(subject: Subject, rows: int | None = None, *, statistics: str = "rows") -> Landscape:
    """The loss of a subject's network on `rows` rows of its training split, evenly spaced.

    Left out, it is 512 rows, fewer where a row is large. Dropout is off. The running statistics of a batch norm belong
    to the weights that they were gathered with and to no others, so that elsewhere in the landscape they would make a
    loss that no training sees: in their place stand the statistics of these rows, which are found anew at every point
    (`statistics="rows"`). With `statistics="fixed"` they are those of these rows at the subject's own weights: the loss
    of one row then does not depend on the others. Raises InputError for weights that are not finite.
    """
    inputs = subject.splits.train.inputs
    total = len(inputs)
    most = rows or min(ROWS, max(_NUMBERS // max(inputs[0].numel(), 1), 64))
    chosen = torch.linspace(0, total - 1, min(most, total), dtype=torch.float64).round().long()
    network = laid_open(subject.model)
    inputs = in_float64(inputs[chosen])
    targets = in_float64(subject.objective.prepare(subject.splits.train.targets[chosen], torch.float64))
    with torch.no_grad():
        weights = torch.cat([parameter.reshape(-1) for parameter in network.parameters()])
    if not bool(weights.isfinite().all()):
        bad = next(name for name, p in network.named_parameters() if not bool(p.isfinite().all()))
        raise InputError(
            f"{subject.run or subject.name}: {bad} holds NaN or Inf: there is no landscape around such weights; "
            f"`nnvis diagnose {subject.run or 'RUN'}` says where they came from"
        )
    _set_statistics(network, inputs, fixed=statistics == "fixed")
    return Landscape(network, subject.objective.function, inputs, targets, weights)


def random_plane(landscape: Landscape, seed: int = 0) -> Plane:
    """Two random directions around the weights, each filter as long as the weights' own (Li et al. 2018, section 4).

    One unit along an axis then changes every filter by its own length, whatever the scale of a layer: that makes the
    pictures of two networks comparable. A filter is what makes one output: a row of a matrix, the kernels of one output
    channel. Biases and the parameters of norms (all vectors) stay as they are, as in the paper's own code
    (`ignore="biasbn"`), and so do frozen parameters. Raises InputError where all of the rest is 0.
    """
    generator = torch.Generator().manual_seed(seed)
    directions = torch.stack([filter_normalised(landscape, generator) for _ in range(2)])
    if not bool(directions.any()):
        raise InputError("landscape: every weight that could be moved is 0: a direction of that length goes nowhere")
    return Plane(landscape.weights, directions)


def filter_normalised(landscape: Landscape, generator: torch.Generator) -> Tensor:
    """One random direction (P,); see `random_plane`."""
    parameters = list(landscape.network.parameters())
    parts = []
    for parameter, part in zip(parameters, landscape.weights.split([p.numel() for p in parameters]), strict=True):
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if parameter.dim() < 2 or not parameter.requires_grad:
            parts.append(torch.zeros(parameter.numel(), dtype=torch.float64))
            continue
        filters = direction.flatten(1)
        lengths = part.view(filters.shape).norm(dim=1) / filters.norm(dim=1)
        parts.append((filters * lengths[:, None]).reshape(-1))
    return torch.cat(parts)


def plane_of_training(landscape: Landscape, snapshots: Sequence[Snapshot]) -> tuple[Plane, Way]:
    """The plane through the last snapshot that lies closest to all of them, and the path in it.

    Principal components of the differences to the last weights (Li et al. 2018, section 7, where scikit-learn subtracts
    their mean as well; without that the plane of the components is the plane that is drawn). The axes are orthonormal:
    distances in the plane are distances between weights. The signs are chosen so that training runs to the right.

    Held at a time are the directions and blocks of the snapshots, whose tensors may be mapped from files. Raises
    InputError for fewer than three different snapshots, and for one that is not finite.
    """
    names = [name for name, _ in landscape.network.named_parameters()]
    if len(snapshots) < 3:
        raise InputError(f"landscape: {len(snapshots)} snapshots span no plane; it takes at least 3")
    for snapshot in snapshots:
        if not all(bool(snapshot.model[name].isfinite().all()) for name in names):
            raise InputError(f"landscape: the weights of step {snapshot.step} hold NaN or Inf: no plane goes there")
    gram = torch.zeros(len(snapshots), len(snapshots), dtype=torch.float64)
    for block in _differences(names, snapshots):
        gram += block @ block.T
    squares, vectors = torch.linalg.eigh(gram)  # ascending
    squares, vectors = squares[[-1, -2]].clamp(min=0), vectors[:, [-1, -2]]
    total = float(gram.diagonal().sum())
    if not total > 0 or float(squares[1]) <= _STRAIGHT * total:
        raise InputError("landscape: the snapshots lie on a straight line, which spans no plane")
    lengths = squares.sqrt()
    points = vectors * lengths  # (T, 2)
    signs = torch.stack([-torch.sign(points[0, 0]), torch.sign(points[points[:, 1].abs().argmax(), 1])])
    signs[signs == 0] = 1
    points, mix = points * signs, vectors * signs / lengths
    directions = torch.cat([mix.T @ block for block in _differences(names, snapshots)], dim=1)
    centre = torch.cat([snapshots[-1].model[name].double().reshape(-1) for name in names])
    away = (gram.diagonal() - (points**2).sum(1)).clamp(min=0).sqrt()
    explained = float(squares[0]) / total, float(squares[1]) / total
    steps = np.array([snapshot.step for snapshot in snapshots])
    return Plane(centre, directions, explained), Way(steps, points.numpy(), away.numpy())


def loss_surface(
    landscape: Landscape, plane: Plane, x: FloatArray, y: FloatArray, tell: Tell = lambda done, total: None
) -> FloatArray:
    """The loss at every point of a grid: (len(y), len(x)), float64; what is not finite stays so."""
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    return losses_at(landscape, plane, grid, tell).reshape(len(y), len(x))


def losses_at(
    landscape: Landscape, plane: Plane, points: FloatArray, tell: Tell = lambda done, total: None
) -> FloatArray:
    """The loss at points (N, 2) of a plane: (N,). Small networks are evaluated several points at once."""
    points = np.asarray(points, dtype=float).reshape(-1, 2)
    losses = np.empty(len(points))
    together = len(landscape.weights) <= _SMALL and len(points) > 1
    done = 0
    with torch.no_grad(), untouched(torch.device("cpu")):
        while done < len(points):
            chunk = points[done : done + _AT_ONCE]
            found = _together(landscape, plane, chunk) if together else None
            if found is not None and done == 0:  # a network may hide its weights from functional_call
                alone = landscape._loss_at(plane.at(chunk[-1]))
                found = found if np.isclose(found[-1], alone, rtol=_SAME, atol=0, equal_nan=True) else None
            if found is None:
                together = False
                found = [landscape._loss_at(plane.at(point)) for point in chunk]
            losses[done : done + len(chunk)] = found
            done += len(chunk)
            tell(done, len(points))
    return losses


def losses_of(landscape: Landscape, snapshots: Sequence[Snapshot]) -> FloatArray:
    """The loss of each snapshot's own weights: (T,). (The running statistics in it are not used: see landscape_of.)"""
    names = [name for name, _ in landscape.network.named_parameters()]
    return np.array(
        [
            landscape.loss_at(torch.cat([snapshot.model[name].double().reshape(-1) for name in names]))
            for snapshot in snapshots
        ]
    )


def window_of(points: FloatArray, margin: float = 0.3, slimmest: float = 0.5) -> tuple[FloatArray, FloatArray]:
    """The ends (2,) of the x and of the y axis that show finite points (T, 2) with a margin.

    The shorter side is `slimmest` of the longer one at least: the units of both axes are the same.
    """
    low, high = points.min(0), points.max(0)
    half = (high - low) * (0.5 + margin)
    half = np.maximum(half, slimmest * half.max())
    middle = (low + high) / 2
    return np.array([middle[0] - half[0], middle[0] + half[0]]), np.array([middle[1] - half[1], middle[1] + half[1]])


def surface_of(
    landscape: Landscape, plane: Plane, x: FloatArray, y: FloatArray, points: int | None, tell: Tell
) -> Surface:
    """The landscape between the ends (2,) of the axes, at `points` × `points` places.

    Left out, it is the most of 51, 31 and 21 that takes less than about a minute here, by the time of one point.
    """
    if points is None:
        begin = time.perf_counter()
        landscape.loss_at(plane.at((x[0], y[0])))
        one_s = time.perf_counter() - begin
        points = next((side for side in SIDES[:-1] if side**2 * one_s < _PATIENCE_S), SIDES[-1])
    x, y = np.linspace(x[0], x[1], points), np.linspace(y[0], y[1], points)
    return Surface(x, y, loss_surface(landscape, plane, x, y, tell))


def trail_of(landscape: Landscape, plane: Plane, way: Way, snapshots: Sequence[Snapshot]) -> Trail:
    """The way that training went, with the losses there."""
    assert plane.explained is not None
    in_plane, own = losses_at(landscape, plane, way.points), losses_of(landscape, snapshots)
    return Trail(way.steps, way.points, way.distances, in_plane, own, plane.explained)


def seen_of(subject: Subject, landscape: Landscape, statistics: str = "") -> Seen:
    """What the figures say of the landscape."""
    assert subject.config.loss is not None
    return Seen(
        name=subject.name,
        trained=subject.run is not None,
        loss=subject.config.loss.kind,
        rows=landscape.rows,
        all_rows=len(subject.splits.train),
        parameters=len(landscape.weights),
        centre=landscape.loss_at(landscape.weights),
        statistics=statistics if landscape.normalizes else "",
    )


def running_loss(subject: Subject, landscape: Landscape) -> float:
    """The loss of the same rows as the run sees it: with the running statistics of its batch norms."""
    with torch.no_grad(), untouched(torch.device("cpu")):
        return float(landscape.loss_function(laid_open(subject.model)(landscape.inputs), landscape.targets))


def _together(landscape: Landscape, plane: Plane, points: FloatArray) -> FloatArray | None:
    """The loss at a few points at once, (N,); None for a network that `vmap` cannot take."""
    names = [name for name, _ in landscape.network.named_parameters()]
    parameters = list(landscape.network.parameters())

    def loss(point: Tensor) -> Tensor:
        parts = (plane.centre + point @ plane.directions).split([p.numel() for p in parameters])
        weights = {name: part.view_as(p) for name, part, p in zip(names, parts, parameters, strict=True)}
        outputs = functional_call(landscape.network, weights, (landscape.inputs,))
        return landscape.loss_function(outputs, landscape.targets)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # one says that a layer is not taken together after all
            return vmap(loss)(torch.from_numpy(points)).numpy()
    except Exception:
        return None


def _differences(names: Sequence[str], snapshots: Sequence[Snapshot], size: int = 2**16) -> Iterator[Tensor]:
    """Blocks (T, at most `size`) of all snapshots minus the last one, one after the other along the parameters."""
    for name in names:
        flat = [snapshot.model[name].reshape(-1) for snapshot in snapshots]
        for start in range(0, len(flat[0]), size):
            block = torch.stack([each[start : start + size].double() for each in flat])
            yield block - block[-1]


def _set_statistics(network: nn.Module, inputs: Tensor, *, fixed: bool) -> None:
    """See `landscape_of`."""
    norms = [module for module in network.modules() if isinstance(module, _NORMS) and module.track_running_stats]
    for module in norms:
        if fixed:
            module.reset_running_stats()
            module.momentum = None  # the mean over the batches: of one
            module.train()
        else:
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    if norms and fixed:
        with torch.no_grad(), untouched(torch.device("cpu")):
            network(inputs)
        network.eval()
