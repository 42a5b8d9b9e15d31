"""The texts of errors in studies are golden files: golden/studies/NAME.yaml is broken, NAME.txt has what is said.

UPDATE_GOLDEN=1 pytest tests/config/test_study_error_texts.py     # after a change on purpose; read the difference
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nnvis.config import ConfigError, dump_study, load_study_config, parse_study

BROKEN = sorted((Path(__file__).parent / "golden" / "studies").glob("*.yaml"))


@pytest.mark.parametrize("file", BROKEN, ids=lambda file: file.stem)
def test_the_text_is_the_golden_one(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    overrides = [line.removeprefix("# with: ") for line in text.splitlines() if line.startswith("# with: ")]
    with pytest.raises(ConfigError) as caught:
        parse_study(text, file.name, overrides)
    golden = file.with_suffix(".txt")
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(f"{caught.value}\n", encoding="utf-8")
    assert f"{caught.value}\n" == golden.read_text(encoding="utf-8")


def test_all_were_found() -> None:
    assert len(BROKEN) == 15


def test_a_base_is_wrong_in_its_own_file_and_a_variant_in_the_studys(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("name: base\ndata: {kind: digits}\nmodel: {kind: mlp, hiden: [8]}\n")
    study = tmp_path / "study.yaml"
    study.write_text(
        "name: s\nquestion: Which?\nbase: base.yaml\nvariants:\n  a: {model.hidden: [8]}\n  b: {optimizer.lr: x}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_study_config(study)
    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [f"{tmp_path / 'base.yaml'}:3:20", f"{study}:6:21"]
    assert "model.hiden: unknown key" in lines[0]
    assert lines[1].endswith('variants.b.optimizer.lr: should be a number, got "x"')


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("vanishng", 'vanishng: no such file, and no shipped study of that name; choices: .*did you mean "vanishing"'),
        ("digits_mlp", "digits_mlp: is a config: nnvis train digits_mlp"),
        ("folder", "folder: is a directory, not a file"),
    ],
)
def test_what_is_no_study(source: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=reason):
        load_study_config(source)


def test_the_record_of_a_study_is_no_source(tmp_path: Path) -> None:
    record = tmp_path / "study.yaml"
    record.write_text(dump_study(load_study_config("vanishing")), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_study_config(record)
    assert str(caught.value) == f"{record}:1:1: is the record of a study; use the file it came from"
