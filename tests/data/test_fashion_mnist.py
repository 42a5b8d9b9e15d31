"""Fashion-MNIST from IDX files and from OpenML, whose answers are made here."""

from __future__ import annotations

import gzip
import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
import torch

from nnvis.data.fashion_mnist import DEBIAN_FOLDER
from nnvis.errors import InputError

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize("zipped", [True, False])
def test_idx_files(zipped: bool, idx_folder: Path, load: Any) -> None:
    if zipped:
        for file in list(idx_folder.iterdir()):
            (idx_folder / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
    splits = load(kind="fashion_mnist", root=str(idx_folder), standardize=False, val_fraction=0.5)
    assert sorted(splits.test.rows.tolist()) == list(range(60, 80))
    assert torch.bincount(splits.val.targets).tolist() == torch.bincount(splits.train.targets).tolist() == [3] * 10
    for part in (splits.train, splits.val, splits.test):
        assert torch.equal(part.inputs, (part.rows / 255)[:, None, None, None].expand(-1, 1, 28, 28))
        assert torch.equal(part.targets, part.rows % 10)


def cut(content: bytes) -> bytes:
    return content[:-1]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (IMAGES, cut, "47039 bytes follow the header, expected 47040: is it cut off?"),
        (
            LABELS,
            lambda content: b"\x1f\x8b" + content,
            "opens with 1f 8b 00 00, expected 00 00 08 01, an IDX file of bytes",
        ),
        (LABELS, lambda content: content[:3], "opens with 00 00 08, expected 00 00 08 01, an IDX file of bytes"),
        (LABELS, lambda content: content[:7] + b"\x05" + content[8:], "holds an array of shape (5,), expected (60,)"),
        (LABELS, lambda content: content[:-1] + b"\x0a", "holds label 10, expected 0 to 9"),
    ],
)
def test_broken_idx_files(name: str, change: Any, message: str, idx_folder: Path, load: Any) -> None:
    file = idx_folder / name
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(InputError) as caught:
        load(kind="fashion_mnist", root=str(idx_folder))
    assert str(caught.value) == f"{file}: {message}"


@pytest.mark.parametrize("damage", [cut, lambda zipped: zipped[: len(zipped) // 2], lambda zipped: b"PK" + zipped])
def test_broken_gz(damage: Any, idx_folder: Path, load: Any) -> None:
    file = idx_folder / LABELS
    zipped = damage(gzip.compress(file.read_bytes()))
    file.unlink()
    file.with_name(f"{LABELS}.gz").write_bytes(zipped)
    with pytest.raises(InputError, match=rf"{LABELS}\.gz: cannot be read: "):
        load(kind="fashion_mnist", root=str(idx_folder))


def test_missing_idx_files(idx_folder: Path, load: Any) -> None:
    (idx_folder / IMAGES).unlink()
    with pytest.raises(InputError, match=rf"no {IMAGES} or {IMAGES}.gz; the folder holds t10k-images-idx3-ubyte, .*"):
        load(kind="fashion_mnist", root=str(idx_folder))


def test_openml_gives_the_same_as_the_files(idx_folder: Path, load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.repeat(np.arange(80.0), 28 * 28).reshape(80, -1)
    bunch = sklearn.utils.Bunch(data=table, target=np.array([str(i % 10) for i in range(80)], dtype=object))
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda *_, **__: bunch)
    fetched, read = load(kind="fashion_mnist"), load(kind="fashion_mnist", root=str(idx_folder))
    assert torch.equal(fetched.train.inputs, read.train.inputs)
    assert torch.equal(fetched.test.targets, read.test.targets)


def test_no_network_names_the_two_ways_out(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", unreachable)
    with pytest.raises(InputError) as caught:
        load(kind="fashion_mnist")
    assert "Name or service not known" in str(caught.value)
    assert "go online once" in str(caught.value)
    assert f"apt install dataset-fashion-mnist` that is {DEBIAN_FOLDER}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not Path(DEBIAN_FOLDER).is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_real_one(load: Any) -> None:
    splits = load(kind="fashion_mnist", root=DEBIAN_FOLDER, val_fraction=0.1)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [54_000, 6_000, 10_000]
    assert torch.bincount(splits.train.targets).tolist() == [5_400] * 10
    assert torch.bincount(splits.test.targets).tolist() == [1_000] * 10
    assert splits.input_scaling.mean.item() == pytest.approx(0.2860, abs=1e-3)  # as published with the data
    assert splits.input_scaling.std.item() == pytest.approx(0.3530, abs=1e-3)
    first_test_labels = splits.test.targets[splits.test.rows.argsort()][:5]
    assert first_test_labels.tolist() == [9, 2, 1, 1, 6]
