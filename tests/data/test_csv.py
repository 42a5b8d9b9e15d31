"""Tables: what becomes of good ones, and the line that each bad one gets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnvis.data import Splits
from nnvis.errors import InputError

LoadTable = Callable[..., Splits]
GOOD = "x,y\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(20))
LABEL = "expected a class label: a name, or a whole number from 0 up (or set data.task: regression)"


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Any) -> LoadTable:
    """Writes `t.csv` and loads it."""
    monkeypatch.chdir(tmp_path)

    def load_table(content: str | bytes, **section: Any) -> Splits:
        Path("t.csv").write_bytes(content.encode() if isinstance(content, str) else content)
        return load(**{"kind": "csv", "path": "t.csv", "target": "y"} | section)

    return load_table


def column(values: Any) -> str:
    return "x,y\n" + "".join(f"{i},{value}\n" for i, value in enumerate(values))


def test_numbers_stay_and_texts_become_one_hot(table: LoadTable) -> None:
    splits = table(
        "size, colour ,y\n1.5,red,no\n-2e3, blue,yes\n3,red,no\n4,green,yes\n", val_fraction=0.0, standardize=False
    )
    assert splits.feature_names == ("size", "colour=blue", "colour=green", "colour=red")
    assert splits.classes == ("no", "yes")
    order = splits.train.rows.argsort()
    assert splits.train.inputs[order].tolist() == [[1.5, 0, 0, 1], [-2000, 1, 0, 0], [3, 0, 0, 1], [4, 0, 1, 0]]
    assert splits.train.targets[order].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("values", "section", "task", "classes"),
    [
        ([3, 10, 2] * 5, {}, "classification", ("2", "3", "10")),
        (range(21), {}, "regression", ()),
        ([0.5, 1, 2] * 5, {}, "regression", ()),
        ([0, 1] * 5, {"task": "regression"}, "regression", ()),
        ([*range(21)] * 2, {"task": "classification"}, "classification", tuple(map(str, range(21)))),
        (["1", "2", "unknown"] * 5, {"task": "classification"}, "classification", ("1", "2", "unknown")),
    ],
)
def test_task_follows_from_the_target(values: Any, section: dict, task: str, classes: Any, table: LoadTable) -> None:
    splits = table(column(values), **section)
    assert (splits.task, splits.classes) == (task, classes)


@pytest.mark.parametrize(
    "content",
    [
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\r"),
        "\ufeff" + GOOD,
        GOOD + "\n\n\n",
        GOOD.replace("\n1,", "\n\n1,"),
        GOOD.replace("\n0,a", '\n"0",  "a"'),
    ],
)
def test_what_programs_write_reads_the_same(content: str, table: LoadTable) -> None:
    plain, same = table(GOOD), table(content)
    assert torch.equal(plain.train.inputs, same.train.inputs)
    assert torch.equal(plain.train.targets, same.train.targets)


def test_features_choose_and_order_the_inputs(table: LoadTable) -> None:
    splits = table("a,b,y,\n1,2,0,9\n3,4,1,9\n5,6,0,9\n7,8,1,9\n", features=["b", "a"])
    assert splits.feature_names == ("b", "a")


@pytest.mark.parametrize(
    ("content", "section", "message"),
    [
        (GOOD, {"path": "T.csv"}, 'data.path: T.csv: there is no such file; choices: t.csv; did you mean "t.csv"?'),
        (GOOD, {"path": "nothere.csv"}, "data.path: nothere.csv: there is no such file; choices: t.csv"),
        (GOOD, {"path": "."}, "data.path: . is a folder, expected a file"),
        (GOOD, {"target": "Y"}, "data.target: t.csv:1: no column 'Y'; choices: x, y; did you mean \"y\"?"),
        (GOOD, {"features": ["xx"]}, "data.features: t.csv:1: no column 'xx'; choices: x, y; did you mean \"x\"?"),
        (GOOD, {"features": ["x", "y"]}, "data.features: 'y' is the target; a network would only copy it"),
        ("y\na\nb\n", {}, "t.csv: no input columns beside the target 'y'"),
        ("", {}, "t.csv:1: the file is empty, expected a row of column names"),
        ("x,y\n", {}, "t.csv:1: only a row of column names, expected rows of data below it"),
        ("x,x\n1,2\n", {}, "t.csv:1: column 'x' appears twice, expected names that differ"),
        ("x,,y\n1,2,a\n", {}, "t.csv:1: column 2 has no name; name it, or list the inputs in data.features"),
        (
            "x,y\n1,a\n2,b,c\n\n3\n",
            {},
            "t.csv:3: the row has 3 cells, expected 2 as in the header\n"
            "t.csv:5: the row has 1 cells, expected 2 as in the header",
        ),
        (
            GOOD.replace(",", ";"),
            {},
            "data.target: t.csv:1: no column 'y'; choices: x;y; does ';' separate the columns? Then set data.delimiter",
        ),
        (b"x,y\n1,a\n\xe9,b\n", {}, "t.csv:3: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        (
            'x,y\n1,a\n"2,b\n3,c\n',
            {},
            "t.csv:3: unexpected end of data: is a quote left open in the row that starts here?",
        ),
        (
            'x,y\n1,"two\nlines"\nnan,b\n,b\n1_0,b\ninf,b\n1e300,b\nthree,b\n' + "1,b\n" * 10,
            {},
            "t.csv:4: column 'x': found 'nan', expected a number\n"
            "t.csv:5: column 'x': found an empty cell, expected a number\n"
            "t.csv:6: column 'x': found '1_0', expected a number\n"
            "t.csv:7: column 'x': found 'inf', expected a number\n"
            "t.csv:8: column 'x': found '1e300', expected a number\n"
            "and 1 more",
        ),
        ('x,y\n"0,5",a\n1,b\n', {}, "t.csv:2: column 'x': found '0,5', expected a number (with a decimal point)"),
        (
            "x,y\n1,a\n2,\n3,NaN\n",
            {},
            "t.csv:3: column 'y': found an empty cell, expected a text\n"
            "t.csv:4: column 'y': found 'NaN', expected a text",
        ),
        (
            column([1, 2, 3, "x", 2]),
            {},
            "t.csv:5: column 'y': found 'x', expected a number (or set data.task: classification)",
        ),
        (
            column(["x", "low", 2, "n/a", "high"]),
            {},
            "t.csv:4: column 'y': found '2', expected a text as in most rows (or set data.task: classification)",
        ),
        (
            'x,y\n1,a\nn/a,b\nNone,b\n"2,5",b\nnull,a\n',
            {},
            "t.csv:3: column 'x': found 'n/a', expected a number\n"
            "t.csv:4: column 'x': found 'None', expected a number\n"
            "t.csv:5: column 'x': found '2,5', expected a number (with a decimal point)\n"
            "t.csv:6: column 'x': found 'null', expected a number",
        ),
        (
            "x,y\n1,a\ninf,b\n1e400,b\n",
            {},
            "t.csv:3: column 'x': found 'inf', expected a number\n"
            "t.csv:4: column 'x': found '1e400', expected a number",
        ),
        (
            "x,y\nred,a\n12,b\nNA,b\nblue,b\n",
            {},
            "t.csv:3: column 'x': found '12', expected a text as in most rows",
        ),
        (column(["a"] * 9), {}, "t.csv: column 'y': found one class (a), expected two or more"),
        (column([7] * 9), {}, "t.csv: column 'y': found one class (7), expected two or more"),
        (column([0, 1, -1]), {}, f"t.csv:4: column 'y': found '-1', {LABEL}"),
        (column([0, 1, 0.5]), {"task": "classification"}, f"t.csv:4: column 'y': found '0.5', {LABEL}"),
        (
            "x,y\n" + "".join(f"n{i},{i % 2}\n" for i in range(300)),
            {},
            "t.csv: column 'x': 300 different texts, at most 256 become inputs (one-hot); leave it out by listing the "
            "inputs in data.features",
        ),
        (
            column(np.arange(9) / 7),
            {"label_noise": 0.1},
            "data.label_noise: the targets are numbers (regression), expected classes",
        ),
        (
            GOOD,
            {"standardize_targets": True},
            "data.standardize_targets: the targets are classes, expected numbers (regression)",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(content: Any, section: dict, message: str, table: LoadTable) -> None:
    with pytest.raises(InputError) as caught:
        table(content, **section)
    assert str(caught.value) == message


CELLS = st.sampled_from(["1", "-2.5", "1e400", "nan", "", "a", '"', "é", "1,5", "\n", "0", "x", "\0", "b\r\n"])
TABLES = st.lists(st.lists(CELLS, max_size=3).map(",".join), max_size=12).map(
    lambda rows: "\n".join(["x,y", *rows]).encode()
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    st.binary(max_size=200) | st.binary(max_size=50).map(lambda tail: b"x,y\n" + tail) | TABLES,
    st.sampled_from(',;\t" 1'),
)
def test_any_bytes_load_or_are_refused(table: LoadTable, content: bytes, delimiter: str) -> None:
    try:
        splits = table(content, delimiter=delimiter)
    except InputError:
        return
    assert splits.train.inputs.isfinite().all()
