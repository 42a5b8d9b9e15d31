"""The data of the fault cases: `make_data(case, seed)` gives training and validation rows as tensors.

A recipe that names no seed of its own draws other rows for each seed. Sets that are not on disk have stand-ins of the
same scaling: Fashion-MNIST or scikit-learn's digits for MNIST; Fashion-MNIST at 8 × 8 in three equal channels for
CIFAR-10; made-up rows on the scales of the Adult census and of a table of network packets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fault_facts import Case
from fault_parts import OF_CLASSES
from numpy.typing import NDArray
from sklearn import datasets
from torch import Tensor

from nnvis.data.fashion_mnist import DEBIAN_FOLDER, read_idx

Array = NDArray[Any]
MOST_VALIDATION_ROWS = 1000


@dataclass(frozen=True)
class Data:
    """Float32 inputs; targets are int64 (N,) classes for a loss of classes, else float32 (N, ...)."""

    inputs: Tensor
    targets: Tensor
    val_inputs: Tensor  # no rows where the recipe has none to spare
    val_targets: Tensor


def make_data(case: Case, seed: int) -> Data:
    """The rows that a case trains on with this seed, scaled by the statistics of the training rows."""
    settings = dict(case.data)
    recipe, scaling, targets = (settings.pop(key, "") for key in ("recipe", "scaling", "targets"))
    x, y, val_x, val_y = RECIPES[recipe](seed, **settings)
    if scaling == "standard":
        shift, scale = x.mean(0), x.std(0)
        scale = np.where(scale > 0, scale, 1)
        x, val_x = (x - shift) / scale, (val_x - shift) / scale
    elif scaling in ("unit", 255):
        factor = (1 if scaling == "unit" else 255) / max(x.max(), 1e-12)
        x, val_x = x * factor, val_x * factor
    if targets == "standard":
        shift, scale = y.mean(), y.std()
        y, val_y = (y - shift) / scale, (val_y - shift) / scale
    limit = slice(MOST_VALIDATION_ROWS)
    return Data(_float(x), _targets(y, case), _float(val_x[limit]), _targets(val_y[limit], case))


def _float(values: Array) -> Tensor:
    return torch.as_tensor(np.ascontiguousarray(values, np.float32))


def _targets(values: Array, case: Case) -> Tensor:
    if case.loss in OF_CLASSES:
        return torch.as_tensor(np.asarray(values, np.int64))
    if case.task == "multiclass":  # a loss of numbers: one column for each class
        return _float(np.eye(int(case.layers[-1]["dense"]))[np.asarray(values, np.int64)])  # pyright: ignore[reportArgumentType, reportCallIssue]
    return _float(values[:, None] if values.ndim == 1 else values)


Rows = tuple[Array, Array, Array, Array]  # inputs, targets, validation inputs and targets


def _split(x: Any, y: Any, train: int) -> Rows:
    return x[:train], y[:train], x[train:], y[train:]


def _alone(x: Array, y: Array) -> Rows:
    return x, y, x[:0], y[:0]


def blobs(seed: int) -> Rows:
    x, y = datasets.make_blobs(n_samples=1000, centers=3, n_features=2, cluster_std=2, random_state=2)[:2]
    return _split(x, y, 700)


def circles(seed: int) -> Rows:
    return _split(*datasets.make_circles(n_samples=1000, noise=0.1, random_state=1), train=700)


def digits(seed: int, images: bool = False) -> Rows:
    """1400 of scikit-learn's digits for training: (N, 64), or (N, 1, 8, 8) images."""
    x, y = datasets.load_digits(return_X_y=True)
    x = x.reshape(-1, 1, 8, 8) if images else x
    return _shuffled(x, y, 1400, seed)


def _shuffled(x: Any, y: Any, train: int, seed: int) -> Rows:
    order = np.random.default_rng(seed).permutation(len(x))
    return _split(x[order], y[order], train)


@lru_cache(maxsize=1)
def _fashion_mnist() -> tuple[Array, Array]:
    folder = Path(DEBIAN_FOLDER)
    images = read_idx(folder / "train-images-idx3-ubyte.gz", (60_000, 28, 28))
    return images, read_idx(folder / "train-labels-idx1-ubyte.gz", (60_000,))


def fashion_mnist(seed: int, rows: int = 20_000) -> Rows:
    """`rows` images for training and 1000 more for validation, (N, 784) in [0, 1]."""
    images, labels = _fashion_mnist()
    chosen = np.random.default_rng(seed).permutation(len(images))[: rows + MOST_VALIDATION_ROWS]
    return _split(images[chosen].reshape(-1, 784) / np.float32(255), labels[chosen], rows)


def small_images(seed: int) -> Rows:
    """2000 images for training, (N, 3, 8, 8) in [0, 1]: Fashion-MNIST with a border, averaged over 4 × 4 pixels."""
    x, y, val_x, val_y = fashion_mnist(seed, rows=2000)

    def shrink(images: Array) -> Array:
        padded = np.pad(images.reshape(-1, 28, 28), ((0, 0), (2, 2), (2, 2)))
        return np.repeat(padded.reshape(-1, 1, 8, 4, 8, 4).mean((3, 5)), 3, axis=1)

    return shrink(x), y, shrink(val_x), val_y


def classification(seed: int, rows: int, features: int, train: int, **settings: Any) -> Rows:
    settings = {f"n_{key}" if key == "informative" else key: value for key, value in settings.items()}
    x, y = datasets.make_classification(n_samples=rows, n_features=features, random_state=seed, **settings)
    return _split(x, y, train)


