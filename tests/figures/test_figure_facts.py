"""The claims in titles, on curves whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnvis.figures import facts
from nnvis.record.vocabulary import HISTOGRAM_EDGES

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("values", "largest", "index"),
    [
        ([3, 1, 2], False, 1),
        ([3, 1, 1], False, 1),
        ([NAN, 5, INF], False, 1),
        ([1, 3, NAN], True, 1),
        ([NAN], False, None),
    ],
)
def test_best(values: list[float], largest: bool, index: int | None) -> None:
    assert facts.best(values, largest=largest) == index


FALLING = [2.0, 1.5, 1.0, 0.8, 0.6, 0.5, 0.4]


@pytest.mark.parametrize(
    ("train", "val", "onset"),
    [
        (FALLING, [2.0, 1.5, 1.0, 1.2, 1.3, 1.4, 1.5], 2),
        (FALLING, [2.0, 1.5, 1.0, 1.05, 1.05, 1.05, 1.05], None),  # rose by 5% only
        (FALLING, [2.0, 1.5, 1.0, 9.0, 1.0, 1.0, 1.0], None),  # one bad evaluation
        ([2.0, 1.5, 1.0, 1.2, 1.3, 1.4, 1.5], [2.0, 1.5, 1.0, 1.2, 1.3, 1.4, 1.5], None),  # training rose as well
        (FALLING, [2.0, 1.8, 1.6, 1.4, 1.0, 1.2, 1.5], None),  # two evaluations after the best prove nothing
        (FALLING, [NAN] * 7, None),
    ],
)
def test_overfitting_onset(train: list[float], val: list[float], onset: int | None) -> None:
    assert facts.overfitting_onset(train, val) == onset


@pytest.mark.parametrize(
    ("losses", "chance", "stuck"),
    [
        ([2.31, 2.3, 2.31, 2.3, 2.3, 2.3], None, True),
        ([2.3, 2.0, 1.5, 1.0, 0.8, 0.7], None, False),
        ([2.9, 2.5, 2.31, 2.3, 2.3, 2.3], None, False),
        ([2.9, 2.5, 2.31, 2.3, 2.3, 2.3], math.log(10), True),  # it only learned to guess
        ([2.3, 2.3, 2.3, 1.0, 2.3, 2.3], math.log(10), True),  # one lucky batch
        ([2.3, 2.3], None, False),  # too short to say
    ],
)
def test_never_learned(losses: list[float], chance: float | None, stuck: bool) -> None:
    assert facts.never_learned(losses, chance) is stuck


@pytest.mark.parametrize(
    ("val", "improving"),
    [(np.linspace(2, 1, 10), True), ([1.0] * 10, False), ([2, 1, 0.5, 0.49, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6], False)],
)
def test_still_improving(val: list[float], improving: bool) -> None:
    assert facts.still_improving(val) is improving


def test_a_chain_of_known_gain_gives_its_ratio_and_factor() -> None:
    gain, depth = 0.25, 20
    norms = 3.0 * gain ** np.arange(depth)[::-1]  # the first layer, farthest from the loss, gets gain ** (depth - 1)
    assert facts.first_to_last(norms) == pytest.approx(gain ** (depth - 1))
    assert facts.factor_per_layer(norms) == pytest.approx(gain)
    norms[3], norms[7], norms[9] = 0, NAN, INF
    assert facts.factor_per_layer(norms) == pytest.approx(gain)


@pytest.mark.parametrize(("values", "ratio"), [([0, 2], 0), ([2, 0], INF), ([0, 0], NAN), ([NAN, 1], NAN), ([1], NAN)])
def test_first_to_last_at_its_ends(values: list[float], ratio: float) -> None:
    assert facts.first_to_last(values) == pytest.approx(ratio, nan_ok=True)


def test_growth_is_of_the_median_layer() -> None:
    assert facts.growth([[1, 2, 3], [NAN, NAN, NAN], [10, 200, 3000]]) == 100
    assert facts.growth([[1, 2, 4], [INF, 20, 0], [NAN, NAN, 0]]) == 10
    assert facts.growth([[NAN, 0]]) == 1


def test_running_median_forgives_one_spike_and_skips_nan() -> None:
    assert facts.running_median([1, 9, 1, 1, NAN, 3], 3).tolist() == [5, 1, 1, 1, 2, 3]
    assert np.isnan(facts.running_median([NAN, NAN, NAN], 3)).all()


def test_median_magnitude_is_interpolated_in_the_logarithm() -> None:
    rng = np.random.default_rng(0)
    values = rng.choice([-1, 1], 200_000) * 10 ** rng.uniform(-2.5, 0.5, 200_000)  # median magnitude 0.1
    counts = np.histogram(values, HISTOGRAM_EDGES)[0]
    assert facts.median_magnitude(counts, HISTOGRAM_EDGES) == pytest.approx(0.1, rel=0.05)
    assert math.isnan(facts.median_magnitude(0 * counts, HISTOGRAM_EDGES))


@pytest.mark.parametrize(
    ("values", "log"),
    [
        ([0.01, 1], True),
        ([0.5, 1], False),
        ([0.0, 100], False),
        ([-1, 100], False),
        ([0.01, NAN, 1], True),
        ([], False),
    ],
)
def test_wants_log(values: list[float], log: bool) -> None:
    assert facts.wants_log(values) is log


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.01, 0.3))
def test_spread_out_keeps_order_distance_and_range(centres: list[float], gap: float) -> None:
    placed = np.array(facts.spread_out(centres, gap))
    order = np.argsort(centres, kind="stable")
    fits = min(gap, 1 / max(len(centres) - 1, 1))
    assert (np.diff(placed[order]) >= fits - 1e-9).all()
    assert placed.min() >= -1e-9
    assert placed.max() <= 1 + 1e-9


def test_spread_out_moves_no_more_than_it_must() -> None:
    assert facts.spread_out([0.1, 0.5, 0.9], 0.2) == pytest.approx([0.1, 0.5, 0.9])
    assert facts.spread_out([0.5, 0.5], 0.2) == pytest.approx([0.4, 0.6])
    assert facts.spread_out([0.95, 1.0], 0.2) == pytest.approx([0.8, 1.0])


@pytest.mark.parametrize(
    ("sequence", "groups"),
    [
        ("abc", [(0, 1, 1), (1, 1, 1), (2, 1, 1)]),
        ("xabababy", [(0, 1, 1), (1, 2, 3), (7, 1, 1)]),
        ("aab", [(0, 1, 1), (1, 1, 1), (2, 1, 1)]),  # two of a kind are drawn
        ("abcdabcd", [(0, 4, 2)]),
        ("aaaa", [(0, 1, 4)]),
    ],
)
def test_repeats(sequence: str, groups: list[tuple[int, int, int]]) -> None:
    assert facts.repeats(sequence) == groups


@given(st.lists(st.sampled_from("ab"), max_size=30))
def test_repeats_loses_nothing(sequence: list[str]) -> None:
    unfolded = [x for start, period, times in facts.repeats(sequence) for x in sequence[start : start + period] * times]
    assert unfolded == sequence


@pytest.mark.parametrize(
    ("factors", "share"), [([1, 1, 0.5, 0.25], 0.5), ([1 - 1e-6, 1], 0), ([NAN, 0.5], 1), ([], NAN)]
)
def test_clipped_share(factors: list[float], share: float) -> None:
    assert facts.clipped_share(factors) == pytest.approx(share, nan_ok=True)
