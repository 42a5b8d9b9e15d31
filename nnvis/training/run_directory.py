"""Run directories: `runs/<name>/<n>-seed<seed>/`, new for every run, never overwritten; and what is in them.

directory = new_run_directory(Path("runs"), config)           # with config.yaml and environment.json
directory = unfinished_run(Path("runs"), "digits-mlp", True)  # the newest one that can go on
"""

from __future__ import annotations

import errno
import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import torch

from nnvis.config import Config, dump_config, flatten
from nnvis.errors import InputError
from nnvis.probe.native import kernels
from nnvis.record import write_json
from nnvis.record.files import disk_errors
from nnvis.record.summary import ENDED, run_status
from nnvis.training.devices import device_name

_MAY_DIFFER = ("training.device", "training.threads")


def new_run_directory(runs: Path, config: Config) -> Path:
    """Makes the next directory for runs of this name. Raises InputError where that is impossible."""
    parent = runs / config.name
    with disk_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        unnamed = parent / f".{uuid4().hex}"  # gets its name when it is complete
        unnamed.mkdir()
        (unnamed / "config.yaml").write_text(dump_config(config), encoding="utf-8")
        write_json(unnamed / "environment.json", environment(torch.device(config.training.device)))
        while True:
            number = max((_number(path) for path in parent.iterdir()), default=0) + 1
            try:
                return unnamed.rename(parent / f"{number}-seed{config.seed}")
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # somebody else's run was quicker
                    raise


def unfinished_run(runs: Path, name: str, resume: Literal[True] | str | Path) -> Path:
    """The run to go on with: the directory `resume`, or (True) the newest run of this name that has not ended.

    Raises InputError where there is none.
    """
    if resume is not True:
        directory = Path(resume)
        if not (directory / "config.yaml").is_file():
            raise InputError(f"{directory}: no run to resume: there is no config.yaml in it")
        if run_status(directory) in ENDED:
            raise InputError(
                f"{directory}: cannot be resumed: the run is {run_status(directory)}; start a new one without --resume"
            )
        return directory
    started = [path for path in (runs / name).glob("*-seed*") if (path / "config.yaml").is_file()]
    unfinished = [path for path in started if run_status(path) not in ENDED]
    if not unfinished:
        found = (
            f"all {len(started)} runs in {runs / name} have ended" if started else f"there are no runs in {runs / name}"
        )
        raise InputError(f"nothing to resume: {found}; start a new one without --resume")
    return max(unfinished, key=lambda path: (_number(path), path.stat().st_mtime))


def resumed_config(given: Config, saved: Config, directory: Path) -> Config:
    """The config to resume with: the run's own, on the device and threads that are given.

    What is left to be resolved in `given` is no difference; anything else raises InputError.
    """
    ours, its = flatten(given), flatten(saved)
    changes = [
        f"{key} is {ours.get(key, 'null')}, was {its.get(key, 'null')}"
        for key in [*its, *(key for key in ours if key not in its)]
        if ours.get(key) != its.get(key)
        and key not in _MAY_DIFFER
        and not (given.loss is None and key.partition(".")[0] == "loss")
    ]
    if changes:
        raise InputError(
            f"{directory}: cannot be resumed with another config: {'; '.join(changes)}; "
            f"`nnvis train --resume {directory}` goes on as it was, without --resume a new run starts"
        )
    places = {
        "device": saved.training.device if given.training.device == "auto" else given.training.device,
        "threads": given.training.threads or saved.training.threads,
    }
    return saved.model_copy(update={"training": saved.training.model_copy(update=places)})


def environment(device: torch.device) -> dict[str, Any]:
    """What a run's bits depend on beside its config, the measured numbers' last digits too, and how it was started."""
    return {
        "nnvis": version("nnvis-trainer"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "platform": platform.platform(),
        "device": str(device),
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "kernels": "torch" if kernels() is None else "compiled",
        "git_commit": _git_commit(),
        "command": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git_commit() -> str | None:
    """The commit of the code around the working directory; None outside of a repository."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=2, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _number(path: Path) -> int:
    match = re.fullmatch(r"(\d+)-seed\d+", path.name)
    return int(match[1]) if match else 0
