"""Every number of an explanation, computed again from the weights with numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnvis import experiment
from nnvis.config import load_config
from nnvis.data import load_splits
from nnvis.errors import InputError
from nnvis.figures.depth import flow_of
from nnvis.lessons import explain, open_subject
from nnvis.lessons.choosing import chosen, neuron_of, weight_of
from nnvis.lessons.passes import both_passes, laid_open, steepest
from nnvis.models.chain import Chain, Residual
from nnvis.record.vocabulary import FloatArray

MOONS = ["model.hidden=[5, 4]", "data.samples=100"]


def there(values: FloatArray | None) -> FloatArray:
    assert values is not None
    return values


def half_square(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((outputs - targets) ** 2).sum() / 2


def test_the_reference_example() -> None:
    """Inputs 1.0 and 0.5, weights 0.3 and 0.7, bias 0.1: z = 0.75, a = 0.68; worked on paper, target 1."""
    model = Chain({"linear1": nn.Linear(2, 1), "sigmoid1": nn.Sigmoid()})
    model.double()
    assert isinstance(model.linear1, nn.Linear)
    inputs, targets = torch.tensor([[1.0, 0.5]], dtype=torch.float64), torch.tensor([[1.0]], dtype=torch.float64)
    with torch.no_grad():
        model.linear1.weight.copy_(torch.tensor([[0.3, 0.7]], dtype=torch.float64))
        model.linear1.bias.copy_(torch.tensor([0.1], dtype=torch.float64))
    network = laid_open(model)
    passes = both_passes(network, half_square, inputs, targets)
    neuron = neuron_of(passes, "linear1", 0)
    assert neuron.terms == pytest.approx([0.3, 0.35], abs=1e-15)
    assert neuron.z == pytest.approx(0.75, abs=1e-15)
    assert round(neuron.a, 2) == 0.68
    assert neuron.a == pytest.approx(0.679178699175393, abs=1e-15)

    weight = weight_of(network, half_square, inputs, targets, passes, ("linear1", 0, 1), lr=0.5)
    a = 0.679178699175393
    assert weight.grad_a == pytest.approx([a - 1])
    assert weight.slope == pytest.approx([a * (1 - a)])
    assert weight.x == pytest.approx([0.5])
    assert weight.product == pytest.approx((a - 1) * a * (1 - a) * 0.5, rel=1e-14)
    assert weight.after == pytest.approx(0.7 - 0.5 * weight.product, rel=1e-15)
    assert weight.agrees
    assert weight.autograd == pytest.approx(weight.product, rel=1e-14)
    assert weight.difference == pytest.approx(weight.product, rel=1e-8)


def test_a_config_recomputed_with_numpy() -> None:
    found = explain(open_subject("moons_mlp", MOONS), sample=7, weight="linear2:3,1")
    config = load_config("moons_mlp", MOONS)
    splits = load_splits(config.data, 0)
    x = splits.train.inputs[7].double().numpy()
    target = int(splits.train.targets[7])
    first, second, last = found.passes.stages
    w1, w2, w3 = (there(stage.weight) for stage in found.passes.stages)
    b1, b2, b3 = (there(stage.bias) for stage in found.passes.stages)
    z1 = w1 @ x + b1
    a1 = np.tanh(z1)
    z2 = w2 @ a1 + b2
    a2 = np.tanh(z2)
    z3 = w3 @ a2 + b3
    for stage, z, a in ((first, z1, a1), (second, z2, a2), (last, z3, z3)):
        np.testing.assert_allclose(stage.z, z, rtol=1e-13)
        np.testing.assert_allclose(stage.a, a, rtol=1e-13)
    np.testing.assert_array_equal(found.passes.inputs, x)

    def loss(w: float, others: np.ndarray = w2) -> float:
        moved = others.copy()
        moved[3, 1] = w
        outputs = w3 @ np.tanh(moved @ a1 + b2) + b3
        return float(np.log(np.exp(outputs).sum()) - outputs[target])

    p = np.exp(z3) / np.exp(z3).sum()
    d3 = p - np.eye(2)[target]
    g2 = w3.T @ d3
    d2 = g2 * (1 - a2**2)
    g1 = w2.T @ d2
    d1 = g1 * (1 - a1**2)
    assert found.passes.loss == pytest.approx(-np.log(p[target]), rel=1e-13)
    np.testing.assert_allclose(found.passes.output_gradient, d3, rtol=1e-12)
    for stage, delta, grad_a in ((first, d1, g1), (second, d2, g2), (last, d3, d3)):
        np.testing.assert_allclose(there(stage.delta), delta, rtol=1e-12)
        np.testing.assert_allclose(there(stage.grad_a), grad_a, rtol=1e-12)
        np.testing.assert_allclose(there(stage.weight_gradient), np.outer(delta, stage.x), rtol=1e-12)
    weight = found.weight
    assert weight
    assert (weight.grad_a[0], weight.slope[0], weight.x[0]) == pytest.approx((g2[3], 1 - a2[3] ** 2, a1[1]), rel=1e-12)
    assert weight.product == weight.autograd == pytest.approx(d2[3] * a1[1], rel=1e-12)
    assert weight.lr == 0.01
    assert weight.after == pytest.approx(w2[3, 1] - 0.01 * d2[3] * a1[1], rel=1e-14)
    assert weight.loss_alone == pytest.approx(loss(weight.after), rel=1e-13)
    assert weight.difference == pytest.approx((loss(weight.w + 1e-6) - loss(weight.w - 1e-6)) / 2e-6, rel=1e-6)
    v1, v2, v3 = (
        there(stage.weight) - 0.01 * np.outer(d, stage.x)
        for stage, d in zip(found.passes.stages, (d1, d2, d3), strict=True)
    )
    outputs = v3 @ np.tanh(v2 @ np.tanh(v1 @ x + b1 - 0.01 * d1) + b2 - 0.01 * d2) + b3 - 0.01 * d3
    assert weight.loss_all == pytest.approx(float(np.log(np.exp(outputs).sum()) - outputs[target]), rel=1e-12)

    flow = flow_of(found.passes.stages)
    norm = np.linalg.norm
    np.testing.assert_allclose(flow.norms, [norm(d1), norm(d2), norm(d3)], rtol=1e-12)
    np.testing.assert_allclose(flow.factor[:2], [norm(d1) / norm(d2), norm(d2) / norm(d3)], rtol=1e-12)
    np.testing.assert_allclose(flow.slope[:2], [norm(d1) / norm(g1), norm(d2) / norm(g2)], rtol=1e-12)
    np.testing.assert_allclose(flow.weights[:2], [norm(g1) / norm(d2), norm(g2) / norm(d3)], rtol=1e-12)


def test_it_is_the_network_that_training_starts_with(tmp_path: Path) -> None:
    """Trained with a learning rate of 0 (as good as), a run keeps the weights it started with."""
    overrides = [*MOONS, "optimizer={kind: SGD, lr: 0.0}", "training.epochs=1", "diagnosis.every=null"]
    run = experiment.train("moons_mlp", overrides, runs=tmp_path, quiet=True, figures=False)
    before, after = explain(open_subject("moons_mlp", overrides)), explain(open_subject(run.path))
    assert before.passes.loss == after.passes.loss
    for one, other in zip(before.passes.stages, after.passes.stages, strict=True):
        np.testing.assert_array_equal(there(one.weight), there(other.weight))
    assert "seed 0" in before.state
    assert str(run.path) in after.state


def test_textbook_product_of_a_deep_sigmoid_network() -> None:
    found = explain(open_subject("vanishing_sigmoid"))
    flow = flow_of(found.passes.stages)
    assert len(flow.layers) == 21
    assert flow.textbook == pytest.approx(0.25 ** np.arange(20, -1, -1))
    np.testing.assert_allclose(flow.factor[:-1], (flow.slope * flow.weights)[:-1], rtol=1e-14)
    assert np.prod(flow.factor[:-1]) == pytest.approx(flow.relative[0], rel=1e-12)
    assert (flow.slope[:-1] <= 0.25).all()
    assert flow.relative[0] < 1e-9


@pytest.mark.parametrize(
    ("activation", "most"),
    [
        (nn.Sigmoid(), 0.25),
        (nn.Tanh(), 1.0),
        (nn.ReLU(), 1.0),
        (nn.LeakyReLU(1.5), 1.5),
        (nn.GELU(), 1.128904),
        (nn.SiLU(), 1.099839),
    ],
)
def test_steepest(activation: nn.Module, most: float) -> None:
    assert steepest(activation) == pytest.approx(most, abs=1e-6)


def test_steepest_is_not_guessed() -> None:
    assert steepest(nn.PReLU()) is None


def test_an_activation_counts_only_where_all_of_z_goes_through_it() -> None:
    """z goes through the block's sigmoid and around it: ∂L/∂z is more than ∂L/∂a times the slope."""
    torch.manual_seed(0)
    through = Chain({"linear1": nn.Linear(3, 4), "sigmoid1": nn.Sigmoid(), "output": nn.Linear(4, 2)})
    around = Chain({"linear1": nn.Linear(3, 4), "skip": Residual({"sigmoid": nn.Sigmoid()}), "output": nn.Linear(4, 2)})
    inputs, targets = torch.randn(1, 3), torch.randn(1, 2)
    assert both_passes(laid_open(through), half_square, inputs, targets).stages[0].activation == "Sigmoid"
    first = both_passes(laid_open(around), half_square, inputs, targets).stages[0]
    assert first.activation == ""
    np.testing.assert_array_equal(first.a, first.z)
    np.testing.assert_array_equal(first.slope, np.ones(4))


