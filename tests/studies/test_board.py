"""What people see while a study trains."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from nnvis.record import Finding, write_findings, write_json
from nnvis.studies.board import Board, Lines, Quiet, board_for
from nnvis.studies.events import Ended, Progress, Said


def made_up_run(folder: Path, status: str, symptoms: dict[str, str], **metrics: float) -> Path:
    folder.mkdir()
    by_split = {"val": metrics} if metrics else {}
    write_json(folder / "summary.json", {"status": status, "seconds": 12.3456, "metrics": by_split})
    findings = [
        Finding(symptom, severity, ("linear1",), 3, 0.5, 0.1, "so and so", (), "", ())  # type: ignore[arg-type]
        for symptom, severity in symptoms.items()
    ]
    write_findings(folder, findings)
    return folder


@pytest.fixture
def events(tmp_path: Path) -> list[Ended]:
    good = made_up_run(tmp_path / "good", "completed", {"dead_units": "warning"}, loss=0.3123, accuracy=0.9123)
    wild = made_up_run(tmp_path / "wild", "diverged", {"nonfinite_values": "error", "overfitting": "info"})
    return [
        Ended("relu", 0, "completed", good),
        Ended("wild", 0, "diverged", wild, "diverged at step 3: the loss is nan"),
        Ended("wild", 1, "failed", None, "its process was killed (SIGKILL)"),
    ]


def test_a_line_for_each_run_that_ends(events: list[Ended], capsys: pytest.CaptureFixture[str]) -> None:
    with Lines(total=6, done=2) as board:
        board.tell(Progress("relu", 0, 3, 9, 0.5, ""))
        for event in events:
            board.tell(event)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "[3/6] relu, seed 0: completed in 12.3 s, val loss 0.312, val accuracy 91.2%; dead_units",
        "[4/6] wild, seed 0: diverged in 12.3 s; nonfinite_values",
        "[5/6] wild, seed 1: failed; its process was killed (SIGKILL)",
    ]


def test_quiet_tells_warnings_alone(events: list[Ended], capsys: pytest.CaptureFixture[str]) -> None:
    with board_for(["relu"], [0], {}, quiet=True) as board:
        board.tell(events[0])
        board.tell(Said("relu", 0, "the disk is slow"))
    assert type(board) is Quiet
    assert capsys.readouterr() == ("", "relu, seed 0: the disk is slow\n")


def test_the_table_shows_variants_seeds_progress_loss_and_findings(events: list[Ended]) -> None:
    done, wild, failed = events
    assert done.run
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    board = Board(["relu", "wild"], [0, 1, 2], {("relu", 0): done.run}, console)
    for event in (wild, failed, Progress("relu", 1, 30, 120, 0.71234, "vanishing_gradients")):
        board.tell(event)
    console.print(board.table())
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    rows = [line.split() for line in drawn.splitlines() if line.strip()]
    assert rows[-4:] == [
        ["seed", "0", "seed", "1", "seed", "2", "found"],
        ["relu", "91.2%", "25%", "0.712", "·", "dead_units", "1,", "vanishing_gradients", "1"],
        ["wild", "diverged", "failed", "·", "nonfinite_values", "1"],
        ["3", "of", "6", "runs,", "0m", "00s"],
    ]


def test_warnings_stand_above_the_table() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with Board(["relu"], [0], {}, console) as board:
        board.tell(Said("relu", 0, "the disk is slow"))
    assert "relu, seed 0: the disk is slow" in console.file.getvalue()  # type: ignore[attr-defined]


def test_runs_that_there_were_are_in_the_table(events: list[Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    run = events[0].run
    assert run
    board = board_for(["relu"], [0], {("relu", 0): run}, quiet=False)
    assert isinstance(board, Board)
    assert "1 of 1 runs" in str(board.table().caption)
