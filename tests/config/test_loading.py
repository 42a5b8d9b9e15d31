"""Files, names, folders, overrides and trust."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnvis.config import ConfigError, dump_config, load_config, parse_config, shipped_configs

TEXT = "name: a\ndata: {kind: csv, path: rows.csv, target: y}\nmodel: {kind: mlp, hidden: [16, 8]}\nloss: huber\n"
PYTHON = "name: a\ndata: {kind: python, target: 'no.such.module:load'}\nmodel: {kind: mlp, hidden: [8]}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.yaml"
    path.write_text(TEXT)
    return path


def refusal(source: str | Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(source, overrides)
    assert len(caught.value.problems) == 1
    return str(caught.value)


def test_data_paths_are_taken_from_the_file(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    config = load_config(file)
    assert config.data.path == str(tmp_path / "rows.csv")  # pyright: ignore
    assert parse_config(dump_config(config), folder=Path("/elsewhere")) == config
    assert parse_config(TEXT).data.path == "rows.csv"  # pyright: ignore


def test_data_paths_in_overrides_are_taken_from_here(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert load_config(file, ["data.path=mine.csv"]).data.path == str(tmp_path / "here" / "mine.csv")  # pyright: ignore
    assert load_config(file, ["data={kind: npz, path: a.npz}"]).data.path == str(tmp_path / "here" / "a.npz")  # pyright: ignore
    monkeypatch.setenv("HOME", "/home/someone")
    assert load_config(file, ["data.path=~/a.csv"]).data.path == "/home/someone/a.csv"  # pyright: ignore


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(TEXT)
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe4")
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 40_000)
    assert refusal(tmp_path).endswith(f"is a directory, not a file; did you mean {tmp_path / 'config.yaml'}?")
    assert "not UTF-8 text (byte 6)" in refusal(tmp_path / "latin.yaml")
    assert "too long" in refusal(tmp_path / "noise")
    assert "too long" in refusal("/dev/zero")
    assert "no such file" in refusal(tmp_path / "confg.yaml")
    assert 'did you mean "config.yaml"?' in refusal(tmp_path / "confg.yaml")
    assert "cannot be read: File name too long" in refusal("x" * 5000)
    assert "cannot be read: embedded null byte" in refusal(tmp_path / "a\0b")
    assert "cannot be read: Not a directory" in refusal(tmp_path / "latin.yaml" / "x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission(file: Path) -> None:
    file.chmod(0)
    assert "Permission denied" in refusal(file)


def test_shipped_configs_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, path = next(iter(shipped_configs().items()))
    assert load_config(name) == load_config(path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()  # a folder of that name is not in the way
    assert load_config(name) == load_config(path)
    assert f'did you mean "{name}"?' in refusal(f"{name}s")


@pytest.mark.parametrize("path", shipped_configs().values(), ids=lambda path: path.stem)
def test_shipped_configs_are_valid_and_survive(path: Path) -> None:
    config = load_config(path)
    assert parse_config(dump_config(config)) == config


@pytest.mark.parametrize(
    ("override", "section", "field", "value"),
    [
        ("training.epochs=5", "training", "epochs", 5),
        ("training.clip_grad_norm=1e-3", "training", "clip_grad_norm", 0.001),
        ("model.hidden.1=4", "model", "hidden", [16, 4]),
        ("model.hidden=[1, 2]", "model", "hidden", [1, 2]),
        ("loss.delta=0.5", "loss", "delta", 0.5),
        ("optimizer.momentum=0.9", "optimizer", "arguments", {"lr": 0.1, "momentum": 0.9}),
        ("data.features=", "data", "features", None),
        ("data.delimiter='='", "data", "delimiter", "="),
    ],
)
def test_overrides(override: str, section: str, field: str, value: object) -> None:
    assert getattr(getattr(parse_config(TEXT, overrides=[override]), section), field) == value


def test_the_last_override_wins_and_mends_the_file() -> None:
    text = TEXT.replace("huber", "huper") + "training: {epochs: x}\n"
    config = parse_config(text, overrides=["loss=mean_squared_error", "training.epochs=1", "training.epochs=2"])
    assert config.loss is not None
    assert (config.loss.kind, config.training.epochs) == ("mean_squared_error", 2)


def test_users_code_needs_trust_and_is_not_imported_here() -> None:
    assert parse_config(PYTHON, trust=True).data.kind == "python"
    with pytest.raises(ConfigError, match=r"<config>:2:14: data.kind: .*--trust"):
        parse_config(PYTHON)


def test_all_configs_are_read_without_torch() -> None:
    code = "import sys, nnvis.config as c; [c.load_config(name) for name in c.shipped_configs()]; c.json_schema()"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
