"""What a lesson's experiment is given, and what it gives back.

def experiment(stage: Stage) -> Numbers:
    run = stage.train("model.activation=tanh", seed=1)       # the config in the lesson's text, trained
    stage.draw("curves", learning_curves(run))               # what the text shows as ![…](curves.png)
    return {"loss": run.scalars["loss/train"].values[-1]}    # what the text calls {loss}

CLAIMS = (Claim("The loss ends at {loss}, below 0.1.", lambda n: n["loss"] < 0.1),)
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console

from nnvis import experiment
from nnvis.config import Config
from nnvis.figures.style import save
from nnvis.lessons.explaining import Explanation, explain
from nnvis.lessons.subject import Subject, open_subject
from nnvis.lessons.tour.text import Lesson
from nnvis.record import Run, load_run
from nnvis.training.divergence import DivergedError
from nnvis.training.progress import Bar, Quiet

Numbers = dict[str, float]
_THREADS = "training.threads=1"  # the networks are small: a second thread costs more than it brings


@dataclass(frozen=True)
class Claim:
    """What a lesson says is so, and whether the numbers measured bear it out."""

    sentence: str  # with {names} of numbers
    holds: Callable[[Numbers], bool]


@dataclass
class Stage:
    """One lesson's place: its config, and its folder for runs and figures."""

    lesson: Lesson
    folder: Path
    console: Console
    pictures: list[Path] = field(default_factory=list)
    _runs: dict[tuple[str, tuple[str, ...], int], Run] = field(default_factory=dict)

    def config(self, *overrides: str, of: str = "config") -> Config:
        """The config of the lesson's text, of several that which is called `of`. Raises ConfigError."""
        return self.lesson.config(*overrides, of=of)

    def train(self, *overrides: str, of: str = "config", seed: int = 0) -> Run:
        """Trains it in `runs` of the lesson's folder; what was trained before in this lesson is not trained again.

        A run that diverges is a result like any other.
        """
        if (of, overrides, seed) not in self._runs:
            config = self.config(_THREADS, *overrides, f"seed={seed}", of=of)
            self.say(f"training {config.name}, seed {seed}" + (f": {' '.join(overrides)}" if overrides else ""))
            self._runs[of, overrides, seed] = self._trained(config)
        return self._runs[of, overrides, seed]

    def open(self, *overrides: str, seed: int = 0) -> Subject:
        """Its network, as training starts it."""
        return open_subject(self.config(*overrides, f"seed={seed}"))

    def explain(self, *overrides: str, sample: int = 0) -> Explanation:
        """One row, forward and backward, with the weights that training starts with."""
        return explain(self.open(*overrides), sample=sample)

    def draw(self, name: str, figure: Figure) -> Path:
        """Saves a figure as NAME.png."""
        self.pictures.append(save(figure, self.folder / f"{name}.png"))
        return self.pictures[-1]

    def say(self, text: str) -> None:
        """A line on what is being done."""
        self.console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)

    def run_of(self, path: str) -> str:
        """A path in the folder; `runs/NAME/1-seedS` becomes the first run of that name and seed trained now."""
        for run in self._runs.values():
            name, seed = run.path.parent.name, run.path.name.partition("-")[2]
            if path == f"runs/{name}/1-{seed}":
                return f"runs/{name}/{run.path.name}"
        return path

    def _trained(self, config: Config) -> Run:
        runs = self.folder / "runs"
        try:
            return experiment.train(config, runs=runs, figures=False, check=False, follow=_bar)
        except DivergedError:
            return load_run(max((runs / config.name).iterdir(), key=lambda run: run.stat().st_mtime_ns))


def _bar(directory: Path, steps: int, first_step: int) -> Quiet:
    """A bar on a terminal, which says nothing else; elsewhere nothing: `Stage.train` has said what is trained."""
    return _Bare(steps, first_step) if sys.stderr.isatty() else Quiet()


class _Bare(Bar):
    def say(self, text: str) -> None:
        pass
