"""Text from a table, by characters and by words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nnvis.errors import InputError

TEXTS = ["Good, good film!", "Bad film", "so-so", "good"]


def write(tmp_path: Path, texts: list[str], header: str = "text,label") -> dict[str, Any]:
    lines = [header, *(f'"{text}",{"pos" if text[:1] in "Gg" else "neg"}' for text in texts)]
    (tmp_path / "reviews.csv").write_text("\n".join(lines))
    return {"kind": "text_csv", "path": str(tmp_path / "reviews.csv"), "val_fraction": 0.0}


def told(splits: Any) -> list[list[str]]:
    """The training rows as tokens, in the file's order."""
    return [[splits.vocabulary[token] for token in row] for row in splits.train.inputs[splits.train.rows.argsort()]]


def test_words_are_lower_case_and_marks_are_tokens(tmp_path: Path, load: Any) -> None:
    splits = load(**write(tmp_path, TEXTS), tokens="words", max_length=4)
    pad = "<padding>"
    assert told(splits) == [
        ["good", ",", "good", "film"],
        ["bad", "film", pad, pad],
        ["so", "-", "so", pad],
        ["good", pad, pad, pad],
    ]
    assert splits.vocabulary[:3] == (pad, "<unknown>", "good")  # the most frequent first
    assert splits.classes == ("neg", "pos")
    assert splits.input_scaling is None


def test_characters_keep_their_case(tmp_path: Path, load: Any) -> None:
    splits = load(**write(tmp_path, TEXTS), max_length=3)
    assert told(splits)[0] == ["G", "o", "o"]


def test_rare_and_unseen_tokens_are_unknown(tmp_path: Path, load: Any) -> None:
    splits = load(**write(tmp_path, TEXTS), tokens="words", max_length=4, max_vocabulary=4)
    assert splits.vocabulary == ("<padding>", "<unknown>", "good", "film")
    assert told(splits)[2] == ["<unknown>", "<unknown>", "<unknown>", "<padding>"]


def test_validation_words_stay_unknown(tmp_path: Path, load: Any) -> None:
    section = write(tmp_path, [f"{'good' if i % 2 else 'bad'} word{i}" for i in range(40)]) | {"val_fraction": 0.5}
    splits = load(**section, tokens="words", max_length=2)
    trained = {f"word{row}" for row in splits.train.rows.tolist()}
    assert set(splits.vocabulary) == {"<padding>", "<unknown>", "good", "bad"} | trained
    assert torch.equal(splits.val.inputs[:, 1], torch.ones(20, dtype=torch.int64))


def test_missing_text_and_wrong_column(tmp_path: Path, load: Any) -> None:
    section = write(tmp_path, ["good", "", "bad"])
    with pytest.raises(InputError, match=r"reviews.csv:3: column 'text': found an empty cell, expected a text$"):
        load(**section)
    with pytest.raises(InputError, match=r"^data.text: .*:1: no column 'txt'; .*; did you mean \"text\"\?$"):
        load(**section, text="txt")
