"""JSON files of a run: whole or not at all, no NaN in them, errors in one line."""

from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnvis.errors import InputError, RunError
from nnvis.record import Finding, Remedy, read_findings, read_json, write_findings, write_json
from nnvis.record.files import claimed


def test_what_is_not_json_becomes_plain(tmp_path: Path) -> None:
    data = {
        "loss": math.nan,
        "limits": (-math.inf, 1.5),
        "numpy": np.float32(0.5),
        "array": np.array([[1, 2]]),
        "nan": np.array([np.nan, 1.0]),
        "path": tmp_path,
        3: {"é": None},
    }
    write_json(tmp_path / "a.json", data)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    expected = {
        "loss": None,
        "limits": [None, 1.5],
        "numpy": 0.5,
        "array": [[1, 2]],
        "nan": [None, 1.0],
        "path": str(tmp_path),
        "3": {"é": None},
    }
    assert json.loads(text) == read_json(tmp_path / "a.json") == expected
    assert "é" in text


@pytest.mark.parametrize(
    ("number", "kind", "problem"),
    [
        (errno.ENOSPC, RunError, "No space left on device; free some space, then resume the run"),
        (errno.EROFS, InputError, "Read-only file system; choose a folder that can be written to"),
    ],
)
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception], problem: str
) -> None:
    path = tmp_path / "summary.json"
    write_json(path, {"status": "completed"})

    def fails(_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(kind, match=rf"^{path}: cannot be written: {problem}$"):
        write_json(path, {"status": "new"})
    assert read_json(path) == {"status": "completed"}
    assert os.listdir(tmp_path) == ["summary.json"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "cannot be read: No such file"), (b'{"a": \n}', ":2:1: not JSON"), (b"\xff\xfe", "not text in UTF-8")],
)
def test_bad_json_is_one_line(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "summary.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"^{path}.*{problem}"):
        read_json(path)


def test_findings_survive(tmp_path: Path) -> None:
    remedy = Remedy("Use ReLU", "its slope is 1", {"model.activation": "relu"})
    full = Finding("dead", "error", ("a", "b"), 20, 0.5, 0.1, "half", ("one", "two"), "heatmap", (remedy,))
    short = Finding("diverged", "error", (), 3, math.nan, math.inf, "loss is NaN")
    path = write_findings(tmp_path, [full, short], {"overfitting": "no validation split"})
    read = read_findings(path)
    assert read[0] == full
    assert math.isnan(read[1].value)
    assert math.isnan(read[1].threshold)
    assert read_json(path)["not_judged"] == {"overfitting": "no validation split"}
    path.write_text('{"findings": [{"symptom": "x"}]}')
    with pytest.raises(InputError, match=r"findings\.json: not a list of findings: "):
        read_findings(path)


@pytest.mark.skipif(os.name != "posix", reason="needs locks on directories")
def test_one_at_a_time_in_a_directory(tmp_path: Path) -> None:
    sentence = "another process is training this run right now"
    with (
        claimed(tmp_path, "training this run"),
        pytest.raises(InputError, match=sentence),
        claimed(tmp_path, "training this run"),
    ):
        pass
    with claimed(tmp_path, "training this run"):
        pass
