"""What was measured is what is read: every float64, every reason, through our reader and TensorBoard's."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util.tensor_util import make_ndarray

from nnvis.record import ABSENCE_REASONS, EventLog, LayerValues, Measurement, Run, load_run

EXTREMES = [0.0, -0.0, 1e-300, 5e-324, 1e-45, 1e-38, 3.4e38, 3.5e38, 1e300, -1e-50, np.inf, -np.inf, np.nan]
NUMBERS = st.sampled_from(EXTREMES) | st.floats()
VALUES = st.tuples(NUMBERS, st.just(0)) | st.tuples(st.just(np.nan), st.integers(1, len(ABSENCE_REASONS) - 1))
ROWS = st.integers(0, 5).flatmap(lambda width: st.lists(st.lists(VALUES, min_size=width, max_size=width), max_size=4))


def write(directory: Path, rows: list[list[tuple[float, int]]]) -> Path:
    """Each row a step, its quantities `q` and `r` in opposite order; the first value as a scalar beside it."""
    with EventLog.create(directory) as log:
        for step, row in enumerate(rows):
            names = tuple(f"layer{i}" for i in range(len(row)))
            values, codes = np.array(row, float).reshape(-1, 2).T
            forward = LayerValues(names, values, codes.astype(int))
            backward = LayerValues(names, values[::-1], codes[::-1].astype(int))
            scalars = {"s": row[0][0]} if row else {}
            log.write(Measurement(step, {"q": forward, "r": backward}, {}, scalars))
    return directory


def read_back(rows: list[list[tuple[float, int]]]) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        return load_run(write(Path(folder) / "run", rows))


def as_stored(values: np.ndarray) -> np.ndarray:
    """float32 rounding, or exact where float32 has no seven digits for one of the values."""
    magnitude = np.abs(values[np.isfinite(values) & (values != 0)])
    narrow = np.all((magnitude >= 2.0**-126) & (magnitude <= np.finfo(np.float32).max))
    return values.astype(np.float32).astype(float) if narrow else values


@settings(deadline=None, max_examples=60)
@given(ROWS)
@example([[(1e-300, 0), (np.nan, 0), (np.nan, 4)], [(1.1, 0), (np.inf, 0), (np.nan, 10)]])
def test_values_and_reasons_survive(rows: list[list[tuple[float, int]]]) -> None:
    run = read_back(rows)
    if not rows:
        assert not run.layers
        return
    measured = np.array([[value for value, _ in row] for row in rows])
    codes = np.array([[code for _, code in row] for row in rows], int)
    for quantity, order in (("q", slice(None)), ("r", slice(None, None, -1))):
        series = run.layers[quantity]
        np.testing.assert_array_equal(series.steps, np.arange(len(rows)))
        np.testing.assert_array_equal(series.values, [as_stored(row[order]) for row in measured])
        np.testing.assert_array_equal(series.present, codes[:, order] == 0)
        np.testing.assert_array_equal(series.reasons, np.array(ABSENCE_REASONS)[codes[:, order]])


@settings(deadline=None, max_examples=60)
@given(st.lists(NUMBERS, min_size=1, max_size=20))
def test_scalars_survive(values: list[float]) -> None:
    series = read_back([[(value, 0)] for value in values]).scalars["s"]
    np.testing.assert_array_equal(series.values, [as_stored(np.array([value]))[0] for value in values])


def test_tensorboards_own_loader_reads_the_same(tmp_path: Path) -> None:
    row = [(1e-9, 0), (np.nan, 0), (np.nan, 4), (np.inf, 0)]
    write(tmp_path, [row, [(1e-60, 0), *row[1:]]])
    [file] = tmp_path.glob("events.out.tfevents.*")
    first, narrow, wide = EventFileLoader(str(file)).Load()
    assert first.file_version == "brain.Event:2"
    assert [narrow.step, wide.step] == [0, 1]
    tensors = {value.tag: make_ndarray(value.tensor) for value in narrow.summary.value}
    np.testing.assert_array_equal(tensors["layers/q"].view(np.uint32), [0x3089705F, 0x7FC00000, 0x7FC00004, 0x7F800000])
    assert tensors["s"] == pytest.approx(1e-9)
    np.testing.assert_array_equal(make_ndarray(wide.summary.value[0].tensor), [1e-60, np.nan, np.nan, np.inf])