def regression(seed: int, rows: int, features: int, train: int, state: int | None = None) -> Rows:
    x, y = datasets.make_regression(rows, features, random_state=seed if state is None else state)[:2]
    return _split(x, y, train)


def breast_cancer(seed: int) -> Rows:
    return _shuffled(*datasets.load_breast_cancer(return_X_y=True), train=455, seed=seed)


def iris(seed: int) -> Rows:
    return _shuffled(*datasets.load_iris(return_X_y=True), train=75, seed=2)


def line8(seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    slope, offset = rng.uniform(-8, 8, 2)
    x = rng.uniform(-8, 8, (16, 1))
    return _split(x, slope * x[:, 0] + offset + rng.uniform(-1, 1, 16), 8)


def line100(seed: int) -> Rows:
    x = np.stack([np.arange(100.0), np.ones(100)], 1)
    y = [2 * x[:, 0] + 4 + 10 * np.random.default_rng([seed, part]).uniform(0, 1, 100) for part in (0, 1)]
    return x, y[0], x, y[1]


def parabola4(seed: int) -> Rows:
    x = np.arange(4.0)
    return _alone(np.stack([x**2, x, np.ones(4)], 1), x**2)


def xor4(seed: int) -> Rows:
    return _alone(np.array([[1.0, 1], [1, 0], [0, 0], [0, 1]]), np.array([0.0, 1, 0, 1]))


def xor6(seed: int) -> Rows:
    return _alone(np.array([[1.0, 1], [0, 0], [1, 0], [0, 1], [1, 1], [0, 0]]), np.array([0.0, 0, 1, 1, 0, 0]))


def sine_one_class(seed: int) -> Rows:
    """Two neighbouring samples of a sine; every label is 1."""
    wave = np.sin(np.linspace(0, 12 * np.pi, 300))
    return _split(np.stack([wave[1:], wave[:-1]], 1), np.ones(299), 239)


def packets(seed: int) -> Rows:
    """21 rows of network packets, unscaled: two addresses as integers, ports, sizes, flags; small packets are 1."""
    rng = np.random.default_rng(seed)
    address, port = rng.integers(3_232_235_777, 3_232_236_030, (42, 2)), rng.integers(1024, 65536, (42, 2))
    size, flags = rng.integers(40, 1500, (42, 2)), rng.integers(0, 2, (42, 5))
    return _split(np.concatenate([address, port, size, flags], 1).astype(float), (size[:, 0] < 700).astype(float), 21)


def noise(seed: int) -> Rows:
    """Inputs and five targets in [0, 1], unrelated."""
    rng = np.random.default_rng(seed)
    return _split(rng.uniform(0, 1, (1200, 5)), rng.uniform(0, 1, (1200, 5)), 1000)


def census(seed: int) -> Rows:
    """14 columns on the scales of the Adult census with numbered categories; a quarter of the rows earn much."""
    rng = np.random.default_rng(seed)
    n = 5000
    age, education = rng.integers(17, 91, n), rng.integers(1, 17, n)
    hours = np.clip(rng.normal(40, 12, n), 1, 99).round()
    gain = np.where(rng.random(n) < 0.08, rng.uniform(1e3, 2e4, n), 0).round()
    loss = np.where(rng.random(n) < 0.05, rng.uniform(1e3, 3e3, n), 0).round()
    weight = np.exp(rng.normal(12.05, 0.55, n)).round()
    codes = [rng.integers(0, kinds, n) for kinds in (9, 16, 7, 15, 6, 5, 2, 42)]
    columns = [age, codes[0], weight, codes[1], education, *codes[2:7], gain, loss, hours, codes[7]]
    logit = 0.04 * (age - 40) + 0.35 * (education - 10) + 0.04 * (hours - 40) + 3e-4 * gain + codes[6] - 2.2
    return _split(np.stack(columns, 1).astype(float), (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int), 4000)


def constant_rows(seed: int) -> Rows:
    """Rows of 128 ones are 1, rows of 128 zeros are 0; 500 of each, and 100 for validation."""
    y = np.random.default_rng(seed).permutation(np.repeat([0.0, 1.0], 550))
    return _split(np.repeat(y[:, None], 128, 1), y, 1000)


def random_integers(seed: int) -> Rows:
    """Whole numbers up to 2000 that have nothing to do with the targets up to 4000."""
    rng = np.random.default_rng(seed)
    return _split(rng.integers(50, 2000, (100, 10)).astype(float), rng.integers(600, 4000, 100).astype(float), 50)


def second_input(seed: int) -> Rows:
    x = np.random.default_rng(seed).uniform(-1, 1, (11_000, 30))
    return _split(x, x[:, 1], 10_000)


def two_sequences(seed: int) -> Rows:
    """Two sequences of three steps with four features, and a target from 7 to 12 for every step: (2, 3, 1)."""
    rng = np.random.default_rng(seed)
    return _alone(rng.integers(1, 7, (2, 3, 4)).astype(float), np.arange(7.0, 13).reshape(2, 3, 1))


def two_boxes(seed: int, rows: int) -> Rows:
    """Points in [0.2, 0.4]² are 0, in [0.5, 0.7]² are 1."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat([0, 1], rows))
    return _split(rng.uniform(0, 0.2, (2 * rows, 2)) + np.where(y, 0.5, 0.2)[:, None], y, rows)


RECIPES: dict[str, Callable[..., Rows]] = {
    recipe.__name__: recipe
    for recipe in (
        blobs, circles, digits, fashion_mnist, small_images, classification, regression, breast_cancer, iris, line8,
        line100, parabola4, xor4, xor6, sine_one_class, packets, noise, census, constant_rows, random_integers,
        second_input, two_sequences, two_boxes,
    )
}  # fmt: skip
