"""A checkpoint is whole or not there."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nnvis.errors import InputError, RunError
from nnvis.training import checkpoints
from nnvis.training.checkpoints import Cadence, last_checkpoint, load_checkpoint, save_checkpoint


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_disk_that_is_full_within_a_checkpoint_is_one_line(tmp_path: Path) -> None:
    """What torch itself makes of it is an error of its own, with lines of C++."""
    code = f"""
import resource, signal, torch
from pathlib import Path
from nnvis.errors import RunError
from nnvis.training.checkpoints import save_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_checkpoint(Path({str(tmp_path / "last.pt")!r}), {{"model": torch.zeros(100_000)}})
except RunError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == f"{tmp_path / 'last.pt'}: cannot be written: File too large\n"
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_spares_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoints" / "last.pt"
    save_checkpoint(path, {"step": 1})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"last.pt: cannot be written: No space left on device; free some space"):
        save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 1}
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    with pytest.raises(InputError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "last.pt")
    (tmp_path / "last.pt").write_bytes(b"PK half a file")
    with pytest.raises(InputError, match=r"last.pt: not a checkpoint that can be read: [^\n]+$"):
        load_checkpoint(tmp_path / "last.pt")
    torch.save({"code": print}, tmp_path / "last.pt")
    with pytest.raises(InputError, match="not a checkpoint that can be read"):
        load_checkpoint(tmp_path / "last.pt")


def test_cadence_counts_epochs_and_spares_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(checkpoints.time, "perf_counter", lambda: now)
    cadence = Cadence(every=2)
    assert [cadence.due(epoch) for epoch in (0, 1, 2)] == [False, False, True]
    with cadence.timed(2):
        now += 0.5
    assert not cadence.due(4)  # half a second of saving puts off the next one by 50
    now += 50
    assert [cadence.due(epoch) for epoch in (3, 4)] == [False, True]
