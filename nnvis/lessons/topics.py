"""What can be shown of a network, by the name that `nnvis explain --show` knows it by.

for file in TOPICS["passes"](subject, Wish(sample=3), console, Path("explained")):
    print(file)

To add a topic, write a function like those below: it tells in the console what there is to read, draws what there is to
see, and yields the files. It raises InputError, with what would work, for a network that it cannot show. What it alone
needs it imports when it runs, so that `nnvis explain` answers quickly.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import Progress

from nnvis.config.problems import among
from nnvis.errors import InputError
from nnvis.figures.style import save
from nnvis.figures.words import number, percent, plural
from nnvis.lessons.drawing import draw
from nnvis.lessons.explaining import explain, row_of
from nnvis.lessons.subject import Subject
from nnvis.lessons.telling import tell

if TYPE_CHECKING:
    from nnvis.figures.projections import Projections
    from nnvis.lessons.landscape import Tell

_LINES_EVERY_S = 10.0


@dataclass(frozen=True)
class Wish:
    """What is asked for."""

    sample: int = 0  # row of the training split
    weight: str | None = None  # LAYER:ROW,COL
    neuron: str | None = None  # LAYER:INDEX
    points: int | None = None  # along each side of a landscape; as many as take less than a minute
    seed: int = 0  # of what is drawn at random: directions, batches


Topic = Callable[[Subject, Wish, Console, Path], Iterator[Path]]


def passes(subject: Subject, wish: Wish, console: Console, folder: Path) -> Iterator[Path]:
    """One sample forward and backward, every number."""
    explanation = explain(subject, sample=wish.sample, weight=wish.weight, neuron=wish.neuron)
    tell(explanation, console)
    yield from draw(explanation, folder)
    _say(console, "\nMore of it: --show regions, projections, functions, … or all; nnvis list explanations tells them")


def functions(subject: Subject, wish: Wish, console: Console, folder: Path) -> Iterator[Path]:
    """Activation functions and losses as curves, with their slopes: the same for every network."""
    from nnvis.figures.functions import activation_functions, loss_functions

    yield save(activation_functions(), folder / "activation_functions.png")
    yield save(loss_functions(), folder / "loss_functions.png")


def regions(subject: Subject, wish: Wish, console: Console, folder: Path) -> Iterator[Path]:
    """Two inputs: what the network says over the plane of them, sure or not, with the rows."""
    from nnvis.figures.planes import decision_regions
    from nnvis.lessons.planes import plane_of

    plane = plane_of(subject)
    for rows in plane.rows:
        right = "" if rows.accuracy is None else f", {percent(rows.accuracy)} right"
        _say(console, f"{rows.total:,} rows for {rows.name}: loss {number(rows.loss, 6)}{right}")
    yield save(decision_regions(plane), folder / "regions.png")


def neurons(subject: Subject, wish: Wish, console: Console, folder: Path) -> Iterator[Path]:
    """Two inputs: what every neuron of every layer puts out over the plane of them."""
    from nnvis.figures.planes import neuron_maps
    from nnvis.lessons.planes import neurons_of

    found = neurons_of(subject)
    for layer in found.layers:
        told = [plural(layer.units, "neuron")]
        if layer.broken:
            told.append("NaN or Inf")
        elif layer.flat < layer.units:
            told.append(f"{percent(layer.straight)} of the variance lies in flat planes")
        if layer.flat:
            told.append(f"{layer.flat:,} the same everywhere")
        _say(console, f"{layer.layer}: {', '.join(told)}")
    yield save(neuron_maps(found), folder / "neurons.png")


def input_space(subject: Subject, wish: Wish, console: Console, folder: Path) -> Iterator[Path]:
    """Two inputs: the plane of them as each hidden layer bends it."""
    from nnvis.figures.projections import bent_space
    from nnvis.lessons.projecting import bent_space_of

    bent = bent_space_of(subject)
    _tell_readouts(console, bent)
    yield save(bent_space(bent), folder / "input_space.png")


def filters(subject: Subject, wish: Wish, console: Console, folder: Path) -> Iterator[Path]:
    """Images: the filters of the first convolution."""
    from nnvis.figures import images as drawing
    from nnvis.lessons.images import filters_of

    first = filters_of(subject)
    shortest, longest = (number(float(end)) for end in (first.norms.min(), first.norms.max()))
    _say(console, f"{first.layer}: {plural(len(first.norms), 'filter')}, of L2 norm {shortest} to {longest}")
    yield save(drawing.filters(first), folder / "filters.png")


def feature_maps(subject: Subject, wish: Wish, console: Console, folder: Path) -> Iterator[Path]:
    """Images: one of them (--sample), and what every convolution makes of it."""
    from nnvis.figures import images as drawing
    from nnvis.lessons.images import feature_maps_of

    maps = feature_maps_of(subject, wish.sample)
    _say(console, f"row {maps.sample}: {maps.said}")
    for layer in maps.layers:
        _say(console, f"{layer.layer}: {plural(layer.channels, 'map')}, {layer.silent} of them 0 everywhere")
    yield save(drawing.feature_maps(maps), folder / "feature_maps.png")


def projections(subject: Subject, wish: Wish, console: Console, folder: Path) -> Iterator[Path]:
    """Every layer's activations in two dimensions, and how well a linear readout tells classes apart."""
    from nnvis.figures import projections as drawing
    from nnvis.lessons.projecting import projections_of

    projected = projections_of(subject)
    _tell_readouts(console, projected)
    yield save(drawing.projections(projected), folder / "projections.png")


