"""What all figures of a study share: how a variant looks, what its seeds say together, what is said of them.

look = looks(study)["sigmoid"]              # colour, marker and dash: the same in every figure of the study
ax.plot(x, middle, **look.line)
middle, low, high = spread(values)          # (S, N) of the seeds -> median, smallest, largest, (N,) each
return StudyFigure(fig, COLUMNS, rows)      # from a function under @drawn_study
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nnvis.figures.reading import NoData
from nnvis.figures.style import STYLE, VARIANTS
from nnvis.figures.words import listing, plural
from nnvis.record.run import Run
from nnvis.record.study import Study
from nnvis.record.vocabulary import FloatArray

_MARKERS, _GLYPHS = "osD^vPX", "●■◆▲▼✚✖"
_DASHES = ("solid", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (2, 1)))


@dataclass(frozen=True)
class StudyFigure:
    """A picture of a study, and the numbers in it."""

    figure: Figure
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]  # exactly what is drawn


class NothingToDraw(NoData):
    """The study has no data for this figure; the message says which."""


class Look(NamedTuple):
    """How a variant is told apart: by colour, and by marker and dash where there is no colour."""

    colour: str
    marker: str
    glyph: str  # the marker, to be written in text
    dash: Any

    @property
    def line(self) -> dict[str, Any]:
        """Keywords for `ax.plot`."""
        return {"color": self.colour, "marker": self.marker, "linestyle": self.dash}


def looks(study: Study) -> dict[str, Look]:
    """The look of each variant, by its place in the study: no two alike, up to 42 of them."""
    return {
        name: Look(
            VARIANTS[i % len(VARIANTS)],
            _MARKERS[i % len(_MARKERS)],
            _GLYPHS[i % len(_GLYPHS)],
            _DASHES[i % len(_DASHES)],
        )
        for i, name in enumerate(study.variants)
    }


def drawn_study(draw: Callable[[Study], StudyFigure]) -> Callable[[Study], StudyFigure]:
    """Draws with nnvis's style, whatever the user's own matplotlib settings are (`style.drawn` for studies)."""

    @wraps(draw)
    def styled(study: Study) -> StudyFigure:
        with matplotlib.style.context(STYLE, after_reset=True), np.errstate(over="ignore"):
            drawing = draw(study)
        drawing.figure.set_layout_engine("none")
        return drawing

    return styled


def spread(values: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(N,) median, smallest and largest over the seeds (S, N), of what is finite; where nothing is, that itself."""
    values = np.asarray(values, dtype=float)
    finite = np.isfinite(values)
    known = np.where(finite, values, np.nan)
    middle = values[0].copy()
    low, high = np.full(len(middle), np.nan), np.full(len(middle), np.nan)
    some = finite.any(axis=0)
    middle[some] = np.nanmedian(known[:, some], axis=0)
    low[some], high[some] = np.nanmin(known[:, some], axis=0), np.nanmax(known[:, some], axis=0)
    return middle, low, high


def diverged(run: Run) -> bool:
    """Whether the run ended because its loss was NaN or Inf."""
    return run.summary.get("status") == "diverged"


def about_seeds(study: Study, shown: Sequence[str] | None = None, spread: str = "shaded", *, rest: bool = True) -> str:
    """The last words of a caption: `Median of 5 seeds, shaded: their range. Diverged: sigmoid 2 of 5.`

    `shown` are the variants that are drawn, if not all; with `rest`, the others are named. `spread` is what their
    range looks like, "" where it is not drawn.
    """
    shown = study.variants if shown is None else shown
    counts = sorted({len(study.runs[variant]) for variant in shown})
    if counts == [1]:
        told = ["One seed: no spread."]
    else:
        many = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
        told = [f"Median of {many} seeds{f', {spread}: their range' if spread else ''}."]
    broken = {variant: sum(map(diverged, study.runs[variant].values())) for variant in shown}
    if any(broken.values()):
        each = [f"{variant} {n} of {len(study.runs[variant])}" for variant, n in broken.items() if n]
        told.append(f"Diverged: {listing(each, most=6)}.")
    if missing := [variant for variant, _ in study.missing if variant in shown]:
        told.append(f"{plural(len(missing), 'run')} missing ({listing(dict.fromkeys(missing), most=6)}).")
    if rest and (others := [variant for variant in study.variants if variant not in shown]):
        told.append(f"Not shown: {listing(others, most=6)}.")
    return " ".join(told)
