"""Made-up data against the formulas that they are made by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import make_moons

from nnvis.config import schema
from nnvis.data import synthetic
from nnvis.errors import InputError

PLAIN = {"standardize": False, "val_fraction": 0.0}


def test_xor_class_is_the_sign_of_the_product(load: Any) -> None:
    train = load(kind="xor", noise=0.0, **PLAIN).train
    assert torch.equal(train.targets, (train.inputs.prod(dim=1) > 0).long())
    assert train.inputs.abs().max() <= 1


def test_spiral_arms_start_evenly_and_turn_as_often_as_asked(load: Any) -> None:
    train = load(kind="spirals", noise=0.0, classes=3, turns=2.0, **PLAIN).train
    x, y = train.inputs.double().numpy().T
    radius = np.hypot(x, y)
    start = (np.arctan2(y, x) / (2 * np.pi) - 2.0 * radius) * 3  # in arms
    np.testing.assert_allclose((start - train.targets.numpy() + 1.5) % 3, 1.5, atol=1e-3)
    assert radius.max() <= 1


def test_moons_and_circles_lie_on_their_curves(load: Any) -> None:
    moons = load(kind="moons", noise=0.0, **PLAIN).train
    centre = torch.tensor([[0.0, 0.0], [1.0, 0.5]])[moons.targets]
    assert torch.allclose((moons.inputs - centre).norm(dim=1), torch.tensor(1.0), atol=1e-5)
    circles = load(kind="circles", noise=0.0, factor=0.3, **PLAIN).train
    assert torch.allclose(circles.inputs.norm(dim=1), torch.tensor([1.0, 0.3])[circles.targets], atol=1e-5)


def test_blobs_spread_by_their_std(load: Any) -> None:
    train = load(kind="blobs", samples=6000, classes=3, std=0.5, **PLAIN).train
    for k in range(3):
        assert torch.allclose(train.inputs[train.targets == k].std(dim=0), torch.tensor(0.5), rtol=0.05)


def test_noise_is_a_standard_deviation(load: Any) -> None:
    sine = load(kind="sine", samples=5000, noise=0.2, **PLAIN).train
    assert (sine.targets - sine.inputs.sin()).std() == pytest.approx(0.2, rel=0.05)
    plane = load(kind="plane", samples=5000, noise=0.3, **PLAIN).train
    heights = 2 * plane.inputs[:, :1] - plane.inputs[:, 1:]
    assert (plane.targets - heights).std() == pytest.approx(0.3, rel=0.05)


def test_noisy_linear_has_as_many_weights_as_informative_inputs(load: Any) -> None:
    train = load(kind="noisy_linear", features=8, informative=3, noise=0.0, **PLAIN).train
    weights = np.linalg.lstsq(train.inputs.numpy(), train.targets.numpy(), rcond=None)[0]
    assert np.sum(np.abs(weights) > 1e-3) == 3


@pytest.mark.parametrize("length", [2, 7, 50])
def test_adding_target_is_the_sum_of_the_two_marked_values(length: int, load: Any) -> None:
    train = load(kind="adding", length=length, samples=500, **PLAIN).train
    values, marks = train.inputs.unbind(dim=2)
    assert torch.allclose((values * marks).sum(dim=1, keepdim=True), train.targets)
    assert torch.equal(marks[:, : length // 2].sum(dim=1), torch.ones(500))
    assert torch.equal(marks[:, length // 2 :].sum(dim=1), torch.ones(500))
    assert 0 <= values.min() <= values.max() < 1


def test_too_few_samples_for_the_classes(load: Any) -> None:
    with pytest.raises(InputError, match=r"^data: 2 rows, but none of class 'negative', expected rows of every class$"):
        load(kind="xor", samples=2, seed=3)


@pytest.mark.parametrize(("samples", "noise", "seed"), [(1000, 0.1, 0), (7, 0.0, 3), (2, 0.2, 5)])
def test_moons_are_those_of_scikit_learn(samples: int, noise: float, seed: int) -> None:
    section = schema.Moons(kind="moons", samples=samples, noise=noise)
    found = synthetic.moons(section, np.random.default_rng(seed))
    drawn = int(np.random.default_rng(seed).integers(2**31))
    points, labels = make_moons(samples, noise=noise, random_state=drawn)
    np.testing.assert_allclose(found.inputs, points, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(found.targets, labels)
