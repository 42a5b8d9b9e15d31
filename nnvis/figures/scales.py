"""Log axes that do not hide the disease: limits from the data, and a place of its own for what has no logarithm.

kinds = value_kinds(values, present)        # ORDINARY, ZERO, NAN, INF, ABSENT
strips = Strips(ax, values, present, rows=3)  # sets the log axis, with room below for 0, above for NaN and Inf
strips.mark(x, kinds, colour="k")
arrange(fig, ends={ax: strips.names()})        # names the symbols in use, beside them
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter, NullLocator
from numpy.typing import ArrayLike

from nnvis.figures.labels import EndLabel
from nnvis.figures.style import INK
from nnvis.figures.words import number, power
from nnvis.record.vocabulary import BoolArray, FloatArray, IntArray

ORDINARY, ZERO, NAN, INF, ABSENT = range(5)
NAMES = {ZERO: "exactly 0", NAN: "NaN", INF: "Inf", ABSENT: "not measured"}
COLOURS = {ZERO: "#000000", NAN: "#D55E00", INF: "#E78AC3", ABSENT: "#DDDDDD"}
SYMBOLS = {ZERO: "v", NAN: "x", INF: "^", ABSENT: "_"}
GLYPHS = {ZERO: "▽", NAN: "×", INF: "△", ABSENT: "–"}
_BELOW = (ZERO, ABSENT)


def value_kinds(values: ArrayLike, present: BoolArray | None = None) -> IntArray:
    """What each value is: ORDINARY (finite, not 0), ZERO, NAN, INF, or ABSENT where not `present`."""
    values = np.asarray(values, dtype=float)
    kinds = np.full(values.shape, ORDINARY)
    kinds[values == 0] = ZERO
    kinds[np.isnan(values)] = NAN
    kinds[np.isinf(values)] = INF
    if present is not None:
        kinds[~present] = ABSENT
    return kinds


def log_limits(values: ArrayLike, least: float = 1.0) -> tuple[float, float]:
    """log10 of the smallest and largest positive finite value, moved apart to span `least` decades; (-1, 0) of none."""
    values = np.asarray(values, dtype=float)
    logs = np.log10(values[np.isfinite(values) & (values > 0)])
    if not len(logs):
        return -1.0, 0.0
    low, high = float(logs.min()), float(logs.max())
    widen = max(least - (high - low), 0) / 2
    return low - widen, high + widen


def linear_limits(values: FloatArray, least: float) -> tuple[float, float]:
    """Limits around the finite values that span `least` at the least, with some air; (0, 1) of none."""
    values = values[np.isfinite(values)]
    low, high = float(values.min(initial=np.inf)), float(values.max(initial=-np.inf))
    low, high = (low, high) if low <= high else (0.0, 1.0)
    widen = max(least - (high - low), 0.08 * (high - low)) / 2
    return low - widen, high + widen


def ten_to(exponent: float) -> float:
    """10**exponent, kept within the range of floats."""
    return 10.0 ** min(max(exponent, -307.6), 308.2)


def log_ticks(low: float, high: float, most: int = 8) -> list[float]:
    """At most `most` round values between 10**low and 10**high: powers of ten, or 1-2-5 within few decades."""
    if high - low < 2:
        candidates = [m * 10.0**e for e in range(math.floor(low), math.ceil(high)) for m in (1, 2, 5)]
        return [t for t in candidates if low - 1e-9 <= math.log10(t) <= high + 1e-9]
    first, last = math.ceil(low - 1e-9), math.floor(high + 1e-9)
    every = math.ceil((last - first + 1) / most)
    return [10.0**e for e in range(first, last + 1) if (e - last) % every == 0]


def tick_words(ticks: list[float]) -> list[str]:
    """Labels of log ticks: plain numbers, or all as powers of ten where they are and some are far from 1."""
    plain = all(1e-3 <= tick <= 1e3 for tick in ticks)
    powers = all(math.isclose(math.log10(tick), round(math.log10(tick)), abs_tol=1e-9) for tick in ticks)
    return [power(tick) if powers and not plain else number(tick) for tick in ticks]


def log_axis(ax: Axes, low: float, high: float, below: float = 0.04, above: float = 0.04) -> None:
    """A log10 y axis from 10**low to 10**high that leaves the shares `below` and `above` of its height free."""
    decades = (high - low) / (1 - below - above)
    ticks = log_ticks(low, high)
    ax.set_yscale("log")
    ax.set_ylim(ten_to(low - below * decades), ten_to(high + above * decades))
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_major_formatter(FixedFormatter(tick_words(ticks)))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_minor_formatter(NullFormatter())


class Strips:
    """A log axis with rows of marks under it (zero, absent) and over it (NaN, Inf), where there are any."""

    def __init__(self, ax: Axes, values: FloatArray, present: BoolArray, rows: int = 1) -> None:
        """`values` and `present` are all that will be drawn; `rows` are the sets told apart by height."""
        self.ax = ax
        self.seen: dict[int, tuple[float, list[str]]] = {}  # kind -> height of a mark (share of the axes), when
        kinds = set(np.unique(value_kinds(values, present)))
        share = 0.03 + 0.045 * rows
        low, high = log_limits(values[present])
        log_axis(ax, low, high, share if kinds & set(_BELOW) else 0.04, share if kinds & {NAN, INF} else 0.04)

    def mark(self, x: ArrayLike, kinds: IntArray, colour: Any, row: int = 0, when: str = "") -> None:
        """Marks what is not ordinary at `x` (L,) in data units; `when`, a step, goes to its name."""
        x = np.asarray(x, dtype=float)
        for kind in sorted(set(np.unique(kinds)) - {ORDINARY}):
            here = x[kinds == kind]
            height = 0.03 + 0.045 * row
            height = height if kind in _BELOW else 1 - height
            self.seen[kind] = (height, [*self.seen.get(kind, (0, []))[1], when])
            self.ax.plot(
                here,
                np.full(len(here), height),
                linestyle="none",
                marker=SYMBOLS[kind],
                color="#9A9A9A" if kind == ABSENT else colour,
                markerfacecolor="white",
                transform=self.ax.get_xaxis_transform(),
                clip_on=False,
                label=f"_{NAMES[kind]}",
            )

    def names(self) -> list[EndLabel]:
        """What the marks mean, to be written level with them."""
        to_data = self.ax.transAxes + self.ax.transData.inverted()
        return [
            EndLabel(to_data.transform((1, height))[1], f"{GLYPHS[kind]} {NAMES[kind]}" + _join(when), INK)
            for kind, (height, when) in self.seen.items()
        ]


def _join(when: list[str]) -> str:
    when = [step for step in when if step]
    return f"\n(step{'s' * (len(when) > 1)} {', '.join(when)})" if when else ""
