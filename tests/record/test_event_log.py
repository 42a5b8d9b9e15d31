"""The writer: generations of layers, resuming, full disks, sizes."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnvis.errors import InputError, RunError
from nnvis.record import EventLog, LayerCounts, LayerInfo, LayerValues, Measurement, expected_bytes, load_run
from nnvis.record.events import Usual, gradient_band, magnitude_buckets


def row(*layers: str, value: float = 1.0) -> LayerValues:
    return LayerValues(layers, np.full(len(layers), value), np.zeros(len(layers), int))


def counts(*layers: str) -> LayerCounts:
    return LayerCounts(layers, np.arange(len(layers) * 34).reshape(len(layers), 34))


def only_file(directory: Path) -> Path:
    [path] = directory.glob("events.out.tfevents.*")
    return path


def test_a_new_set_of_layers_is_joined_in_forward_order(tmp_path: Path) -> None:
    with EventLog.create(tmp_path) as log:
        log.write(Measurement(0, {"grad_norm": row("a", "c", value=1)}, {"grad": counts("a", "c")}))
        log.write(Measurement(1, {"grad_norm": row("a", "b", "c", value=2)}, {"grad": counts("a", "b", "c")}))
        length = log.flush()
    with EventLog.resume(tmp_path, length) as log:
        log.write(Measurement(2, {"grad_norm": row("a", "c", value=3)}))  # the first generation again
        log.write(Measurement(3, {"grad_norm": row("d", "a", value=4)}))
    run = load_run(tmp_path)
    series = run.layers["grad_norm"]
    assert series.layers == ("d", "a", "b", "c")
    nan = np.nan
    np.testing.assert_array_equal(series.values, [[nan, 1, nan, 1], [nan, 2, 2, 2], [nan, 3, nan, 3], [4, 4, nan, nan]])
    np.testing.assert_array_equal(series.present, ~np.isnan(series.values))
    assert set(series.reasons[~series.present]) == {"not recorded"}
    histograms = run.histograms["grad"]
    assert histograms.layers == ("a", "b", "c")
    np.testing.assert_array_equal(histograms.counts[0, :, 0], [0, 0, 34])
    np.testing.assert_array_equal(histograms.zeros[1], [32, 66, 100])
    np.testing.assert_array_equal(histograms.nonfinite[1], [33, 67, 101])


@pytest.mark.parametrize("step", [5, 4])
def test_one_value_a_tag_and_step(tmp_path: Path, step: int) -> None:
    with EventLog.create(tmp_path) as log:
        log.scalars(5, {"loss/val": 1.0})
        length = log.flush()
        with pytest.raises(ValueError, match=f"loss/val: a value for step {step} after one for step 5"):
            log.scalars(step, {"loss/val": 2.0})
    with EventLog.resume(tmp_path, length) as log, pytest.raises(ValueError, match="steps of a tag must increase"):
        log.scalars(step, {"loss/val": 2.0})


def test_resume_gives_the_bytes_of_an_unbroken_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1e9)
    table = [LayerInfo("a", "Linear", (3,), 12, 12)]

    def steps(log: EventLog, first: int, last: int) -> None:
        for step in range(first, last):
            log.write(Measurement(step, {"grad_norm": row("a", value=step)}, {"grad": counts("a")}, {"lr": 0.1}))
            log.network(table)

    with EventLog.create(tmp_path / "unbroken") as log:
        steps(log, 0, 6)
    with EventLog.create(tmp_path / "broken") as log:
        steps(log, 0, 3)
        length = log.flush()
        steps(log, 3, 5)
    with EventLog.resume(tmp_path / "broken", length) as log:
        steps(log, 3, 6)
    assert only_file(tmp_path / "broken").read_bytes() == only_file(tmp_path / "unbroken").read_bytes()
    assert load_run(tmp_path / "broken").network == tuple(table)


def test_an_event_that_is_filled_in_again_is_like_one_built_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever changes from step to step: layers, gaps, float64 where float32 would not do, occupied buckets, tags."""
    monkeypatch.setattr("time.time", lambda: 1e9)
    random, filled_in = np.random.default_rng(0), []
    fill = Usual.fill
    monkeypatch.setattr(Usual, "fill", lambda self, *given: filled_in.append(1) or fill(self, *given))

    def measurement(step: int) -> Measurement:
        names = [("a", "b"), ("a", "b", "c")][random.random() < 0.1]
        absent = random.random(len(names)) < 0.2
        values = np.where(absent, np.nan, random.choice([0.0, 1.0, 1e-3, 1e-200], len(names), p=[0.2, 0.5, 0.2, 0.1]))
        rows = {"grad_norm": LayerValues(names, values, absent * 5), "update_norm": row(*names, value=step)}
        occupied = random.random((len(names), 34)) < random.choice([0, 0.02, 1])
        table = {"grad": LayerCounts(names, occupied * random.integers(1, 9, (len(names), 34)))}
        scalars = {"lr": 0.1 / (1 + step)} | ({"tiny": 1e-60} if random.random() < 0.1 else {})
        return Measurement(step, rows, table if step % 3 == 0 else {}, scalars, [None, 1e9 + step][step % 2])

    measured = [measurement(step) for step in range(300)]
    with EventLog.create(tmp_path / "again") as again, EventLog.create(tmp_path / "anew") as anew:
        for one in measured:
            again.write(one)
        for one in measured:
            anew._usual.clear()
            anew.write(one)
    assert 20 < len(filled_in) < 280
    assert only_file(tmp_path / "again").read_bytes() == only_file(tmp_path / "anew").read_bytes()


