"""The text of a lesson: Markdown with its config, and places for the numbers that its experiment measures.

    ---
    title: One neuron
    question: What does a neuron compute?
    seconds: 2                                     # about how long it takes on two cores
    ---
    ## The experiment                              # and the other HEADINGS, in their order
    … with its config in a yaml block …

    fill("z is {z}, {share:%} of it", {"z": 0.75, "share": 0.4})     # "z is 0.75, 40% of it"

Before "What it shows" nothing is measured yet, so that no numbers stand there. Files named like the lesson (its data)
lie beside the text. No torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nnvis.config import Config, parse_config
from nnvis.config.problems import among
from nnvis.config.yaml_text import read_yaml
from nnvis.errors import InputError
from nnvis.words import number, percent

HEADINGS = ("The experiment", "What to look for", "What it shows", "The claim", "What happens if")
FOLDER = Path(__file__).parent
_PLACE = re.compile(r"\{(\w+)(?::([%\d]))?\}")


@dataclass(frozen=True)
class Lesson:
    """What there is to read before anything is run."""

    number: int  # from 1
    name: str
    title: str
    question: str
    seconds: int
    sections: Mapping[str, str]  # heading -> Markdown
    file: Path

    @property
    def summary(self) -> str:
        """What it is about, and how long it takes, in a line."""
        return f"{self.title}: {self.question} (about {self.seconds} s)"

    @property
    def blocks(self) -> dict[str, str]:
        """What its experiment runs, as it stands in the text, by file name.

        One config is `config.yaml`, of several each goes by its own name; a program is `loop.py`.
        """
        configs, programs = (blocks_of(self.sections["The experiment"], language) for language in ("yaml", "python"))
        alone = len(configs) == 1
        names = ["config" if alone else re.findall(r"^name: (\S+)$", text, re.MULTILINE)[0] for text in configs]
        told = {f"{name}.yaml": text for name, text in zip(names, configs, strict=True)}
        return told | dict(zip(["loop.py"], programs, strict=False))

    @property
    def files(self) -> list[Path]:
        """The data that belong to it."""
        return [path for path in sorted(FOLDER.glob(f"{self.name}.*")) if path.suffix != ".py"]

    def config(self, *overrides: str, of: str = "config") -> Config:
        """Its config, of several that which is called `of`, with `key=value` overrides. Raises ConfigError."""
        return parse_config(self.blocks[f"{of}.yaml"], self.file.name, overrides, folder=FOLDER)


@cache
def lessons() -> tuple[Lesson, ...]:
    """All of them, in their order."""
    return tuple(_read(path) for path in sorted(FOLDER.glob("[0-9][0-9]_*.md")))


def open_lesson(name: str) -> Lesson:
    """A lesson by its name, or by its number. Raises InputError."""
    for lesson in lessons():
        if name in (lesson.name, str(lesson.number), f"{lesson.number:02}"):
            return lesson
    raise InputError(f"nnvis lesson: there is no lesson {name}{among(name, [each.name for each in lessons()])}")


def fill(text: str, numbers: Mapping[str, float]) -> str:
    """The text with `{name}` as people write that number, `{name:5}` in five digits, `{name:%}` as percent of one."""
    return _PLACE.sub(lambda place: _written(numbers[place[1]], place[2]), text)


def names_in(text: str) -> set[str]:
    """The numbers that a text tells."""
    return {place[1] for place in _PLACE.finditer(text)}


def blocks_of(text: str, language: str) -> list[str]:
    """What stands in its fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def pictures_in(text: str) -> list[str]:
    """The files that it shows."""
    return re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)


def _read(path: Path) -> Lesson:
    _, front, text = path.read_text(encoding="utf-8").split("---\n", 2)
    order, _, name = path.stem.partition("_")
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    sections = {heading: body.strip() + "\n" for heading, body in zip(parts[1::2], parts[2::2], strict=True)}
    return Lesson(int(order), name, **read_yaml(front, path.name).data, sections=sections, file=path)


def _written(value: float, how: str | None) -> str:
    if how == "%":
        return percent(value)
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    return number(value, int(how or 3))
