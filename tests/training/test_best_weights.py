import gc
import os
import warnings

import pytest
import torch
from torch import nn

from nnvis.errors import RunError
from nnvis.training.best_weights import BestWeights

WEIGHTS = {
    "transposed": torch.randn(3, 4).t(),
    "channels last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "counter": torch.tensor(7),
    "empty": torch.empty(0, 3),
    "half": torch.randn(5).bfloat16(),
    "complex": torch.randn(2, dtype=torch.complex64),
    "flags": torch.tensor([True, False]),
    "nothing finite": torch.tensor([float("nan"), float("-inf")]),
    "parameter": nn.Parameter(torch.randn(2)),
    "sparse": torch.eye(3).to_sparse(),
    "conjugated": torch.randn(3, dtype=torch.complex64).conj(),
    "negated": torch._neg_view(torch.randn(3)),  # pyright: ignore[reportPrivateImportUsage]
    "extra state": {"k": 1},
}


def test_what_is_kept_comes_back_to_the_bit(tmp_path):
    best = BestWeights(tmp_path)
    assert best.read() is None
    best.keep({**WEIGHTS, "counter": torch.tensor(6), "empty": torch.ones(100)})  # longer than what comes next
    best.keep(WEIGHTS)
    for _ in range(2):
        kept = best.read()
        assert kept is not None
        assert list(kept) == list(WEIGHTS)
        for name, value in WEIGHTS.items():
            if not isinstance(value, torch.Tensor):
                assert kept[name] == value
                continue
            assert (kept[name].dtype, kept[name].shape) == (value.dtype, value.shape), name
            torch.testing.assert_close(kept[name], value.detach(), rtol=0, atol=0, equal_nan=True, check_stride=False)


def test_what_is_kept_does_not_follow_the_network(tmp_path):
    weights, best = {"w": torch.ones(3), "s": torch.eye(3).to_sparse()}, BestWeights(tmp_path)
    best.keep(weights)
    weights["w"].zero_()
    weights["s"].zero_()
    kept = best.read()
    assert kept is not None
    assert kept["w"].tolist() == [1, 1, 1]
    assert kept["s"].to_dense().trace() == 3


def test_nothing_is_left_behind(tmp_path):
    best = BestWeights(tmp_path)
    best.keep(WEIGHTS)
    with warnings.catch_warnings(action="error"):
        del best
        gc.collect()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
@pytest.mark.parametrize("size", [1, 10_000])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, size):
    full = open("/dev/full", "r+b", buffering=0)  # noqa: SIM115 (closed with what keeps the weights)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **place: full)
    best = BestWeights(tmp_path)
    with pytest.raises(RunError, match="No space left on device; free some space"):
        best.keep({"w": torch.ones(size)})
    assert best.read() is None
    del best
    gc.collect()
    assert full.closed


def test_weights_that_are_cut_off_are_no_weights(tmp_path):
    best = BestWeights(tmp_path)
    best.keep({"w": torch.ones(1000)})
    best._file.truncate(100)
    with pytest.raises(RunError, match="cut off"):
        best.read()
