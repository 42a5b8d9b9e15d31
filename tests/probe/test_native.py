"""The compiled kernels: which tensors they take, that they say what numpy says, and that all goes on without them."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from nnvis.probe import native
from nnvis.probe.parameters import Before
from nnvis.probe.statistics import UNITS, place_of

needs_kernels = pytest.mark.skipif(native.kernels() is None, reason="no C compiler")
ANY = hnp.arrays(np.float32, st.integers(1, 700), elements=st.floats(width=32, allow_subnormal=False))


def place(x: Tensor) -> int:
    found = place_of(x)
    assert found == x.data_ptr() != 0
    return found


def output_of(x: Tensor, form: native.Form) -> tuple[Any, Any] | None:
    sums, counts = native.Row(), form.counts and form.counts()
    return (sums, counts) if native.kernels().output(place(x), form.place, counts, sums) else None


@needs_kernels
@given(ANY)
def test_moments_and_squares_of_any_values(values):
    x, exact = torch.from_numpy(values), values.astype(np.float64)
    squares = native.kernels().squares(place(x), len(values))
    found = output_of(x, native.Form(x.shape))
    if not np.isfinite(exact).all():
        assert not np.isfinite(squares)
        assert found is None
        return
    assert found is not None
    _, mean, deviations, absmax = found[0][: UNITS - 1]
    assert squares == pytest.approx((exact**2).sum(), rel=1e-5, abs=0)
    assert absmax == np.abs(exact).max()
    size = np.abs(exact).max()
    assert mean == pytest.approx(exact.mean(), rel=1e-5, abs=1e-7 * size)
    assert deviations == pytest.approx(((exact - exact.mean()) ** 2).sum(), rel=1e-4, abs=1e-12 * size * size)


@needs_kernels
@pytest.mark.parametrize(
    ("shape", "unit_dim"),
    [
        ((4, 5, 6), 0),
        ((4, 5, 6), 1),
        ((4, 5, 6), 2),
        ((7, 63), 1),
        ((7, 64), 1),
        ((7, 65), 1),
        ((3, 5, 150), 2),
        ((9,), 0),
    ],
)
def test_active_values_of_units_in_any_dimension(shape, unit_dim):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).relu()
    others = tuple(d for d in range(x.dim()) if d != unit_dim)
    found = output_of(x, native.Form(x.shape, unit_dim))
    assert found is not None
    assert found[1] is not None
    assert [*found[1]] == np.count_nonzero(x.numpy(), axis=others).tolist()


@needs_kernels
def test_where_tensors_are_fake_nothing_is_written():
    parameter = nn.Parameter(torch.ones(6))
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(RuntimeError, match="tensors are fake here"):
        Before({0: parameter})


@needs_kernels
def test_a_parameter_that_is_turned_around_has_moved():
    parameter = nn.Parameter(torch.arange(9.0).view(3, 3))
    before = Before({0: parameter})
    before.remember()
    parameter.data = parameter.data.t()  # in the same memory
    with torch.no_grad():
        assert before.distances() == {0: pytest.approx(2 * (2**2 + 4**2 + 2**2) ** 0.5 / 2**0.5)}


@needs_kernels
def test_another_default_dtype_changes_nothing():
    p = {0: nn.Parameter(torch.ones(6))}
    torch.set_default_dtype(torch.float64)
    try:
        before = Before(p)
        before.remember()
        p[0].data.mul_(3)
        assert before.distances() == {0: pytest.approx(24**0.5)}
    finally:
        torch.set_default_dtype(torch.float32)


@needs_kernels
def test_norms_copy_and_distances_tell_how_far_each_has_moved():
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(size, generator=generator) for size in (1, 17, 5000)]
    places, sizes = [place(t) for t in tensors], [t.numel() for t in tensors]
    before = torch.cat(tensors)
    copies = torch.empty(len(before))
    known = native.Places(tensors, places)
    assert known.norms(copies) == pytest.approx([t.double().norm().item() for t in tensors], rel=1e-6)
    assert torch.equal(copies, before)
    moves = [1e-3 * torch.randn(size, generator=generator) for size in sizes]
    for tensor, move in zip(tensors, moves, strict=True):
        tensor += move
    expected = [(t - b).double().norm().item() for t, b in zip(tensors, before.split(sizes), strict=True)]
    assert known.distances(copies) == pytest.approx(expected, rel=1e-6)


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_a_parameter_that_has_got_another_tensor_since_the_last_step_is_found_again(dtype):
    parameter = nn.Parameter(torch.ones(3, 4))
    before = Before({0: parameter})
    before.remember()
    parameter.data = torch.full((3, 4), 2.0, dtype=dtype)
    assert before.remember() == {0: pytest.approx(48**0.5)}
    parameter.data += 1
    assert before.distances() == {0: pytest.approx(12**0.5)}


def test_what_had_no_values_at_first_is_measured_once_it_has():
    parameter = nn.Parameter(torch.ones(3, device="meta"))
    before = Before({0: parameter})
    assert before.remember() == {}
    with torch.no_grad():
        torch.utils.swap_tensors(parameter, nn.Parameter(torch.ones(3)))
    assert before.remember() == {0: pytest.approx(3**0.5)}


@pytest.mark.parametrize("compiled", [True, False])
def test_a_parameter_that_gets_another_tensor_has_moved_to_it(compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(native, "kernels", lambda: None)
    generator = torch.Generator().manual_seed(0)
    shapes = {0: (3, 4), 2: (200, 300), 5: (7,)}  # by position: small, large, small
    parameters = {i: nn.Parameter(torch.randn(shape, generator=generator)) for i, shape in shapes.items()}
    was = {i: p.detach().clone() for i, p in parameters.items()}
    before = Before(parameters)
    assert before.remember() == pytest.approx({i: v.norm().item() for i, v in was.items()}, rel=1e-5)
    with torch.no_grad():
        for p in parameters.values():
            p.data = p.data + torch.randn(p.shape, generator=generator)  # in other memory
        distances = before.distances()
    assert distances == pytest.approx({i: (p - was[i]).norm().item() for i, p in parameters.items()}, rel=1e-5)


@needs_kernels
def test_only_plain_blocks_of_float32_are_taken():
    with FakeTensorMode():
        fake = torch.randn(3)
    odd = [
        fake,
        torch.randn(3, dtype=torch.float64),
        torch.randn(3, dtype=torch.bfloat16),
        torch.randn(3, 4).t(),
        torch.randn(3, 4)[:, ::2],
        torch.empty(0),
        torch.empty(3, device="meta"),
        torch.eye(3).to_sparse(),
        torch.randn(3).to_mkldnn(),
        torch._neg_view(torch.randn(3)),  # pyright: ignore[reportPrivateImportUsage]
        torch._efficientzerotensor(3),  # pyright: ignore[reportPrivateImportUsage]
        torch.randn(2, dtype=torch.complex64),
        torch.randn(native.MOST_VALUES + 1),
    ]
    assert [place_of(x) for x in odd] == [0] * len(odd)


@needs_kernels
def test_with_many_threads_torch_reads_large_tensors(monkeypatch):
    small, large = torch.randn(native.SMALL), torch.randn(native.SMALL + 1)
    assert [bool(place_of(x)) for x in (small, large)] == [True, torch.get_num_threads() <= native.FEW_THREADS]
    monkeypatch.setattr(torch, "get_num_threads", lambda: native.FEW_THREADS + 1)
    assert [bool(place_of(x)) for x in (small, large)] == [True, False]


@needs_kernels
@pytest.mark.parametrize("transform", ["vmap", "grad"])
def test_what_a_function_transform_wraps_has_no_place(transform):
    seen = []

    def look(x: Tensor) -> Tensor:
        with pytest.raises(RuntimeError):
            seen.append(place_of(x))
        return x.sum()

    if transform == "vmap":
        torch.func.vmap(look)(torch.randn(3, 4))
    else:
        torch.func.grad(look)(torch.randn(3))
    assert not seen


@needs_kernels
def test_it_is_compiled_once_into_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = Path(native.__file__).with_name("kernels.c")
    library = native._compiled(source)
    assert list((tmp_path / "nnvis").iterdir()) == [library]
    made = library.stat().st_mtime_ns
    assert native._compiled(source) == library
    assert library.stat().st_mtime_ns == made
    assert ctypes.PyDLL(str(library)).squares


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NNVIS_NATIVE", "0"),
        ("CC", "false"),
        ("CC", "/nowhere/cc"),
        ("CC", "'"),
        ("CC", "cc -fvisibility=hidden"),
        ("XDG_CACHE_HOME", "/dev/null"),
    ],
)
def test_without_a_compiler_or_a_place_torch_computes(variable, value, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(variable, value)
    assert native.kernels.__wrapped__() is None
