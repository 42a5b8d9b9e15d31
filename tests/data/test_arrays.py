"""`.npz` files and the user's own functions."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnvis.errors import InputError

X = np.arange(24.0).reshape(12, 2)


def npz(tmp_path: Path, **arrays: Any) -> dict[str, Any]:
    np.savez(tmp_path / "a.npz", **arrays)
    return {"kind": "npz", "path": str(tmp_path / "a.npz"), "val_fraction": 0.0, "standardize": False}


@pytest.mark.parametrize(
    ("targets", "task", "classes"),
    [
        (np.tile([0, 1, 2], 4), "classification", ("0", "1", "2")),
        (np.tile([3.0, 7.0], 6), "regression", ()),
        (np.tile([True, False], 6), "classification", ("False", "True")),
        (np.tile(["b", "a"], 6), "classification", ("a", "b")),
        (np.tile([[5], [9]], (6, 1)), "classification", ("5", "9")),
        (np.zeros((12, 3)), "regression", ()),
    ],
)
def test_task_follows_from_the_targets_type(targets: Any, task: str, classes: Any, tmp_path: Path, load: Any) -> None:
    splits = load(**npz(tmp_path, x=X, y=targets))
    assert (splits.task, splits.classes) == (task, classes)
    assert torch.equal(splits.train.inputs, torch.from_numpy(X)[splits.train.rows].float())


def test_task_may_be_named(tmp_path: Path, load: Any) -> None:
    floats = npz(tmp_path, x=X, y=np.tile([3.0, 7.0], 6))
    assert load(**floats, task="classification").classes == ("3", "7")
    whole = npz(tmp_path, x=X[:, 0], y=np.arange(12))
    splits = load(**whole, task="regression")
    assert splits.train.targets.shape == splits.train.inputs.shape == (12, 1)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X, "z": X}, "data.targets: a.npz: no array 'y'; choices: x, z"),
        ({"x": X, "y": np.arange(9)}, "a.npz: array 'x': 12 rows, but there are 9 targets"),
        ({"x": X[:0], "y": X[:0]}, "a.npz: array 'x': shape (0, 2) with targets (0, 2), expected rows of data"),
        (
            {"x": np.zeros((12, 8, 9, 3)), "y": X},
            "a.npz: array 'x': shape (12, 8, 9, 3) looks like (N, H, W, C), expected (N, C, H, W)",
        ),
        (
            {"x": np.zeros((12, 2, 2, 2, 2)), "y": X},
            "a.npz: array 'x': shape (12, 2, 2, 2, 2), expected (N, F), (N, T, F) or (N, C, H, W)",
        ),
        ({"x": np.full((12, 2), "a"), "y": X}, "a.npz: array 'x': holds <U1, expected numbers"),
        (
            {"x": np.where(X > 20, np.nan, X), "y": X},
            "a.npz: array 'x'[10]: holds NaN, Inf or a number beyond float32 (2 rows do)",
        ),
        ({"x": X, "y": X * 1e300}, "a.npz: array 'y'[0]: holds NaN, Inf or a number beyond float32 (12 rows do)"),
        ({"x": X, "y": np.zeros(12, int)}, "a.npz: array 'y': found one class (0), expected two or more"),
        (
            {"x": X, "y": np.arange(12) - 2},
            "a.npz: array 'y'[0]: found -2, expected a class label: a whole number from 0 up (2 labels are like it)",
        ),
        ({"x": X, "y": np.zeros((12, 3), int)}, "a.npz: array 'y': shape (12, 3), expected one class label a row (N,)"),
        (
            {"x": X, "y": np.array([{}] * 12)},
            "a.npz: array 'y' cannot be read: ValueError: Object arrays cannot be loaded when allow_pickle=False",
        ),
    ],
)
def test_arrays_that_cannot_be_used(
    arrays: dict, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    section = npz(Path(), **arrays)
    with pytest.raises(InputError) as caught:
        load(**section)
    assert str(caught.value) == message


def test_a_lone_npy_is_not_enough(tmp_path: Path, load: Any) -> None:
    np.save(tmp_path / "a.npy", X)
    with pytest.raises(
        InputError, match=r"holds one array without a name, expected two: numpy.savez\('a.npy', x=…, y=…\)$"
    ):
        load(kind="npz", path=str(tmp_path / "a.npy"))


buffer = io.BytesIO()
np.savez(buffer, x=X, y=X)
WHOLE = buffer.getvalue()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.integers(0, len(WHOLE)), st.binary(max_size=4))
def test_a_broken_npz_loads_or_is_refused(tmp_path: Path, load: Any, position: int, damage: bytes) -> None:
    file = tmp_path / "a.npz"
    for content in (WHOLE[:position], WHOLE[:position] + damage + WHOLE[position + len(damage) :]):
        file.write_bytes(content)
        with contextlib.suppress(InputError):
            assert load(kind="npz", path=str(file)).train.inputs.isfinite().all()


MODULE = """
import torch
from collections import OrderedDict
inputs = torch.arange(24.).reshape(12, 2)
def good(rows=12, tensor=True): return (inputs[:rows] if tensor else inputs[:rows].tolist()), [0, 1] * (rows // 2)
def one(): return inputs
def ragged(): return [[1], [1, 2]], [0, 1]
def fails(): raise KeyError("lost")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the current directory, under a name of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"own_data_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    return name


@pytest.mark.parametrize("tensor", [True, False])
def test_a_function_in_the_current_directory(module: str, tensor: bool, load: Any) -> None:
    section = {"kind": "python", "target": f"{module}:good", "arguments": {"rows": 10, "tensor": tensor}}
    splits = load(**section, val_fraction=0.0, standardize=False)
    assert splits.train.inputs[splits.train.rows.argsort()].flatten().tolist() == list(range(20))
    assert splits.classes == ("0", "1")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "{}:god",
            r"data.target: own_\w+:god: own_\w+ has no 'god' that can be called; .*; did you mean \"good\"\?",
        ),
        ("{}:inputs", r"data.target: own_\w+:inputs: own_\w+ has no 'inputs' that can be called; .*"),
        ("{}_x:good", r"data.target: own_\w+_x:good: no module 'own_\w+_x' in .* or where packages are installed"),
        ("{}:one", r"data.target: own_\w+:one: returned Tensor, expected a pair \(inputs, targets\)"),
        ("{}:ragged", r"data.target: own_\w+:ragged: inputs: ValueError: .*inhomogeneous.*"),
        ("{}:fails", r"data.target: own_\w+:fails: KeyError: 'lost' \(.*own_\w+.py:8\)"),
    ],
)
def test_functions_that_cannot_be_used(module: str, target: str, message: str, load: Any) -> None:
    with pytest.raises(InputError) as caught:
        load(kind="python", target=target.format(module))
    assert re.fullmatch(message, str(caught.value))
