"""What can be shown of a network, by the name that `nnvis explain --show` knows it by.

for file in TOPICS["passes"](subject, Wish(sample=3), console, Path("explained")):
    print(file)

To add a topic, write a function like those below: it tells in the console what there is to read, draws what there is to
see, and yields the files. It raises InputError, with what would work, for a network that it cannot show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from nnvis.config.problems import among
from nnvis.errors import InputError
from nnvis.lessons.drawing import draw
from nnvis.lessons.explaining import explain
from nnvis.lessons.subject import Subject
from nnvis.lessons.telling import tell


@dataclass(frozen=True)
class Wish:
    """What is asked for."""

    sample: int = 0  # row of the training split
    weight: str | None = None  # LAYER:ROW,COL
    neuron: str | None = None  # LAYER:INDEX


Topic = Callable[[Subject, Wish, Console, Path], Iterator[Path]]


def passes(subject: Subject, wish: Wish, console: Console, folder: Path) -> Iterator[Path]:
    """One sample forward and backward, every number."""
    explanation = explain(subject, sample=wish.sample, weight=wish.weight, neuron=wish.neuron)
    tell(explanation, console)
    yield from draw(explanation, folder)


TOPICS: dict[str, Topic] = {"passes": passes}
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
