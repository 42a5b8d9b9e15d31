"""Windows of a series, in time order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nnvis.errors import InputError


@pytest.fixture
def series(tmp_path: Path) -> dict[str, Any]:
    """The numbers 0 to 59: a value is its own time."""
    (tmp_path / "s.csv").write_text("day;value\n" + "".join(f"d{i};{i}\n" for i in range(60)))
    return {"kind": "series_csv", "path": str(tmp_path / "s.csv"), "column": "value", "delimiter": ";"}


def test_targets_follow_their_window_and_splits_follow_each_other(series: dict, load: Any) -> None:
    plain = {"standardize": False, "standardize_targets": False, "test_fraction": 0.2}
    splits = load(**series, window=4, horizon=2, **plain)
    latest = -1.0
    for part in (splits.train, splits.val, splits.test):
        steps = torch.cat([part.inputs[:, :, 0], part.targets], dim=1)  # (N, window + horizon)
        assert torch.equal(steps.diff(dim=1), torch.ones(len(part), 5))
        assert torch.equal(steps[:, 0].long(), part.rows)
        assert steps.min() > latest  # no value of an earlier split is seen again
        latest = steps.max()
    assert latest == 59


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"window": 60}, "s.csv: column 'value': the series has 60 values; window 60 and horizon 1 need 61 at least"),
        ({"column": "day"}, "s.csv:2: column 'day': found 'd0', expected a number"),
        ({"column": "valeu"}, "s.csv:1: no column 'valeu'; choices: day, value; did you mean \"value\"?"),
    ],
)
def test_series_that_cannot_be_used(section: dict, message: str, series: dict, load: Any) -> None:
    with pytest.raises(InputError) as caught:
        load(**series | section)
    assert message in str(caught.value)


def test_a_blank_line_in_a_single_column_is_a_missing_value(tmp_path: Path, load: Any) -> None:
    (tmp_path / "s.csv").write_text("value\n1\n\n3\n")
    with pytest.raises(InputError, match=r"s.csv:3: column 'value': found an empty cell, expected a number$"):
        load(kind="series_csv", path=str(tmp_path / "s.csv"), column="value")
