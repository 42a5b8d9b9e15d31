"""Standardisation against numpy, and that held-out rows have no say in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from nnvis.data import scaling
from nnvis.errors import InputError


@pytest.mark.parametrize(
    ("section", "axes"),
    [
        ({"kind": "breast_cancer"}, (0,)),
        ({"kind": "adding", "samples": 200}, (0, 1)),
        ({"kind": "sunspots"}, (0, 1)),
        ({"kind": "digits"}, (0, 2, 3)),
    ],
)
def test_inputs_are_scaled_by_the_training_split(section: dict, axes: tuple[int, ...], load: Any) -> None:
    raw = load(**section, standardize=False, test_fraction=0.2)
    scaled = load(**section | {"standardize": True}, test_fraction=0.2)
    train = raw.train.inputs.double().numpy()
    mean, std = train.mean(axis=axes, keepdims=True), train.std(axis=axes, keepdims=True)
    for name in ("train", "val", "test"):
        before, after = getattr(raw, name).inputs, getattr(scaled, name).inputs
        np.testing.assert_allclose(after.numpy(), (before.double().numpy() - mean) / std, atol=2e-5)
        np.testing.assert_allclose(scaled.input_scaling.undo(after).numpy(), before.numpy(), rtol=1e-4, atol=1e-4)
    assert raw.input_scaling is None


def test_targets_are_scaled_by_the_training_split(load: Any) -> None:
    raw, scaled = load(kind="diabetes", standardize_targets=False), load(kind="diabetes")
    targets = raw.train.targets.double()
    expected = (raw.val.targets.double() - targets.mean()) / targets.std(correction=0)
    assert torch.allclose(scaled.val.targets.double(), expected, atol=1e-5)
    assert torch.allclose(scaled.target_scaling.undo(scaled.val.targets), raw.val.targets.double(), atol=1e-3)
    assert raw.target_scaling is None


def test_held_out_rows_cannot_move_the_training_split(tmp_path: Path, load: Any) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 3)), rng.normal(size=50)
    section = {"kind": "npz", "path": str(tmp_path / "a.npz"), "standardize_targets": True, "test_fraction": 0.2}
    np.savez(tmp_path / "a.npz", x=x, y=y)
    before = load(**section)
    for part in (before.val, before.test):
        for array in (x, y):
            array[part.rows.numpy()] *= 1000
    np.savez(tmp_path / "a.npz", x=x, y=y)
    after = load(**section)
    assert torch.equal(before.train.inputs, after.train.inputs)
    assert torch.equal(before.train.targets, after.train.targets)
    assert not torch.equal(before.val.inputs, after.val.inputs)


def test_image_channels_are_scaled_apart_and_constant_ones_only_shifted() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 5, 4), np.uint8)
    images[:, 1] = 77
    rows = np.arange(40)
    fitted = scaling.fit(images, rows, full_scale=255)
    assert fitted.mean.shape == fitted.std.shape == (3, 1, 1)
    assert fitted.std[1] == 1
    scaled = scaling.to_tensor(images, rows, 255, fitted)
    assert torch.allclose(scaled.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(scaled.std(dim=(0, 2, 3), correction=0), torch.tensor([1.0, 0.0, 1.0]), atol=1e-5)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values, rows = np.random.default_rng(0).normal(5, 3, (101, 4)), np.arange(0, 101, 2)
    whole = scaling.fit(values, rows)
    monkeypatch.setattr(scaling, "CHUNK_VALUES", 12)
    chunked = scaling.fit(values, rows)
    assert torch.allclose(whole.mean, chunked.mean, rtol=1e-12)
    assert torch.allclose(whole.std, chunked.std, rtol=1e-12)
    assert torch.equal(
        scaling.to_tensor(values, rows, 1, whole),
        torch.from_numpy(values[rows] - whole.mean.numpy()).div(whole.std).float(),
    )


def test_large_offsets_keep_their_digits() -> None:
    values = 1.7e9 + np.arange(10.0)[:, None]  # seconds since 1970: float32 alone cannot tell them apart
    rows = np.arange(10)
    scaled = scaling.to_tensor(values, rows, 1, scaling.fit(values, rows))
    assert torch.allclose(scaled.diff(dim=0), torch.tensor(1 / np.arange(10).std(), dtype=torch.float32), rtol=1e-4)


def test_beyond_float32_is_refused() -> None:
    values = np.array([[0.0], [1e-9], [3e38]])
    fitted = scaling.fit(values, np.array([0, 1]))
    with pytest.raises(InputError, match=r"^data: a value lies beyond float32's range"):
        scaling.to_tensor(values, np.array([2]), 1, fitted)


def test_mean_and_std_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal([1e6, -3, 0, 0.1, 1e-9], [1, 1e-3, 2, 0, 1e-12], size=(500, 5))
    rows = np.arange(0, 500, 2)
    scaler: Any = StandardScaler().fit(values[rows])
    for chunk in (1 << 21, 64):
        monkeypatch.setattr(scaling, "CHUNK_VALUES", chunk)
        found = scaling.fit(values, rows)
        np.testing.assert_allclose(found.mean.numpy(), scaler.mean_, rtol=1e-14)
        np.testing.assert_allclose(found.std.numpy(), scaler.scale_, rtol=1e-9)
        assert found.std[3] == 1  # constant
    images = rng.integers(0, 256, size=(40, 3, 5, 4), dtype=np.uint8)
    found = scaling.fit(images, np.arange(40), full_scale=255)
    np.testing.assert_allclose(found.mean.numpy()[:, 0, 0], images.mean(axis=(0, 2, 3)) / 255, rtol=1e-6)
    np.testing.assert_allclose(found.std.numpy()[:, 0, 0], images.std(axis=(0, 2, 3)) / 255, rtol=1e-6)
    assert found.mean.shape == (3, 1, 1)
