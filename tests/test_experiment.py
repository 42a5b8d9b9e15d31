"""A config becomes a finished run directory, once or in many pieces."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nnvis
from nnvis.config import Config, load_config
from nnvis.errors import InputError, RunError
from nnvis.experiment import load_model, train
from nnvis.record import Run, load_study, read_json, write_json
from nnvis.record.study_log import hyperparameters
from nnvis.training import checkpoints
from nnvis.training.learner import Learner
from nnvis.training.loop import Loop
from nnvis.training.snapshots import load_snapshots

WALL_TIME = ("samples_per_second",)
TINY: dict[str, Any] = {
    "name": "tiny",
    "data": {"kind": "spirals", "samples": 100, "classes": 3, "test_fraction": 0.1},
    "model": {"kind": "mlp", "hidden": [6], "dropout": 0.1},
    "optimizer": {"kind": "SGD", "lr": 0.05, "momentum": 0.9},
    "schedule": {"kind": "ExponentialLR", "gamma": 0.99, "interval": "step"},
    "training": {"epochs": 4, "batch_size": 8, "device": "cpu", "threads": 1},
    "capture": {"every": 4, "histogram_every": 8},
}  # 70 training rows: 9 steps an epoch


def tiny(**sections: Any) -> Config:
    training = {**TINY["training"], **sections.pop("training", {})}
    return Config.model_validate({**TINY, **sections, "training": training})


def run(config: Config, runs: Path, **options: Any) -> Run:
    return train(config, runs=runs, quiet=True, **{"figures": False, **options})


def saved(finished: Run, name: str = "last.pt") -> dict[str, Any]:
    return torch.load(finished.path / "checkpoints" / name, weights_only=True)


def assert_same_weights(a: Run, b: Run, name: str = "last.pt") -> None:
    ours, theirs = saved(a, name)["model"], saved(b, name)["model"]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def assert_same_record(a: Run, b: Run) -> None:
    """Every step and value of the log, wall times aside."""
    assert a.scalars.keys() == b.scalars.keys()
    assert a.layers.keys() == b.layers.keys()
    assert (a.network, a.damaged, a.histograms.keys()) == (b.network, b.damaged, b.histograms.keys())
    for tag in a.scalars:
        np.testing.assert_array_equal(a.scalars[tag].steps, b.scalars[tag].steps)
        if tag not in WALL_TIME:
            np.testing.assert_array_equal(a.scalars[tag].values, b.scalars[tag].values)
    for quantity, series in a.layers.items():
        np.testing.assert_array_equal(series.steps, b.layers[quantity].steps)
        np.testing.assert_array_equal(series.values, b.layers[quantity].values)
    for quantity, series in a.histograms.items():
        np.testing.assert_array_equal(series.counts, b.histograms[quantity].counts)


# ---------------------------------------------------------------- a finished run


def test_run_directory(tmp_path: Path) -> None:
    finished = run(tiny(), tmp_path, figures=True)
    assert finished.path == tmp_path / "tiny" / "1-seed0"
    names = {str(path.relative_to(finished.path)) for path in finished.path.rglob("*") if path.suffix != ".png"}
    (log,) = (name for name in names if name.startswith("events.out.tfevents."))
    assert names == {
        log, "config.yaml", "environment.json", "findings.json", "summary.json",
        "checkpoints", "checkpoints/last.pt", "checkpoints/best.pt", "figures",
    }  # fmt: skip
    assert "learning_curves" in {path.stem for path in (finished.path / "figures").glob("*.png")}
    assert b"figures/learning_curves" in (finished.path / log).read_bytes()
    summary = finished.summary
    assert (summary["status"], summary["epochs"], summary["steps"]) == ("completed", 4, 36)
    assert (summary["device"], summary["seed"], summary["seconds"] > 0) == ("cpu", 0, True)
    assert {split: set(values) for split, values in summary["metrics"].items()} == {
        split: {"loss", "accuracy"} for split in ("train", "val", "test")
    }
    best = finished.scalars["loss/val"]
    assert summary["best"] == {
        "epoch": int(best.values.argmin()) + 1,
        "metric": "loss/val",
        "value": pytest.approx(best.values.min()),
    }
    assert summary["capture"]["steps_measured"] == 9
    assert 0 < summary["capture"]["overhead_fraction"] < 1


def test_steps_are_numbered_by_updates_completed(tmp_path: Path) -> None:
    scalars = run(tiny(), tmp_path).scalars
    for tag in ("loss/train", "lr", "grad_norm/total", "samples_per_second"):
        assert scalars[tag].steps.tolist() == list(range(0, 36, 4))
    for tag in ("loss/epoch", "accuracy/epoch", "loss/val", "accuracy/val", "generalization_gap"):
        assert scalars[tag].steps.tolist() == [9, 18, 27, 36]
    assert scalars["loss/test"].steps.tolist() == [36]
    np.testing.assert_allclose(scalars["lr"].values, 0.05 * 0.99 ** np.arange(0, 36, 4), rtol=1e-6)
    gap = scalars["loss/val"].values - scalars["loss/epoch"].values
    np.testing.assert_allclose(scalars["generalization_gap"].values, gap, atol=1e-6)


def test_epoch_values_are_means_over_its_batches(tmp_path: Path) -> None:
    config = tiny(
        model={"kind": "mlp", "hidden": []}, capture={"every": 1}, training={"epochs": 1, "batch_size": 10},
        data={"kind": "spirals", "samples": 60},
    )  # fmt: skip
    scalars = run(config, tmp_path).scalars
    assert len(scalars["loss/train"].values) == 5  # of 48 rows, the last one of 8
    expected = np.average(scalars["loss/train"].values, weights=[10, 10, 10, 10, 8])
    assert scalars["loss/epoch"].last == pytest.approx(expected, rel=1e-5)
    assert scalars["accuracy/epoch"].last * 48 == pytest.approx(round(scalars["accuracy/epoch"].last * 48), abs=1e-4)


def test_its_config_trains_the_same_run_again(tmp_path: Path) -> None:
    config = tiny(training={"threads": None, "device": "auto"}).model_copy(update={"loss": None})
    first = run(config, tmp_path / "a", device="cpu")
    resolved = load_config(first.path / "config.yaml")
    assert resolved.loss is not None
    assert (resolved.training.threads, resolved.training.device) == (torch.get_num_threads(), "cpu")
    torch.rand(3)  # the state of the world does not matter
    second = train(first.path / "config.yaml", runs=tmp_path / "b", quiet=True, figures=False)
    assert_same_weights(first, second)
    assert_same_record(first, second)


def test_capture_changes_nothing(tmp_path: Path) -> None:
    measured, plain = run(tiny(), tmp_path), run(tiny(capture={"every": None}), tmp_path)
    assert_same_weights(measured, plain)
    assert plain.scalars["loss/train"].steps.tolist() == [0]
    assert not plain.layers
    assert plain.summary["capture"] == {"steps_measured": 0, "overhead_fraction": 0.0, "unseen": {}}


def test_the_world_is_as_before(tmp_path: Path) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    threads, generators = torch.get_num_threads(), (torch.get_rng_state(), random.getstate())
    run(tiny(training={"epochs": 1, "threads": threads + 1}), tmp_path)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers


def test_outside_of_the_main_thread(tmp_path: Path) -> None:
    runs: list[Run] = []
    thread = threading.Thread(target=lambda: runs.append(run(tiny(training={"epochs": 1}), tmp_path)))
    thread.start()
    thread.join()
    assert runs[0].summary["status"] == "completed"


@pytest.mark.parametrize(
    ("sections", "steps", "epochs"),
    [
        ({"training": {"epochs": None, "steps": 12}}, 12, 1),
        ({"training": {"epochs": None, "steps": 9}}, 9, 1),
        ({"training": {"epochs": 3, "batch_size": "full"}}, 3, 3),
        ({"training": {"epochs": 2, "accumulate": 4}}, 6, 2),
        ({"training": {"epochs": 1, "batch_size": 1}}, 70, 1),
        ({"training": {"epochs": 2, "precision": "bf16"}}, 18, 2),
        ({"training": {"epochs": 2, "precision": "float64", "clip_grad_norm": 0.1}}, 18, 2),
        ({"optimizer": {"kind": "LBFGS"}, "training": {"epochs": 2, "batch_size": "full"}}, 2, 2),
        ({"data": {"kind": "plane", "samples": 40, "val_fraction": 0.0}, "training": {"epochs": 1}}, 5, 1),
        ({"data": {"kind": "xor"}, "loss": {"kind": "binary_cross_entropy"}, "training": {"epochs": 1}}, 100, 1),
    ],
)
def test_ways_to_train(tmp_path: Path, sections: dict[str, Any], steps: int, epochs: int) -> None:
    finished = run(tiny(**sections), tmp_path)
    assert finished.summary["status"] == "completed"
    assert (finished.summary["steps"], finished.summary["epochs"]) == (steps, epochs)
    assert finished.scalars["loss/epoch"].steps[-1] == steps
    assert np.isfinite(finished.summary["metrics"]["train"]["loss"])


def test_the_graph_is_written_if_asked_for(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    plain = run(tiny(training={"epochs": 1}), tmp_path)
    drawn = run(tiny(training={"epochs": 1}, capture={"graph": True}), tmp_path)
    nodes = EventAccumulator(str(drawn.path)).Reload().Graph().node
    assert any("linear1" in node.name for node in nodes)
    assert_same_weights(plain, drawn)


def test_fp16_counts_no_skipped_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device: build(device, init_scale=2.0**21))
    finished = run(tiny(training={"epochs": 6, "batch_size": "full", "precision": "fp16"}), tmp_path)
    steps = finished.scalars["loss/epoch"].steps.tolist()
    assert finished.summary["epochs"] == 6
    assert 0 < finished.summary["steps"] < 6
    assert steps == list(range(1, finished.summary["steps"] + 1))  # an epoch without an update tells nothing


def test_early_stopping_keeps_the_best_weights(tmp_path: Path) -> None:
    stopping = {"patience": 3, "metric": "accuracy"}
    finished = run(tiny(training={"epochs": 50, "early_stopping": stopping}), tmp_path)
    values = finished.scalars["accuracy/val"].values
    best = int(values.argmax())
    assert finished.summary["epochs"] == best + 1 + 3 == len(values) < 50
    assert finished.summary["best"] == {
        "epoch": best + 1, "metric": "accuracy/val", "value": pytest.approx(values[best]),
    }  # fmt: skip
    assert finished.summary["metrics"]["val"]["accuracy"] == pytest.approx(values[best])
    kept = load_model(finished.path).state_dict()
    assert all(torch.equal(kept[key], value) for key, value in saved(finished, "best.pt")["model"].items())
    assert not all(torch.equal(kept[key], value) for key, value in saved(finished)["model"].items())


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_load_model_builds_what_was_trained(tmp_path: Path, precision: str) -> None:
    finished = run(tiny(training={"precision": precision}), tmp_path)
    model = nnvis.load_run(finished.path).load_model()
    assert not model.training
    assert all(torch.equal(model.state_dict()[key], value) for key, value in saved(finished)["model"].items())


# ---------------------------------------------------------------- interrupted, killed, resumed


def interrupt_at(step: int, signum: int, monkeypatch: pytest.MonkeyPatch) -> None:
    make_step = Loop.make_step

    def make_step_then_interrupt(loop: Loop, batches: Any) -> None:
        make_step(loop, batches)
        if loop.state.step == step:
            os.kill(os.getpid(), signum)

    monkeypatch.setattr(Loop, "make_step", make_step_then_interrupt)


@pytest.mark.parametrize(
    ("step", "signum", "sections"),
    [
        (5, signal.SIGINT, {"training": {"early_stopping": {"patience": 3}}}),
        (9, signal.SIGTERM, {"optimizer": {"kind": "Adam"}}),
        (22, signal.SIGTERM, {"training": {"early_stopping": {"patience": 3}, "clip_grad_norm": 0.1}}),
        (36, signal.SIGINT, {"model": {"kind": "mlp", "hidden": [4], "norm": "batch"}}),
        (7, signal.SIGINT, {"training": {"precision": "fp16", "accumulate": 2}}),
        (2, signal.SIGTERM, {"optimizer": {"kind": "LBFGS"}, "training": {"batch_size": "full"}}),
        (10, signal.SIGTERM, {"training": {"epochs": None, "steps": 12}, "capture": {"every": None}}),
    ],
)
def test_an_interrupted_run_goes_on(tmp_path: Path, step: int, signum: int, sections: dict[str, Any]) -> None:
    config = tiny(**sections)
    whole = run(config, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(step, signum, patch)
        with pytest.raises(KeyboardInterrupt, match=r"interrupted; nnvis train --resume .*1-seed0 goes on with it"):
            run(config, tmp_path / "parts")
    summary = read_json(tmp_path / "parts" / "tiny" / "1-seed0" / "summary.json")
    assert (summary["status"], summary["steps"]) == ("interrupted", step)
    resumed = run(config, tmp_path / "parts", resume=True)
    assert resumed.summary["status"] == "completed"
    assert_same_weights(whole, resumed)
    assert_same_weights(whole, resumed, "best.pt")
    assert_same_record(whole, resumed)
    keep = ("epochs", "steps", "metrics", "best")
    assert {key: resumed.summary[key] for key in keep} == {key: whole.summary[key] for key in keep}
    assert resumed.summary["capture"]["steps_measured"] == whole.summary["capture"]["steps_measured"]


KILLER = """
import os, random, signal, sys, time
from pathlib import Path
import sklearn.preprocessing, torch._dynamo  # what training imports late: a child has no time for it
from nnvis.experiment import train

