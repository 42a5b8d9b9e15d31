"""A run's training as a moving picture: what the network does, computed from the run's snapshots, in float64.

animate("runs/moons-mlp/1-seed0", "training.gif", frames=40, fps=8)      # what `nnvis animate` does
movie = movie_of(open_subject(run), load_run(run), snapshots)            # its numbers

What the network does is computed in eval mode, as it would be used. Loss and gradients are the landscape's
(`nnvis.lessons.landscape`): of some rows of the training split, without dropout, batch norm by these rows' statistics.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nnvis.errors import InputError
from nnvis.figures import animated
from nnvis.figures.animated import Cloud, Fit, Region, View, Weights
from nnvis.figures.animation import Movie, require_format, write_animation
from nnvis.figures.course import Curves
from nnvis.figures.depth import norm
from nnvis.figures.nodes import NODES
from nnvis.figures.reading import NoData
from nnvis.lessons.drawing import chained
from nnvis.lessons.landscape import Landscape, landscape_of, loss_surface, plane_of_training
from nnvis.lessons.passes import Passes, both_passes, in_float64, laid_open
from nnvis.lessons.planes import probabilities
from nnvis.lessons.projecting import principal
from nnvis.lessons.subject import Subject, open_subject
from nnvis.probe.layers import find_layers
from nnvis.record import Run, load_run
from nnvis.record.vocabulary import FloatArray, Series
from nnvis.training.progress import counted
from nnvis.training.snapshots import Snapshot, load_snapshots

GRID = 101  # points along each side of the plane of two inputs
POINTS = 400  # rows that are drawn
SURFACE = 21  # points along each side of the landscape
_MARGIN = 0.1  # share of the data's, or the path's, extent that is seen around it

_Measure = Callable[[nn.Module], FloatArray]
_Finish = Callable[[FloatArray], View]


def animate(
    run: str | Path, out: str | Path | None = None, *, frames: int | None = None, fps: float = 8.0, trust: bool = False
) -> Path:
    """Writes the moving picture of a run that took snapshots, and returns the file: RUN/figures/training.gif.

    `out` is another file, `.gif` or `.mp4`; `frames` leaves some of the snapshots out. Raises InputError.
    """
    record = load_run(run)
    path = Path(out) if out else record.path / "figures" / "training.gif"
    require_format(path)
    if not record.config:
        raise InputError(
            f"{run}: a watched run has no config to build its network from; animate a run of `nnvis train`"
        )
    snapshots = chosen(_snapshots(record.path), frames)
    subject = open_subject(record.path, trust=trust)
    movie = movie_of(subject, record, snapshots)
    return write_animation(movie, path, fps, counted(range(len(snapshots)), "drawing frame"))


def _snapshots(run: Path) -> list[Snapshot]:
    taken = load_snapshots(run)
    if not taken:
        config = shlex.quote(str(run / "config.yaml"))
        raise InputError(
            f"{run}: it took no snapshots of its weights, which a moving picture is made of; this trains it again, "
            f"to the same bits on a CPU, and takes 40: nnvis train {config} snapshots.count=40"
        )
    return taken


def chosen(snapshots: Sequence[Snapshot], frames: int | None) -> list[Snapshot]:
    """At most so many of them, evenly spaced in their order, the last one always and the first if there are two."""
    if frames is None or frames >= len(snapshots):
        return list(snapshots)
    places = np.linspace(len(snapshots) - 1, 0, frames).round().astype(int)[::-1]
    return [snapshots[i] for i in places]


def movie_of(subject: Subject, run: Run, snapshots: Sequence[Snapshot]) -> Movie:
    """Everything that is drawn of a run at its snapshots. Raises InputError."""
    network = laid_open(subject.model)
    finite = [_nonfinite(snapshot) == 0 for snapshot in snapshots]
    if not any(finite):
        raise InputError(f"{subject.run}: the weights of every snapshot hold NaN or Inf: there is nothing to draw")
    start = snapshots[finite.index(True)]
    _load(network, start, subject)
    landscape = landscape_of(replace(subject, model=network))
    passes = _one_row(network, subject)
    chain, parameters, layers = chained(passes), _matrices(network, passes), _layers(network, passes)
    measure, finish = _view(subject, network, passes)
    losses, norms, seen, cuts = [], [], [], {name: [] for name in parameters}
    for snapshot in counted(snapshots, "measuring snapshot"):
        _load(network, snapshot, subject)
        seen.append(measure(network))
        loss, gradients = loss_and_gradients(landscape, network)
        losses.append(loss)
        norms.append(
            [norm(np.concatenate([gradients[name].numpy().ravel() for name in own])) for own in layers.values()]
        )
        weights = dict(network.named_parameters())
        for name in parameters:
            cuts[name].append((_cut(weights[name]), _cut(gradients[name])))
    surface, remark = _surface(landscape, [s for s, usable in zip(snapshots, finite, strict=True) if usable], finite)
    train, val = _curves(run)
    return Movie(
        name=run.name,
        steps=np.array([snapshot.step for snapshot in snapshots]),
        total=max(int(run.summary.get("steps") or 0), snapshots[-1].step),
        losses=np.array(losses),
        rows=_rows(landscape, len(subject.splits.train)),
        layers=tuple(layers),
        gradient_norms=np.array(norms),
        nonfinite=np.array([_nonfinite(snapshot) for snapshot in snapshots]),
        weights=tuple(_weights(name, label, network, cuts[name]) for name, label in parameters.items()),
        chain=chain,
        view=finish(np.stack(seen)),
        train=train,
        val=val,
        landscape=surface,
        remark=remark,
    )


def loss_and_gradients(landscape: Landscape, network: nn.Module) -> tuple[float, dict[str, Tensor]]:
    """The landscape's loss at a network's weights, and ∂L/∂parameter by name, 0 where there is none."""
    parameters = dict(network.named_parameters())
    loss, whole = landscape.slope_at(torch.cat([parameter.detach().reshape(-1) for parameter in parameters.values()]))
    parts = whole.split([parameter.numel() for parameter in parameters.values()])
    return loss, {name: part.view_as(p) for (name, p), part in zip(parameters.items(), parts, strict=True)}


def _load(network: nn.Module, snapshot: Snapshot, subject: Subject) -> None:
    try:
        network.load_state_dict(snapshot.model)
    except RuntimeError as error:
        raise InputError(
            f"{subject.run}: the snapshot of step {snapshot.step} is not of the network in its config.yaml: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from None


def _nonfinite(snapshot: Snapshot) -> int:
    """How many of its numbers are NaN or Inf."""
    tensors = [value for value in snapshot.model.values() if isinstance(value, Tensor) and value.is_floating_point()]
    return sum(int((~tensor.isfinite()).sum()) for tensor in tensors)


def _one_row(network: nn.Module, subject: Subject) -> Passes:
    """The passes of the first row: which layers run, and in which order."""
    train, objective = subject.splits.train, subject.objective
    return both_passes(
        network, objective.function, train.inputs[:1], objective.prepare(train.targets[:1], torch.float64)
    )


# ---------------------------------------------------------------- layers


def _layers(network: nn.Module, passes: Passes) -> dict[str, list[str]]:
    """The names of each layer's own parameters, the layers as they ran; what never ran alone stands where it is."""
    ran = {block.name: at for at, block in reversed([*enumerate(passes.blocks)])}
    places: list[tuple[int, str, list[str]]] = []
    at = -1
    for layer in find_layers(network):
        at = ran.get(layer.name, at)
        own = {id(parameter) for parameter in layer.parameters if parameter.requires_grad}
        if names := [name for name, parameter in network.named_parameters() if id(parameter) in own]:
            places.append((at, layer.name, names))
    return {name: names for _, name, names in sorted(places, key=lambda place: place[0])}


