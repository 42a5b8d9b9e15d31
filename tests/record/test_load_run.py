"""Runs read back: whole, cut off, damaged, foreign, missing; and what a Run can be asked for."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nnvis.errors import InputError
from nnvis.record import EventLog, LayerValues, Measurement, find_runs, load_run, write_json


def only_file(directory: Path) -> Path:
    [path] = directory.glob("events.out.tfevents.*")
    return path


def test_a_run_as_it_was_written(example_run: Path) -> None:
    run = load_run(example_run)
    assert run.name == "vanishing-sigmoid/1-seed0"
    assert set(run.layers) == {"grad_norm", "activation_std"}
    norms = run.layers["grad_norm"]
    np.testing.assert_array_equal(norms.steps, [0, 10, 20])
    assert norms.layers == ("linear1", "sigmoid1", "output")
    np.testing.assert_allclose(norms.values, [[1, np.nan, 0.5], [1e-25, np.nan, 0.5], [1e-50, np.nan, 0.5]], rtol=1e-7)
    np.testing.assert_array_equal(norms.present, [[True, False, True]] * 3)
    assert norms.reasons[0].tolist() == ["", "not applicable", ""]
    assert run.layers["activation_std"].present.all()
    np.testing.assert_allclose(run.scalars["grad_norm/total"].values, [1, 1e-25, 1e-50], rtol=1e-7)
    np.testing.assert_allclose(run.scalars["gradient_band/min"].values, [0 - 0.30103, -25, -50], rtol=1e-5)
    assert run.scalars["loss/val"].last == 2.5
    histogram = run.histograms["activation"]
    assert (histogram.counts.shape, histogram.edges.shape) == ((1, 3, 32), (33,))
    assert (histogram.edges[0], histogram.edges[-1]) == (-np.inf, np.inf)
    assert dict(zip(*np.unique(histogram.counts[0, 0], return_counts=True), strict=True)) == {
        0: 29,
        5: 1,
        100: 1,
        90: 1,
    }
    assert (histogram.zeros.tolist(), histogram.nonfinite.tolist()) == ([[7, 0, 4096]], [[2, 0, 0]])
    assert [layer.output_shape for layer in run.network] == [(64,)] * 3
    assert (run.damaged, run.findings, run.config, run.summary) == ("", (), {}, {})


def test_a_tail_cut_anywhere_costs_nothing_before_it(tmp_path: Path) -> None:
    ends = []
    with EventLog.create(tmp_path) as log:
        for step in range(12):
            row = LayerValues(("a", "b"), np.array([step, 1e-60]), np.zeros(2, int))
            log.write(Measurement(step, {"grad_norm": row}, {}, {"lr": float(step)}))
            ends.append(log.flush())
    path = only_file(tmp_path)
    whole = path.read_bytes()
    for length in (*range(40), *range(len(whole) - 400, len(whole))):
        path.write_bytes(whole[:length])
        run = load_run(tmp_path)
        steps = list(range(sum(end <= length for end in ends)))
        assert not run.damaged
        assert ([] if not steps else run.scalars["lr"].values.tolist()) == steps
        assert ([] if not steps else run.layers["grad_norm"].values[:, 0].tolist()) == steps


def test_a_damaged_byte_is_told_and_spares_what_is_before_it(example_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(example_run, tmp_path / "run")
    path = only_file(run)
    data = bytearray(path.read_bytes())
    middle = data.index(b"loss/val")
    data[middle] ^= 1
    path.write_bytes(data)
    read = load_run(run)
    np.testing.assert_array_equal(read.scalars["loss/train"].steps, [0, 10, 20])
    assert "loss/val" not in read.scalars
    assert read.damaged.startswith(f"{path.name}: byte ")
    assert "a record has a wrong checksum; 9 records before it were read" in read.damaged


def test_a_live_log_is_readable(tmp_path: Path) -> None:
    with EventLog.create(tmp_path) as log:
        log.scalars(0, {"loss/val": 1.0})
        log.flush()
        log.scalars(1, {"loss/val": 2.0})
        assert load_run(tmp_path).scalars["loss/val"].last == 1.0


@pytest.mark.filterwarnings("ignore")
def test_logs_of_other_writers(tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    for new_style, tag in ((False, "loss"), (True, "tensor")):
        with tensorboard.SummaryWriter(str(tmp_path)) as writer:  # one file each
            for step in range(3):
                writer.add_scalar(tag, step / 2, step, new_style=new_style)
            writer.add_scalar(tag, 7.0, 1)  # a restart goes back: the last value of a step counts
            writer.add_text("note", "hello", 0)
            writer.add_histogram("weights", np.arange(5), 0)
    run = load_run(tmp_path)
    for tag in ("loss", "tensor"):
        np.testing.assert_array_equal(run.scalars[tag].steps, [0, 1, 2])
        np.testing.assert_array_equal(run.scalars[tag].values, [0, 7, 1])
    assert (set(run.scalars), dict(run.layers)) == ({"loss", "tensor"}, {})


def test_table(example_run: Path, tmp_path: Path) -> None:
    run = load_run(example_run)
    run.to_csv(tmp_path / "run.csv")
    with (tmp_path / "run.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 * 3 + 2 + 2 * 3 * 3
    columns = ("kind", "quantity", "layer", "value", "reason")
    at_20 = [tuple(row[column] for column in columns) for row in rows if row["step"] == "20"]
    assert ("scalar", "loss/train", "", "0.25", "") in at_20
    assert ("layer", "grad_norm", "linear1", "1e-50", "") in at_20
    assert ("layer", "grad_norm", "sigmoid1", "", "not applicable") in at_20
    assert ("layer", "activation_std", "linear1", "nan", "") in at_20

    frame = run.to_frame()
    assert list(frame.columns) == ["step", *columns]
    assert frame["step"].tolist() == [int(row["step"]) for row in rows]
    np.testing.assert_array_equal(frame["value"], [float(row["value"] or "nan") for row in rows])
    for name in ("kind", "quantity", "layer", "reason"):
        assert frame[name].tolist() == [row[name] for row in rows]


def test_frame_without_pandas_says_what_to_install(example_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r'pip install "nnvis-trainer\[frame\]"'):
        load_run(example_run).to_frame()


def test_unknown_names_are_told_with_the_choices(example_run: Path) -> None:
    run = load_run(example_run)
    with pytest.raises(KeyError, match=r"'grad_nrom' was not recorded; there is .*did you mean 'grad_norm'\?"):
        run.layers["grad_nrom"]
    with pytest.raises(KeyError, match=r"'loss' was not recorded; there is .*loss/train"):
        run.scalars["loss"]
    assert run.scalars.get("loss") is None


def test_files_beside_the_log_and_the_model(example_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(example_run, tmp_path / "my-run")
    with pytest.raises(InputError, match="no config built this run's model"):
        load_run(run, model_loader=lambda path, trust: path).load_model()
    (run / "config.yaml").write_text("name: x\noptimizer: {lr: 1.0e-05}\n")
    write_json(run / "summary.json", {"status": "diverged", "metrics": {"val": {"loss": float("nan")}}})
    read = load_run(run, model_loader=lambda path, trust: f"model of {path.name}{trust}")
    assert read.name == "my-run"
    assert read.config == {"name": "x", "optimizer": {"lr": 1e-5}}
    assert read.summary == {"status": "diverged", "metrics": {"val": {"loss": None}}}
    assert read.load_model(trust=True) == "model of my-runTrue"
    with pytest.raises(InputError, match=r"use nnvis\.load_run"):
        load_run(run).load_model()
    (run / "config.yaml").write_text("a: [1\n")
    with pytest.raises(InputError, match=r"config\.yaml: not YAML: .*line 2"):
        load_run(run)


def test_no_run_there(example_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a/1-seed0", "a/2-seed0", "a/10-seed0", "b/1-seed0"]
    for name in names:
        shutil.copytree(example_run, tmp_path / name)
    assert find_runs(tmp_path) == [tmp_path / name for name in names]
    with pytest.raises(InputError, match=f"{tmp_path}: no run in it .*; the runs in .* are {tmp_path}/a/1-seed0, "):
        load_run(tmp_path)
    with pytest.raises(InputError, match=r"2-sed0: does not exist; the runs in .*did you mean '.*a/2-seed0'\?"):
        load_run(tmp_path / "a/2-sed0")
    with pytest.raises(InputError, match=r"is a file; a run is a directory: try .*a/1-seed0$"):
        load_run(only_file(tmp_path / "a/1-seed0"))
    (tmp_path / "a").rename(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^1-seed0: does not exist; the runs in runs are runs/1-seed0, "):
        load_run("1-seed0")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no run in it .*; train one: nnvis train CONFIG"):
        load_run(tmp_path / "empty")


def test_reading_needs_neither_torch_nor_pandas(example_run: Path) -> None:
    script = f"""
import sys
from nnvis.record import load_run
load_run({str(example_run)!r}).to_csv("/dev/null")
print(*(sys.modules.keys() & {{"torch", "pandas", "tensorflow", "matplotlib"}}))"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
