"""Every statistic against numpy in float64, where float32 under- or overflows, and without looking at a device."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nnvis.probe import native, statistics
from nnvis.probe.histograms import BINS, SAMPLE_SIZE, magnitude_counts, sample
from nnvis.record.vocabulary import HISTOGRAM_EDGES

CASES = {
    "plain": torch.randn(7, 5, 3, generator=torch.Generator().manual_seed(1)),
    "offset": 1000 + 1e-3 * torch.randn(4, 100, generator=torch.Generator().manual_seed(2)),
    "tiny": 1e-23 * torch.randn(50, generator=torch.Generator().manual_seed(3)),
    "huge": 1e30 * torch.randn(50, generator=torch.Generator().manual_seed(4)),
    "denormal": torch.full((9,), 1e-40),
    "zeros": torch.zeros(4, 4),
    "constant": torch.full((6,), 0.3),
    "single": torch.tensor([2.5]),
    "many": torch.randn(4099, generator=torch.Generator().manual_seed(8)),
    "many, offset": 50 + torch.randn(4099, generator=torch.Generator().manual_seed(9)),
    "many, huge": 1e25 * torch.randn(4099, generator=torch.Generator().manual_seed(10)),
    "one of another size": torch.cat([torch.full((300,), 1e-25), torch.tensor([1e-3])]),
    "bf16": torch.randn(64, generator=torch.Generator().manual_seed(5)).bfloat16(),
    "float64": 1e-200 * torch.randn(64, dtype=torch.float64, generator=torch.Generator().manual_seed(6)),
    "transposed": torch.randn(8, 9, generator=torch.Generator().manual_seed(7)).T,
}


@pytest.fixture(params=["compiled", "torch", "not looking"])
def looking(request, monkeypatch):
    """All ways to compute: the compiled kernels, torch's quick ones and their checks, and as on a device that must not
    be waited for."""
    if request.param == "compiled" and native.kernels() is None:
        pytest.skip("no C compiler")
    if request.param != "compiled":
        monkeypatch.setattr(native, "kernels", lambda: None)
    if request.param == "not looking":
        monkeypatch.setattr(statistics, "looking_is_free", lambda x: False)


def moments_of(x: torch.Tensor) -> statistics.Moments:
    return statistics.Moments(*sums_of(x)[: statistics.UNITS])


def sums_of(x: torch.Tensor, **options: Any) -> statistics.Sums:
    found = statistics.output_sums(x, **options)
    assert found is not None
    return found[0]


def counts_of(x: torch.Tensor, **options: Any) -> statistics.Counts:
    found = statistics.output_sums(x, unit_dim=1, **options)
    assert found is not None
    assert found[1] is not None
    return found[1]


def sample_of(x: torch.Tensor, size: int) -> np.ndarray:
    taken = sample(x, size)
    return taken.numpy() if isinstance(taken, torch.Tensor) else np.array(taken)


def std_of(found: statistics.Moments) -> float:
    return math.sqrt(float(found.squared_deviations) / max(float(found.size) - 1, 1))


@pytest.mark.parametrize("x", CASES.values(), ids=CASES)
def test_moments_are_those_of_numpy(x, looking):
    found = moments_of(x)
    expected = x.double().numpy()
    assert float(found.mean) == pytest.approx(expected.mean(), rel=1e-5)
    std = expected.std(ddof=1) if expected.size > 1 else 0.0
    assert std_of(found) == pytest.approx(std, rel=1e-4, abs=1e-300)
    assert float(found.absmax) == np.abs(expected).max()
    assert float(found.nonfinite) == 0


@pytest.mark.parametrize("x", CASES.values(), ids=CASES)
def test_norms_are_those_of_numpy(x, looking):
    expected = np.linalg.norm(x.double().numpy())
    assert math.sqrt(float(statistics.squared_norm(x))) == pytest.approx(expected, rel=1e-5, abs=0)
    (norm,) = statistics.norms([x])
    assert float(norm) == pytest.approx(expected, rel=1e-5, abs=0)


@pytest.mark.parametrize(("bad", "mean", "absmax"), [("nan", math.nan, math.nan), ("inf", math.inf, math.inf)])
def test_nonfinite_values_are_counted_and_never_dropped(bad, mean, absmax, looking):
    x = torch.ones(3, 4)
    x[1, 2] = x[0, 0] = float(bad)
    found = moments_of(x)
    assert float(found.nonfinite) == 2
    assert float(found.mean) == pytest.approx(mean, nan_ok=True)
    assert float(found.absmax) == pytest.approx(absmax, nan_ok=True)
    assert float(statistics.squared_norm(x)) == pytest.approx(mean, nan_ok=True)


@given(hnp.arrays(np.float32, st.integers(2, 40), elements=st.floats(-1e3, 1e3, width=32)), st.data())
def test_merged_moments_are_the_moments_of_both(values, data):
    cut = data.draw(st.integers(1, len(values) - 1))
    x = torch.tensor(values)
    merged = moments_of(x[:cut]).merge(moments_of(x[cut:]))
    exact = values.astype(np.float64)
    assert merged.mean == pytest.approx(exact.mean(), rel=1e-4, abs=1e-3)
    assert std_of(merged) == pytest.approx(exact.std(ddof=1), rel=1e-3, abs=1e-3)
    assert merged.absmax == np.abs(exact).max()


@pytest.mark.parametrize("non_negative", [False, True])
def test_units(looking, non_negative):
    x = torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.0, 3.0]])  # (N, U)
    image = torch.zeros(2, 3, 4, 4)  # (N, C, H, W)
    image[0, 1, 2, 3] = 5.0
    for output, expected in ((x if non_negative else -x, [0, 1, 2]), (image, [0, 1, 0])):
        assert [*counts_of(output, non_negative=non_negative)] == expected
        sums = sums_of(output, unit_dim=1, non_negative=non_negative)[statistics.UNITS : statistics.SATURATED]
        assert [float(n) for n in sums] == [3, sum(expected), np.count_nonzero(expected)]


def test_saturation(looking):
    near_the_bounds = torch.tensor([0.0, 0.02, 0.04, 0.5, 0.96, 0.98, 1.0])
    assert float(sums_of(near_the_bounds, bounds=(0.0, 1.0))[statistics.SATURATED]) == 4
    assert math.isnan(float(sums_of(near_the_bounds)[statistics.SATURATED]))


def test_counts_of_two_batches(looking):
    one, other = (counts_of(torch.tensor(half)) for half in ([[0.0, 1.0], [0.0, 2.0]], [[3.0, 0.0], [0.0, 0.0]]))
    assert statistics.both_counts(one, other).tolist() == [1, 2]
    assert statistics.both_counts(one, counts_of(torch.ones(5, 3))).tolist() == [0, 2, 5, 5, 5]


@pytest.mark.parametrize("shape", [(5, 3, 120, 130), (2, 3, 300, 301), (1, 3, 400, 401), (3, 200_000), (200_000, 3)])
def test_active_counts_of_outputs_larger_than_a_piece(shape):
    """A row may be larger than a piece itself."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).relu()
    counts = statistics.active_counts(x, 1, non_negative=True)
    others = tuple(d for d in range(len(shape)) if d != 1)
    assert counts.tolist() == np.count_nonzero(x.numpy(), axis=others).tolist()
    assert statistics.active_counts(-x, 1).tolist() == counts.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_magnitudes_are_binned_with_sign(dtype, looking):
    generator = torch.Generator().manual_seed(0)
    spread = torch.randn(500, generator=generator) * 10 ** torch.randint(-30, 30, (500,), generator=generator)
    special = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 0.5, 1.0, -1.0, -100.0, 3e38, float("nan"), float("-inf")])
    values = torch.cat([spread, special]).to(dtype)
    extremes = np.array([1e-300, -1e-300, 1e300, -1e300, np.inf])
    plain, extreme = magnitude_counts([[values.double().numpy()], [extremes]])
    taken = sample_of(values, size=10**6)
    assert magnitude_counts([[], [taken, taken]]).tolist() == [[0] * len(plain), (2 * plain).tolist()]
    exact = values.double().numpy()
    finite = exact[np.isfinite(exact) & (exact != 0)]
    half = BINS // 2
    magnitudes = HISTOGRAM_EDGES[half:]
    assert plain[half:BINS].tolist() == np.histogram(finite[finite > 0], magnitudes)[0].tolist()
    assert plain[half - 1 :: -1].tolist() == np.histogram(-finite[finite < 0], magnitudes)[0].tolist()
    assert plain[BINS:].tolist() == [(exact == 0).sum(), 2]  # zeros; NaN and -Inf
    assert extreme.nonzero()[0].tolist() == [0, half - 1, half, BINS - 1, BINS + 1]


def test_the_edges_are_powers_of_ten_that_16_bits_hold():
    edges = HISTOGRAM_EDGES.astype(np.float32)
    assert edges.astype(np.float64).tolist() == HISTOGRAM_EDGES.tolist()
    assert not (edges.view(np.uint32) & 0xFFFF).any()
    inner = np.log10(HISTOGRAM_EDGES[BINS // 2 + 1 : -1])
    assert np.abs(inner - inner.round()).max() < 0.002


def test_every_kth_value_is_counted(looking):
    values = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    expected = magnitude_counts([[values.double().numpy()[::7]]])  # 5 and 6 share a factor with 4000, 4 is too few
    assert magnitude_counts([[sample_of(values, size=800)]]).tolist() == expected.tolist()


@given(st.integers(1, 50_000))
def test_a_sample_is_small_and_favours_no_column(size):
    taken = torch.from_numpy(sample_of(torch.arange(size, dtype=torch.float64), SAMPLE_SIZE)).long()
    assert 1 <= len(taken) <= SAMPLE_SIZE
    if size > SAMPLE_SIZE:
        columns = torch.bincount(taken % 8, minlength=8)
        assert columns.min() >= len(taken) // 8 - 1 or size % 2
