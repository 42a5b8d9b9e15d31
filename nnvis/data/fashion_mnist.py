"""Fashion-MNIST (Xiao, Rasul & Vollgraf 2017): 70,000 images (1, 28, 28) of clothes, the last 10,000 its official test.

Debian's package `dataset-fashion-mnist` lays its IDX files in /usr/share/datasets/fashion-mnist; without them it
comes through scikit-learn's OpenML fetcher, which keeps it on disk.

Memory: pixels stay 8 bits (55 MB) until a split becomes float32 (220 MB for all three). Reading the IDX files peaks
at 100 MB and making the splits at 280 MB; OpenML's table is float64 on its way in (440 MB and more).
"""

from __future__ import annotations

import gzip
import http.client
import importlib.util
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnvis.data.problems import existing_folder
from nnvis.data.source import Source
from nnvis.errors import InputError

if TYPE_CHECKING:
    from nnvis.config import schema

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
TRAIN, TEST = 60_000, 10_000
IDX_UNSIGNED_BYTES = 8
DEBIAN_FOLDER = "/usr/share/datasets/fashion-mnist"


def fashion_mnist(section: schema.FashionMnist, rng: np.random.Generator) -> Source:
    """The images with pixels in [0, 1], from the folder `root` or from OpenML."""
    images, labels = _from_openml() if section.root is None else _from_folder(section.root)
    return Source(images, labels.astype(np.int64), CLASSES, full_scale=255, official_test=TEST)


def read_idx(file: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The array of unsigned bytes in an IDX file, `.gz` or not; raises InputError unless it has the shape."""
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file}: cannot be read: {error}") from error
    magic = bytes((0, 0, IDX_UNSIGNED_BYTES, len(shape)))
    if content[:4] != magic:
        raise InputError(f"{file}: opens with {content[:4].hex(' ')}, expected {magic.hex(' ')}, an IDX file of bytes")
    header = 4 + 4 * len(shape)
    found = tuple(int.from_bytes(content[start : start + 4], "big") for start in range(4, header, 4))
    if found != shape:
        raise InputError(f"{file}: holds an array of shape {found}, expected {shape}")
    size = int(np.prod(shape))
    if len(content) != header + size:
        raise InputError(f"{file}: {len(content) - header} bytes follow the header, expected {size}: is it cut off?")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _from_folder(root: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    folder = existing_folder(root, "data.root")
    images = np.empty((TRAIN + TEST, 1, 28, 28), np.uint8)
    labels = np.empty(TRAIN + TEST, np.uint8)
    for part, rows, size in (("train", slice(TRAIN), TRAIN), ("t10k", slice(TRAIN, None), TEST)):
        images[rows, 0] = read_idx(_idx_file(folder, f"{part}-images-idx3-ubyte"), (size, 28, 28))
        labels_file = _idx_file(folder, f"{part}-labels-idx1-ubyte")
        labels[rows] = read_idx(labels_file, (size,))
        if labels[rows].max() >= len(CLASSES):
            raise InputError(f"{labels_file}: holds label {labels[rows].max()}, expected 0 to {len(CLASSES) - 1}")
    return images, labels


def _idx_file(folder: Path, name: str) -> Path:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.exists():
            return file
    found = ", ".join(sorted(file.name for file in folder.iterdir())[:12]) or "nothing"
    raise InputError(f"data.root: {folder}: no {name} or {name}.gz; the folder holds {found}")


def _from_openml() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    from sklearn.datasets import fetch_openml

    parser: Any = "pandas" if importlib.util.find_spec("pandas") else "liac-arff"  # pure Python: minutes, once a run
    try:
        with warnings.catch_warnings(action="ignore"):  # of retries: what counts is whether it came
            bunch: Any = fetch_openml("Fashion-MNIST", version=1, as_frame=False, parser=parser)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise InputError(
            f"data.kind: Fashion-MNIST could not be fetched from OpenML ({error}); either go online once (it is kept "
            f"in ~/scikit_learn_data), or set data.root to a folder with its IDX files: after "
            f"`apt install dataset-fashion-mnist` that is {DEBIAN_FOLDER}"
        ) from error
    pixels = np.asarray(bunch.data)
    if pixels.shape != (TRAIN + TEST, 28 * 28):
        raise InputError(f"data.kind: OpenML's Fashion-MNIST has shape {pixels.shape}, expected (70000, 784)")
    return pixels.astype(np.uint8).reshape(-1, 1, 28, 28), np.asarray(bunch.target).astype(np.uint8)
