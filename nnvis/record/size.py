"""How large a log will be, told before the run starts."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from nnvis.record.log import EventLog
from nnvis.record.vocabulary import (
    HISTOGRAM_EDGES,
    HISTOGRAM_QUANTITIES,
    LAYER_QUANTITIES,
    LayerCounts,
    LayerValues,
    Measurement,
)

QUANTILES = 21  # of a layer's slopes
FIGURES_BYTES = 1_000_000
"""Of the figures of a run, as images in its log: 0.8 to 1.2 MB for ten of them, whatever the network's size."""


def checks_bytes(layers: int, rows: int, checks: int) -> int:
    """Of so many checks, of networks with so many layers on so many rows, training and validation together."""
    numbers_a_layer = 8 + 8 + QUANTILES + 3
    return checks * 8 * (rows + layers * numbers_a_layer) + layers * 200


def expected_bytes(
    layers: int,
    steps_measured: int,
    *,
    histogram_steps: int = 0,
    quantities: int = len(LAYER_QUANTITIES) - 1,  # all but input_nonfinite, which is rare
    scalars: int = 8,
) -> int:
    """Bytes of a log of so many layers and steps (figures and texts aside), from four events written to memory."""
    names = tuple(f"block{i}.linear" for i in range(layers))
    row = LayerValues(names, np.ones(layers), np.zeros(layers, int))
    counts = np.zeros((layers, len(HISTOGRAM_EDGES) + 1), int)
    counts[:, 8:-10] = 1  # values that spread over half of the bins
    rows = {f"quantity_{i:02d}": row for i in range(quantities)}
    histograms = dict.fromkeys(HISTOGRAM_QUANTITIES, LayerCounts(names, counts))
    values = {f"scalars/{i}": 1.0 for i in range(scalars)}

    file = io.BytesIO()
    log = EventLog(file, Path())
    ends = [file.tell()]
    for step, with_histograms in enumerate((False, False, True, True)):
        log.write(Measurement(step, rows, histograms if with_histograms else {}, values))
        ends.append(file.tell())
    first, later, first_histograms, later_histograms = np.diff(ends).tolist()  # the first ones name the layers

    total = ends[0]
    if steps_measured:
        total += first + (steps_measured - 1) * later
    if histogram_steps:
        total += first_histograms - later + (histogram_steps - 1) * (later_histograms - later)
    return total
