"""Data made up on the spot, with answers known beforehand: the tasks on which a figure explains itself.

Each builder takes its config section and a generator, and returns a `Source`. Inputs are (N, F), but for
`adding`, whose inputs are sequences (N, T, 2). `noise` is always a standard deviation in the units drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from nnvis.data.source import FloatArray, IntArray, Source

if TYPE_CHECKING:
    from nnvis.config import schema

PLANE_SLOPES = (2.0, -1.0)


def moons(section: schema.Moons, rng: np.random.Generator) -> Source:
    """Two interleaved half circles of radius 1: those of scikit-learn's `make_moons`, whose import takes a second."""
    generator = np.random.RandomState(_legacy_seed(rng))
    upper = section.samples // 2
    angles = [np.linspace(0, np.pi, each) for each in (upper, section.samples - upper)]
    x = np.concatenate([np.cos(angles[0]), 1 - np.cos(angles[1])])
    y = np.concatenate([np.sin(angles[0]), 0.5 - np.sin(angles[1])])
    order = np.arange(section.samples)
    generator.shuffle(order)
    points = np.stack([x, y], axis=1)[order]
    points += generator.normal(scale=section.noise, size=points.shape)
    return _points(points, (order >= upper).astype(np.int64), ("upper", "lower"))


def circles(section: schema.Circles, rng: np.random.Generator) -> Source:
    """A circle of radius `factor` inside a circle of radius 1."""
    from sklearn.datasets import make_circles

    seed = _legacy_seed(rng)
    drawn = make_circles(section.samples, noise=section.noise, factor=section.factor, random_state=seed)
    points, labels = cast(Any, drawn)
    return _points(points, labels, ("outer", "inner"))


def xor(section: schema.Xor, rng: np.random.Generator) -> Source:
    """Points of the square [-1, 1]²; the class is the sign of x·y, taken before the noise moves the point."""
    points = rng.uniform(-1, 1, (section.samples, 2))
    labels = (points.prod(axis=1) > 0).astype(np.int64)
    return _points(points + rng.normal(0, section.noise, points.shape), labels, ("negative", "positive"))


def spirals(section: schema.Spirals, rng: np.random.Generator) -> Source:
    """Arms from the centre to radius 1, `turns` times round; arm k starts at an angle of 2π·k/classes."""
    labels = np.arange(section.samples) % section.classes
    radius = rng.uniform(0, 1, section.samples)
    angle = 2 * np.pi * (section.turns * radius + labels / section.classes)
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    names = tuple(f"arm {k}" for k in range(section.classes))
    return _points(points + rng.normal(0, section.noise, points.shape), labels, names)


def blobs(section: schema.Blobs, rng: np.random.Generator) -> Source:
    """Gaussian clusters around centres drawn from [-10, 10]^features."""
    from sklearn.datasets import make_blobs

    seed = _legacy_seed(rng)
    drawn = make_blobs(
        section.samples, section.features, centers=section.classes, cluster_std=section.std, random_state=seed
    )
    points, labels = cast(Any, drawn)
    return Source(points, labels, tuple(f"blob {k}" for k in range(section.classes)), _numbered(section.features))


def sine(section: schema.Sine, rng: np.random.Generator) -> Source:
    """y = sin(x) for x in [-2π, 2π], plus noise."""
    x = rng.uniform(-2 * np.pi, 2 * np.pi, (section.samples, 1))
    return Source(x, np.sin(x) + rng.normal(0, section.noise, x.shape), feature_names=("x",))


def plane(section: schema.Plane, rng: np.random.Generator) -> Source:
    """z = 2x - y over the square [-1, 1]², plus noise."""
    points = rng.uniform(-1, 1, (section.samples, 2))
    heights = (points @ PLANE_SLOPES)[:, None]
    return Source(points, heights + rng.normal(0, section.noise, heights.shape), feature_names=("x", "y"))


def noisy_linear(section: schema.NoisyLinear, rng: np.random.Generator) -> Source:
    """A random linear map of standard normal inputs, of which all but `informative` have weight 0, plus noise."""
    weights = np.zeros((section.features, 1))
    weights[rng.choice(section.features, section.informative, replace=False)] = rng.normal(
        size=(section.informative, 1)
    )
    inputs = rng.normal(size=(section.samples, section.features))
    targets = inputs @ weights
    return Source(
        inputs, targets + rng.normal(0, section.noise, targets.shape), feature_names=_numbered(section.features)
    )


def adding(section: schema.Adding, rng: np.random.Generator) -> Source:
    """Per step a value from [0, 1) and a mark that is 1 twice, once in each half; the target is the marked values' sum.

    Guessing 1 leaves a mean squared error of 1/6 (Hochreiter & Schmidhuber 1997, experiment 4, with one-sided values).
    """
    rows, half = np.arange(section.samples), section.length // 2
    values = rng.random((section.samples, section.length))
    first = rng.integers(0, half, section.samples)
    second = rng.integers(half, section.length, section.samples)
    marks = np.zeros_like(values)
    marks[rows, first] = marks[rows, second] = 1
    targets = values[rows, first] + values[rows, second]
    return Source(np.stack([values, marks], axis=2), targets[:, None], feature_names=("value", "mark"))


def _points(points: FloatArray, labels: IntArray, classes: tuple[str, ...]) -> Source:
    return Source(points, labels, classes, ("x", "y"))


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"x{k}" for k in range(count))


def _legacy_seed(rng: np.random.Generator) -> int:
    """A seed for scikit-learn, which takes no `Generator`."""
    return int(rng.integers(2**31))