def landscape(subject: Subject, wish: Wish, console: Console, folder: Path) -> Iterator[Path]:
    """The loss around the weights, and in the plane of training with the path that it took."""
    from nnvis.figures.landscape import random_landscape, training_landscape
    from nnvis.lessons.landscape import (
        landscape_of,
        plane_of_training,
        random_plane,
        running_loss,
        seen_of,
        surface_of,
        trail_of,
        window_of,
    )

    snapshots, scene = subject.snapshots(), landscape_of(subject)
    seen = seen_of(subject, scene)
    say = partial(_say, console)
    say(
        f"landscape: the loss of {seen.rows:,} training rows is {number(seen.centre, 6)} at the weights {subject.state}"
    )
    if scene.normalizes:
        seen = replace(
            seen,
            statistics="Batch norm takes the statistics of these rows at every point: the running ones belong to the "
            f"run's weights alone, where the loss is {number(running_loss(subject, scene))} with them.",
        )
    plane = random_plane(scene, wish.seed)
    with _counting("around the weights") as told:
        surface = surface_of(scene, plane, np.array([-1.0, 1.0]), np.array([-1.0, 1.0]), wish.points, told)
    yield save(random_landscape(surface, seen, wish.seed), folder / "landscape.png")
    if not snapshots:
        source = subject.run / "config.yaml" if subject.run else "CONFIG"
        what = "this run has" if subject.run else "an untrained network has"
        say(
            f"the path of training is left out: {what} no snapshots; nnvis train {source} snapshots.count=40 takes them"
        )
        return
    try:
        plane, way = plane_of_training(scene, snapshots)
    except InputError as error:
        say(f"the path of training is left out: {error}")
        return
    with _counting("in the plane of training") as told:
        surface = surface_of(scene, plane, *window_of(way.points), wish.points, told)
    trail = trail_of(scene, plane, way, snapshots)
    if not math.isclose(seen.centre, trail.own[-1], rel_tol=1e-6):
        say("the path of training ends at the last step; the run keeps the weights of an earlier one")
    yield save(training_landscape(surface, trail, seen), folder / "landscape_path.png")


