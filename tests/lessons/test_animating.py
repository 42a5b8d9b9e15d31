"""`nnvis animate`: its numbers computed again, the file it leaves, and the runs that have too little for it."""

from __future__ import annotations

import math
import re
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import nnvis
from nnvis import cli
from nnvis.errors import RunError
from nnvis.experiment import load_model, train
from nnvis.figures.animated import Cloud, Fit, Region
from nnvis.figures.animation import DPI, Movie
from nnvis.lessons import animating, open_subject
from nnvis.lessons.animating import chosen, movie_of, on_components
from nnvis.lessons.landscape import landscape_of, plane_of_training
from nnvis.record import Run, load_run
from nnvis.record.vocabulary import FloatArray
from nnvis.training.snapshots import Snapshot, load_snapshots

SHORT = ["data.samples=120", "model.hidden=[10,5]", "training.epochs=null", "training.steps=40", "capture.every=5"]
LAYERS = ("linear1", "linear2", "output")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two moons, forty steps, six snapshots."""
    folder = tmp_path_factory.mktemp("runs")
    return train("moons_mlp", [*SHORT, "snapshots.count=6"], runs=folder, quiet=True, figures=False)


@pytest.fixture(scope="module")
def movie(run: Run) -> Movie:
    return movie_of(open_subject(run.path), run, load_snapshots(run.path))


def numbers(snapshot: Snapshot) -> dict[str, FloatArray]:
    return {name: value.double().numpy() for name, value in snapshot.model.items()}


def logits(weights: dict[str, FloatArray], x: FloatArray) -> FloatArray:
    """(N, 2): two tanh layers and a linear one, by hand."""
    for layer in LAYERS[:2]:
        x = np.tanh(x @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"])
    return x @ weights["output.weight"].T + weights["output.bias"]


def loss_of(weights: dict[str, FloatArray], x: FloatArray, classes: FloatArray) -> float:
    z = logits(weights, x)
    return float(np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), classes.astype(int)]))


def test_the_ground_is_what_the_network_says(run: Run, movie: Movie) -> None:
    view = movie.view
    assert isinstance(view, Region)
    assert movie.steps.tolist() == [0, 1, 3, 8, 19, 40]
    assert movie.total == 40
    inputs = open_subject(run.path).splits.train.inputs.double().numpy()
    assert view.x[0] < inputs[:, 0].min() < inputs[:, 0].max() < view.x[-1]
    for i, snapshot in enumerate(load_snapshots(run.path)):
        for row, column in ((0, 0), (50, 50), (17, 90), (100, 3)):
            z = logits(numbers(snapshot), np.array([[view.x[column], view.y[row]]]))[0]
            share = np.exp(z) / np.exp(z).sum()
            assert view.values[i, :, row, column] == pytest.approx(share, rel=1e-10)


def test_the_last_frame_is_the_trained_model(run: Run, movie: Movie) -> None:
    view = movie.view
    assert isinstance(view, Region)
    grid = torch.from_numpy(np.stack(np.meshgrid(view.x, view.y), axis=-1).reshape(-1, 2)).float()
    with torch.no_grad():
        shares = load_model(run.path)(grid).softmax(1).T.reshape(view.values[-1].shape)
    assert view.values[-1] == pytest.approx(shares.double().numpy(), abs=1e-6)


def test_losses_and_gradients_are_those_of_plain_autograd(run: Run, movie: Movie) -> None:
    split = open_subject(run.path).splits.train
    x, classes = split.inputs.double(), split.targets
    for i, snapshot in enumerate(load_snapshots(run.path)):
        own = {name: value.double().requires_grad_() for name, value in snapshot.model.items()}
        h = torch.tanh(x @ own["linear1.weight"].T + own["linear1.bias"])
        h = torch.tanh(h @ own["linear2.weight"].T + own["linear2.bias"])
        F.cross_entropy(h @ own["output.weight"].T + own["output.bias"], classes).backward()
        norms = [
            math.sqrt(sum(float((own[f"{layer}.{part}"].grad ** 2).sum()) for part in ("weight", "bias")))
            for layer in LAYERS
        ]
        assert movie.gradient_norms[i] == pytest.approx(norms, rel=1e-9)
        assert movie.losses[i] == pytest.approx(loss_of(numbers(snapshot), x.numpy(), classes.numpy()), rel=1e-10)
        for weights, layer in zip(movie.weights, LAYERS, strict=True):
            value = own[f"{layer}.weight"]
            assert weights.shape == tuple(value.shape)
            assert weights.weights[i] == pytest.approx(value.detach()[:8, :8].numpy(), rel=1e-12)
            assert weights.gradients[i] == pytest.approx(value.grad[:8, :8].numpy(), rel=1e-8, abs=1e-15)
    assert movie.layers == LAYERS
    assert movie.chain
    assert movie.rows == "the 96 training rows, without dropout"


def test_the_landscape_is_the_loss_of_the_weights_in_the_plane(run: Run, movie: Movie) -> None:
    land = movie.landscape
    assert land
    subject, snapshots = open_subject(run.path), load_snapshots(run.path)
    plane, way = plane_of_training(landscape_of(subject), snapshots)
    assert land.path == pytest.approx(way.points)
    assert land.path[-1] == pytest.approx([0, 0], abs=1e-9)
    split, last = subject.splits.train, snapshots[-1].model
    for row, column in ((0, 0), (10, 3), (20, 20)):
        vector, weights = plane.at((land.x[column], land.y[row])).numpy(), {}
        for name, value in last.items():
            weights[name], vector = vector[: value.numel()].reshape(value.shape), vector[value.numel() :]
        known = loss_of(weights, split.inputs.double().numpy(), split.targets.numpy())
        assert land.losses[row, column] == pytest.approx(known, rel=1e-9)


def test_losses_of_the_record_are_the_records(run: Run, movie: Movie) -> None:
    assert movie.val.steps.tolist() == run.scalars["loss/val"].steps.tolist()
    assert movie.val.values == pytest.approx(run.scalars["loss/val"].values)
    assert movie.train.values == pytest.approx(run.scalars["loss/epoch"].values)


def test_the_file_has_a_frame_for_each_snapshot(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["animate", str(run.path)]) == 0
    told = capsys.readouterr()
    path = run.path / "figures" / "training.gif"
    assert told.out.splitlines() == [str(path)]
    assert "measuring snapshot 6/6" in told.err
    assert "drawing frame 6/6" in told.err
    frames, times = pixels(path)
    assert len(frames) == 6
    assert frames[0].shape[1] == 9 * DPI
    assert all(not np.array_equal(a, b) for k, a in enumerate(frames) for b in frames[k + 1 :])
    assert times == [120] * 5 + [2000]  # a GIF counts hundredths of a second; it stays at its end
    assert (frames[0][0] == 255).all()  # white is white
    assert cli.main(["animate", str(run.path), "--frames", "2", "--fps", "2", "--out", str(run.path / "b.gif")]) == 0
    assert pixels(run.path / "b.gif")[1] == [500, 2000]
    assert [path.name for path in run.path.glob(".*")] == []


def pixels(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """Frames, and how long each stands, in milliseconds."""
    frames, times = [], []
    with Image.open(path) as image:
        for i in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(i)
            frames.append(np.array(image.convert("RGB")))
            times.append(image.info["duration"])
    return frames, times


FFMPEG = """#!/bin/sh
echo "$@" > "$0.told"
for last; do :; done
cat > "$last"
"""


def test_mp4_takes_ffmpeg(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    out = tmp_path / "a.mp4"
    assert cli.main(["animate", str(run.path), "--out", str(out)]) == 2
    assert capsys.readouterr().err == f"{out}: MP4 needs the program ffmpeg, which is not found here; name a .gif\n"
    fake = tmp_path / "ffmpeg"
    fake.write_text(FFMPEG)
    fake.chmod(fake.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert cli.main(["animate", str(run.path), "--out", str(out), "--frames", "3", "--fps", "5"]) == 0
    words = (tmp_path / "ffmpeg.told").read_text().split()
    width, height = map(int, words[words.index("-s") + 1].split("x"))
    assert width == 9 * DPI
    assert height % 2 == 0  # what the codec asks for
    assert words[words.index("-framerate") + 1] == "5.0"
    assert out.stat().st_size == 3 * width * height * 4


@pytest.mark.parametrize(
    ("frames", "steps"), [(None, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4]), (3, [0, 2, 4]), (2, [0, 4]), (1, [4])]
)
def test_the_first_and_the_last_are_always_among_the_frames(frames: int | None, steps: list[int]) -> None:
    assert [one.step for one in chosen([Snapshot(i, {}) for i in range(5)], frames)] == steps


def test_a_run_without_snapshots_is_told_how_to_get_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = train("moons_mlp", [*SHORT, "snapshots.count=null"], runs=tmp_path / "a b", quiet=True, figures=False)
    assert cli.main(["animate", str(plain.path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{plain.path}: it took no snapshots")
    command = f"nnvis train '{plain.path}/config.yaml' snapshots.count=40"
    assert line.endswith(command)
    again = train(plain.path / "config.yaml", ["snapshots.count=40"], runs=tmp_path, quiet=True, figures=False)
    last = load_snapshots(again.path)[-1].model
    for name, value in load_model(plain.path).state_dict().items():
        assert torch.equal(value, last[name])


def test_what_is_no_run_to_animate(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(path: Path, *options: str) -> str:
        assert cli.main(["animate", str(path), *options]) == 2
        *progress, line = capsys.readouterr().err.splitlines()
        assert all(re.fullmatch(r"[a-z, ]+ \d+/\d+", told) for told in progress)
        return line

    model = torch.nn.Linear(2, 2)
    with nnvis.watch(model, log_dir=tmp_path / "mine") as probe:
        model(torch.ones(3, 2)).sum().backward()
        probe.step()
    assert "a watched run has no config" in told(tmp_path / "mine")
    assert "does not exist" in told(tmp_path / "nowhere")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.yaml").write_text("name: x")
    assert "is a study, not a run" in told(tmp_path / "study")
    assert told(run.path, "--out", "a.png") == "a.png: a moving picture ends in .gif or .mp4"
    assert told(run.path, "--frames", "0").startswith("nnvis animate: --frames must be positive")
    other = copied(run, tmp_path)
    file = other.path / "snapshots" / "00000040.pt"
    torch.save({"step": 40, "model": {"linear9.weight": torch.zeros(2)}}, file)
    assert "the snapshot of step 40 is not of the network in its config.yaml" in told(other.path)
    file.write_bytes(b"half of it")
    assert f"{file}: not a checkpoint that can be read" in told(other.path)


def copied(run: Run, folder: Path) -> Run:
    return load_run(shutil.copytree(run.path, folder / "copy" / "1-seed0"))


def test_weights_that_are_not_finite_are_told(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = copied(run, tmp_path)
    file = broken.path / "snapshots" / "00000019.pt"
    content = torch.load(file, weights_only=True)
    content["model"]["linear2.weight"][0, :3] = math.nan
    torch.save(content, file)
    movie = movie_of(open_subject(broken.path), broken, load_snapshots(broken.path))
    assert movie.nonfinite.tolist() == [0, 0, 0, 0, 3, 0]
    assert np.isnan(movie.losses).tolist() == [False] * 4 + [True, False]
    assert movie.landscape
    assert np.isnan(movie.landscape.path).all(axis=1).tolist() == [False] * 4 + [True, False]
    assert cli.main(["animate", str(broken.path)]) == 0
    for snapshot in (broken.path / "snapshots").glob("*.pt"):
        content = torch.load(snapshot, weights_only=True)
        content["model"]["linear2.weight"][:] = math.inf
        torch.save(content, snapshot)
    capsys.readouterr()
    assert cli.main(["animate", str(broken.path)]) == 2
    assert "the weights of every snapshot hold NaN or Inf" in capsys.readouterr().err


def test_a_run_that_diverged_before_its_first_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        train("exploding_relu", ["snapshots.count=40"], runs=tmp_path, quiet=True, figures=False)
    (path,) = tmp_path.glob("*/1-seed0")
    assert not (path / "checkpoints").exists()
    steps = [snapshot.step for snapshot in load_snapshots(path)]
    assert len(steps) < 10
    assert cli.main(["animate", str(path)]) == 0
    assert len(pixels(path / "figures" / "training.gif")[0]) == len(steps)
    assert cli.main(["animate", str(path), "--frames", "1"]) == 0


KINDS = {
    "digits_cnn": (Cloud, ["conv1", "norm1", "conv2", "norm2", "linear3", "norm3", "output"]),
    "diabetes_regression": (Fit, ["linear1", "residual1.linear1", "linear2"]),
    "adding_lstm": (Fit, ["lstm1", "output"]),
    "breast_cancer_mlp": (Cloud, ["linear1", "linear2", "output"]),
}


@pytest.mark.parametrize("name", KINDS)
def test_networks_of_other_kinds(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animating, "SURFACE", 2)
    overrides = ["data.train_size=60", "training.epochs=null", "training.steps=4", "training.early_stopping=null"]
    run = train(name, [*overrides, "snapshots.count=3"], runs=tmp_path, quiet=True, figures=False)
    subject, snapshots = open_subject(run.path), load_snapshots(run.path)
    movie = movie_of(subject, run, snapshots)
    kind, layers = KINDS[name]
    assert isinstance(movie.view, kind)
    assert list(movie.layers) == layers
    assert movie.chain == (name == "breast_cancer_mlp")
    assert ("batch norm by these rows' statistics" in movie.rows) == (name == "digits_cnn")
    assert (movie.gradient_norms > 0).all()
    model = load_model(run.path)
    inputs = subject.splits.train.inputs
    if isinstance(movie.view, Fit):
        with torch.no_grad():
            assert movie.view.predictions[-1] == pytest.approx(model(inputs).ravel().numpy(), abs=1e-4)
        assert movie.view.targets == pytest.approx(subject.splits.train.targets.ravel().numpy())
    else:
        gets: list[torch.Tensor] = []
        model.get_submodule("output").register_forward_pre_hook(lambda _, args: gets.append(args[0]))
        with torch.no_grad():
            model(inputs)
        assert isinstance(movie.view, Cloud)
        hidden = gets[0].double().numpy()
        apart = np.linalg.eigvalsh(np.cov(hidden.T, bias=True))[::-1]
        assert movie.view.explained == pytest.approx(apart[:2] / apart.sum(), rel=1e-4)
        assert movie.view.points[-1].var(axis=0) == pytest.approx(apart[:2], rel=1e-4)


def test_components_of_numbers_whose_squares_overflow() -> None:
    values = 1e200 * np.random.default_rng(0).normal(size=(2, 30, 4)) * np.array([3, 2, 0.1, 0.1])
    points, shares = on_components(values)
    plain, known = on_components(values / 1e200)
    assert points / 1e200 == pytest.approx(plain, rel=1e-9)
    assert shares == pytest.approx(known)
    assert shares.sum() > 0.98
    points, shares = on_components(np.full((2, 3, 4), np.nan))
    assert np.isnan(points).all()
    assert shares.tolist() == [0, 0]


def test_a_movie_of_one_frame_and_no_record(run: Run) -> None:
    bare = replace(run, scalars=type(run.scalars)(), summary={})
    movie = movie_of(open_subject(run.path), bare, load_snapshots(run.path)[:1])
    assert movie.landscape is None
    assert movie.remark == " No landscape: 1 snapshots span no plane; it takes at least 3."
    assert (len(movie.train.steps), len(movie.val.steps), movie.total) == (0, 0, 0)
