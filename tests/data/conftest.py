"""`load(kind=…, …)` is what a config's data section gives; `examples` has one of each kind with its expected shape."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from nnvis.config import schema
from nnvis.data import Splits, fashion_mnist, load_splits

Load = Callable[..., Splits]
Example = tuple[dict[str, Any], tuple[int, ...], int, int]


@pytest.fixture(scope="session")
def load() -> Load:
    sections = TypeAdapter(schema.Data)

    def load_section(seed: int = 0, **section: Any) -> Splits:
        return load_splits(sections.validate_python(section), seed)

    return load_section


@pytest.fixture
def idx_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Fashion-MNIST of 60 + 20 images; image i is grey level i throughout, its class i % 10."""
    monkeypatch.setattr(fashion_mnist, "TRAIN", 60)
    monkeypatch.setattr(fashion_mnist, "TEST", 20)
    folder = tmp_path / "fashion"
    folder.mkdir()
    for part, numbers in (("train", np.arange(60)), ("t10k", np.arange(60, 80))):
        pixels = np.repeat(numbers.astype(np.uint8), 28 * 28).reshape(-1, 28, 28)
        for name, array in ((f"{part}-images-idx3-ubyte", pixels), (f"{part}-labels-idx1-ubyte", numbers % 10)):
            write_idx(folder / name, array.astype(np.uint8))
    return folder


def write_idx(file: Path, array: np.ndarray) -> None:
    header = bytes((0, 0, 8, array.ndim)) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    file.write_bytes(header + array.tobytes())


@pytest.fixture
def examples(tmp_path: Path, idx_folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Example]:
    """Kind -> its section, the shape of a row, the target size (negative: regression), the number of rows."""
    rng = np.random.default_rng(0)
    lines = [f"{i % 7},{'red' if i % 3 else 'blue'},{'yes' if i % 2 else 'no'}" for i in range(40)]
    (tmp_path / "table.csv").write_text("\n".join(["size,color,bought", *lines]))
    (tmp_path / "text.csv").write_text("\n".join(["text,label", *(f"word{i} and {i},{i % 2}" for i in range(40))]))
    (tmp_path / "series.csv").write_text("\n".join(["day,value", *(f"{i},{i * i}" for i in range(60))]))
    np.savez(tmp_path / "arrays.npz", x=rng.normal(size=(30, 6, 2)), y=rng.normal(size=(30, 3)))
    for i in range(20):
        folder = tmp_path / "images" / ("cat" if i % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8)).save(folder / f"{i}.png")
    (tmp_path / "made_for_examples.py").write_text(
        "def rows(n):\n    return [[i, -i] for i in range(n)], ['a', 'b'] * (n // 2)\n"
    )
    monkeypatch.chdir(tmp_path)
    sections: list[Example] = [
        ({"kind": "moons", "samples": 60}, (2,), 2, 60),
        ({"kind": "circles", "samples": 60}, (2,), 2, 60),
        ({"kind": "xor", "samples": 60}, (2,), 2, 60),
        ({"kind": "spirals", "samples": 60, "classes": 3}, (2,), 3, 60),
        ({"kind": "blobs", "samples": 60, "classes": 4, "features": 5}, (5,), 4, 60),
        ({"kind": "sine", "samples": 60}, (1,), -1, 60),
        ({"kind": "plane", "samples": 60}, (2,), -1, 60),
        ({"kind": "noisy_linear", "samples": 60}, (20,), -1, 60),
        ({"kind": "adding", "samples": 60, "length": 7}, (7, 2), -1, 60),
        ({"kind": "digits"}, (1, 8, 8), 10, 1797),
        ({"kind": "breast_cancer"}, (30,), 2, 569),
        ({"kind": "wine"}, (13,), 3, 178),
        ({"kind": "iris"}, (4,), 3, 150),
        ({"kind": "diabetes"}, (10,), -1, 442),
        ({"kind": "fashion_mnist", "root": str(idx_folder)}, (1, 28, 28), 10, 80),
        ({"kind": "sunspots", "horizon": 2}, (24, 1), -2, 309 - 24 - 2 + 1),
        ({"kind": "language_names", "locales": ["de", "fi"], "max_length": 12}, (12,), 2, 0),
        ({"kind": "csv", "path": "table.csv", "target": "bought"}, (3,), 2, 40),
        ({"kind": "text_csv", "path": "text.csv", "tokens": "words", "max_length": 5}, (5,), 2, 40),
        ({"kind": "series_csv", "path": "series.csv", "column": "value", "window": 4}, (4, 1), -1, 60 - 4),
        ({"kind": "npz", "path": "arrays.npz"}, (6, 2), -3, 30),
        ({"kind": "image_folder", "root": "images", "size": [6, 5]}, (3, 6, 5), 2, 20),
        ({"kind": "python", "target": "made_for_examples:rows", "arguments": {"n": 30}}, (2,), 2, 30),
    ]
    return {example[0]["kind"]: example for example in sections}
