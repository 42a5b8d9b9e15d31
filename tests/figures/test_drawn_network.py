"""The drawing of the network: folded, wrapped, summed up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from reading_back import end_labels, title

from nnvis import figures
from nnvis.record.run import Run
from nnvis.record.vocabulary import LayerInfo

MakeRun = Callable[..., Run]


def test_network_folds_what_repeats(make_run: MakeRun) -> None:
    fig = figures.network(make_run(20))
    words = end_labels(fig.axes[0])
    assert words == ["linear1", "64", "Linear 4.16k", "act1", "64", "ReLU", "linear20", "10", "Linear 650", "×19"]
    assert title(fig) == "79.7k parameters in 39 layers; the largest, linear1, holds 5.2%"


def test_network_wraps_and_sums_up_what_does_not_fit(make_run: MakeRun) -> None:
    table = tuple(LayerInfo(f"layer{i}", "Linear", (i + 1,), 10, 10 * (i > 0)) for i in range(300))
    fig = figures.network(replace(make_run(3), network=table))
    blocks = [patch for ax in fig.axes for patch in ax.patches]
    words = [text for ax in fig.axes for text in end_labels(ax)]
    assert len(fig.axes) == 2
    assert len(blocks) == 120
    assert "… 180 more layers, 1.8k parameters …" in words
    assert (np.diff([block.get_extents().width for block in blocks[:60]]) >= 0).all()  # more units, wider block
    assert [block.get_linestyle() for block in blocks[:2]] == ["--", "solid"]  # the first is frozen


def test_network_of_odd_outputs(make_run: MakeRun) -> None:
    table = (LayerInfo("lstm", "LSTM", None, 5, 5), LayerInfo("mean", "Mean", (), 0, 0))
    words = end_labels(figures.network(replace(make_run(3), network=table)).axes[0])
    assert words == ["lstm", "?", "LSTM 5", "mean", "1", "Mean"]
