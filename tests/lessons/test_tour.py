"""The lessons: their texts are whole, their experiments bear out what they claim, their pages show it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console

from nnvis import cli
from nnvis.config import load_config
from nnvis.errors import InputError
from nnvis.lessons.tour import Lesson, lessons, open_lesson
from nnvis.lessons.tour.giving import Given, claims_of, give
from nnvis.lessons.tour.text import HEADINGS, blocks_of, fill, names_in, pictures_in

NAMES = [
    "neuron",
    "forward",
    "activations",
    "loss",
    "backpropagation",
    "gradient_descent",
    "batches",
    "initialisation",
    "vanishing",
    "exploding",
    "overfitting",
    "monitoring",
    "applications",
]
QUICK_S = 8  # longer ones are given as a whole with `-m slow`; their numbers have tests of their own
LESSONS = [pytest.param(lesson, id=lesson.name) for lesson in lessons()]
GIVEN = [
    pytest.param(lesson, id=lesson.name, marks=[pytest.mark.slow] if lesson.seconds > QUICK_S else [])
    for lesson in lessons()
]


def commands_of(lesson: Lesson) -> list[str]:
    return [line for block in blocks_of(lesson.sections["What happens if"], "sh") for line in block.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader works."""
    return tmp_path_factory.mktemp("reader")


@cache
def given(name: str, folder: Path) -> Given:
    return give(open_lesson(name), Console(quiet=True), folder / "lessons" / name)


