"""What the log costs: python tests/record/bench_log.py [directory]. 100 layers, 15 quantities, 5,000 steps."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from nnvis.record import LAYER_QUANTITIES, EventLog, LayerCounts, LayerValues, Measurement, expected_bytes, load_run
from nnvis.record.vocabulary import HISTOGRAM_EDGES, HISTOGRAM_QUANTITIES

LAYERS, STEPS, QUANTITIES, HISTOGRAM_EVERY = 100, 5000, 15, 10


def measurement(step: int, histograms: bool) -> Measurement:
    """A step as the probe hands it over: a tenth of the values absent in half of the quantities."""
    random = np.random.default_rng(step)
    names = tuple(f"block{i}.linear" for i in range(LAYERS))
    codes = np.where(np.arange(LAYERS) % 10, 0, 2)
    rows = {}
    for number, quantity in enumerate(list(LAYER_QUANTITIES)[:QUANTITIES]):
        values = random.lognormal(size=LAYERS)
        if number % 2:
            values[codes > 0] = np.nan
        rows[quantity] = LayerValues(names, values, codes * (number % 2))
    counts = np.zeros((LAYERS, len(HISTOGRAM_EDGES) + 1), np.int64)
    counts[:, 8:24] = random.integers(0, 200, (LAYERS, 16))
    return Measurement(
        step, rows, dict.fromkeys(HISTOGRAM_QUANTITIES, LayerCounts(names, counts)) if histograms else {}
    )


def main(directory: Path) -> None:
    for label, every in (("without histograms", 0), (f"histograms every {HISTOGRAM_EVERY} steps", HISTOGRAM_EVERY)):
        run = directory / label.replace(" ", "-")
        seconds = []
        with EventLog.create(run) as log:
            for step in range(STEPS):
                row = measurement(step, bool(every) and step % every == 0)
                start = time.perf_counter()
                log.write(row, {"loss/train": 1.0, "lr": 0.1})
                seconds.append(time.perf_counter() - start)
            size = log.flush()
        start = time.perf_counter()
        load_run(run)
        loading = time.perf_counter() - start
        expected = expected_bytes(
            LAYERS, STEPS, quantities=QUANTITIES, scalars=5, histogram_steps=STEPS // every if every else 0
        )
        print(
            f"{label}: {1e3 * np.mean(seconds):.3f} ms a step (median {1e3 * np.median(seconds):.3f}), "
            f"{size / 1e6:.1f} MB (expected {expected / 1e6:.1f}), loaded in {loading:.2f} s"
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
