"""Real data that are on disk once scikit-learn is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnvis.data.source import Source

if TYPE_CHECKING:
    from nnvis.config import schema


def digits(section: schema.Digits, rng: np.random.Generator) -> Source:
    """1,797 images (1, 8, 8) with 17 levels of grey, brought into [0, 1]."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    return Source(bunch.images[:, None], bunch.target, tuple(map(str, bunch.target_names)), full_scale=16)


def breast_cancer(section: schema.BreastCancer, rng: np.random.Generator) -> Source:
    """569 rows, 30 inputs, 2 classes."""
    from sklearn.datasets import load_breast_cancer

    return _classification(load_breast_cancer())


def wine(section: schema.Wine, rng: np.random.Generator) -> Source:
    """178 rows, 13 inputs, 3 classes."""
    from sklearn.datasets import load_wine

    return _classification(load_wine())


def iris(section: schema.Iris, rng: np.random.Generator) -> Source:
    """150 rows, 4 inputs, 3 classes."""
    from sklearn.datasets import load_iris

    return _classification(load_iris())


def diabetes(section: schema.Diabetes, rng: np.random.Generator) -> Source:
    """442 rows, 10 inputs in their own units: scikit-learn's usual scaling has seen the rows held out."""
    from sklearn.datasets import load_diabetes

    bunch: Any = load_diabetes(scaled=False)
    return Source(bunch.data, bunch.target[:, None], feature_names=tuple(bunch.feature_names))


def _classification(bunch: Any) -> Source:
    return Source(bunch.data, bunch.target, tuple(map(str, bunch.target_names)), tuple(map(str, bunch.feature_names)))