def test_the_lessons_in_their_order() -> None:
    assert [lesson.name for lesson in lessons()] == NAMES
    assert [lesson.number for lesson in lessons()] == sorted({lesson.number for lesson in lessons()})


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_text_is_whole(lesson: Lesson) -> None:
    assert tuple(lesson.sections) == HEADINGS
    assert lesson.question.endswith("?")
    assert 0 < lesson.seconds <= 60
    assert all(lesson.config(of=Path(name).stem).name for name in lesson.blocks if name.endswith(".yaml"))
    assert not any(names_in(lesson.sections[heading]) for heading in HEADINGS[:2])  # nothing is measured yet
    prose = re.sub(r"^```.*?^```$", "", "\n".join(lesson.sections.values()), flags=re.MULTILINE | re.DOTALL)
    assert 300 <= len(prose.split()) <= 650
    assert 2 <= len(pictures_in(prose)) <= 4
    assert claims_of(lesson)


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_commands_of_a_text(lesson: Lesson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are nnvis's; a config and its overrides are ones that can be trained."""
    place = tmp_path / "lessons" / lesson.name
    place.mkdir(parents=True)
    for name, text in lesson.blocks.items():
        (place / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    assert len(commands_of(lesson)) >= 2
    for line in commands_of(lesson):
        program, command, *words = shlex.split(line)
        if program == "python":
            assert Path(command).is_file()
            continue
        assert program == "nnvis"
        assert command in cli.commands()
        if command in ("train", "explain", "check"):
            source, *overrides = [word for word in words if not word.startswith("--")]
            if "/runs/" not in source:
                load_config(source, [word for word in overrides if "=" in word])


@pytest.mark.parametrize("lesson", GIVEN)
def test_what_a_lesson_claims_holds(lesson: Lesson, folder: Path) -> None:
    found = given(lesson.name, folder)
    assert [claim for claim, holds in found.claims if not holds] == []
    told = "\n".join([*lesson.sections.values(), *(claim.sentence for claim in claims_of(lesson))])
    assert names_in(told) == set(found.numbers)  # none unknown, none unused
    assert [picture.name for picture in found.pictures] == pictures_in(told)
    page = found.page.read_text(encoding="utf-8")
    assert page.count('<img src="data:image/png;base64,') == len(found.pictures)
    assert page.count("<figure>") == len(found.pictures)
    assert not re.search(r"(?:src|href)=\"(?!data:)|\{\w+(?::[%\d])?\}", page)


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS)
def test_what_happens_if(lesson: Lesson, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(lesson.name, folder)
    monkeypatch.chdir(folder)
    for line in commands_of(lesson):
        program, *words = shlex.split(line)
        if program == "python":
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            continue
        one = ["seeds=1"] if words[0] == "compare" else []  # what studies say is held by tests of their own
        assert cli.main([*words, *one]) in (cli.DONE, cli.FINDINGS), line


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lesson"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[1] for row in rows] == NAMES
    assert " ".join(rows[0].split()) == "1 neuron One neuron: What does a neuron compute? (about 2 s)"


def test_a_lesson_by_the_command_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["lesson", "neuron"]) == 0
    out, _ = capsys.readouterr()
    assert out.splitlines()[-1] == "lessons/neuron/index.html"
    assert "- **holds**: z = 0.3 · 1.0 + 0.7 · 0.5 + 0.1 = 0.75, and a = σ(0.75) = 0.68." in out
    assert "Picture: lessons/neuron/neuron.png" in out
    left = {path.name for path in Path("lessons/neuron").iterdir()}
    assert left == {".nnvis-lesson", "config.yaml", "index.html", "neuron.csv", "neuron.png", "plane.png"}
    Path("lessons/neuron/config.yaml").write_text("mine")
    assert cli.main(["lesson", "1"]) == 0  # again, by its number; what has been edited stays
    assert Path("lessons/neuron/config.yaml").read_text() == "mine"
    kept = "lessons/neuron/config.yaml is not as this lesson has it, and stays as it is"
    assert kept in capsys.readouterr().out
    assert cli.main(["lesson", "neuron", "--out", "an other"]) == 0
    out, _ = capsys.readouterr()
    assert "nnvis train 'an other/config.yaml'" in out
    assert "stays as it is" not in out


def test_commands_name_the_run_of_this_time(tmp_path: Path) -> None:
    """Also after an interrupted one, which has left its run behind."""
    (tmp_path / "runs" / "forward" / "1-seed0").mkdir(parents=True)
    (tmp_path / ".nnvis-lesson").write_text("forward")
    found = give(open_lesson("forward"), Console(quiet=True), tmp_path)
    assert f"nnvis explain {tmp_path}/runs/forward/2-seed0 --sample 0" in found.sections["What happens if"]


def test_a_lesson_that_does_not_hold_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nnvis.lessons.tour import neuron

    first, *rest = neuron.CLAIMS
    monkeypatch.setattr(neuron, "CLAIMS", (replace(first, holds=lambda n: n["z"] > 1), *rest))
    assert cli.main(["lesson", "neuron", "--out", str(tmp_path / "out")]) == 1
    assert "- **does not hold**: z = " in capsys.readouterr().out
    assert '<li class="does-not-hold">' in (tmp_path / "out" / "index.html").read_text()


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'there is no lesson neurone; choices: neuron.*; did you mean "neuron"'):
        open_lesson("neurone")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "index.html").write_text("mine")
    for taken in (mine, mine / "index.html"):
        with pytest.raises(InputError, match="choose a"):
            give(open_lesson("neuron"), Console(quiet=True), taken)
    assert [path.name for path in mine.iterdir()] == ["index.html"]


def test_numbers_in_a_text() -> None:
    numbers = {"a": 0.123456, "b": 12_000, "c": 3e-9}
    assert fill("{a} {a:5} {a:%} {b} {c} {kind: moons}", numbers) == "0.123 0.12346 12.3% 12,000 3×10⁻⁹ {kind: moons}"
    assert names_in("{a} {b:%} {kind: moons}") == {"a", "b"}
    with pytest.raises(KeyError):
        fill("{d}", numbers)


def test_the_list_needs_no_torch() -> None:
    code = "import sys; from nnvis.lessons.tour import lessons; print(len(lessons()), 'torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == f"{len(NAMES)} False\n"
