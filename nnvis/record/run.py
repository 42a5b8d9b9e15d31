"""A run, read back from its directory. Needs no torch, and no end: a run that still trains can be read too.

run = load_run("runs/digits-mlp/1-seed0")
run.scalars["loss/val"].last
run.layers["grad_norm"].values        # (T, L)
run.to_csv("run.csv")
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nnvis.errors import InputError
from nnvis.record import table
from nnvis.record.files import read_findings, read_json, read_yaml
from nnvis.record.reader import EVENT_FILE, EventData, event_files, read_events
from nnvis.record.series import checks, histogram_series, layer_series, network_table, scalar_series
from nnvis.record.vocabulary import Check, Finding, HistogramSeries, LayerInfo, LayerSeries, Series

if TYPE_CHECKING:
    import pandas

STUDY_FILE = "study.yaml"
"""What makes a folder the folder of a study, of several runs: see `nnvis.record.study`."""
T = TypeVar("T")


class Recorded(dict[str, T]):
    """A mapping whose KeyError names what there is."""

    def __missing__(self, name: str) -> T:
        raise KeyError(f"{name!r} was not recorded; there is {', '.join(self) or 'nothing'}{_did_you_mean(name, self)}")


ModelLoader = Callable[[Path, bool], Any]


@dataclass(frozen=True)
class Run:
    """What is known of a run. Mappings are by tag or quantity; asking for an unknown one names those there are."""

    path: Path
    config: dict[str, Any] = field(repr=False)  # config.yaml; {} where no config built the run
    summary: dict[str, Any] = field(repr=False)  # summary.json; {} while the run is not finished
    scalars: Recorded[Series] = field(repr=False)
    layers: Recorded[LayerSeries] = field(repr=False)
    histograms: Recorded[HistogramSeries] = field(repr=False)
    network: tuple[LayerInfo, ...] = field(repr=False)  # in the order in which the layers first ran
    findings: tuple[Finding, ...] = field(repr=False)
    checks: tuple[Check, ...] = field(default=(), repr=False)  # what was measured on fixed rows, for the diagnosis
    damaged: str = ""  # where the log is damaged and what that costs; "" where it is whole
    model_loader: ModelLoader | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """How figures call the run: `digits-mlp/1-seed0`; the folder's name where it is no run of nnvis's own."""
        path = self.path.resolve()
        return f"{path.parent.name}/{path.name}" if re.fullmatch(r"\d+-seed\d+", path.name) else path.name

    @classmethod
    def of_checks(
        cls,
        path: Path,
        checks: Sequence[Check],
        *,
        config: dict[str, Any] | None = None,
        summary: dict[str, Any] | None = None,
    ) -> Run:
        """A run in memory, of which nothing is known but its checks."""
        nothing: tuple[Any, ...] = Recorded(), Recorded(), Recorded(), (), ()
        return cls(path, config or {}, summary or {}, *nothing, checks=tuple(checks))

    def to_frame(self) -> pandas.DataFrame:
        """A long pandas table: step, kind, quantity, layer, value, reason. Raises InputError without pandas."""
        return table.to_frame(self.scalars, self.layers)

    def to_csv(self, path: str | Path) -> None:
        """The same table as a CSV file; an absent value is empty and has its reason beside it."""
        table.to_csv(Path(path), self.scalars, self.layers)

    def load_model(self, *, trust: bool = False) -> Any:
        """The trained `nn.Module`; `trust` allows a class of your own. Raises InputError where no config built it."""
        if not self.config:
            raise InputError(f"{self.path}: no config built this run's model; build it yourself and load its weights")
        if self.model_loader is None:
            raise InputError(f"{self.path}: read without a way to build models; use nnvis.load_run")
        return self.model_loader(self.path, trust)


def load_run(path: str | Path, model_loader: ModelLoader | None = None) -> Run:
    """Reads the run in the directory `path`; `model_loader(path, trust)` builds its model when asked to.

    A tail that is cut off, as in a run that still trains, costs nothing before it. Raises InputError where there
    is no run.
    """
    path = Path(path)
    files = event_files(path)
    if not files or (path / STUDY_FILE).is_file():
        raise InputError(_no_run(path))
    data = EventData({}, 0, "")
    damages = []
    for file in files:
        data = read_events(_read(file), data.series)
        if data.damage:
            damages.append(f"{file.name}: {data.damage}")
    return Run(
        path=path,
        config=read_yaml(path / "config.yaml") if (path / "config.yaml").exists() else {},
        summary=read_json(path / "summary.json") if (path / "summary.json").exists() else {},
        scalars=Recorded(scalar_series(data)),
        layers=Recorded(layer_series(data)),
        histograms=Recorded(histogram_series(data)),
        network=network_table(data),
        findings=read_findings(path / "findings.json") if (path / "findings.json").exists() else (),
        checks=checks(data),
        damaged="; ".join(damages),
        model_loader=model_loader,
    )


def find_runs(path: str | Path) -> list[Path]:
    """The run directories in `path`, itself included, in the order in which people count: 2-seed0 before 10-seed0."""
    found = []
    for folder, inner, files in os.walk(path):
        inner[:] = [name for name in inner if not name.startswith(".")]
        if STUDY_FILE not in files and any(name.startswith(EVENT_FILE) for name in files):
            found.append(Path(folder))
    return sorted(found, key=lambda run: [_natural(part) for part in run.parts])


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(digits or -1), other) for digits, other in re.findall(r"(\d+)|(\D+)", text)]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None


def _no_run(path: Path) -> str:
    if path.is_file():
        return f"{path}: is a file; a run is a directory: try {path.parent}"
    folder = path
    while not folder.is_dir():
        folder = folder.parent
    if folder == Path(folder.anchor):  # `.` or `/`: too much to search
        folder = Path("runs")
    runs = [str(run) for run in find_runs(folder)]
    problem = "no run in it (no events.out.tfevents.* file)" if path.is_dir() else "does not exist"
    problem = "is a study, not a run" if (path / STUDY_FILE).is_file() else problem
    if not runs:
        return f"{path}: {problem}; train one: nnvis train CONFIG"
    shown = ", ".join(runs[:10]) + (f" and {len(runs) - 10} more" if len(runs) > 10 else "")
    return f"{path}: {problem}; the runs in {folder} are {shown}{_did_you_mean(str(path), runs)}"


def _did_you_mean(name: str, choices: Any) -> str:
    close = difflib.get_close_matches(name, list(choices), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
