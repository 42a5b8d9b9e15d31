"""What holds for every kind of data, checked on one example of each."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import Any, get_args

import numpy as np
import pytest
import torch

from nnvis.config import schema
from nnvis.data import Split, Splits, load_splits
from nnvis.data.loading import BUILDERS

KINDS = [get_args(section.model_fields["kind"].annotation)[0] for section in get_args(get_args(schema.Data)[0])]
IN_TIME_ORDER = ("sunspots", "series_csv")


def parts(splits: Splits) -> dict[str, Split]:
    return {name: part for name in ("train", "val", "test") if (part := getattr(splits, name)) is not None}


def test_every_kind_has_a_builder_and_an_example(examples: dict[str, Any]) -> None:
    assert len(KINDS) == 23
    assert set(KINDS) == set(BUILDERS) == set(examples)


@pytest.mark.parametrize("kind", KINDS)
def test_splits_have_the_promised_form(kind: str, examples: dict[str, Any], load: Any) -> None:
    section, shape, size, rows = examples[kind]
    splits = load(**section, val_fraction=0.25, test_fraction=0.0 if kind == "fashion_mnist" else 0.25)
    assert list(parts(splits)) == ["train", "val", "test"]
    assert splits.input_shape == shape
    assert splits.target_size == abs(size)
    assert splits.task == ("classification" if size > 0 else "regression")
    assert len(splits.classes) == max(size, 0)
    assert len(splits.feature_names) in ((0,) if len(shape) == 3 or splits.vocabulary else (shape[-1],))
    assert splits.flipped.shape == (len(splits.train),)
    for part in parts(splits).values():
        assert part.inputs.shape == (len(part), *shape)
        assert part.inputs.dtype == (torch.int64 if splits.vocabulary else torch.float32)
        assert part.inputs.isfinite().all()
        assert part.rows.dtype == torch.int64
        if size > 0:
            assert part.targets.dtype == torch.int64
            assert part.targets.shape == (len(part),)
            assert 0 <= part.targets.min() <= part.targets.max() < size
        else:
            assert part.targets.dtype == torch.float32
            assert part.targets.shape == (len(part), -size)
    used = torch.cat([part.rows for part in parts(splits).values()])
    assert len(used.unique()) == len(used)
    if rows and kind not in IN_TIME_ORDER:
        assert sorted(used.tolist()) == list(range(rows))
    if size > 0:
        assert len(splits.train.targets.unique()) == size


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_bits_and_no_global_random_state(kind: str, examples: dict[str, Any], load: Any) -> None:
    section = examples[kind][0]

    def global_state() -> tuple[Any, ...]:
        return random.getstate(), *np.random.get_state(), torch.get_rng_state().tolist()  # noqa: NPY002

    before = global_state()
    once, again, other = load(seed=3, **section), load(seed=3, **section), load(seed=4, **section)
    np.testing.assert_equal(global_state(), before)
    for name, part in parts(once).items():
        same = parts(again)[name]
        assert torch.equal(part.inputs, same.inputs)
        assert torch.equal(part.targets, same.targets)
        assert torch.equal(part.rows, same.rows)
    assert (kind in IN_TIME_ORDER) == torch.equal(once.train.rows, other.train.rows)


def test_the_own_seed_of_a_section_counts() -> None:
    sections = [schema.Xor(kind="xor", seed=7), schema.Xor(kind="xor", seed=7), schema.Xor(kind="xor")]
    first, second, third = (load_splits(section, seed) for seed, section in enumerate(sections))
    assert torch.equal(first.train.inputs, second.train.inputs)
    assert not torch.equal(first.train.inputs, third.train.inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_without_fractions_all_rows_train(kind: str, examples: dict[str, Any], load: Any) -> None:
    section, *_, rows = examples[kind]
    splits = load(**section, val_fraction=0.0)
    assert list(parts(splits)) == (["train", "test"] if kind == "fashion_mnist" else ["train"])
    assert not rows or sum(map(len, parts(splits).values())) == rows


def test_libraries_are_imported_when_a_kind_needs_them() -> None:
    late = {"sklearn", "pandas", "PIL", "babel", "matplotlib"}
    code = f"import sys, nnvis.data; print({late} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
