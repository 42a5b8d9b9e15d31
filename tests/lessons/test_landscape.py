"""The loss landscape against what is known of it: quadratics, numpy's forward pass, numpy's SVD."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from nnvis import cli, experiment
from nnvis.errors import InputError
from nnvis.figures.landscape import training_landscape
from nnvis.figures.words import number, percent
from nnvis.lessons import TOPICS, Subject, Wish, landscape, open_subject
from nnvis.lessons.landscape import (
    Landscape,
    Plane,
    landscape_of,
    loss_surface,
    losses_at,
    losses_of,
    plane_of_training,
    random_plane,
    running_loss,
    surface_of,
    trail_of,
    window_of,
)
from nnvis.models.chain import Chain
from nnvis.training.snapshots import Snapshot

GRID = np.linspace(-1, 1, 7)
MOONS = ["model.hidden=[5, 4]", "data.samples=100"]


def made(network: nn.Module, inputs: Tensor, targets: Tensor, function: object = F.mse_loss) -> Landscape:
    network = network.double().eval()
    weights = torch.cat([p.detach().reshape(-1) for p in network.parameters()])
    return Landscape(network, function, inputs, targets, weights)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    changes = [*MOONS, "training.epochs=4", "snapshots.count=9"]
    return experiment.train("moons_mlp", changes, runs=folder, quiet=True, figures=False).path


# ---------------------------------------------------------------- the surface


def test_a_linear_network_is_the_quadratic_that_it_is() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    targets = torch.randn(20, 1, generator=generator, dtype=torch.float64)
    scene = made(nn.Linear(3, 1, bias=False), inputs, targets)
    directions = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    found = loss_surface(scene, Plane(scene.weights, directions), GRID, GRID[:4])
    X, y, w, D = inputs.numpy(), targets.numpy()[:, 0], scene.weights.numpy(), directions.numpy()  # noqa: N806
    for i, b in enumerate(GRID[:4]):
        for j, a in enumerate(GRID):
            c = np.array([a, b])
            residual = X @ w - y
            expected = residual @ residual / 20 + 2 * c @ D @ X.T @ residual / 20 + c @ D @ X.T @ X @ D.T @ c / 20
            assert found[i, j] == pytest.approx(expected, rel=1e-12)


def test_an_mlp_recomputed_with_numpy() -> None:
    subject = open_subject("moons_mlp", MOONS)
    scene = landscape_of(subject, rows=30)
    plane = random_plane(scene, seed=1)
    found = loss_surface(scene, plane, GRID, GRID)
    chosen = np.linspace(0, len(subject.splits.train) - 1, 30).round().astype(int)
    x = subject.splits.train.inputs.double().numpy()[chosen]
    y = subject.splits.train.targets.numpy()[chosen]
    shapes = [p.shape for p in subject.model.parameters()]
    for i, b in enumerate(GRID):
        for j, a in enumerate(GRID):
            flat = (plane.centre + a * plane.directions[0] + b * plane.directions[1]).numpy()
            parts = np.split(flat, np.cumsum([s.numel() for s in shapes])[:-1])
            w1, b1, w2, b2, w3, b3 = (part.reshape(s) for part, s in zip(parts, shapes, strict=True))
            logits = np.tanh(np.tanh(x @ w1.T + b1) @ w2.T + b2) @ w3.T + b3
            logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
            assert found[i, j] == pytest.approx(-logp[np.arange(30), y].mean(), rel=1e-12)


def test_the_centre_is_the_runs_own_loss_and_nothing_changes(run: Path) -> None:
    subject = open_subject(run)
    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    scene = landscape_of(subject, rows=80)
    found = loss_surface(scene, random_plane(scene), GRID, GRID)
    train = subject.splits.train
    assert (scene.rows, len(train)) == (80, 80)
    with torch.no_grad():
        own = F.cross_entropy(subject.model.double()(train.inputs.double()), train.targets)
    subject.model.float()
    assert found[3, 3] == pytest.approx(float(own), rel=1e-12)
    assert running_loss(subject, scene) == pytest.approx(float(own), rel=1e-12)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in subject.model.state_dict().items())


def test_one_by_one_is_the_same_as_together(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = landscape_of(open_subject("moons_mlp", MOONS))
    plane = random_plane(scene)
    calls = []
    together = landscape._together
    monkeypatch.setattr(landscape, "_together", lambda *args: calls.append(together(*args)) or calls[-1])
    at_once = loss_surface(scene, plane, GRID, GRID)
    assert len(calls) == 4  # 49 points
    assert all(each is not None for each in calls)
    monkeypatch.setattr(landscape, "_SMALL", 0)
    np.testing.assert_allclose(loss_surface(scene, plane, GRID, GRID), at_once, rtol=1e-12)
    assert len(calls) == 4


class Stubborn(nn.Module):
    """Keeps its weights where functional_call does not find them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 2))
        self.same: tuple[nn.Parameter, ...] = (self.weight,)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs @ self.same[0].T


