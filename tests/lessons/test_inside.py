"""What the network has become: every number that is drawn, read back and computed again from the weights with numpy."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from rich.console import Console
from torch import Tensor, nn

from nnvis import cli
from nnvis.errors import InputError
from nnvis.figures import planes
from nnvis.figures.images import feature_maps, filters
from nnvis.figures.planes import decision_regions, neuron_maps
from nnvis.figures.projections import bent_space, projections
from nnvis.lessons import Subject, Wish, open_subject, projecting, show, topics_of
from nnvis.lessons import images as looking
from nnvis.lessons.activations import evenly, measured, parts_of, vectors
from nnvis.lessons.images import feature_maps_of, filters_of
from nnvis.lessons.passes import laid_open
from nnvis.lessons.planes import COARSE, GRID, neurons_of, plane_of, straightness
from nnvis.lessons.projecting import PENALTIES, bent_space_of, linear_readout, principal, projections_of
from nnvis.models.chain import Chain, Residual
from nnvis.record.vocabulary import FloatArray

MOONS = ["model.hidden=[5, 4]", "data.samples=100"]
PLANE = ["data={kind: plane, samples: 100, standardize_targets: true}", "model.hidden=[5, 4]"]
RNG = np.random.default_rng(0)


def weights_of(subject: Subject) -> dict[str, FloatArray]:
    return {name: value.double().numpy() for name, value in subject.model.state_dict().items()}


def by_hand(subject: Subject, x: FloatArray) -> list[FloatArray]:
    """What the hidden layers, tanh, and the output of a small MLP put out for rows (N, 2)."""
    w = weights_of(subject)
    first = np.tanh(x @ w["linear1.weight"].T + w["linear1.bias"])
    second = np.tanh(first @ w["linear2.weight"].T + w["linear2.bias"])
    return [first, second, second @ w["output.weight"].T + w["output.bias"]]


def as_the_network_takes(subject: Subject, x: FloatArray, y: FloatArray) -> FloatArray:
    """(H·G, 2): rows of a grid in the units of the data, standardised by hand."""
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    scaling = subject.splits.input_scaling
    assert scaling
    return (grid - scaling.mean.numpy()) / scaling.std.numpy()


# ---------------------------------------------------------------- regions


def test_regions_recomputed_with_numpy() -> None:
    subject = open_subject("moons_mlp", MOONS)
    plane = plane_of(subject)
    outputs = by_hand(subject, as_the_network_takes(subject, plane.x, plane.y))[-1]
    shares = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(plane.values, shares.T.reshape(2, GRID, GRID), rtol=1e-9)
    for rows, split in zip(plane.rows, (subject.splits.train, subject.splits.val), strict=True):
        assert split
        outputs = by_hand(subject, split.inputs.double().numpy())[-1]
        targets = split.targets.numpy()
        losses = np.log(np.exp(outputs).sum(axis=1)) - outputs[np.arange(len(targets)), targets]
        assert rows.total == len(split)
        assert rows.loss == pytest.approx(losses.mean(), rel=1e-12)
        assert rows.accuracy == pytest.approx((outputs.argmax(axis=1) == targets).mean())
        np.testing.assert_array_equal(rows.wrong, outputs.argmax(axis=1) != targets)
        scaling = subject.splits.input_scaling
        assert scaling
        raw = split.inputs.double().numpy() * scaling.std.numpy() + scaling.mean.numpy()
        np.testing.assert_allclose(rows.points, raw, rtol=1e-12)


def test_what_the_regions_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planes, "_MANY", 0.5)  # every wrong row has a ring
    subject = open_subject("moons_mlp", MOONS)
    with torch.no_grad():  # so that nearly all are right: the class by the sign of the second input
        for name, value in (("linear1.weight", 0.0), ("linear2.weight", 0.0), ("output.weight", 0.0)):
            subject.model.get_parameter(name).fill_(value)
        subject.model.get_parameter("linear1.weight")[0, 1] = 1
        subject.model.get_parameter("linear2.weight")[0, 0] = 1
        subject.model.get_parameter("output.weight")[:, 0] = torch.tensor([5.0, -5.0])
    plane = plane_of(subject)
    fig = decision_regions(plane)
    left, right = fig.axes[:2]
    for ax, rows in zip((left, right), plane.rows, strict=True):
        _, *dots = ax.collections
        for k in (0, 1):
            np.testing.assert_array_equal(dots[k].get_offsets(), rows.points[rows.targets == k])  # type: ignore
        np.testing.assert_array_equal(dots[2].get_offsets(), rows.points[rows.wrong])  # type: ignore
        assert rows.wrong.any()
    scaling = subject.splits.input_scaling
    assert scaling
    line = np.asarray(left.collections[0].get_paths()[0].vertices)
    np.testing.assert_allclose(line[:, 1], float(scaling.mean[1]), atol=1e-4)  # where the input is 0
    ground = np.asarray(left.images[0].get_array())
    np.testing.assert_allclose(ground[-1, 0], 0.5 + 0.5 * np.array([0, 0x72, 0xB2]) / 255, atol=0.1)  # blue: class 0
    accuracy = (plane.rows[0].targets == (plane.rows[0].points[:, 1] < float(scaling.mean[1]))).mean()
    assert f"{accuracy:.1%}".replace(".0%", "%") in fig.get_suptitle()
    assert "untrained" in fig.get_suptitle()


def test_one_logit() -> None:
    subject = open_subject("moons_mlp", [*MOONS, "loss=binary_cross_entropy"])
    plane = plane_of(subject)
    logits = by_hand(subject, as_the_network_takes(subject, plane.x, plane.y))[-1][:, 0]
    p = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(plane.values, np.stack([1 - p, p]).reshape(2, GRID, GRID), rtol=1e-9)
    train = subject.splits.train
    logits, targets = by_hand(subject, train.inputs.double().numpy())[-1][:, 0], train.targets.numpy()
    expected = np.mean(np.logaddexp(0, logits) - targets * logits)
    assert plane.rows[0].loss == pytest.approx(expected, rel=1e-12)
    assert plane.rows[0].accuracy == pytest.approx(((logits > 0) == (targets == 1)).mean())


def test_the_surface_of_a_regression_in_the_units_of_the_data() -> None:
    subject = open_subject("moons_mlp", PLANE)
    plane = plane_of(subject)
    scaling, train = subject.splits.target_scaling, subject.splits.train
    assert scaling
    outputs = by_hand(subject, as_the_network_takes(subject, plane.x, plane.y))[-1][:, 0]
    surface = outputs * float(scaling.std) + float(scaling.mean)
    np.testing.assert_allclose(plane.values[0].ravel(), surface, rtol=1e-9)
    residual = by_hand(subject, train.inputs.double().numpy())[-1] - train.targets.double().numpy()
    assert plane.rows[0].loss == pytest.approx((residual**2).mean(), rel=1e-12)
    fig = decision_regions(plane)
    np.testing.assert_array_equal(np.asarray(fig.axes[0].images[0].get_array()), plane.values[0])
    dots = next(c for c in fig.axes[0].collections if c.get_label() == "rows")
    raw = train.targets.double().numpy()[:, 0] * float(scaling.std) + float(scaling.mean)
    np.testing.assert_allclose(np.asarray(dots.get_array()), raw, rtol=1e-9)
    assert raw.std() > 0.9  # of the heights, which span 3: not the standardised ones
    assert "mean squared error" in fig.get_suptitle()


def filled(subject: Subject, value: float, *names: str) -> Subject:
    """The network with all of its parameters, or those named, at one value."""
    with torch.no_grad():
        for name, parameter in subject.model.named_parameters():
            if name in names or not names:
                parameter.fill_(value)
    return subject


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_no_finite_numbers_are_right_of_no_row(value: float, loss: str) -> None:
    plane = plane_of(filled(open_subject("moons_mlp", [*MOONS, f"loss={loss}"]), value))
    assert [rows.accuracy for rows in plane.rows] == [0, 0]
    assert all(rows.wrong.all() for rows in plane.rows)
    fig = decision_regions(plane)
    assert ": 0% of 80 training rows right, 0% of 20 validation rows" in said_above(fig)
    assert "Ground in plain grey: no finite numbers." in fig.get_supxlabel().replace("\n", " ")


def said_above(fig: Figure) -> str:
    return fig.get_suptitle().replace("\n", " ")


# ---------------------------------------------------------------- neurons


def test_neurons_recomputed_with_numpy() -> None:
    subject = open_subject("moons_mlp", MOONS)
    neurons = neurons_of(subject)
    x, y = neurons.layers[0].x, neurons.layers[0].y
    expected = by_hand(subject, as_the_network_takes(subject, x, y))
    assert [layer.layer for layer in neurons.layers] == ["linear1, tanh", "linear2, tanh", "output"]
    fig = neuron_maps(neurons)
    maps = [ax.images[0] for ax in fig.axes if ax.images]
    shown = iter(maps)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    terms = np.column_stack([np.ones(len(grid)), grid])
    for layer, values in zip(neurons.layers, expected, strict=True):
        rest = values - terms @ np.linalg.pinv(terms) @ values
        straight = 1 - (rest**2).sum() / ((values - values.mean(axis=0)) ** 2).sum()
        assert layer.straight == pytest.approx(straight, rel=1e-9)
        assert layer.units == values.shape[1]
        for unit in layer.drawn:
            image = next(shown)
            array = np.asarray(image.get_array())
            np.testing.assert_allclose(array, values[:, unit].reshape(COARSE, COARSE), rtol=1e-9, atol=1e-12)
            assert image.get_clim() == pytest.approx((-np.abs(values).max(), np.abs(values).max()))  # white is 0
    assert next(shown, None) is None


def test_of_wide_layers_those_that_vary_most_are_drawn() -> None:
    subject = open_subject("moons_mlp", ["model.hidden=[30]", "data.samples=100"])
    with torch.no_grad():
        subject.model.get_parameter("linear1.weight")[:20] = 0.0
        subject.model.get_parameter("linear1.weight")[3] = 7.0
    first = neurons_of(subject).layers[0]
    assert (first.units, first.flat, len(first.drawn)) == (30, 19, 8)
    assert 3 in first.drawn
    assert (first.drawn[1:] >= 20).all()
    fig = neuron_maps(neurons_of(subject))
    assert "8 of 30" in fig.axes[0].get_ylabel()
    assert "The same everywhere: 19 of 30 in linear1" in fig.get_supxlabel().replace("\n", " ")


def test_what_is_said_of_neurons() -> None:
    subject = open_subject("moons_mlp", MOONS)
    neurons = neurons_of(subject)
    first, second, last = (f"{layer.straight:.1%}".replace(".0%", "%") for layer in neurons.layers)
    shares = f"{first} of the variance in linear1, {second} in linear2, {last} in output"
    assert said_above(neuron_maps(neurons)) == f"moons-mlp, untrained: flat planes explain {shares}"
    fig = neuron_maps(neurons_of(filled(subject, float("nan"), "linear2.bias")))
    assert [ax.get_ylabel().split("\n")[-1] for ax in fig.axes if "linear2" in ax.get_ylabel()] == ["NaN or Inf"]
    told = f"flat planes explain {first} of the variance in linear1; no finite numbers out of linear2, output"
    assert said_above(fig) == f"moons-mlp, untrained: {told}"
    nothing = said_above(neuron_maps(neurons_of(filled(subject, float("nan")))))
    assert nothing == "moons-mlp, untrained: no finite numbers out of linear1, linear2 and 1 more"
    alike = said_above(neuron_maps(neurons_of(filled(subject, 0.0))))
    assert alike == "moons-mlp, untrained: every neuron puts out the same everywhere"


def test_the_scale_of_neurons_is_that_of_those_drawn() -> None:
    subject = open_subject("moons_mlp", ["model.hidden=[30]", "data.samples=100"])
    with torch.no_grad():
        subject.model.get_parameter("linear1.weight")[0], subject.model.get_parameter("linear1.bias")[0] = 0.0, 9.0
    first = neurons_of(subject).layers[0]
    assert 0 not in first.drawn  # tanh(9) everywhere: the largest of all, and the flattest
    fig = neuron_maps(neurons_of(subject))
    assert fig.axes[0].images[0].get_clim()[1] == np.abs(first.values).max() < np.tanh(9.0)
    assert "± the largest value of those drawn" in fig.get_supxlabel().replace("\n", " ")


@pytest.mark.parametrize(
    ("value", "said"), [(float("nan"), "linear1, tanh: 5 neurons, NaN or Inf"), (0.0, "5 neurons, 5 the same every")]
)
def test_neurons_that_tell_nothing_are_told(value: float, said: str, tmp_path: Path) -> None:
    out = io.StringIO()
    show(filled(open_subject("moons_mlp", MOONS), value), ["neurons"], Wish(), Console(file=out), tmp_path)
    assert said in out.getvalue()
    assert "of the variance" not in out.getvalue()


def test_straightness_is_known() -> None:
    x, y = np.linspace(-1, 1, 41), np.linspace(0, 1e6, 31)
    a, b = (each.reshape(-1, 1) for each in np.meshgrid(x, y))
    assert straightness(3 * a - 2e-6 * b + 5, x, y) == pytest.approx(1, abs=1e-12)
    assert straightness(a**2, x, y) == pytest.approx(0, abs=1e-12)
    mixed = np.concatenate([a, (a**2 - (a**2).mean()) * (a.std() / (a**2).std())], axis=1)
    assert straightness(mixed, x, y) == pytest.approx(0.5, abs=1e-12)
    assert np.isnan(straightness(np.full_like(a, 2.0), x, y))


def test_of_a_hundred_layers_the_evenly_spaced_ones() -> None:
    deep = ["model={kind: mlp, depth: 100, width: 3, activation: tanh}", "data.samples=50"]
    neurons = neurons_of(open_subject("moons_mlp", deep))
    names = [layer.layer.split(",")[0] for layer in neurons.layers]
    assert (neurons.total, names[0], names[-1], len(names)) == (101, "linear1", "output", 8)
    assert "8 of 101 layers are drawn, evenly spaced" in neuron_maps(neurons).get_supxlabel().replace("\n", " ")
    bent = bent_space_of(open_subject("moons_mlp", deep))
    assert (bent.total, len(bent.panels), bent.panels[-1].name) == (100, 8, "linear100")
    assert evenly(100, 8) == [0, 14, 28, 42, 57, 71, 85, 99]
    assert evenly(3, 8) == [0, 1, 2]
    assert evenly(0, 8) == []


# ---------------------------------------------------------------- projections


def test_components_against_the_covariance() -> None:
    values = RNG.normal(size=(50, 6)) @ RNG.normal(size=(6, 6)) + 10
    found = principal(values)
    variances, vectors_ = np.linalg.eigh(np.cov(values.T))
    np.testing.assert_allclose(found.shares, variances[:-3:-1] / variances.sum(), rtol=1e-10)
    assert np.abs(np.sum(found.axes * vectors_[:, :-3:-1].T, axis=1)) == pytest.approx([1, 1])
    np.testing.assert_allclose(found.of(values).var(axis=0, ddof=1), variances[:-3:-1], rtol=1e-10)
    np.testing.assert_allclose(principal(values * 1e200).shares, found.shares, rtol=1e-10)
    assert principal(np.ones((4, 3))).shares.tolist() == [0, 0]
    assert principal(np.arange(4.0)[:, None]).shares.tolist() == [1, 0]


def ridge_by_hand(x: FloatArray, y: FloatArray, penalty: float) -> tuple[FloatArray, FloatArray]:
    """Slopes and intercepts of ridge regression with the intercepts left free."""
    centred = x - x.mean(axis=0)
    slopes = np.linalg.solve(centred.T @ centred + penalty * np.eye(x.shape[1]), centred.T @ (y - y.mean(axis=0)))
    return slopes, y.mean(axis=0) - x.mean(axis=0) @ slopes


def readout_by_hand(x: FloatArray, y: FloatArray, held_out: FloatArray) -> FloatArray:
    """What a ridge regression says of held-out rows, its penalty chosen by leaving each row out in turn."""
    mean, std = x.mean(axis=0), x.std(axis=0)
    x, held_out = (x - mean) / std, (held_out - mean) / std
    errors = []
    for penalty in PENALTIES:
        left = [ridge_by_hand(np.delete(x, i, 0), np.delete(y, i, 0), penalty) for i in range(len(x))]
        errors.append(sum(((y[i] - x[i] @ w - b) ** 2).sum() for i, (w, b) in enumerate(left)))
    slopes, intercept = ridge_by_hand(x, y, PENALTIES[int(np.argmin(errors))])
    return held_out @ slopes + intercept


def test_the_linear_readout_by_hand() -> None:
    x, held_out = RNG.normal(size=(40, 5)), RNG.normal(size=(60, 5))
    slopes = RNG.normal(size=(5, 3))
    noisy = lambda rows: (rows @ slopes + RNG.normal(size=(len(rows), 3))).argmax(axis=1)  # noqa: E731
    classes, held_out_classes = noisy(x), noisy(held_out)
    said = readout_by_hand(x, np.where(classes[:, None] == np.arange(3), 1.0, -1.0), held_out).argmax(axis=1)
    found = linear_readout(x, classes, held_out, held_out_classes)
    assert found == pytest.approx((said == held_out_classes).mean())
    assert 0.5 < found < 1
    values, held_out_values = (rows @ slopes[:, 0] + RNG.normal(size=len(rows)) for rows in (x, held_out))
    said = readout_by_hand(x, values[:, None], held_out)[:, 0]
    r2 = 1 - ((said - held_out_values) ** 2).sum() / ((held_out_values - held_out_values.mean()) ** 2).sum()
    assert linear_readout(x, values, held_out, held_out_values) == pytest.approx(r2, rel=1e-9)


def test_a_linear_readout_of_what_is_known() -> None:
    x = RNG.normal(size=(200, 2))
    line, cross = (x[:, 0] > 0).astype(np.int64), (x.prod(axis=1) > 0).astype(np.int64)
    assert linear_readout(x[:100], line[:100], x[100:], line[100:]) > 0.95
    assert linear_readout(x[:100], cross[:100], x[100:], cross[100:]) < 0.65
    assert linear_readout(x[:100], 3 * x[:100, 1], x[100:], 3 * x[100:, 1]) == pytest.approx(1, abs=1e-6)
    assert linear_readout(x * 1e200, line, x * 1e200, line) == linear_readout(x, line, x, line)
    assert linear_readout(x, np.ones(200, dtype=np.int64), x, line) == line.mean()
    assert np.isnan(linear_readout(x, np.ones(200), x, x[:, 0]))


def test_projections_recomputed_with_numpy() -> None:
    subject = open_subject("moons_mlp", ["model.hidden=[5, 2]", "data.samples=100"])
    projected = projections_of(subject)
    train, val = subject.splits.train, subject.splits.val
    assert val
    first, second, outputs = by_hand(subject, train.inputs.double().numpy())
    _, sizes, axes = np.linalg.svd(first - first.mean(axis=0))
    inputs, one, two, last = projected.panels
    assert [panel.name for panel in projected.panels] == ["inputs", "linear1", "linear2", "output"]
    np.testing.assert_allclose(np.abs(one.points), np.abs((first - first.mean(axis=0)) @ axes[:2].T), atol=1e-12)
    np.testing.assert_allclose(one.shares, sizes[:2] ** 2 / (sizes**2).sum(), rtol=1e-12)  # type: ignore[arg-type]
    np.testing.assert_allclose(two.points, second, rtol=1e-12)  # two units: as they are
    np.testing.assert_allclose(last.points, outputs, rtol=1e-12)
    assert two.shares is last.shares is inputs.shares is None
    told = np.where(train.targets.numpy()[:, None] == 1, 1.0, -1.0)
    for panel, values, held_out in zip(
        projected.panels[1:], (first, second, outputs), by_hand(subject, val.inputs.double().numpy()), strict=True
    ):
        right = (readout_by_hand(values, told, held_out)[:, 0] > 0) == (val.targets.numpy() == 1)
        assert panel.score == pytest.approx(right.mean())
    fig = projections(projected)
    drawn = [ax for ax in fig.axes if ax.collections]
    for ax, panel in zip(drawn, projected.panels, strict=True):
        for k in (0, 1):
            dots = np.asarray(ax.collections[k].get_offsets())
            np.testing.assert_array_equal(dots, panel.points[projected.targets == k])
        assert f"{panel.score:.1%}".replace(".0%", "%") in ax.get_title("left")
    assert f"PC 1: {one.shares[0]:.1%}".replace(".0%", "%") == drawn[1].get_xlabel()  # type: ignore[index]


def test_of_large_layers_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projecting, "_NUMBERS", 150)
    projected = projections_of(open_subject("moons_mlp", ["model.hidden=[5]", "data.samples=200"]))
    assert (len(projected.targets), projected.held_out) == (30, 30)
    assert "Each of 30 dots" in projections(projected).get_supxlabel()


def test_of_several_targets_the_first() -> None:
    subject = open_subject("sunspots_forecast", ["data.horizon=3"])
    projected = projections_of(subject)
    scaling = subject.splits.target_scaling
    assert scaling
    raw = subject.splits.train.targets.double().numpy()[:, 0] * float(scaling.std[0]) + float(scaling.mean[0])
    np.testing.assert_allclose(projected.targets, raw)
    assert "Of 3 targets the first." in projections(projected).get_supxlabel().replace("\n", " ")


def test_the_bent_space_recomputed_with_numpy() -> None:
    subject = open_subject("moons_mlp", MOONS)
    bent = bent_space_of(subject)
    inputs, one, two = bent.panels
    scaling = subject.splits.input_scaling
    assert scaling
    assert inputs.lines is not None
    raw = inputs.lines.reshape(-1, 2)
    half = len(inputs.lines) // 2
    assert np.ptp(inputs.lines[:half, :, 1], axis=1) == pytest.approx(np.zeros(half))  # level
    assert np.ptp(inputs.lines[half:, :, 0], axis=1) == pytest.approx(np.zeros(half))  # upright
    rows = subject.splits.train.inputs.double().numpy()
    lines = (raw - scaling.mean.numpy()) / scaling.std.numpy()
    for panel, values, places in zip((one, two), by_hand(subject, rows)[:2], by_hand(subject, lines)[:2], strict=True):
        _, _, axes = np.linalg.svd(values - values.mean(axis=0))
        assert panel.lines is not None
        expected = (places - values.mean(axis=0)) @ axes[:2].T
        signs = np.sign((expected * panel.lines.reshape(-1, 2)).sum(axis=0))
        np.testing.assert_allclose(panel.lines.reshape(-1, 2), expected * signs, atol=1e-9)
        np.testing.assert_allclose(panel.points, (values - values.mean(axis=0)) @ axes[:2].T * signs, atol=1e-9)
    fig = bent_space(bent)
    for ax, panel in zip([ax for ax in fig.axes if ax.collections], bent.panels, strict=True):
        segments = [segment for each in ax.collections[:2] for segment in each.get_segments()]  # type: ignore
        np.testing.assert_array_equal(np.stack(segments), panel.lines)


def test_the_last_step_and_the_mean_over_steps() -> None:
    subject = open_subject("names_text", ["model={kind: rnn, cell: GRU, layers: 1, hidden_size: 6, embedding: 5}"])
    network, rows = laid_open(subject.model), subject.splits.train.inputs[:9]
    lengths = (rows != 0).sum(1)
    assert len(set(lengths.tolist())) > 2
    parts = parts_of(network, rows[:1])
    found = measured(network, rows, parts, lambda part, values: vectors(part, values, lengths))
    with torch.no_grad():
        embedded = network.get_submodule("embedding")(rows)
        states = network.get_submodule("gru1")(embedded)[0]
    for i, length in enumerate(lengths.tolist()):
        np.testing.assert_allclose(found["embedding"][i], embedded[i, :length].mean(0), rtol=1e-12)
        np.testing.assert_allclose(found["gru1"][i], states[i, length - 1], rtol=1e-12)
    said = projections(projections_of(subject)).get_supxlabel().replace("\n", " ")
    assert "Of recurrent layers the last step; of other layers over sequences the mean over the steps." in said


def test_a_transformer_without_its_fast_path() -> None:
    """What a hook sees is what the modules compute one by one."""
    changes = ["model={kind: transformer, depth: 1, width: 8, heads: 2, feedforward: 16}"]
    subject = open_subject("adding_lstm", [*changes, "data.samples=60"])
    network, rows = laid_open(subject.model), subject.splits.train.inputs[:4].double()
    found = measured(network, rows, parts_of(network, rows[:1]), lambda part, values: values.clone())
    outputs = network(rows)  # with gradients, as in training
    torch.testing.assert_close(found["output"], outputs.detach(), rtol=1e-12, atol=1e-14)
    assert list(found) == ["input", "block1", "output"]


# ---------------------------------------------------------------- parts


def test_parts_of_a_residual_network() -> None:
    torch.manual_seed(0)
    block = Residual({"linear": nn.Linear(3, 3), "norm": nn.LayerNorm(3), "relu": nn.ReLU(inplace=True)})
    network = laid_open(Chain({"block": block, "output": nn.Linear(3, 2)}))
    rows = torch.randn(5, 3, dtype=torch.float64)
    whole, inner = (parts_of(network, rows[:1], whole=each) for each in (True, False))
    assert [part.label for part in whole] == ["block", "output"]
    assert [part.label for part in inner] == ["block.linear, relu", "output"]
    assert [part.last for part in whole] == [False, True]
    found = measured(network, rows, [whole[0], inner[0]], lambda part, values: values.clone())
    w, b = (network.get_parameter(f"block.linear.{name}").detach() for name in ("weight", "bias"))
    z = rows @ w.T + b
    z = (z - z.mean(1, keepdim=True)) / (z.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(found["block.linear"], z.clamp(min=0))
    torch.testing.assert_close(found["block"], z.clamp(min=0) + rows)
    assert not any(module._forward_hooks for module in network.modules())


def test_a_layer_that_is_called_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared, self.tanh = nn.Linear(2, 2), nn.Tanh()

        def forward(self, rows: Tensor) -> Tensor:
            return self.tanh(self.shared(self.tanh(self.shared(rows))))

    network, rows = laid_open(Twice()), torch.randn(3, 2, dtype=torch.float64)
    found = measured(network, rows, parts_of(network, rows[:1]), lambda part, values: values.clone())
    assert list(found) == ["shared", "shared#2"]
    torch.testing.assert_close(found["shared#2"], network(rows).detach())
    assert not torch.equal(found["shared"], found["shared#2"])


# ---------------------------------------------------------------- images

CNN = ["model={kind: cnn, channels: [10, 3], hidden: [4], kernel_size: 3, activation: relu, norm: batch}"]


def test_filters_are_the_weights() -> None:
    subject = open_subject("digits_cnn", CNN)
    first = filters_of(subject)
    weights = weights_of(subject)["conv1.weight"]
    np.testing.assert_array_equal(first.weights, weights)
    np.testing.assert_allclose(first.norms, [np.linalg.norm(one) for one in weights])
    fig = filters(first)
    images = [ax.images[0] for ax in fig.axes if ax.images]
    for image, one in zip(images, weights, strict=True):
        np.testing.assert_array_equal(np.asarray(image.get_array()), one[0])
        assert image.get_clim() == pytest.approx((-np.abs(weights).max(), np.abs(weights).max()))


def test_filters_in_colour() -> None:
    weights = RNG.normal(size=(5, 3, 4, 4))
    first = replace(filters_of(open_subject("digits_cnn", CNN)), weights=weights, drawn=np.arange(5))
    images = [ax.images[0] for ax in filters(first).axes if ax.images]
    top = np.abs(weights).max()
    for image, one in zip(images, weights, strict=True):
        np.testing.assert_allclose(np.asarray(image.get_array()), 0.5 + one.transpose(1, 2, 0) / (2 * top))
    assert f"±{top:.3g}" in filters(first).get_supxlabel()


def test_of_many_filters_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "FILTERS", 4)
    first = filters_of(open_subject("digits_cnn", CNN))
    assert first.drawn.tolist() == sorted(np.argsort(-first.norms)[:4].tolist())
    assert "4 of 10 filters are drawn, the longest" in filters(first).get_supxlabel().replace("\n", " ")


def test_feature_maps_recomputed_with_numpy() -> None:
    subject = open_subject("digits_cnn", CNN)
    maps = feature_maps_of(subject, 5)
    w = weights_of(subject)
    image = subject.splits.train.inputs[5, 0].double().numpy()
    padded = np.pad(image, 1)
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    z = np.einsum("ijkl,fkl->fij", patches, w["conv1.weight"][:, 0]) + w["conv1.bias"][:, None, None]
    a = np.maximum(z / np.sqrt(1 + 1e-5), 0)  # the norm's running statistics are 0 and 1 before training
    first = maps.layers[0]
    assert (first.layer, first.activation, first.channels) == ("conv1", "relu", 10)
    np.testing.assert_allclose(first.values, a[first.drawn], rtol=1e-9, atol=1e-12)
    assert set(first.drawn) == set(np.argsort(-a.std(axis=(1, 2)))[:8])
    assert maps.layers[1].values.shape == (3, 4, 4)
    scaling = subject.splits.input_scaling
    assert scaling
    pixels = image * float(scaling.std) + float(scaling.mean)
    assert 0 <= pixels.min() < pixels.max() <= 1 + 1e-6
    fig = feature_maps(maps)
    shown = [ax.images[0] for ax in fig.axes if ax.images]
    np.testing.assert_allclose(np.asarray(shown[0].get_array()), pixels, rtol=1e-9)
    for image_, values in zip(shown[1:], [*first.values, *maps.layers[1].values], strict=True):
        np.testing.assert_array_equal(np.asarray(image_.get_array()), values)
    outputs = laid_open(subject.model)(subject.splits.train.inputs[5:6].double()).detach().numpy()[0]
    p = np.exp(outputs) / np.exp(outputs).sum()
    assert f"says {p.argmax()} ({p.max():.1%})" in fig.get_suptitle()
    assert f"class {int(subject.splits.train.targets[5])}," in fig.get_suptitle()


def test_no_finite_numbers_name_no_class() -> None:
    subject = filled(open_subject("digits_cnn", CNN), float("nan"))
    title = said_above(feature_maps(feature_maps_of(subject, 5)))
    target = int(subject.splits.train.targets[5])
    assert title.endswith(f"row 5: class {target}, and the network puts out no finite numbers")


def test_maps_that_are_silent_are_counted() -> None:
    subject = open_subject("digits_cnn", CNN)
    with torch.no_grad():
        subject.model.get_parameter("norm1.bias")[:4] = -1e3
    maps = feature_maps_of(subject, 0)
    assert maps.layers[0].silent == 4
    assert "0 everywhere: 4 of 10 in conv1" in feature_maps(maps).get_supxlabel().replace("\n", " ")


# ---------------------------------------------------------------- as it is asked for


@pytest.mark.parametrize(
    ("config", "topic", "said"),
    [
        (
            "digits_mlp",
            "regions",
            "digits-mlp has 1 × 8 × 8 = 64 inputs; --show projections draws any network, and moon",
        ),
        ("diabetes_regression", "neurons", "diabetes-regression has 10 inputs"),
        ("names_text", "input_space", "names-text reads 24 tokens a row"),
        ("moons_mlp", "filters", "moons-mlp has no 2-D convolution over images; --show projections draws any network"),
        ("adding_lstm", "feature_maps", "adding-lstm has no 2-D convolution over images"),
    ],
)
def test_what_cannot_be_shown_is_told_in_a_line(
    config: str, topic: str, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["explain", config, "--show", topic, "--out", str(tmp_path)]) == cli.BAD_INPUT
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"--show {topic}: ")
    assert said in err
    assert len(err.splitlines()) == 1


def test_other_wrong_input() -> None:
    with pytest.raises(InputError, match="--sample 5000: the training split has 1,438 rows; choose 0 to 1437"):
        feature_maps_of(open_subject("digits_cnn", CNN), 5000)
    with pytest.raises(InputError, match=r"moons-mlp has no hidden layer; --show regions works"):
        bent_space_of(open_subject("moons_mlp", ["model.hidden=[]"]))
    subject = open_subject("moons_mlp", PLANE)
    many = replace(subject, objective=replace(subject.objective, output_size=3))
    with pytest.raises(InputError, match=r"puts out 3 numbers; --show neurons draws each of them"):
        plane_of(many)


@pytest.mark.parametrize("topics", ["regions", "functions", "passes,filters"])
def test_a_row_that_there_is_not_is_told_of_any_topic(
    topics: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = ["explain", "moons_mlp", *MOONS, "--show", topics, "--sample", "99999", "--out", str(tmp_path)]
    assert cli.main(asked) == cli.BAD_INPUT
    out, err = capsys.readouterr()
    assert (out, err) == ("", "--sample 99999: the training split has 80 rows; choose 0 to 79\n")
    assert list(tmp_path.iterdir()) == []


def test_of_several_topics_those_that_do_not_suit_are_left_out(tmp_path: Path) -> None:
    out = io.StringIO()
    topics = topics_of("regions,neurons,input_space,filters,feature_maps,projections")
    files = show(open_subject("moons_mlp", MOONS), topics, Wish(), Console(file=out, width=60), tmp_path)
    assert [file.name for file in files] == ["regions.png", "neurons.png", "input_space.png", "projections.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
    left_out = [line for line in out.getvalue().splitlines() if "left out" in line]
    assert [line.split(":")[0] for line in left_out] == ["filters", "feature_maps"]
    assert "and digits_cnn has convolutions" in left_out[0]  # in one line, however narrow the terminal
