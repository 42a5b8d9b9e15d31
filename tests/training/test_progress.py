"""What people see: a bar on a terminal, a few lines elsewhere, nothing if quiet."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from nnvis.training import progress
from nnvis.training.progress import Bar, Lines, counted, progress_for

EPOCH = {"loss/epoch": 0.5, "accuracy/epoch": 0.75, "loss/val": 0.61234, "generalization_gap": 0.1}


@pytest.mark.parametrize(("epochs", "lines"), [(1, 1), (5, 5), (20, 20), (1000, 20)])
def test_lines_are_few_and_end_with_the_last(epochs: int, lines: int, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_for(quiet=False, total_steps=epochs * 10) as shown:
        for epoch in range(epochs):
            shown.step(epoch * 10 + 5, 0.5)
            shown.epoch(epoch * 10 + 10, EPOCH)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert lines <= len(printed.err.splitlines()) <= lines + 2
    assert printed.err.splitlines()[-1].startswith(f"step {epochs * 10:,}/{epochs * 10:,}  loss 0.5, accuracy 75.0%, ")
    assert "val loss 0.6123" in printed.err


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_for(quiet=True, total_steps=10) as shown:
        shown.say("hello")
        shown.epoch(10, EPOCH)
    assert capsys.readouterr() == ("", "")


def test_lines_tell_the_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now)
    with Lines(1000, first_step=100) as shown:
        now += 9
        shown.epoch(190, EPOCH)
    assert "10 steps/s, 1m 21s left" in capsys.readouterr().err


def test_the_bar_shows_loss_validation_rate_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now)
    terminal = io.StringIO()
    with Bar(1000, console=Console(file=terminal, force_terminal=True, width=120)) as shown:
        shown.say("started")
        shown.epoch(100, EPOCH)
        redraws = []
        for step in range(101, 200):
            before = len(terminal.getvalue())
            now += 0.01
            shown.step(step, 0.25)
            redraws.append(len(terminal.getvalue()) > before)
    assert sum(redraws) == 3  # four times a second at most
    assert all(part in terminal.getvalue() for part in ("started", "loss 0.25  val 0.6123", "100 steps/s"))


@pytest.mark.parametrize(("items", "told"), [(1, [1]), (3, [1, 2, 3]), (100, [25, 50, 75, 100])])
def test_items_are_counted_at_each_quarter(items: int, told: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    assert list(counted(range(items), "drawing frame")) == list(range(items))
    assert capsys.readouterr().err.splitlines() == [f"drawing frame {i}/{items}" for i in told]
