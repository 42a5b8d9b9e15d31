"""Activation distribution: how large are the activations, layer by layer, while training?

activation_distribution(run)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from nnvis.figures.columns import cells
from nnvis.figures.facts import median_magnitude
from nnvis.figures.labels import arrange
from nnvis.figures.reading import NoData, about, step_label
from nnvis.figures.scales import log_ticks, tick_words
from nnvis.figures.style import SICK, drawn, explain, from_white, sheet, white_to
from nnvis.figures.words import listing, number, percent, shorten
from nnvis.record.run import Run
from nnvis.record.vocabulary import FloatArray, HistogramSeries

PANELS = 5


@dataclass(frozen=True)
class Ladder:
    """The y axis: decades upwards for positive values, downwards for negative ones, the zeros between them.

    Only rungs that hold values are there. The outermost bins of the record have no end; they are drawn a decade tall.
    """

    edges: FloatArray  # (2K + 1,) of the bins, -Inf and Inf at the ends, 0 in the middle

    low: float  # log10 of the lower end of the smallest magnitude that occurs
    high: float  # log10 of the upper end of the largest
    signs: tuple[int, ...]  # of 1 and -1, those that occur

    @classmethod
    def of(cls, histograms: HistogramSeries, chosen: list[int]) -> Ladder:
        occupied = histograms.counts[:, chosen].sum(axis=(0, 1)) > 0
        middle = len(occupied) // 2
        either = occupied[middle:] | occupied[:middle][::-1]
        rungs = np.flatnonzero(either) if either.any() else np.array([middle // 2])
        ends = _log_edges(histograms.edges)
        signs = tuple(s for s, half in ((1, occupied[middle:]), (-1, occupied[:middle])) if half.any())
        return cls(histograms.edges, float(ends[rungs[0]]), float(ends[rungs[-1] + 1]), signs or (1,))

    def bins(self, sign: int) -> tuple[FloatArray, list[int]]:
        """(K + 1,) heights of the edges of a sign's bins, from the zeros outwards, and the bins' positions."""
        ends = _log_edges(self.edges)
        inside = [k for k in range(len(ends) - 1) if self.low <= ends[k] and ends[k + 1] <= self.high]
        middle = len(self.edges) // 2
        heights = self.half + ends[[*inside, inside[-1] + 1]] - self.low
        return sign * heights, [middle + k if sign > 0 else middle - 1 - k for k in inside]

    @property
    def half(self) -> float:
        """Half the height of the strip of zeros, so that its label stands free of its neighbours'."""
        return max(0.5, 0.1 * (self.high - self.low) * len(self.signs))

    @property
    def top(self) -> float:
        """Height above which there is room for NaN and Inf."""
        return self.half + (self.high - self.low if 1 in self.signs else 0)

    @property
    def bottom(self) -> float:
        return -self.half - (self.high - self.low if -1 in self.signs else 0)

    def ticks(self) -> tuple[list[float], list[str]]:
        """Heights and labels: 0 and a few powers of ten, with their sign."""
        values = log_ticks(max(self.low, -24), min(self.high, 6), most=4)
        words = tick_words(values)
        heights, labels = [0.0], ["0"]
        for sign in self.signs:
            heights += [sign * (self.half + np.log10(value) - self.low) for value in values]
            labels += [("−" if sign < 0 else "") + word for word in words]
        return heights, labels


