"""Numbers and names as people write them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import LONG

from nnvis.figures.scales import log_limits, log_ticks, tick_words, value_kinds
from nnvis.figures.words import count, listing, number, percent, plural, power, shorten


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"), (0.0812, "0.0812"), (0.081234, "0.0812"), (2.30259, "2.3"), (-1.5, "−1.5"), (1234.4, "1,230"),
        (1e-9, "10⁻⁹"), (3.1e-9, "3×10⁻⁹"), (9.7e-10, "10⁻⁹"), (-1e20, "−10²⁰"), (1.5e4, "2×10⁴"),
        (math.nan, "NaN"), (math.inf, "Inf"), (-math.inf, "−Inf"), (5e-324, "5×10⁻³²⁴"),
    ],
)  # fmt: skip
def test_number(value: float, words: str) -> None:
    assert number(value) == words


@pytest.mark.parametrize(
    ("value", "words"), [(0, "0"), (950, "950"), (12_480, "12.5k"), (999_600, "1M"), (1_200_000, "1.2M"), (7e9, "7B")]
)
def test_count(value: int, words: str) -> None:
    assert count(int(value)) == words


@pytest.mark.parametrize(
    ("share", "words"),
    [(0, "0%"), (1e-6, "<0.1%"), (0.62, "62%"), (0.98234, "98.2%"), (0.99999, ">99.9%"), (1, "100%")],
)
def test_percent(share: float, words: str) -> None:
    assert percent(share) == words


def test_small_words() -> None:
    assert [power(10.0**e) for e in (-9, -1, 0, 1, 3)] == ["10⁻⁹", "10⁻¹", "1", "10", "10³"]
    assert (plural(1, "layer"), plural(1200, "layer")) == ("1 layer", "1,200 layers")
    assert listing("abcde") == "a, b, c and 2 more"


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["linear1", "linear2", "output"], ["linear1", "linear2", "output"]),
        ([LONG.format(0), LONG.format(11)], ["0.self_attn.out_proj", "11.self_attn.out_proj"]),
        (["transformer.embedding", LONG.format(3)], ["embedding", "e.l.3.self_attn.out_proj"]),
        (["block1.self_attn.out_proj_", "norm"], ["b1.self_attn.out_proj_", "norm"]),
        ([LONG.format(0)], ["t.e.l.0.s.out_proj"]),
        (
            ["a_very_long_name_of_a_layer_1", "a_very_long_name_of_a_layer_2"],
            ["a_very_l…me_of_a_layer_1", "a_very_l…me_of_a_layer_2"],
        ),
    ],
)
def test_shorten(names: list[str], short: list[str]) -> None:
    assert shorten(names) == short


@given(st.lists(st.text("ab.1_", min_size=1, max_size=60), unique=True, max_size=12))
def test_shortened_names_stay_distinct_and_short(names: list[str]) -> None:
    short = shorten(names, limit=16)
    assert len(set(short)) == len(names)
    assert all(len(label) <= 16 + len(" (12)") for label in short)


@given(st.floats(-300, 300), st.floats(0.0, 80))
def test_log_ticks_are_few_round_and_inside(low: float, span: float) -> None:
    limits = log_limits([10.0**low, 10.0 ** min(low + span, 305)])
    ticks = log_ticks(*limits)
    assert 1 <= len(ticks) <= 8
    assert all(limits[0] - 1e-6 <= math.log10(tick) <= limits[1] + 1e-6 for tick in ticks)
    assert len(set(tick_words(ticks))) == len(ticks)


def test_value_kinds_and_limits_leave_nothing_out() -> None:
    values = np.array([1e-30, 0.0, -0.0, math.nan, math.inf, -math.inf, 1e30, math.nan])
    present = np.array([True] * 7 + [False])
    assert value_kinds(values, present).tolist() == [0, 1, 1, 2, 3, 3, 0, 4]
    assert log_limits(values) == pytest.approx((-30, 30))
    assert log_limits(np.zeros(3)) == (-1, 0)
