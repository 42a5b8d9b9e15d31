"""The README tells the truth: its files are checked, its commands and its Python run, in their order."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from sklearn.datasets import load_iris

from nnvis import cli
from nnvis.config import parse_config
from nnvis.record import load_run

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


class Fence(NamedTuple):
    """A block of code."""

    language: str
    text: str


FENCES = [Fence(*match) for match in re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)]
COMMANDS = [line for fence in FENCES if fence.language == "console" for line in fence.text.splitlines()]
SETUP = [line for fence in FENCES if fence.language == "sh" for line in fence.text.splitlines()]
CONFIGS = [fence.text for fence in FENCES if fence.language == "yaml"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader works: with the files that the README shows, and the table that it speaks of."""
    folder = tmp_path_factory.mktemp("reader")
    for fence in FENCES:
        if match := re.match(r"# (\w+\.(?:yaml|py))\b", fence.text):
            (folder / match[1]).write_text(fence.text, encoding="utf-8")
    species = ("setosa", "versicolor", "virginica")
    rows = [",".join(map(str, [*row, species[kind]])) for row, kind in zip(*load_iris(return_X_y=True), strict=True)]
    (folder / "flowers.csv").write_text("\n".join(["a,b,c,d,species", *rows]), encoding="utf-8")
    return folder


def test_everything_in_a_fence_is_looked_at() -> None:
    assert (len(SETUP), len(COMMANDS), len(CONFIGS)) == (5, 23, 3)
    assert {fence.language for fence in FENCES} == {"sh", "console", "yaml", "python", "text"}


@pytest.mark.parametrize("line", SETUP)
def test_setting_up(line: str) -> None:
    """What reaches for the network is not run: make's targets are asked for dryly, pip's words are the Makefile's."""
    command, *words = shlex.split(line)
    if command == "make":
        subprocess.run(["make", "--dry-run", *words], cwd=ROOT, check=True, capture_output=True)
    elif command == ".venv/bin/pip":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert all(word in makefile for word in line.split()[1:]), line
    else:
        assert line == "python3 -m venv .venv"


@pytest.mark.parametrize("text", CONFIGS, ids=lambda text: text.split(":")[0].removeprefix("# "))
def test_configs(text: str) -> None:
    parse_config(text, trust=True)