def test_a_weight_that_is_used_many_times() -> None:
    """Over a sequence, and in two calls: the sum of all uses is autograd's gradient."""
    torch.manual_seed(0)
    shared = nn.Linear(4, 4)
    model = Chain({"shared": shared, "tanh1": nn.Tanh()})

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, inputs: Tensor) -> Tensor:
            return self.inner(self.inner(inputs)).mean(1)

    network = laid_open(Twice())
    inputs, targets = torch.randn(1, 5, 4), torch.randn(1, 4)
    passes = both_passes(network, F.mse_loss, inputs, targets)
    assert [stage.name for stage in passes.stages] == ["inner.shared", "inner.shared#2"]
    weight = weight_of(network, F.mse_loss, inputs, targets, passes, ("inner.shared", 2, 1), 0.1)
    assert len(weight.x) == 10
    assert weight.agrees
    assert weight.product == pytest.approx(weight.difference, rel=1e-6)


def test_nothing_about_the_network_changes() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(4, 1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    network = laid_open(model)
    opened = {name: value.clone() for name, value in network.state_dict().items()}
    inputs, targets = torch.randn(1, 3), torch.randn(1, 1)
    state = torch.get_rng_state()
    passes = both_passes(network, F.mse_loss, inputs, targets)
    place = chosen(passes, None, None)
    assert place
    weight_of(network, F.mse_loss, inputs, targets, passes, place, 0.1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(value, opened[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert model[2].inplace
    assert model.training


@pytest.mark.parametrize(
    ("config", "options", "said"),
    [
        ("moons_mlp", {"sample": 80}, "--sample 80: the training split has 80 rows; choose 0 to 79"),
        ("moons_mlp", {"sample": -1}, "--sample -1: the training split has 80 rows"),
        ("moons_mlp", {"weight": "linaer1:0,0"}, 'choices: linear1, linear2, output; did you mean "linear1"'),
        ("moons_mlp", {"weight": "tanh1:0,0"}, "tanh1 is a Tanh, and only Linear layers are taken apart; choices: lin"),
        ("moons_mlp", {"weight": "linear1:5,0"}, "linear1 has no row 5; choose 0 to 4"),
        ("moons_mlp", {"weight": "linear1:0,2"}, "linear1 has no column 2; choose 0 to 1"),
        ("moons_mlp", {"weight": "linear1"}, "expected LAYER:ROW,COL, such as linear1:0,0"),
        ("moons_mlp", {"neuron": "linear1:5"}, "linear1 has no index 5; choose 0 to 4"),
        ("moons_mlp", {"neuron": "linear1:1,2"}, "expected LAYER:INDEX, such as linear1:0"),
    ],
)
def test_what_cannot_be_explained_is_told_in_a_line(config: str, options: dict, said: str) -> None:
    with pytest.raises(InputError) as raised:
        explain(open_subject(config, MOONS), **options)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_folder_that_no_config_trained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no config\.yaml"):
        open_subject(tmp_path)
    with pytest.raises(InputError, match=r"optimizer\.lr=1: overrides do not go with a run"):
        open_subject(tmp_path, ["optimizer.lr=1"])


def test_neuron_and_weight_are_chosen_together() -> None:
    found = explain(open_subject("moons_mlp", MOONS), neuron="linear2:2")
    assert found.neuron
    assert found.weight
    assert (found.neuron.layer, found.neuron.index, found.weight.row) == ("linear2", 2, 2)
    gradients = there(found.passes.stages[1].weight_gradient)
    assert found.weight.col == np.abs(gradients[2]).argmax()
    found = explain(open_subject("moons_mlp", MOONS), weight="output:1,3")
    assert found.neuron
    assert (found.neuron.layer, found.neuron.index) == ("output", 1)
    found = explain(open_subject("moons_mlp", MOONS))
    assert found.weight
    gradients = np.abs(there(found.passes.stages[0].weight_gradient))
    assert gradients[found.weight.row, found.weight.col] == gradients.max()


@pytest.mark.parametrize("name", ["digits_cnn", "adding_lstm", "names_text", "diabetes_regression"])
def test_every_kind_of_network(name: str) -> None:
    found = explain(open_subject(name))
    assert np.isfinite(found.passes.loss)
    assert found.weight
    assert found.weight.agrees
    assert all(block.gradient_rms is not None for block in found.passes.blocks)
