"""All figures of a run, into a folder.

draw_run(run, run.path / "figures")            # learning_curves.png, gradient_flow.png, …
draw_demo(sick, healthy, Path("runs/demo"))    # the two of them on shared axes
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from nnvis.errors import InputError, RunError
from nnvis.figures.architecture import network
from nnvis.figures.curves import learning_curves, learning_curves_compared
from nnvis.figures.distributions import activation_distribution
from nnvis.figures.gradients import gradient_flow
from nnvis.figures.heatmap import QUANTITIES, layer_heatmap
from nnvis.figures.reading import NoData
from nnvis.figures.style import save
from nnvis.figures.updates import update_ratio
from nnvis.record.files import disk_errors
from nnvis.record.run import Run

FIGURES: dict[str, Callable[[Run], Figure]] = {
    "learning_curves": learning_curves,
    "gradient_flow": gradient_flow,
    "update_ratio": update_ratio,
    "activation_distribution": activation_distribution,
    "network": network,
    **{quantity: partial(layer_heatmap, quantity=quantity) for quantity in QUANTITIES},
}
"""What is drawn of a run: file name -> figure."""


def draw_run(run: Run, out: Path, suffix: str = "png") -> list[Path]:
    """Draws what the record has data for; returns the files, the most telling first.

    One figure that fails does not cost the others: raises an ExceptionGroup when all have been tried. A disk that is
    full raises RunError, a folder that cannot be written to InputError.
    """
    return _draw({name: partial(figure, run) for name, figure in FIGURES.items()}, out, suffix)


def draw_demo(first: Run, second: Run, out: Path, suffix: str = "png") -> list[Path]:
    """Draws two runs on shared axes: their gradient flow and their learning curves. Fails like `draw_run`."""
    figures = {
        "gradient_flow": partial(gradient_flow, first, second),
        "learning_curves": partial(learning_curves_compared, first, second),
    }
    return _draw(figures, out, suffix)


def _draw(figures: dict[str, Callable[[], Figure]], out: Path, suffix: str) -> list[Path]:
    files, failures = [], []
    for name, figure in figures.items():
        try:
            with disk_errors(path := out / f"{name}.{suffix}"):
                files.append(save(figure(), path))
        except NoData:
            continue
        except (InputError, RunError):  # the others would not find room either
            raise
        except Exception as error:
            error.add_note(f"while drawing {name}")
            failures.append(error)
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {len(figures)} figures could not be drawn", failures)
    return files