def _matrices(network: nn.Module, passes: Passes) -> dict[str, str]:
    """The parameters that are drawn, those of two dimensions or more, as the layers ran; and what they are called."""
    parameters = dict(network.named_parameters())
    found: dict[str, str] = {}
    for layer, names in _layers(network, passes).items():
        wide = [name for name in names if parameters[name].dim() > 1]
        found |= {name: layer if len(wide) == 1 else name.replace("weight_", "") for name in wide}
    return found


def _weights(name: str, label: str, network: nn.Module, cuts: Sequence[tuple[FloatArray, FloatArray]]) -> Weights:
    weights, gradients = (np.stack(each) for each in zip(*cuts, strict=True))
    return Weights(label, tuple(network.get_parameter(name).shape), weights, gradients)


def _cut(values: Tensor) -> FloatArray:
    """The first rows and columns of a parameter (out, in, …) laid flat."""
    return values.detach().flatten(1)[:NODES, :NODES].numpy().copy()


# ---------------------------------------------------------------- what the network does


def _view(subject: Subject, network: nn.Module, passes: Passes) -> tuple[_Measure, _Finish]:
    """What is drawn of the network, measured at each snapshot, and put together at the end."""
    inputs = subject.splits.train.inputs
    if inputs.dim() == 2 and inputs.shape[1] == 2 and inputs.is_floating_point():
        return _region(subject)
    if subject.objective.classifies:
        return _cloud(subject, network, passes)
    return _fit(subject)