class Branching(nn.Module):
    """Looks at numbers, which vmap cannot let it do."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 2))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs @ self.weight.T if self.weight.sum() > 0 else inputs @ -self.weight.T


@pytest.mark.parametrize("network", [Stubborn, Branching, lambda: nn.Sequential(nn.Linear(2, 1))])
def test_networks_that_cannot_be_taken_together(network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    inputs, targets = torch.randn(6, 2).double(), torch.randn(6, 1).double()
    scene = made(network(), inputs, targets)
    plane = Plane(scene.weights, torch.randn(2, len(scene.weights)).double())
    points = np.array([[0.0, 0.0], [0.5, 0.0], [-3.0, 2.0]])
    found = losses_at(scene, plane, points)
    assert len(set(found)) == 3
    for point, loss in zip(points, found, strict=True):
        assert loss == pytest.approx(scene.loss_at(plane.at(point)), rel=1e-12)
        assert loss == pytest.approx(scene.slope_at(plane.at(point))[0], rel=1e-12)


def test_recurrent_networks() -> None:
    subject = open_subject("adding_lstm", ["data.samples=40", "data.length=6", "model.hidden_size=3"])
    scene = landscape_of(subject)
    plane = random_plane(scene)
    with torch.no_grad():
        for parameter, part in zip(
            subject.model.double().parameters(),
            plane.at((0.5, -0.5)).split([p.numel() for p in subject.model.parameters()]),
            strict=True,
        ):
            parameter.copy_(part.view_as(parameter))
        own = F.mse_loss(subject.model(subject.splits.train.inputs.double()), scene.targets)
    found = loss_surface(scene, plane, np.array([-0.5, 0.5]), np.array([-0.5, 0.5]))
    assert found[0, 1] == pytest.approx(float(own), rel=1e-12)
    assert len(np.unique(found)) == 4


# ---------------------------------------------------------------- directions


def test_every_filter_is_as_long_as_the_weights_own() -> None:
    subject = open_subject("digits_cnn", ["model.channels=[3, 4]", "model.hidden=[5]"])
    subject.model.get_parameter("conv2.bias").requires_grad_(False)
    subject.model.get_parameter("output.weight").requires_grad_(False)
    scene = landscape_of(subject, rows=20)
    plane = random_plane(scene, seed=2)
    at, moved = 0, 0
    for name, parameter in subject.model.named_parameters():
        size = parameter.numel()
        for direction in plane.directions:
            own = parameter.detach().double().reshape(len(parameter), -1).norm(dim=1)
            length = direction[at : at + size].reshape(len(parameter), -1).norm(dim=1)
            still = parameter.dim() == 1 or name == "output.weight"
            torch.testing.assert_close(length, torch.zeros_like(own) if still else own, rtol=1e-12, atol=0)
            moved += not still
        at += size
    assert (at, moved) == (len(scene.weights), 6)
    assert torch.equal(random_plane(scene, seed=2).directions, plane.directions)
    assert not torch.equal(random_plane(scene, seed=3).directions, plane.directions)


def test_weights_that_are_all_0() -> None:
    scene = landscape_of(open_subject("moons_mlp", ["model.init={kind: constant, value: 0.0}"]))
    with pytest.raises(InputError, match="a direction of that length goes nowhere"):
        random_plane(scene)


# ---------------------------------------------------------------- batch norm


def normed() -> Subject:
    return open_subject("digits_cnn", ["model.channels=[3]", "model.hidden=[4]", "model.dropout=0.5"])


def test_batch_norm_takes_the_statistics_of_the_rows() -> None:
    """With them the scale of the weights before a norm changes nothing; with the running ones it would."""
    subject = normed()
    for module in subject.model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eps = 1e-12  # which does hold scales apart
    scene = landscape_of(subject, rows=60)
    direction = torch.zeros_like(scene.weights)
    before_a_norm = {"conv1.weight", "linear2.weight"}
    at = 0
    for name, parameter in subject.model.named_parameters():
        if name in before_a_norm:
            direction[at : at + parameter.numel()] = scene.weights[at : at + parameter.numel()]
        at += parameter.numel()
    plane = Plane(scene.weights, torch.stack([direction, direction]))
    scales = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0], [-0.5, 0.0]])
    found = losses_at(scene, plane, scales)
    np.testing.assert_allclose(found, found[0], rtol=1e-6)
    fixed = landscape_of(subject, rows=60, statistics="fixed")
    assert np.ptp(losses_at(fixed, plane, scales)) > 0.1


def test_fixed_statistics_make_the_loss_a_mean_over_rows() -> None:
    subject = normed()
    scene = landscape_of(subject, rows=40, statistics="fixed")
    alone = [scene.slope_at(scene.weights, torch.tensor([row]))[0] for row in range(40)]
    assert np.mean(alone) == pytest.approx(scene.loss_at(scene.weights), rel=1e-12)
    assert not any(module.training for module in scene.network.modules())
    network = subject.model.double().eval()  # by hand: what these rows have, which torch corrects by n / (n − 1)
    with torch.no_grad():
        images = scene.inputs
        z = network.get_submodule("conv1")(images)
    norm = scene.network.get_submodule("norm1")
    torch.testing.assert_close(norm.running_mean, z.mean(dim=(0, 2, 3)), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(norm.running_var, z.transpose(0, 1).flatten(1).var(dim=1), rtol=1e-12, atol=0)


# ---------------------------------------------------------------- the plane of training


def test_components_against_numpys(run: Path) -> None:
    subject = open_subject(run)
    scene, snapshots = landscape_of(subject), subject.snapshots()
    plane, way = plane_of_training(scene, snapshots)
    names = [name for name, _ in subject.model.named_parameters()]
    flat = np.stack([np.concatenate([s.model[n].double().numpy().ravel() for n in names]) for s in snapshots])
    differences = flat - flat[-1]
    _, s, vt = np.linalg.svd(differences, full_matrices=False)
    np.testing.assert_allclose(plane.explained, s[:2] ** 2 / (s**2).sum(), rtol=1e-10)  # type: ignore[arg-type]
    np.testing.assert_allclose(abs(plane.directions.numpy() @ vt[:2].T), np.eye(2), atol=1e-9)
    np.testing.assert_allclose(way.points, differences @ plane.directions.numpy().T, atol=1e-10)
    nearest = way.points @ plane.directions.numpy()
    np.testing.assert_allclose(way.distances, np.linalg.norm(differences - nearest, axis=1), atol=1e-7)
    np.testing.assert_array_equal(way.steps, [snapshot.step for snapshot in snapshots])
    np.testing.assert_array_equal(plane.centre.numpy(), flat[-1])
    assert way.points[0, 0] < 0  # it runs to the right
    assert way.points[-1] == pytest.approx([0, 0], abs=1e-12)

    trail = trail_of(scene, plane, way, snapshots)
    for k in (0, 3, -1):
        assert trail.own[k] == scene.loss_at(torch.from_numpy(flat[k]))
        assert trail.in_plane[k] == pytest.approx(scene.loss_at(torch.from_numpy(flat[-1] + nearest[k])), rel=1e-9)
    assert trail.own[-1] == pytest.approx(trail.in_plane[-1], rel=1e-12)
    assert trail.own[0] != pytest.approx(trail.in_plane[0], rel=1e-5)  # the start is not in the plane
    np.testing.assert_array_equal(trail.own, losses_of(scene, snapshots))


def test_snapshots_of_a_run_are_read_from_their_files_when_they_are_needed(run: Path) -> None:
    first = open_subject(run).snapshots()[0]
    model = open_subject(run / "config.yaml").model
    assert first.step == 0
    for name, value in model.state_dict().items():
        assert torch.equal(first.model[name], value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s[:2], "2 snapshots span no plane"),
        (lambda s: [s[0], s[0], s[-1]], "straight line"),
        (lambda s: [s[-1]] * 3, "straight line"),
        (lambda s: [*s[:3], broken(s[3]), s[-1]], r"the weights of step \d+ hold NaN or Inf"),
    ],
)
def test_snapshots_that_have_no_plane(change: object, words: str, run: Path) -> None:
    subject = open_subject(run)
    with pytest.raises(InputError, match=words):
        plane_of_training(landscape_of(subject), change(subject.snapshots()))  # type: ignore[operator]


def broken(snapshot: Snapshot) -> Snapshot:
    model = {name: value.clone() for name, value in snapshot.model.items()}
    next(iter(model.values()))[0] = float("nan")
    return Snapshot(snapshot.step, model)


def test_weights_that_are_not_finite(run: Path) -> None:
    subject = open_subject(run)
    with torch.no_grad():
        subject.model.get_parameter("linear2.weight")[0, 0] = float("inf")
    with pytest.raises(InputError, match=r"linear2\.weight holds NaN or Inf: .*nnvis diagnose .*says where"):
        landscape_of(subject)


def test_the_window_shows_all_points() -> None:
    x, y = window_of(np.array([[0.0, 0.0], [10.0, 1.0], [4.0, -1.0]]), margin=0.3, slimmest=0.5)
    assert x == pytest.approx([-3, 13])
    assert y == pytest.approx([-4, 4])  # half as high as it is wide


# ---------------------------------------------------------------- as it is asked for


def test_how_many_points_by_the_time_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = landscape_of(open_subject("moons_mlp", MOONS))
    plane, ends, nothing = random_plane(scene), np.array([-1.0, 1.0]), lambda done, total: None
    for second, side in ((0.0, 51), (0.02, 31), (1.0, 21)):
        times = iter([0.0, second])
        monkeypatch.setattr(landscape.time, "perf_counter", lambda times=times: next(times))
        assert surface_of(scene, plane, ends, ends, None, nothing).loss.shape == (side, side)
    assert surface_of(scene, plane, ends, ends, 5, nothing).loss.shape == (5, 5)


def shown(subject: Subject, folder: Path) -> tuple[list[str], str]:
    out = io.StringIO()
    files = [file.name for file in TOPICS["landscape"](subject, Wish(points=5), Console(file=out), folder)]
    return files, out.getvalue()


def test_the_topic(run: Path, tmp_path: Path) -> None:
    files, text = shown(open_subject(run), tmp_path)
    assert files == ["landscape.png", "landscape_path.png"]
    assert "left out" not in text
    assert "an earlier one" not in text

    files, text = shown(open_subject("moons_mlp", MOONS), tmp_path)
    assert files == ["landscape.png"]
    assert "an untrained network has no snapshots; nnvis train CONFIG snapshots.count=40 takes them" in text

    subject = replace(open_subject("moons_mlp", MOONS), run=tmp_path)
    files, text = shown(subject, tmp_path)
    assert f"this run has no snapshots; nnvis train {tmp_path}/config.yaml snapshots.count=40 takes them" in text


def test_on_the_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["explain", str(run), "--show", "landscape,descent", "--points", "4", "--seed", "2", "--out", str(tmp_path)]
    assert cli.main(words) == cli.DONE
    files = [Path(line).name for line in capsys.readouterr().out.splitlines() if line.endswith(".png")]
    assert files == ["landscape.png", "landscape_path.png", "descent_rates.png", "descent_batches.png"]
    assert cli.main(["explain", str(run), "--points", "2"]) == cli.BAD_INPUT
    assert "--points must be 3 or more" in capsys.readouterr().err


def test_what_the_picture_says_is_what_was_measured(run: Path) -> None:
    subject = open_subject(run)
    scene, snapshots = landscape_of(subject), subject.snapshots()
    plane, way = plane_of_training(scene, snapshots)
    trail = trail_of(scene, plane, way, snapshots)
    surface = surface_of(scene, plane, *window_of(way.points), 7, lambda done, total: None)
    fig = training_landscape(surface, trail, landscape.seen_of(subject, scene))
    (hill,) = (ax for ax in fig.axes if ax.name == "3d")
    (path,) = (ax for ax in fig.axes if "principal" in ax.get_xlabel())
    np.testing.assert_array_equal(path.get_lines()[0].get_xydata(), way.points)
    np.testing.assert_array_equal(path.collections[-1].get_array(), trail.own)
    np.testing.assert_array_equal(hill.get_lines()[0].get_xdata(), way.points[:, 0])
    said = fig.get_suptitle() + " ".join(text.get_text() for text in fig.texts)
    assert f"from loss {number(trail.own[0])} to {number(trail.own[-1])}" in fig.get_suptitle()
    assert percent(sum(trail.explained)) in said


def test_where_other_weights_than_the_last_are_kept_it_is_said(tmp_path: Path) -> None:
    changes = [*MOONS, "training.epochs=30", "training.early_stopping={patience: 2}", "optimizer.lr=0.3"]
    run = experiment.train("moons_mlp", [*changes, "snapshots.count=9"], runs=tmp_path, quiet=True, figures=False).path
    _, text = shown(open_subject(run), tmp_path)
    assert "ends at the last step; the run keeps the weights of an earlier one" in text


def test_a_chain_of_two_layers_is_flat_along_what_it_leaves_free() -> None:
    """(a·W₂)(W₁/a): the loss does not see a; a valley without end."""
    torch.manual_seed(0)
    network = Chain({"one": nn.Linear(2, 1, bias=False), "two": nn.Linear(1, 1, bias=False)})
    scene = made(network, torch.randn(9, 2).double(), torch.randn(9, 1).double())
    w1, w2 = scene.weights[:2], scene.weights[2:]
    for a in (0.5, 3.0):
        assert scene.loss_at(torch.cat([w1 / a, w2 * a])) == pytest.approx(scene.loss_at(scene.weights), rel=1e-12)
