"""What is installed is what is in the repository: the wheel carries configs, tables and styles, and works."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    subprocess.run([*PIP, "wheel", *options, str(ROOT)], check=True, capture_output=True)
    (wheel,) = folder.glob("nnvis_trainer-*.whl")
    return wheel


def test_the_wheel_holds_every_file_of_the_package_and_every_config(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("nnvis/")}
    files = [path for folder in ("nnvis", "configs") for path in (ROOT / folder).rglob("*") if path.is_file()]
    names = {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}
    assert {name if name.startswith("nnvis/") else f"nnvis/{name}" for name in names} == packed
    assert {"nnvis/configs/studies/vanishing.yaml", "nnvis/configs/studies/schema.json"} <= packed
    assert {"nnvis/configs/digits_mlp.yaml", "nnvis/config/torch_table.json", "nnvis/figures/nnvis.mplstyle"} <= packed


def test_shipped_configs_are_found_by_name_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    subprocess.run([*PIP, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)], check=True)
    environment = os.environ | {"PYTHONPATH": str(site)}

    def run(*argv: str) -> str:
        command = [sys.executable, *argv]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    assert run("-c", "import nnvis; print(nnvis.__file__)").startswith(str(site))
    configs = [path.stem for path in sorted((ROOT / "configs").glob("*.yaml"))]
    assert run("-m", "nnvis", "check", "--file-only", *configs) == "".join(f"{name}: ok\n" for name in configs)
    studies = [path.stem for path in sorted((ROOT / "configs" / "studies").glob("*.yaml"))]
    assert [line.partition(": ok, ")[0] for line in run("-m", "nnvis", "check", *studies).splitlines()] == studies
    # trains and draws: the tables of data and the style of the figures are there
    overrides = ["training.epochs=null", "training.steps=2"]
    directory = Path(run("-m", "nnvis", "train", "sunspots_forecast", *overrides, "--quiet").strip())
    assert (tmp_path / directory / "figures" / "learning_curves.png").is_file()


def test_every_dependency_has_its_tested_version() -> None:
    """constraints.txt pins what pyproject.toml asks for, and holds neither hosts nor paths."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = dict(line.split("==") for line in lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = extras["dev"][0].removeprefix("nnvis-trainer[").removesuffix("]").split(",")
    tested = [requirement for name in names for requirement in extras[name]]
    for requirement in [*project["dependencies"], *tested, *extras["dev"][1:]]:
        name = requirement.split(">=")[0].split("[")[0]
        assert name.lower() in {known.lower() for known in pinned}, f"{requirement} is not in constraints.txt"
    assert all(version[0].isdigit() and "/" not in version and "+" not in version for version in pinned.values())
