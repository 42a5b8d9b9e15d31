"""The texts of errors are golden files: golden/NAME.yaml is broken, golden/NAME.txt has what is said about it.

UPDATE_GOLDEN=1 pytest tests/config/test_error_texts.py     # after a change on purpose; read the difference
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nnvis.config import ConfigError, parse_config

BROKEN = sorted((Path(__file__).parent / "golden").glob("*.yaml"))


@pytest.mark.parametrize("file", BROKEN, ids=lambda file: file.stem)
def test_the_text_is_the_golden_one(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    overrides = [line.removeprefix("# with: ") for line in text.splitlines() if line.startswith("# with: ")]
    with pytest.raises(ConfigError) as caught:
        parse_config(text, file.name, overrides)
    golden = file.with_suffix(".txt")
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(f"{caught.value}\n", encoding="utf-8")
    assert f"{caught.value}\n" == golden.read_text(encoding="utf-8")


def test_all_were_found() -> None:
    assert len(BROKEN) == 16