def _region(subject: Subject) -> tuple[_Measure, _Finish]:
    train, classes = subject.splits.train, subject.splits.classes
    low, high = (train.inputs.double().amin(0).numpy(), train.inputs.double().amax(0).numpy())
    air = _MARGIN * np.where(high > low, high - low, 1.0)
    x, y = (np.linspace(low[k] - air[k], high[k] + air[k], GRID) for k in (0, 1))
    grid = torch.from_numpy(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))
    rows = _spread(len(train))
    targets = train.targets[rows].double()

    def measure(network: nn.Module) -> FloatArray:
        with torch.no_grad():
            said = probabilities(subject, network(grid))
        return said[:, : len(classes) or 1].T.reshape(-1, GRID, GRID).numpy()

    def finish(values: FloatArray) -> View:
        names = subject.splits.feature_names or ("x[0]", "x[1]")
        told = (targets if targets.dim() == 1 else targets[:, 0]).numpy()
        return Region(x, y, values, train.inputs[rows].double().numpy(), told, (names[0], names[1]), classes)

    return measure, finish


def _cloud(subject: Subject, network: nn.Module, passes: Passes) -> tuple[_Measure, _Finish]:
    train = subject.splits.train
    rows = _spread(len(train))
    inputs = in_float64(train.inputs[rows])
    last = passes.stages[-1].name.partition("#")[0] if passes.stages else ""
    only = len(passes.stages) < 2  # nothing is hidden: what it puts out is shown instead

    def measure(network: nn.Module) -> FloatArray:
        caught: list[Tensor] = []
        module = network if only else network.get_submodule(last)

        def keep(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            caught.append(output if only else args[0])

        handle = module.register_forward_hook(keep)
        try:
            with torch.no_grad():
                network(inputs)
        finally:
            handle.remove()
        return caught[-1].reshape(len(inputs), -1).numpy().copy()

    def finish(values: FloatArray) -> View:
        points, explained = on_components(values)
        name = "the outputs" if only else last
        return Cloud(points, train.targets[rows].reshape(-1).numpy(), subject.splits.classes, name, explained)

    return measure, finish


def on_components(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(F, N, D) on the first two principal components of the last finite frame: (F, N, 2); and their shares (2,)."""
    usable = np.flatnonzero(np.isfinite(values).all(axis=(1, 2)))
    last = values[usable[-1]] if len(usable) else np.zeros(values.shape[1:])
    found = principal(last)
    return found.of(values), found.shares


def _fit(subject: Subject) -> tuple[_Measure, _Finish]:
    train = subject.splits.train
    rows = _spread(len(train))
    inputs, targets = in_float64(train.inputs[rows]), train.targets[rows].double().reshape(-1).numpy()

    def measure(network: nn.Module) -> FloatArray:
        with torch.no_grad():
            return network(inputs).reshape(-1).numpy()

    return measure, lambda values: Fit(targets, values)


def _spread(rows: int) -> Tensor:
    """Which rows are drawn: evenly spaced."""
    return torch.linspace(0, rows - 1, min(POINTS, rows), dtype=torch.float64).round().long()


# ---------------------------------------------------------------- loss


def _surface(
    landscape: Landscape, snapshots: Sequence[Snapshot], finite: Sequence[bool]
) -> tuple[animated.Landscape | None, str]:
    """The landscape under the path through the finite snapshots; or why there is none."""
    try:
        plane, way = plane_of_training(landscape, snapshots)
    except InputError as error:
        return None, f" No landscape: {str(error).removeprefix('landscape: ')}."
    low, high = way.points.min(axis=0), way.points.max(axis=0)
    air = 2 * _MARGIN * float((high - low).max())
    x, y = (np.linspace(low[k] - air, high[k] + air, SURFACE) for k in (0, 1))
    done = iter(counted(range(SURFACE), "landscape, row"))
    losses = np.concatenate([loss_surface(landscape, plane, x, y[[i]]) for i in done])
    path = np.full((len(finite), 2), np.nan)
    path[np.array(finite)] = way.points
    return animated.Landscape(x, y, losses, path, np.array(plane.explained)), ""


def _rows(landscape: Landscape, total: int) -> str:
    """`the 800 training rows; no dropout, batch norm with these rows' statistics`."""
    rows = (
        f"the {total:,} training rows" if landscape.rows == total else f"{landscape.rows:,} of {total:,} training rows"
    )
    return rows + ", without dropout" + (", batch norm by these rows' statistics" if landscape.normalizes else "")


def _curves(run: Run) -> tuple[Series, Series]:
    """Training and validation loss from the record."""
    try:
        curves = Curves.of(run)
    except NoData:
        none = Series(np.zeros(0, dtype=np.int64), np.zeros(0))
        return none, none
    return curves.train, curves.val