def test_flush_makes_durable_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    with EventLog.create(tmp_path) as log:
        log.scalars(0, {"loss/val": 1.0})
        monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
        length = log.flush()
        assert synced == [length] == [only_file(tmp_path).stat().st_size]
        log.scalars(1, {"loss/val": 1.0})
    assert only_file(tmp_path).stat().st_size > length


@pytest.mark.parametrize(
    ("files", "length", "problem"),
    [
        ([], 0, "0 event files, and there must be one"),
        (["a", "b"], 0, "2 event files, and there must be one"),
        (["a"], 10**6, "at byte 1000000: it is cut off at byte"),
        (["a"], 45, "at byte 45: it is cut off at byte 45"),
    ],
)
def test_what_cannot_be_resumed(tmp_path: Path, files: list[str], length: int, problem: str) -> None:
    with EventLog.create(tmp_path / "source") as log:
        log.scalars(0, {"loss/val": 1.0})
    for name in files:
        (tmp_path / f"events.out.tfevents.{name}").write_bytes(only_file(tmp_path / "source").read_bytes())
    with pytest.raises(InputError, match=problem):
        EventLog.resume(tmp_path, length)


def test_bad_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match=f"{directory}: cannot be written: .*; choose a folder that can"):
            EventLog.create(directory)
    EventLog.create(tmp_path / "run").close()
    with pytest.raises(InputError, match=r"run: holds a run already; choose another folder, or resume that run"):
        EventLog.create(tmp_path / "run")

    def read_only(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(InputError, match="Read-only file system"):
        EventLog.create(tmp_path / "new")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    def full() -> EventLog:
        return EventLog(io.BufferedWriter(io.FileIO("/dev/full", "w")), tmp_path / "log")

    log = full()
    with pytest.raises(RunError, match=r"^.*log: cannot be written: No space left on device; free some space.*$"):
        log.text(0, "long", "x" * 100_000)
    log.close()  # says no more
    with pytest.raises(RunError, match="No space left"), full():
        pass


@pytest.mark.parametrize("layers", [1, 100])
def test_expected_bytes(tmp_path: Path, layers: int) -> None:
    names = tuple(f"network.{i}" for i in range(layers))
    random = np.random.default_rng(0)
    spread = np.zeros((layers, 34), int)
    spread[:, 9:23] = 7
    with EventLog.create(tmp_path) as log:
        for step in range(60):
            rows = {
                f"quantity_{i}": LayerValues(names, random.random(layers), np.zeros(layers, int)) for i in range(15)
            }
            histograms = {f"histogram_{i}": LayerCounts(names, spread) for i in range(3)} if step % 10 == 0 else {}
            log.write(Measurement(step, rows, histograms, {"loss/train": 1.0, "lr": 0.1}))
        size = log.flush()
    assert expected_bytes(layers, 60, histogram_steps=6, quantities=15, scalars=2) == pytest.approx(size, rel=0.1)


def test_expected_bytes_of_nothing() -> None:
    assert 0 < expected_bytes(100, 0) < 100


def test_gradient_band() -> None:
    values = np.array([1e-8, np.nan, 0.0, 1e-2, np.inf, 1.0, 1e3])
    band = dict(gradient_band(LayerValues(tuple("abcdefg"), values, np.zeros(7, int))))
    assert band == pytest.approx({"gradient_band/min": -8, "gradient_band/median": -1, "gradient_band/max": 3})
    assert not dict(gradient_band(row("a", "b", value=0.0)))


def test_magnitude_buckets() -> None:
    table = np.zeros((3, 34), int)
    table[0, [0, 14, 31]] = 3, 4, 5  # below -1e6, [-1e-16, -1e-24), above 1e6
    table[1, 32:] = 9  # zeros and non-finite values alone
    table[2, 16] = 8  # (0, 1e-24)
    buckets = dict(magnitude_buckets(table))
    assert list(buckets) == [0, 2]
    np.testing.assert_array_equal(buckets[0][[0, -1]], [[-24, -16, 4], [6, 8, 8]])
    assert buckets[0][1:-1, 2].sum() == 0
    np.testing.assert_array_equal(buckets[0][1:, 0], buckets[0][:-1, 1])
    np.testing.assert_array_equal(buckets[2], [[-26, -24, 8]])


def test_images_must_be_png(tmp_path: Path) -> None:
    with EventLog.create(tmp_path) as log, pytest.raises(ValueError, match="figures/a: not a PNG image"):
        log.image(0, "figures/a", b"GIF89a")