def _log_edges(edges: FloatArray) -> FloatArray:
    """(K + 1,) log10 of the edges of the positive bins, the open ones made a decade long."""
    inner = np.log10(edges[len(edges) // 2 + 1 : -1])
    return np.concatenate([[inner[0] - 1], inner, [inner[-1] + 1]])


@drawn
def activation_distribution(run: Run) -> Figure:
    """The magnitudes of the activations of a few layers, spread over the depth, from the first step to the last.

    Upwards: positive values by log10 magnitude; downwards: negative ones; between them the share that is exactly 0.
    Healthy: the same band in every panel. The signal dies if it sinks towards 0 from panel to panel, blows up if it
    climbs. Colour is the share of values per decade, so that wide and narrow bins compare. Raises NoData.
    """
    histograms = run.histograms.get("activation")
    if histograms is None or not histograms.counts.size:
        raise NoData(f"{run.name}: no activation histograms in the record")
    chosen = chosen_layers(run, histograms)
    names = [shorten(histograms.layers, limit=15)[i] for i in chosen]
    ladder = Ladder.of(histograms, chosen)
    fig = sheet(height=3.4)
    explain(fig, _title(histograms, chosen, names), _caption(run, histograms, chosen))
    panels = fig.subplots(1, len(chosen), sharex=True, sharey=True, squeeze=False)[0]
    shares = [densities(histograms, i, ladder) for i in chosen]
    norm = Normalize(0, max(float(s.max()) for halves in shares for s in halves.values()) or 1)
    cmap = from_white()
    for ax, i, name, halves in zip(panels, chosen, names, shares, strict=True):
        _panel(ax, histograms, i, ladder, halves, norm, cmap)
        ax.set_title(f"{name}\n{_zero_words(histograms, i)}", fontsize=8)
    _axes(fig, panels, ladder, histograms, chosen, step_label(run))
    bar = fig.colorbar(ScalarMappable(norm, cmap), ax=list(panels), pad=0.01, aspect=30)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
    bar.set_label("share of values per decade")
    return arrange(fig)


def chosen_layers(run: Run, histograms: HistogramSeries, most: int = PANELS) -> list[int]:
    """Positions in `histograms.layers`: first, quarter, middle, … last of the nonlinearities, or of all layers."""
    groups = {layer.name: layer.group for layer in run.network}
    seen = [i for i in range(len(histograms.layers)) if _totals(histograms)[:, i].any()]
    nonlinear = [i for i in seen if groups.get(histograms.layers[i]) == "nonlinearity"]
    pool = nonlinear if len(nonlinear) > 1 else seen or list(range(len(histograms.layers)))
    return [pool[k] for k in np.unique(np.linspace(0, len(pool) - 1, most).round().astype(int))]


def densities(histograms: HistogramSeries, layer: int, ladder: Ladder) -> dict[int, FloatArray]:
    """By sign: (T, K) share of all values of the layer that lie in a bin, over the bin's width in decades."""
    totals = np.maximum(_totals(histograms)[:, [layer]], 1)
    result = {}
    for sign in ladder.signs:
        heights, bins = ladder.bins(sign)
        result[sign] = histograms.counts[:, layer][:, bins] / totals / np.abs(np.diff(heights))
    return result


def _totals(histograms: HistogramSeries) -> FloatArray:
    """(T, L) values counted."""
    return (histograms.counts.sum(axis=2) + histograms.zeros + histograms.nonfinite).astype(float)


def _panel(
    ax: Axes,
    histograms: HistogramSeries,
    layer: int,
    ladder: Ladder,
    halves: dict[int, FloatArray],
    norm: Normalize,
    cmap: Colormap,
) -> None:
    edges, filling = cells(histograms.steps)
    empty = (filling < 0)[:, None]
    for sign, shares in halves.items():
        shown = np.ma.masked_where(empty | (shares[filling] == 0), shares[filling])
        heights, _ = ladder.bins(sign)
        ax.pcolormesh(edges, heights, shown.T, norm=norm, cmap=cmap, rasterized=True, label=f"_{sign}")
    totals = np.maximum(_totals(histograms)[:, layer], 1)
    for counts, bottom, top, colour, label in (
        (histograms.zeros, -ladder.half, ladder.half, "#000000", "_zero"),
        (histograms.nonfinite, ladder.top + 0.5 * ladder.half, ladder.top + 2 * ladder.half, SICK, "_nonfinite"),
    ):
        share = (counts[:, layer] / totals)[filling][:, None]
        shown = np.ma.masked_where(empty | (share == 0), share)
        ax.pcolormesh(
            edges, [bottom, top], shown.T, cmap=white_to(colour), vmin=-0.15, vmax=1, rasterized=True, label=label
        )
    for height in (-ladder.half, ladder.half):
        ax.axhline(height, color="#BBBBBB", linewidth=0.6)


def _axes(
    fig: Figure, panels: list[Axes], ladder: Ladder, histograms: HistogramSeries, chosen: list[int], label: str
) -> None:
    heights, words = ladder.ticks()
    broken = bool(histograms.nonfinite[:, chosen].any())
    if broken:
        heights, words = [*heights, ladder.top + 1.25 * ladder.half], [*words, "NaN, Inf"]
    for ax in panels:
        ax.yaxis.set_major_locator(FixedLocator(heights))
        ax.grid(False)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=2, min_n_ticks=2))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}"))
    panels[0].set_yticks(heights, words)
    panels[0].set_ylim(ladder.bottom, ladder.top + 2.2 * ladder.half * broken)
    panels[0].set_ylabel("activation (log scale, by sign)")
    panels[len(panels) // 2].set_xlabel(label)


def _zero_words(histograms: HistogramSeries, layer: int) -> str:
    totals = _totals(histograms)[:, layer]
    rows = np.flatnonzero(totals)
    return f"{percent(histograms.zeros[rows[-1], layer] / totals[rows[-1]])} are 0" if len(rows) else "not measured"


def _title(histograms: HistogramSeries, chosen: list[int], names: list[str]) -> str:
    bad = histograms.nonfinite[:, chosen] > 0
    if bad.any():
        row = int(np.argmax(bad.any(axis=1)))
        return f"Activations turn NaN or Inf: at step {histograms.steps[row]:,} in {listing(np.array(names)[bad[row]])}"
    silent = [n for n, i in zip(names, chosen, strict=True) if histograms.counts[-1, i].sum() == 0]
    if silent:
        return f"Silent: every activation is exactly 0 at the end in {listing(silent)}"
    sizes = [median_magnitude(histograms.counts[-1, i], histograms.edges) for i in chosen]
    ends = f"{number(sizes[0], 2)} in {names[0]}, {number(sizes[-1], 2)} in {names[-1]}"
    if len(chosen) == 1:
        return f"Activations of {names[0]} have a typical size of {number(sizes[0], 2)} at the end"
    ratio = sizes[-1] / sizes[0]
    verb = "die out" if ratio < 1e-2 else "blow up" if ratio > 1e2 else "keep their size"
    return f"Activations {verb} with depth: {ends}"


def _caption(run: Run, histograms: HistogramSeries, chosen: list[int]) -> str:
    return (
        f"{run.name}, {len(chosen)} of {len(histograms.layers)} layers, input to output. Outputs by log10 magnitude: "
        "positive values above 0, negative ones below; grey: exactly 0; white: none. Colour: share of values per "
        "decade, from samples of up to 1024 values. The same band everywhere is healthy; sizes are medians at the end, "
        f"zeros left out. {about(run)}"
    )