def test_commands_and_python_in_their_order(folder: Path) -> None:
    run = folder / "runs" / "digits-mlp" / "1-seed0"
    for line in COMMANDS:
        if "--resume" in line:
            (run / "summary.json").unlink()  # as if it had been killed just before its end
        if line.startswith("tensorboard"):
            assert "http://" in first_answer(
                [*module("tensorboard.main"), *shlex.split(line)[1:], "--port", "0"], folder
            )
            continue
        name, *words = shlex.split(line)
        if words[0] == "compare":
            words += ["seeds=1", "training.epochs=1"]  # minutes otherwise
        done = subprocess.run([*module(name), *words], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, (line, done.stderr)
        if words[0] == "train":
            assert (folder / done.stdout.splitlines()[-1] / "figures" / "gradient_flow.png").is_file()
    assert {path.name for path in (folder / "pictures").glob("*.png")} >= {"gradient_flow.png", "learning_curves.png"}
    (session,) = (fence.text for fence in FENCES if fence.text.startswith("import nnvis") and "watch" not in fence.text)
    subprocess.run([sys.executable, "-c", session], cwd=folder, check=True)
    left = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    section = TEXT.split("## What a run leaves")[1].split("\n## ")[0]
    promises = re.findall(r"^\| `([\w./*]+)`", section, flags=re.MULTILINE)
    assert len(promises) >= 6
    for promised in promises:
        assert any(Path(name).match(promised) for name in left), f"{promised} is not in {left}"


OWN_LOOP = """
import torch
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
criterion = torch.nn.MSELoss()
loader = [(torch.randn(16, 4), torch.randn(16, 1)) for _ in range(25)]
"""


def test_your_own_loop(folder: Path) -> None:
    (loop,) = (fence.text for fence in FENCES if "nnvis.watch(" in fence.text)
    subprocess.run([sys.executable, "-W", "error", "-c", OWN_LOOP + loop], cwd=folder, check=True)
    done = subprocess.run([*module("nnvis"), "figures", "runs/mine"], cwd=folder, capture_output=True, text=True)
    assert "gradient_flow.png" in done.stdout
    assert load_run(folder / "runs" / "mine").layers["grad_norm"].steps.tolist() == [0, 10, 20]


def test_checking_a_model_of_your_own() -> None:
    position, example = next((i, fence.text) for i, fence in enumerate(FENCES) if "nnvis.check(" in fence.text)
    done = subprocess.run([sys.executable, "-W", "error", "-c", example], capture_output=True, text=True, check=True)
    assert done.stdout == FENCES[position + 1].text


BY_LIBRARIES = """
import numpy, pytorch_lightning, torch
from skorch import NeuralNetClassifier
from transformers import Trainer, TrainingArguments

class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.nonlinearity = torch.nn.Linear(4, 3), torch.nn.LogSoftmax(-1)

    def forward(self, X):
        return self.nonlinearity(self.layer(X))

class Module(pytorch_lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = Network()

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.nll_loss(self.network(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

class WithLoss(Network):
    def forward(self, X, labels):
        return {"loss": torch.nn.functional.nll_loss(super().forward(X), labels)}

inputs, targets = numpy.random.randn(100, 4).astype(numpy.float32), numpy.random.randint(0, 3, 100)
data = torch.utils.data.TensorDataset(torch.from_numpy(inputs), torch.from_numpy(targets))
loader = torch.utils.data.DataLoader(data, 10)
rows = [{"X": X, "labels": y} for X, y in data]
module, model = Module(), WithLoss()
arguments = TrainingArguments("theirs", report_to=[], use_cpu=True, disable_tqdm=True)
"""


def test_loops_of_libraries(folder: Path) -> None:
    (callbacks,) = (fence.text for fence in FENCES if "WatchCallback(" in fence.text)
    subprocess.run([sys.executable, "-c", BY_LIBRARIES + callbacks], cwd=folder, check=True, capture_output=True)
    for name, steps in (("lightning", 30), ("trainer", 39), ("skorch", 10)):
        run = load_run(folder / "runs" / f"by_{name}")
        assert (run.summary["status"], run.summary["steps"]) == ("completed", steps)
        assert run.layers["grad_norm"].steps.tolist() == list(range(0, steps, 10))


def test_the_picture_of_a_watched_loop(folder: Path) -> None:
    subprocess.run([sys.executable, ROOT / ".github" / "dead_units.py"], cwd=folder, check=True)
    dead = load_run(folder / "runs" / "dead_units").layers["dead_fraction"]
    before, after = (
        dead.values[(dead.steps >= first) & (dead.steps < last)] for first, last in ((100, 144), (180, 400))
    )
    assert before.mean(0).max() < 0.4
    assert after.mean(0).min() > 0.6


def test_the_demonstration(folder: Path) -> None:
    done = subprocess.run([*module("nnvis"), "demo"], cwd=folder, capture_output=True, text=True, check=True)
    starved, fed, *_ = done.stdout.splitlines()
    (ratio, accuracy), (ratio_of_twin, accuracy_of_twin) = (
        map(float, re.findall(r"gets (\S+) of .* reads (\d+)%", line)[0]) for line in (starved, fed)
    )
    assert ratio < 1e-9
    assert accuracy <= 15
    assert 0.1 < ratio_of_twin < 10
    told = re.search(r"reads (\d+)% of the digits", TEXT)
    assert told
    assert abs(accuracy_of_twin - int(told[1])) <= 4  # other processors round differently
    pictures = [folder / line.strip() for line in done.stdout.splitlines() if line.endswith(".png")]
    assert [picture.name for picture in pictures] == ["gradient_flow.png", "learning_curves.png"]
    assert all(picture.is_file() for picture in pictures)
    assert f"/{pictures[0].name})" in TEXT  # the picture that opens the README
    assert "tensorboard --logdir runs" in done.stdout


def test_the_table_of_commands_is_complete() -> None:
    assert re.findall(r"^\| `nnvis (\w+)", TEXT, flags=re.MULTILINE) == list(cli.commands())


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert len(links) == 12
    assert all((ROOT / link).is_file() for link in links)


def module(name: str) -> list[str]:
    return [sys.executable, "-m", name]


def first_answer(command: list[str], folder: Path) -> str:
    """Starts a server and returns the line in which it names its address."""
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        try:
            return next((line for line in server.stderr if "http://" in line), "")
        finally:
            server.terminate()