runs, config = Path(sys.argv[1]), sys.argv[2]
random.seed(1)
kills = 0
while True:
    child = os.fork()
    if not child:
        started = (runs / "tiny" / "1-seed0" / "config.yaml").exists()
        if (runs / "tiny" / "1-seed0" / "summary.json").exists():  # killed between its end and the line after train
            os._exit(0)
        train(config, runs=runs, resume=started, quiet=True, figures=False)
        os._exit(0)
    time.sleep(random.uniform(0.02, 0.05 * 1.25**kills))  # longer and longer, so that it ends on any machine
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status):
        assert status == 0
        break
    kills += 1
print(kills)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    config = tiny(training={"epochs": 25, "early_stopping": {"patience": 25}}, snapshots={"count": 12})
    whole = run(config, tmp_path / "whole")
    command = [sys.executable, "-c", KILLER, tmp_path / "parts", whole.path / "config.yaml"]
    child = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert int(child.stdout) >= 2, child.stderr
    pieces = nnvis.load_run(tmp_path / "parts" / "tiny" / "1-seed0")
    assert pieces.summary["status"] == "completed"
    assert_same_weights(whole, pieces)
    assert_same_weights(whole, pieces, "best.pt")
    assert_same_record(whole, pieces)
    taken, again = load_snapshots(whole.path), load_snapshots(pieces.path)
    assert [one.step for one in taken] == [one.step for one in again]
    assert len(taken) > 8
    for one, other in zip(taken, again, strict=True):
        assert all(torch.equal(value, other.model[name]) for name, value in one.model.items())