def descent(subject: Subject, wish: Wish, console: Console, folder: Path) -> Iterator[Path]:
    """Gradient descent on one landscape: three learning rates; full batch, mini-batch, single samples."""
    from nnvis.figures.landscape import descent_batches, descent_rates
    from nnvis.lessons import descent as descending
    from nnvis.lessons.landscape import landscape_of, seen_of, surface_of

    subject = descending.starting(subject)
    scene = landscape_of(subject, statistics="fixed")
    seen = seen_of(
        subject, scene, "Batch norm keeps the statistics that these rows have at the start: no row depends on others."
    )
    plane = descending.first_plane(scene)
    basin = descending.basin_of(scene, plane)
    say = partial(_say, console)
    say(
        f"descent from loss {number(seen.centre, 6)}; the lowest point found in its plane has {number(basin.loss, 6)}; "
        f"largest curvature {number(basin.curvature_at_start)} at the start, {number(basin.curvature_at_lowest)} there"
    )
    rates, batches = (
        descending.by_rate(scene, plane, basin),
        descending.by_batch(scene, plane, basin, wish.seed),
    )
    for each in [*rates, *batches]:
        say(
            f"  {each.label:<15} lr {each.rate:<9.3g} {each.rows:>4,} rows × {each.updates} updates: loss "
            f"{number(float(each.losses[-1]), 6)}"
        )
    x, y = descending.window(basin, [*rates, *batches])
    with _counting("descent") as told:
        surface = surface_of(scene, plane, x, y, wish.points, told)
    curvature = basin.curvature_at_start, basin.curvature_at_lowest
    yield save(descent_rates(surface, rates, seen, curvature), folder / "descent_rates.png")
    yield save(descent_batches(surface, batches, seen), folder / "descent_batches.png")


TOPICS: dict[str, Topic] = {
    "passes": passes,
    "regions": regions,
    "neurons": neurons,
    "input_space": input_space,
    "filters": filters,
    "feature_maps": feature_maps,
    "projections": projections,
    "functions": functions,
    "landscape": landscape,
    "descent": descent,
}
"""By name, in the order in which a newcomer meets them."""


def topics_of(words: str) -> list[str]:
    """The topics that `passes,landscape` or `all` names. Raises InputError."""
    names = [name.strip() for name in words.split(",")]
    for name in names:
        if name != "all" and name not in TOPICS:
            raise InputError(f"--show {words}: there is no topic {name}{among(name, [*TOPICS, 'all'])}")
    return list(TOPICS) if "all" in names else names


def show(subject: Subject, topics: Sequence[str], wish: Wish, console: Console, folder: Path) -> list[Path]:
    """Shows the topics, and returns the files drawn. Of several topics those that do not suit are told and left out.

    Raises InputError where the only topic does not suit the network, or there is no such sample.
    """
    row_of(subject, wish.sample)
    files: list[Path] = []
    for topic in topics:
        try:
            files += TOPICS[topic](subject, wish, console, folder)
        except InputError as error:
            if len(topics) == 1:
                raise
            _say(console, f"{topic}: left out: {str(error).removeprefix(f'--show {topic}: ')}")
    return files


def _say(console: Console, text: str) -> None:
    """One line, never folded."""
    console.print(text, soft_wrap=True, markup=False)


def _tell_readouts(console: Console, projected: Projections) -> None:
    what = "right" if projected.classes else "R²"
    for panel in projected.panels:
        score = percent(panel.score) if projected.classes else number(panel.score)
        _say(console, f"{panel.name}: {plural(panel.units, 'unit')}; {what} by a linear readout: {score}")


@contextmanager
def _counting(what: str) -> Iterator[Tell]:
    """Tells on stderr how many points are done: a bar on a terminal; elsewhere a line every ten seconds."""
    if sys.stderr.isatty():
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    told = time.perf_counter()

    def line(done: int, total: int) -> None:
        nonlocal told
        if time.perf_counter() - told >= _LINES_EVERY_S:
            told = time.perf_counter()
            print(f"{what}: {done:,} of {total:,} points", file=sys.stderr, flush=True)

    yield line
