"""The demonstration: a deep network that does not learn, its twin that does, and the pictures that show why.

    print(run_demo("runs"))

Both are the shipped config `vanishing_sigmoid`; the twin differs in its activation and initialisation.
"""

from __future__ import annotations

import sys
from pathlib import Path
from shutil import which

from nnvis import experiment
from nnvis.figures import draw_demo
from nnvis.figures.facts import first_to_last
from nnvis.record import Run

CONFIG = "vanishing_sigmoid"
SIGMOID = ["name=sigmoid"]
RELU = ["name=relu", "model.activation=relu", "model.init=kaiming_uniform"]
BOTH = ["training.threads=1"]  # its matrices are small: a second thread costs more than it brings


def run_demo(runs: str | Path = "runs") -> str:
    """Train both under `runs`/demo, draw them, and return what the pictures show, where they are, what to do next."""
    folder = Path(runs) / "demo"
    sigmoid, relu = (
        experiment.train(CONFIG, [*overrides, *BOTH], runs=folder, figures=False) for overrides in (SIGMOID, RELU)
    )
    pictures = draw_demo(sigmoid, relu, folder)
    return "\n".join(
        [
            f"The sigmoid network is starved: {_measured(sigmoid)}.",
            f"Its twin, alike but for ReLU and He initialisation, is not: {_measured(relu)}.",
            "",
            "Pictures:",
            *(f"  {picture}" for picture in pictures),
            f"Every layer, step by step, live: {_tensorboard()} --logdir {runs}",
        ]
    )


def _tensorboard() -> str:
    """How to call the TensorBoard of this environment from here, even where the environment is not activated."""
    beside_python = Path(sys.executable).with_name("tensorboard")
    if which("tensorboard") or not beside_python.exists():
        return "tensorboard"
    return str(beside_python.relative_to(Path.cwd()) if beside_python.is_relative_to(Path.cwd()) else beside_python)


def _measured(run: Run) -> str:
    norms = run.layers["grad_norm"]
    ratio = first_to_last(norms.values[0][norms.present[0]])
    accuracy, epochs = run.summary["metrics"]["val"]["accuracy"], run.summary["epochs"]
    return (
        f"at the start its first layer gets {ratio:.2g} of the last layer's gradient, "
        f"and after {epochs} epochs it reads {accuracy:.0%} of the validation digits (guessing: 10%)"
    )