def test_what_cannot_be_resumed_is_refused(tmp_path: Path) -> None:
    finished = run(tiny(), tmp_path)
    with pytest.raises(InputError, match="the run is completed"):
        run(tiny(), tmp_path, resume=finished.path)
    with pytest.raises(InputError, match=r"all 1 runs in .* have ended"):
        run(tiny(), tmp_path, resume=True)
    (finished.path / "summary.json").unlink()
    with pytest.raises(InputError, match=r"cannot be resumed with another config: optimizer.lr is 0.5, was 0.05"):
        train(tiny(), ["optimizer.lr=0.5"], runs=tmp_path, resume=True, quiet=True)


# ---------------------------------------------------------------- what goes wrong


def test_a_diverged_run_says_where_and_keeps_its_record(tmp_path: Path) -> None:
    config = tiny(
        data={"kind": "plane", "samples": 100}, optimizer={"kind": "SGD", "lr": 1e6}, schedule={"kind": "constant"},
        capture={"every": 1},
    )  # fmt: skip
    with pytest.raises(RunError, match=r"^diverged at step (\d+): the loss is (inf|nan); at step \d+, first in the"):
        run(config, tmp_path)
    diverged = nnvis.load_run(tmp_path / "tiny" / "1-seed0")
    summary = diverged.summary
    assert (summary["status"], summary["metrics"]) == ("diverged", {})
    assert summary["nonfinite"].keys() == {"step", "direction", "layer", "detail", "source"}
    sizes = diverged.layers["activation_absmax"]
    column = sizes.values[:, sizes.layers.index(summary["nonfinite"]["layer"])]
    grew = ", ".join(f"{size:.3g} (step {step})" for step, size in zip(sizes.steps, column, strict=True))
    assert f"made NaN or Inf of finite inputs and parameters; its activation_absmax: {grew}; lower" in summary["error"]
    assert diverged.scalars["loss/train"].steps.tolist() == list(range(summary["steps"]))
    with pytest.raises(InputError, match="the run is diverged"):
        run(config, tmp_path, resume=diverged.path)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ({"kind": "spirals"}, "the validation loss is nan"),
        ({"kind": "spirals", "val_fraction": 0.0}, "the weights are not finite"),
    ],
)
def test_weights_that_overflow_in_the_last_update_are_found(
    tmp_path: Path, data: dict[str, Any], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = Learner.update

    def update_too_far(learner: Learner) -> bool:
        with torch.no_grad():
            learner.model.get_submodule("output").get_parameter("bias").fill_(torch.inf)
        return update(learner)

    monkeypatch.setattr(Learner, "update", update_too_far)
    sentence = f"^diverged at step 1: {what}; at step 0, first in the update pass, at output: "
    with pytest.raises(RunError, match=sentence):
        run(tiny(data=data, training={"epochs": None, "steps": 1}), tmp_path)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "try training.batch_size=4 training.accumulate=2"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out of memory on cpu"),
    ],
)
def test_out_of_memory_says_what_to_change(
    tmp_path: Path, error: Exception, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def update(_: Learner) -> bool:
        raise error

    monkeypatch.setattr(Learner, "update", update)
    with pytest.raises(RunError, match=sentence):
        run(tiny(), tmp_path)
    assert nnvis.load_run(tmp_path / "tiny" / "1-seed0").summary["status"] == "failed"


def test_one_row_is_no_batch_for_batch_normalization(tmp_path: Path) -> None:
    layers = [{"Linear": 4}, {"BatchNorm1d": {}}, {"Linear": 3}]
    with pytest.raises(InputError, match=r"^training.batch_size: batch normalization needs more than one row"):
        run(tiny(model={"kind": "layers", "layers": layers}, training={"batch_size": 1}), tmp_path)


def test_a_failed_run_goes_on(tmp_path: Path) -> None:
    whole = run(tiny(), tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        calls: list[int] = []

        def full(_: int) -> None:
            calls.append(1)
            if len(calls) > 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(checkpoints.os, "fsync", full)
        with pytest.raises(RunError, match="No space left on device; free some space, then resume the run"):
            run(tiny(), tmp_path / "parts")
    assert_same_record(whole, run(tiny(), tmp_path / "parts", resume=True))


def test_bad_input_leaves_no_directory(tmp_path: Path) -> None:
    for sections in (
        {"data": {"kind": "csv", "path": "nowhere.csv", "target": "y"}},
        {"training": {"device": "cuda:77"}},
    ):
        with pytest.raises(InputError):
            run(tiny(**sections), tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- a run of a study


def test_a_run_of_a_study_leaves_the_columns_to_it(tmp_path: Path) -> None:
    folder = tmp_path / "steps"
    folder.mkdir()
    variants = {"clipped": {"training.clip_grad_norm": 1.0}, "free": {}}
    told = {"name": "steps", "question": "?", "variants": variants, "axes": {}, "seeds": [0]}
    write_json(
        folder / "study.yaml", {**told, "base": tiny().model_dump(), "figures": [], "expect": []}
    )  # JSON is YAML
    for name, overrides in variants.items():
        training = {key.removeprefix("training."): value for key, value in overrides.items()}
        run(tiny(training={"epochs": 1, **training}), folder, name=name)
    write_json(folder / "runs.json", {name: {"0": f"{name}/1-seed0"} for name in variants})
    columns = {column.name: column.values for column in hyperparameters(load_study(folder))}
    assert columns == {"name": ["clipped", "free"], "training.clip_grad_norm": ["1.0", "null"], "seed": [0]}
    for log in folder.glob("*/*/events*"):
        assert b"_hparams_/session_start_info" in log.read_bytes()
        assert b"_hparams_/experiment" not in log.read_bytes()
    alone = run(tiny(training={"epochs": 1}), tmp_path)
    assert b"_hparams_/experiment" in next(alone.path.glob("events*")).read_bytes()
