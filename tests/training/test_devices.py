"""Devices and threads: what is there, said where it is not."""

from __future__ import annotations

import pytest
import torch

from nnvis.errors import InputError
from nnvis.training import devices
from nnvis.training.devices import cpu_threads, resolve_device, resolve_precision


@pytest.mark.parametrize(
    ("there", "expected"),
    [(["auto", "cpu"], "cpu"), (["auto", "cpu", "mps"], "mps"), (["auto", "cpu", "cuda"], "cuda")],
)
def test_auto_takes_the_fastest(there: list[str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "available_devices", lambda: there)
    assert resolve_device("auto") == torch.device(expected)


def test_a_missing_device_is_named_with_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError) as caught:
        resolve_device("cuda:1")
    assert str(caught.value) == (
        "training.device: cuda:1 is not available here; this torch was built without CUDA; choose from auto, cpu"
    )


def test_a_gpu_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(InputError, match=r"cuda:2 is not available here; choose from auto, cpu, cuda, cuda:0, cuda:1"):
        resolve_device("cuda:2")


def test_mps_has_no_float64() -> None:
    with pytest.raises(InputError, match="mps has no float64; choose from float32, bf16, fp16"):
        resolve_precision("float64", torch.device("mps"))


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with cpu_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
