"""Paired intervals and Holm's correction against numbers worked out by hand, and against scipy.stats."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nnvis.comparison import difference, holm


def test_an_interval_by_hand() -> None:
    # differences 1, 2, 3: mean 2, s = 1, error 1/√3; t(0.975, 2) = 4.302653; t = 3.4641, p = 0.0741799
    gap = difference({0: 2.0, 1: 4.0, 2: 6.0}, {0: 1.0, 1: 2.0, 2: 3.0})
    half = 4.302653 / math.sqrt(3)
    assert (gap.mean, gap.low, gap.high) == pytest.approx((2, 2 - half, 2 + half), abs=1e-6)
    assert gap.p == pytest.approx(0.0741799, abs=1e-6)
    assert gap.seeds == (0, 1, 2)
    assert not gap.excludes_zero
    assert gap.reversed.low == -gap.high


def test_only_shared_finite_seeds_count() -> None:
    a = {0: 1.0, 1: 5.0, 3: math.nan, 4: 2.0, 5: 3.0}
    b = {4: 1.0, 0: 0.5, 2: 9.0, 3: 1.0, 5: math.inf}
    gap = difference(a, b)
    assert gap.seeds == (0, 4)
    assert gap.mean == pytest.approx(0.75)


@pytest.mark.parametrize(("a", "mean"), [({}, math.nan), ({3: 1.5}, 0.5), ({7: 1.5}, math.nan)])
def test_fewer_than_two_shared_seeds_have_no_interval(a: dict[int, float], mean: float) -> None:
    gap = difference(a, {3: 1.0, 4: 2.0})
    assert gap.mean == pytest.approx(mean, nan_ok=True)
    assert np.isnan([gap.low, gap.high, gap.p]).all()
    assert not gap.judged
    assert not gap.excludes_zero


def test_ties() -> None:
    for a, mean in [({0: 0.5, 1: 0.75}, 0), ({0: 0.6, 1: 0.85}, 0.1), ({0: 0.4, 1: 0.65, 2: 0.2}, -0.1)]:
        gap = difference(a, {0: 0.5, 1: 0.75, 2: 0.3})
        assert gap.mean == pytest.approx(mean, abs=1e-12)
        assert np.isnan([gap.low, gap.high, gap.p]).all()
        assert (gap.constant, gap.judged, gap.excludes_zero) == (True, False, False)
    assert difference({0: 0.1 + 0.2, 1: 0.5}, {0: 0.3, 1: 0.5}).mean == 0  # but for rounding
    assert not difference({0: 1.0}, {0: 0.5}).constant
    assert difference({0: 1.0, 1: 1.0 + 1e-6}, {0: 0.5, 1: 0.5}).judged


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=2, max_size=8))
def test_as_scipy_has_it(pairs: list[tuple[float, float]]) -> None:
    gaps = np.array([a - b for a, b in pairs])
    if gaps.std() <= max(1e-6 * np.abs(gaps).max(), 1e-12 * np.abs(pairs).max()):
        return  # scipy warns of cancellation
    gap = difference({i: a for i, (a, _) in enumerate(pairs)}, {i: b for i, (_, b) in enumerate(pairs)})
    expected: Any = stats.ttest_1samp(gaps, 0)
    interval = expected.confidence_interval(0.95)
    assert gap.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    assert (gap.low, gap.high) == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-6)


def test_holm_by_hand() -> None:
    # sorted 0.01, 0.02, 0.03, 0.04: × 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.04, and none below the one before it
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.9]) == pytest.approx([1, 1])
    assert holm([math.nan, 0.01, 0.02]) == pytest.approx([math.nan, 0.02, 0.02], nan_ok=True)
    assert holm([math.nan]) == pytest.approx([math.nan], nan_ok=True)
    assert holm([]).shape == (0,)
