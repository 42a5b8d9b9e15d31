"""`import nnvis` is quick, and its names are there when they are asked for."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import nnvis
from nnvis.record import EventLog


def test_every_public_name_is_there() -> None:
    assert nnvis.__all__ == sorted(nnvis.__all__) == dir(nnvis)
    assert all(getattr(nnvis, name) is not None for name in nnvis.__all__)
    assert nnvis.__version__ == metadata.version("nnvis-trainer")


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(AttributeError, match=r"'nnvis' has no attribute 'trian'; it has .*load_run, load_study, train"):
        getattr(nnvis, "trian")  # noqa: B009 (pyright knows that it is not there)


def test_reading_a_run_imports_no_torch(tmp_path: Path) -> None:
    with EventLog.create(tmp_path) as log:
        log.scalars(0, {"loss/val": 0.5})
    script = (
        f"import sys, nnvis; print(nnvis.load_run({str(tmp_path)!r}).scalars['loss/val'].last, 'torch' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["0.5", "False"]


def test_the_first_use_of_a_name_draws_no_random_number() -> None:
    """A loop may have been seeded before it comes to its first `nnvis.watch`."""
    code = """
import random, numpy, torch, nnvis
for seed in (random.seed, numpy.random.seed, torch.manual_seed):
    seed(0)
nnvis.watch
drawn = random.random(), numpy.random.rand(), torch.rand(1).item()
for seed in (random.seed, numpy.random.seed, torch.manual_seed):
    seed(0)
assert drawn == (random.random(), numpy.random.rand(), torch.rand(1).item())
"""
    subprocess.run([sys.executable, "-c", code], check=True)
