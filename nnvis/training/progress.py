"""What people see while a network trains: a bar on a terminal, about twenty lines elsewhere, nothing if quiet.

    with progress_for(quiet=False, total_steps=690) as progress:
        progress.say("digits-mlp: 1,437 rows")
        progress.step(10, loss)                                   # after every step: cheap
        progress.epoch(10, {"loss/epoch": 0.4, "loss/val": 0.5})  # after every evaluation

Everything goes to stderr, so that a command's result stays alone on stdout. Who trains many runs gives
`nnvis.experiment.train` a `follow` that makes its own.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn, track
from rich.text import Text

_REDRAW_S = 0.25  # a redraw costs about 2 ms
_LINES = 20
T = TypeVar("T")
_VAL = {"loss/val": ".4g", "accuracy/val": ".1%"}


class Quiet(AbstractContextManager["Quiet"]):
    """Says nothing; what the others say is what they override."""

    def __exit__(self, *exception: object) -> None:
        pass

    def say(self, text: str) -> None:
        """A line that stays."""

    def step(self, step: int, loss: float) -> None:
        """So many steps are done, the last one with this loss."""

    def epoch(self, step: int, scalars: Mapping[str, float]) -> None:
        """An evaluation after so many steps."""

    def found(self, symptom: str, text: str) -> None:
        """A finding has become certain; `text` says all of it."""
        self.say(text)


Follow = Callable[[Path, int, int], Quiet]
"""(run's directory, its steps in all, the step it begins with) -> what is told of the run."""


class Lines(Quiet):
    """Plain lines, spread evenly over the run."""

    def __init__(self, total_steps: int, first_step: int = 0) -> None:
        self._total = total_steps
        self._started, self._first_step = time.perf_counter(), first_step
        self._next_step = first_step
        self._unsaid = ""

    def __exit__(self, *exception: object) -> None:
        if self._unsaid:
            self.say(self._unsaid)

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def epoch(self, step: int, scalars: Mapping[str, float]) -> None:
        self._unsaid = f"step {step:,}/{self._total:,}  {_metrics(scalars)}  {self._rate(step)}"
        if step >= self._next_step:
            self.say(self._unsaid)
            self._unsaid = ""
            self._next_step = step + math.ceil(self._total / _LINES)

    def _rate(self, step: int) -> str:
        rate = (step - self._first_step) / (time.perf_counter() - self._started)
        left_s = (self._total - step) / rate if rate else math.inf
        return f"{rate:,.0f} steps/s" + (f", {_duration(left_s)} left" if step < self._total else "")


class Bar(Quiet):
    """A bar that is redrawn four times a second at most."""

    def __init__(self, total_steps: int, first_step: int = 0, console: Console | None = None) -> None:
        self._progress = Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TextColumn("{task.fields[metrics]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            console=console or Console(stderr=True),
            auto_refresh=False,
        )
        self._task = self._progress.add_task("", total=total_steps, completed=first_step, metrics="", rate="")
        self._evaluation: Mapping[str, float] = {}
        self._drawn, self._drawn_step = time.perf_counter(), first_step

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.refresh()
        self._progress.stop()

    def say(self, text: str) -> None:
        self._progress.console.print(Text(text))

    def step(self, step: int, loss: float) -> None:
        now = time.perf_counter()
        if now - self._drawn < _REDRAW_S:
            return
        rate = f"{(step - self._drawn_step) / (now - self._drawn):,.0f} steps/s"
        self._drawn, self._drawn_step = now, step
        self._progress.update(self._task, completed=step, metrics=self._metrics(loss), rate=rate, refresh=True)

    def epoch(self, step: int, scalars: Mapping[str, float]) -> None:
        self._evaluation = scalars
        self._progress.update(self._task, completed=step, metrics=self._metrics(scalars["loss/epoch"]))

    def _metrics(self, loss: float) -> str:
        """`loss 0.41  val 0.5, 91.2%`: a terminal may be 80 columns wide."""
        val = [format(self._evaluation[tag], spec) for tag, spec in _VAL.items() if tag in self._evaluation]
        return f"loss {loss:.4g}" + ("  val " + ", ".join(val) if val else "")


def progress_for(*, quiet: bool, total_steps: int, first_step: int = 0) -> Quiet:
    """The bar if stderr is a terminal, lines if not."""
    if quiet:
        return Quiet()
    return Bar(total_steps, first_step) if sys.stderr.isatty() else Lines(total_steps, first_step)


def counted(items: Sequence[T], doing: str) -> Iterator[T]:
    """The items one by one: a bar if stderr is a terminal, a line at each quarter if not."""
    if sys.stderr.isatty():
        yield from track(items, doing, console=Console(stderr=True))
        return
    for i, item in enumerate(items, 1):
        yield item
        if 4 * i // len(items) > 4 * (i - 1) // len(items):
            print(f"{doing} {i}/{len(items)}", file=sys.stderr, flush=True)


def _metrics(scalars: Mapping[str, float]) -> str:
    """`loss 0.41, val loss 0.5, val accuracy 91.2%`"""
    words = {"loss/epoch": "loss", "accuracy/epoch": "accuracy", "loss/val": "val loss", "accuracy/val": "val accuracy"}
    return ", ".join(
        f"{words[tag]} " + (f"{value:.1%}" if tag.startswith("accuracy") else f"{value:.4g}")
        for tag, value in scalars.items()
        if tag in words
    )


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "unknown time"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m" if hours else f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"
