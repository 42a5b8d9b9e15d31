"""Run directories: new for every run, found again."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nnvis.config import Config, load_config
from nnvis.errors import InputError
from nnvis.record import read_json, write_json
from nnvis.training.run_directory import new_run_directory, resumed_config, unfinished_run

Configured = Callable[..., Config]


def test_every_run_has_a_directory_of_its_own(tmp_path: Path, configured: Configured) -> None:
    config = configured()
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_run_directory(tmp_path, config), range(12)))
    assert sorted(path.name for path in made) == sorted(f"{n}-seed0" for n in range(1, 13))
    assert all(load_config(path / "config.yaml") == config for path in made)
    assert {"nnvis", "python", "torch", "numpy", "device_name", "threads", "command"} <= read_json(
        made[0] / "environment.json"
    ).keys()


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path, configured: Configured) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(InputError, match=r"runs.tiny: cannot be written: Not a directory; choose a folder"):
        new_run_directory(tmp_path / "runs", configured())


def test_the_newest_unfinished_run_is_found(tmp_path: Path, configured: Configured) -> None:
    with pytest.raises(InputError, match="there are no runs in"):
        unfinished_run(tmp_path, "tiny", True)
    runs = [new_run_directory(tmp_path, configured()) for _ in range(11)]
    assert unfinished_run(tmp_path, "tiny", True) == runs[10]  # 11-seed0 is newer than 9-seed0
    for run, status in zip(runs[::-1], ["completed", "diverged", "interrupted"], strict=False):
        write_json(run / "summary.json", {"status": status})
    assert unfinished_run(tmp_path, "tiny", True) == runs[8]
    assert unfinished_run(tmp_path, "tiny", runs[2]) == runs[2]
    with pytest.raises(InputError, match=r"11-seed0: cannot be resumed: the run is completed; start a new one"):
        unfinished_run(tmp_path, "tiny", runs[10])
    with pytest.raises(InputError, match="no run to resume"):
        unfinished_run(tmp_path, "tiny", tmp_path)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, {"device": "cpu", "threads": 1}),
        ({"device": "auto", "threads": None}, {"device": "cpu", "threads": 1}),
        ({"device": "mps", "threads": 4}, {"device": "mps", "threads": 4}),
    ],
)
def test_resuming_keeps_the_config_but_for_the_machine(
    configured: Configured, given: dict[str, Any], kept: dict[str, Any]
) -> None:
    saved = configured(loss={"kind": "cross_entropy"})
    now = configured(training={**saved.training.model_dump(), **given})
    resumed = resumed_config(now, saved, Path("runs/tiny/1-seed0"))
    assert resumed == saved.model_copy(update={"training": saved.training.model_copy(update=kept)})


@pytest.mark.parametrize("kind", ["mean_squared_error", "huber"])
def test_a_loss_that_is_left_out_is_no_difference(configured: Configured, kind: str) -> None:
    saved = configured(data={"kind": "diabetes"}, loss={"kind": kind})
    assert resumed_config(configured(data={"kind": "diabetes"}), saved, Path("runs/tiny/1-seed0")) == saved


def test_resuming_with_another_config_is_refused(configured: Configured) -> None:
    saved = configured()
    now = configured(optimizer={"kind": "SGD", "lr": 0.5}, training={"epochs": 9, "batch_size": 16})
    with pytest.raises(InputError) as caught:
        resumed_config(now, saved, Path("runs/tiny/1-seed0"))
    assert str(caught.value) == (
        "runs/tiny/1-seed0: cannot be resumed with another config: optimizer.lr is 0.5, was 0.1; "
        "training.epochs is 9, was 2; `nnvis train --resume runs/tiny/1-seed0` goes on as it was, "
        "without --resume a new run starts"
    )


@pytest.mark.skipif(os.name != "posix", reason="needs a device file")
def test_a_folder_of_the_system_is_no_place(configured: Configured) -> None:
    with pytest.raises(InputError, match="choose a folder that can be written to"):
        new_run_directory(Path("/dev/null/runs"), configured())
