"""What people see while a study trains: a table on a terminal, a line for each run that ends elsewhere.

    with board_for(variants, seeds, done, quiet=False) as board:
        board.tell(event)

Everything goes to stderr, so that a command's result stays alone on stdout.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nnvis.record.files import read_findings, read_json
from nnvis.studies.events import Ended, Event, Progress, Said

_REDRAW_S = 0.25
_STYLES = {"diverged": "magenta", "failed": "bold red", "interrupted": "yellow"}

Key = tuple[str, int]  # variant, seed


class Quiet(AbstractContextManager["Quiet"]):
    """Says nothing but warnings."""

    def __exit__(self, *exception: object) -> None:
        pass

    def tell(self, event: Event) -> None:
        """Something has happened."""
        if isinstance(event, Said):
            self.say(f"{_name(event.key)}: {event.text}")

    def say(self, text: str) -> None:
        """A line that stays."""
        print(text, file=sys.stderr, flush=True)


class Lines(Quiet):
    """A line for each run that ends."""

    def __init__(self, total: int, done: int) -> None:
        self._total, self._ended = total, done

    def tell(self, event: Event) -> None:
        super().tell(event)
        if isinstance(event, Ended):
            self._ended += 1
            self.say(f"[{self._ended}/{self._total}] {account_of(event)}")


class Board(Quiet):
    """A row for each variant, a column for each seed; and what was found in how many of its runs."""

    def __init__(
        self, variants: Sequence[str], seeds: Sequence[int], done: Mapping[Key, Path], console: Console | None = None
    ) -> None:
        self._variants, self._seeds = variants, seeds
        self._events: dict[Key, Event] = {}
        self._symptoms: dict[Key, Collection[str]] = {}
        self._summaries: dict[Key, Mapping[str, Any]] = {}
        for key, run in done.items():
            self._end(Ended(*key, _summary(run).get("status", ""), run))
        self._trained, self._began_s, self._drawn_s = 0, time.perf_counter(), 0.0
        self._live = Live(console=console or Console(stderr=True), auto_refresh=False, get_renderable=self.table)

    def __enter__(self) -> Board:
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()  # draws it once more

    def say(self, text: str) -> None:
        self._live.console.print(Text(text))

    def tell(self, event: Event) -> None:
        super().tell(event)
        if isinstance(event, Ended):
            self._end(event)
            self._trained += 1
        elif isinstance(event, Progress):
            self._events[event.key] = event
            self._symptoms[event.key] = [event.symptom] if event.symptom else []
        now = time.perf_counter()
        if now - self._drawn_s >= _REDRAW_S:
            self._drawn_s = now
            self._live.refresh()

    def table(self) -> Table:
        """As it stands."""
        ended = sum(isinstance(event, Ended) for event in self._events.values())
        seconds = round(time.perf_counter() - self._began_s)
        table = Table(
            box=None,
            pad_edge=False,
            padding=(0, 2, 0, 0),
            caption_justify="left",
            caption=f"{ended} of {len(self._variants) * len(self._seeds)} runs, {seconds // 60}m {seconds % 60:02d}s",
        )
        table.add_column("", no_wrap=True)
        for seed in self._seeds:
            table.add_column(f"seed {seed}", no_wrap=True)
        table.add_column("found", no_wrap=True)
        for variant in self._variants:
            cells = [self._cell((variant, seed)) for seed in self._seeds]
            table.add_row(Text(variant), *cells, Text(self._found(variant)))
        return table

    def _end(self, event: Ended) -> None:
        self._events[event.key] = event
        self._summaries[event.key] = _summary(event.run)
        self._symptoms[event.key] = _symptoms(event.run)

    def _cell(self, key: Key) -> Text:
        match self._events.get(key):
            case Progress(step=step, total_steps=total, loss=loss):
                return Text(f"{step / total:4.0%} {loss:.3g}", style="cyan")
            case Ended(status=status):
                val = self._summaries[key].get("metrics", {}).get("val", {})
                text = status if status in _STYLES else _metrics(val, short=True) or status
                return Text(text, style=_STYLES.get(status, "green"))
        return Text("·", style="dim")

    def _found(self, variant: str) -> str:
        """`vanishing_gradients 5`: in how many of its runs."""
        count = Counter(symptom for seed in self._seeds for symptom in self._symptoms.get((variant, seed), ()))
        return ", ".join(f"{symptom} {number}" for symptom, number in count.most_common())


def board_for(variants: Sequence[str], seeds: Sequence[int], done: Mapping[Key, Path], *, quiet: bool) -> Quiet:
    """The table if stderr is a terminal, lines if not. `done`: the runs that there are already."""
    if quiet:
        return Quiet()
    return Board(variants, seeds, done) if sys.stderr.isatty() else Lines(len(variants) * len(seeds), len(done))


def account_of(event: Ended) -> str:
    """`relu_he, seed 3: completed in 12 s, val loss 0.31, val accuracy 91.2%; dead_units`"""
    summary = _summary(event.run)
    took = f" in {summary['seconds']:.3g} s" if "seconds" in summary else ""
    metrics = _metrics(summary.get("metrics", {}).get("val", {}))
    found = ", ".join(_symptoms(event.run))
    text = ", ".join(filter(None, [f"{_name(event.key)}: {event.status}{took}", metrics]))
    reason = event.reason if event.status == "failed" else ""
    return "; ".join(filter(None, [text, found, reason]))


def _name(key: Key) -> str:
    return f"{key[0]}, seed {key[1]}"


def _summary(run: Path | None) -> dict[str, Any]:
    return read_json(run / "summary.json") if run and (run / "summary.json").exists() else {}


def _symptoms(run: Path | None) -> list[str]:
    """What was found in a run and is no mere remark, without repetition."""
    file = run / "findings.json" if run else None
    findings = read_findings(file) if file and file.exists() else ()
    return list(dict.fromkeys(finding.symptom for finding in findings if finding.severity != "info"))


def _metrics(values: Mapping[str, float | None], *, short: bool = False) -> str:
    """`val loss 0.31, val accuracy 91.2%`; `short`: the one that people ask for first, without its name."""
    texts = {
        name: "not finite" if value is None else f"{value:.1%}" if name == "accuracy" else f"{value:.3g}"
        for name, value in values.items()
    }
    if short:
        return texts.get("accuracy", texts.get("loss", ""))
    return ", ".join(f"val {name} {text}" for name, text in texts.items())
