"""Facts about the real sets that are known from elsewhere."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch

from nnvis.data import text
from nnvis.errors import InputError

PLAIN = {"standardize": False, "val_fraction": 0.0}


@pytest.mark.parametrize(
    ("kind", "counts", "first_row"),
    [
        ("iris", [50, 50, 50], [5.1, 3.5, 1.4, 0.2]),
        ("wine", [59, 71, 48], [14.23, 1.71, 2.43]),
        ("breast_cancer", [212, 357], [17.99, 10.38, 122.8]),
        ("digits", [178, 182, 177, 183, 181, 182, 181, 179, 174, 180], [0, 0, 5 / 16, 13 / 16, 9 / 16]),
    ],
)
def test_class_counts_and_the_first_row(kind: str, counts: list[int], first_row: list[float], load: Any) -> None:
    train = load(kind=kind, **PLAIN).train
    assert torch.bincount(train.targets).tolist() == counts
    first = train.inputs[train.rows == 0].flatten()[: len(first_row)]
    assert first.tolist() == pytest.approx(first_row)


def test_diabetes_comes_in_its_own_units(load: Any) -> None:
    train = load(kind="diabetes", standardize_targets=False, **PLAIN).train
    first = train.rows == 0
    assert train.targets[first].item() == 151
    assert train.inputs[first][0, :4].tolist() == pytest.approx([59, 2, 32.1, 101])  # age, sex, bmi, blood pressure


def test_sunspots_are_the_published_ones(load: Any) -> None:
    train = load(kind="sunspots", window=300, horizon=9, standardize_targets=False, **PLAIN).train
    values = dict(zip(range(1700, 2009), torch.cat([train.inputs[0, :, 0], train.targets[0]]).tolist(), strict=True))
    assert [values[year] for year in (1700, 1705, 1957, 1958, 2008)] == pytest.approx([5, 58, 190.2, 184.8, 2.9])
    assert max(values, key=values.__getitem__) == 1957  # the strongest cycle on record


def test_language_names_belong_to_one_language_each(load: Any) -> None:
    splits = load(kind="language_names", locales=["de", "en", "fr"], **PLAIN)
    train = splits.train
    names = ["".join(splits.vocabulary[token] for token in row if token) for row in train.inputs]
    language = dict(zip(names, (splits.classes[k] for k in train.targets), strict=True))
    assert len(language) == len(names)  # none twice
    assert (language["Deutsch"], language["Germany"], language["Allemagne"]) == ("de", "en", "fr")
    assert "Portugal" not in language


def test_language_names_that_differ_only_past_max_length_are_shared(load: Any) -> None:
    short = load(kind="language_names", locales=["de", "en"], max_length=4, **PLAIN)
    assert len(torch.unique(short.train.inputs, dim=0)) == len(short.train)


@pytest.mark.parametrize(
    ("locales", "message"),
    [
        (["de", "enx"], r"^data.locales: no locale 'enx'; \d+ choices, see .*; did you mean \"en.*\"\?$"),
        (["de", "de"], "^data.locales: found one; expected two or more locales that differ$"),
        (["en", "en_US"], "^data.locales: every name of '.*' is shared with another; expected"),
    ],
)
def test_locales_that_cannot_be_used(locales: list[str], message: str, load: Any) -> None:
    with pytest.raises(InputError, match=message):
        load(kind="language_names", locales=locales)


def test_missing_babel_names_the_extra(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "babel", None)
    with pytest.raises(InputError, match=r'pip install "nnvis-trainer\[text\]"$'):
        load(kind="language_names")


def test_vocabulary_is_fitted_on_the_training_rows() -> None:
    ids, tokens = text.number_tokens([["b", "a", "b"], ["c"], ["b", "c", "z"]], max_length=4)
    assert tokens == ("<padding>", "<unknown>", "a", "b", "c", "z")
    fitted, kept = text.fit_vocabulary(ids, np.array([0, 1]), tokens, limit=None)
    assert kept == ("<padding>", "<unknown>", "b", "a", "c")  # by frequency, then alphabetically
    assert fitted.tolist() == [[2, 3, 2, 0], [4, 0, 0, 0], [2, 4, 1, 0]]  # z is unknown
    assert text.fit_vocabulary(ids, np.array([0, 1]), tokens, limit=3)[1] == ("<padding>", "<unknown>", "b")
