"""What can be shown of a network, by the name that `nnvis explain --show` knows it by.

for file in TOPICS["passes"](subject, Wish(sample=3), console, Path("explained")):
    print(file)

To add a topic, write a function like those below: it tells in the console what there is to read, draws what there is to
see, and yields the files. It raises InputError, with what would work, for a network that it cannot show. What it alone
needs it imports when it runs, so that `nnvis explain` answers quickly.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import Progress

from nnvis.config.problems import among
from nnvis.errors import InputError
from nnvis.figures.style import save
from nnvis.figures.words import number
from nnvis.lessons.drawing import draw
from nnvis.lessons.explaining import explain
from nnvis.lessons.subject import Subject
from nnvis.lessons.telling import tell

if TYPE_CHECKING:
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


def functions(subject: Subject, wish: Wish, console: Console, folder: Path) -> Iterator[Path]:
    """Activation functions and losses as curves, with their slopes: the same for every network."""
    from nnvis.figures.functions import activation_functions, loss_functions

    yield save(activation_functions(), folder / "activation_functions.png")
    yield save(loss_functions(), folder / "loss_functions.png")


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
    say = lambda text: console.print(text, soft_wrap=True, markup=False)  # noqa: E731
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
    say = lambda text: console.print(text, soft_wrap=True, markup=False)  # noqa: E731
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

    Raises InputError where the only topic does not suit the network.
    """
    files: list[Path] = []
    for topic in topics:
        try:
            files += TOPICS[topic](subject, wish, console, folder)
        except InputError as error:
            if len(topics) == 1:
                raise
            console.print(f"{topic}: left out: {error}", style="dim", markup=False)
    return files


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
