"""Pictures of a record: each function takes a run (or several) and returns a matplotlib Figure.

    figure = gradient_flow(run)
    save(figure, "gradient_flow.svg")
    draw_run(run, folder)                # all that the record has data for
    draw_study(study, folder)            # of a study, each figure with its numbers as CSV

Nothing here trains, opens a window or imports torch; matplotlib is imported when a figure is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnvis.figures.architecture import network
    from nnvis.figures.curves import learning_curves, learning_curves_compared
    from nnvis.figures.distributions import activation_distribution
    from nnvis.figures.findings import draw_finding, draw_findings, finding_figure
    from nnvis.figures.gallery import draw_demo, draw_run
    from nnvis.figures.gradients import gradient_flow
    from nnvis.figures.heatmap import layer_heatmap
    from nnvis.figures.reading import NoData
    from nnvis.figures.studying import draw_study
    from nnvis.figures.style import save
    from nnvis.figures.twins import twin
    from nnvis.figures.updates import update_ratio

_HOMES = {
    "NoData": "reading",
    "activation_distribution": "distributions",
    "draw_demo": "gallery",
    "draw_finding": "findings",
    "draw_findings": "findings",
    "draw_run": "gallery",
    "draw_study": "studying",
    "finding_figure": "findings",
    "gradient_flow": "gradients",
    "layer_heatmap": "heatmap",
    "learning_curves": "curves",
    "learning_curves_compared": "curves",
    "network": "architecture",
    "save": "style",
    "twin": "twins",
    "update_ratio": "updates",
}

__all__ = [
    "NoData",
    "activation_distribution",
    "draw_demo",
    "draw_finding",
    "draw_findings",
    "draw_run",
    "draw_study",
    "finding_figure",
    "gradient_flow",
    "layer_heatmap",
    "learning_curves",
    "learning_curves_compared",
    "network",
    "save",
    "twin",
    "update_ratio",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
