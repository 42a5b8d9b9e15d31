"""A lesson is given: told in the terminal, its experiment run, its claims held against the numbers, its page written.

given = give(open_lesson("neuron"), Console(), Path("lessons/neuron"))
given.holds, given.page
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from nnvis.errors import InputError
from nnvis.lessons.tour.page import page_of
from nnvis.lessons.tour.stage import Claim, Numbers, Stage
from nnvis.lessons.tour.text import HEADINGS, Lesson, fill, lessons
from nnvis.training.devices import cpu_threads

_MARK = ".nnvis-lesson"  # a file that says whose the folder is


@dataclass(frozen=True)
class Given:
    """What came of a lesson."""

    numbers: Numbers
    claims: tuple[tuple[str, bool], ...]  # each with whether it holds
    sections: dict[str, str]  # heading -> Markdown with the numbers
    pictures: tuple[Path, ...]
    page: Path

    @property
    def holds(self) -> bool:
        """Whether all of its claims do."""
        return all(holds for _, holds in self.claims)


def give(lesson: Lesson, console: Console, folder: Path) -> Given:
    """Gives a lesson, and leaves its page, pictures, config and runs in a folder.

    Raises InputError where the folder holds somebody's files that are not this lesson's.
    """
    kept = _prepare(folder, lesson)
    _tell(console, f"# Lesson {lesson.number}: {lesson.title}\n\n*{lesson.question}*\n")
    for heading in HEADINGS[:2]:
        _tell(console, _section(heading, lesson.sections[heading]))
    stage = Stage(lesson, folder, console)
    for file in kept:
        stage.say(f"{file} is not as this lesson has it, and stays as it is; the lesson runs what its text shows")
    numbers = measured(stage)
    claims = tuple((fill(claim.sentence, numbers), bool(claim.holds(numbers))) for claim in claims_of(lesson))
    sections = {heading: _at(stage, fill(lesson.sections[heading], numbers)) for heading in HEADINGS}
    for heading in HEADINGS[2:]:
        told = sections[heading] + (_verdicts(claims) if heading == "The claim" else "")
        _tell(console, _section(heading, _without_pictures(told, folder)))
    page = folder / "index.html"
    page.write_text(page_of(lesson, sections, claims, folder, len(lessons())), encoding="utf-8")
    return Given(numbers, claims, sections, tuple(stage.pictures), page)


def measured(stage: Stage) -> Numbers:
    """Runs a lesson's experiment, in one thread: its networks are small."""
    with cpu_threads(1):
        return import_module(f"nnvis.lessons.tour.{stage.lesson.name}").experiment(stage)


def claims_of(lesson: Lesson) -> tuple[Claim, ...]:
    """What it claims."""
    return import_module(f"nnvis.lessons.tour.{lesson.name}").CLAIMS


def _prepare(folder: Path, lesson: Lesson) -> list[Path]:
    """Makes the folder, with the lesson's config and data in it; files that the user has changed there, which stay."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; choose a folder: --out DIR")
    mark = folder / _MARK
    theirs = folder.exists() and any(folder.iterdir())
    if theirs and not (mark.is_file() and mark.read_text(encoding="utf-8") == lesson.name):
        raise InputError(f"{folder}: holds files that are not of the lesson {lesson.name}; choose another: --out DIR")
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(lesson.name, encoding="utf-8")
    contents = {name: text.encode() for name, text in lesson.blocks.items()}
    contents |= {file.name: file.read_bytes() for file in lesson.files}
    for name, content in contents.items():
        if not (folder / name).exists():
            (folder / name).write_bytes(content)
    return [folder / name for name, content in contents.items() if (folder / name).read_bytes() != content]


def _section(heading: str, text: str) -> str:
    return f"## {heading}\n\n{text}"


def _verdicts(claims: tuple[tuple[str, bool], ...]) -> str:
    """The claims as a list."""
    return "\n" + "".join(f"- **{'holds' if holds else 'does not hold'}**: {claim}\n" for claim, holds in claims)


def _at(stage: Stage, text: str) -> str:
    """The text with the lesson's own folder in its commands, and in it the runs of this time."""
    place = re.compile(rf"lessons/{stage.lesson.name}/([\w./-]*)")
    return place.sub(lambda it: shlex.quote(f"{stage.folder}/{stage.run_of(it[1])}"), text)


def _without_pictures(text: str, folder: Path) -> str:
    """The text with the places of the pictures: a terminal shows none."""
    return re.sub(r"!\[([^]]*)\]\(([^)]+)\)", lambda it: f"{it[1]} Picture: {folder / it[2]}", text)


def _tell(console: Console, text: str) -> None:
    """Markdown, set on a terminal, as it is elsewhere."""
    if console.is_terminal:
        console.print(Markdown(text))
        console.print()
    else:
        console.print(text, markup=False, highlight=False, soft_wrap=True)
