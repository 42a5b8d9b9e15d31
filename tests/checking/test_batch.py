"""nnvis.check: faults whose answer is known, healthy networks, nothing changed, and errors that say where."""

from __future__ import annotations

import copy
import math
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nnvis
from nnvis.diagnosis import Diagnosis
from nnvis.record import Finding

ROWS, FEATURES, CLASSES = 300, 8, 4
cross_entropy, squared_error = nn.CrossEntropyLoss(), nn.MSELoss()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def classes() -> tuple[Tensor, Tensor]:
    """Four blobs of spread 1."""
    targets = torch.arange(ROWS) % CLASSES
    inputs = torch.randn(ROWS, FEATURES) + 2 * F.one_hot(targets, FEATURES)
    return (inputs - inputs.mean(0)) / inputs.std(0), targets


def numbers() -> tuple[Tensor, Tensor]:
    """A smooth function of spread 1 with some noise: (N, 1)."""
    inputs = torch.randn(ROWS, FEATURES)
    targets = inputs[:, :1].sin() + 0.5 * inputs[:, 1:2] + 0.1 * torch.randn(ROWS, 1)
    return inputs, (targets - targets.mean()) / targets.std()


def network(
    outputs: int = CLASSES, depth: int = 2, width: int = 32, activation: Callable[[], nn.Module] = nn.ReLU
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs in [FEATURES, *[width] * (depth - 1)]:
        layers += [nn.Linear(inputs, width), activation()]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def found(diagnosis: Diagnosis) -> dict[str, str]:
    return {finding.symptom: finding.severity for finding in diagnosis}


def only(diagnosis: Diagnosis, symptom: str) -> Finding:
    (finding,) = [finding for finding in diagnosis if finding.symptom == symptom]
    return finding


# ---------------------------------------------------------------- structure


def test_nothing_is_wrong_with_healthy_networks() -> None:
    for diagnosis in (
        nnvis.check(network(), cross_entropy, *classes()),
        nnvis.check(network(1), squared_error, *numbers()),
    ):
        assert not diagnosis.findings
        assert not diagnosis.sick
        later = {"not_learning", "underfitting", "overfitting", "learning_rate_too_high", "learning_rate_too_low"}
        assert {s for s, reason in diagnosis.not_judged.items() if reason == "training has not begun"} == later


def test_a_softmax_over_one_unit_lets_no_gradient_by() -> None:
    inputs, targets = numbers()
    diagnosis = nnvis.check(nn.Sequential(network(1), nn.Softmax(1)), nn.BCELoss(), inputs, (targets > 0).float())
    assert found(diagnosis)["output_mismatch"] == "error"
    blocked = only(diagnosis, "zero_gradients")
    assert (blocked.severity, blocked.value) == ("error", 0.0)
    assert blocked.causes == ("softmax over a single output is always 1: its slope is 0",)


@pytest.mark.parametrize("squash", [nn.Softmax(1), nn.Sigmoid()])
def test_outputs_between_0_and_1_taken_for_logits_have_a_floor(squash: nn.Module) -> None:
    diagnosis = nnvis.check(nn.Sequential(network(), squash), cross_entropy, *classes())
    finding = only(diagnosis, "output_mismatch")
    assert finding.severity == "error"
    best = torch.eye(CLASSES, dtype=torch.float64)  # 1 for the right class, 0 for the others
    assert finding.value == pytest.approx(float(cross_entropy(best, torch.arange(CLASSES))))


def test_a_loss_that_takes_something_else() -> None:
    inputs, targets = numbers()
    sure = (targets > 0).float()
    twice = nnvis.check(nn.Sequential(network(1), nn.Sigmoid()), nn.BCEWithLogitsLoss(), inputs, sure)
    assert only(twice, "output_mismatch").value == pytest.approx(math.log(1 + math.exp(-1)))
    assert found(nnvis.check(network(), nn.NLLLoss(), *classes()))["output_mismatch"] == "error"
    with pytest.raises(
        nnvis.InputError, match=r"the loss raises RuntimeError: all elements of input should be between"
    ):
        nnvis.check(network(1), nn.BCELoss(), inputs, sure)


def test_outputs_that_are_broadcast_against_targets() -> None:
    inputs, targets = numbers()
    finding = only(nnvis.check(network(1), F.mse_loss, inputs, targets[:, 0]), "loss_mismatch")
    assert finding.severity == "error"
    assert "(N, 1) are broadcast against targets of shape (N)" in finding.evidence


def test_relu_cannot_reach_negative_targets() -> None:
    diagnosis = nnvis.check(nn.Sequential(network(1), nn.ReLU()), squared_error, *numbers())
    assert found(diagnosis)["output_mismatch"] == "error"
    inputs, targets = numbers()
    positive = nnvis.check(nn.Sequential(network(1), nn.ReLU()), squared_error, inputs, targets.abs())
    assert found(positive)["output_mismatch"] == "warning"  # half of the rows may get no gradient


def test_what_a_loss_does_with_rows_and_signs() -> None:
    sums = nnvis.check(network(1), nn.MSELoss(reduction="sum"), *numbers())
    assert found(sums) == {"loss_mismatch": "warning"}  # that depends on the learning rate
    negated = nnvis.check(network(1), lambda outputs, targets: -F.mse_loss(outputs, targets), *numbers())
    assert found(negated)["loss_mismatch"] == "error"
    inputs, targets = numbers()
    absolute = nnvis.check(network(1), nn.L1Loss(), inputs, (targets > 0).float())
    assert found(absolute) == {"loss_mismatch": "warning"}
    assert found(nnvis.check(network(1), squared_error, inputs, (targets > 0).float())) == {"loss_mismatch": "info"}


def test_a_network_that_is_a_linear_map() -> None:
    finding = only(nnvis.check(network(activation=nn.Identity), cross_entropy, *classes()), "missing_nonlinearity")
    assert finding.severity == "warning"
    assert finding.layers == ("0", "2", "4")


def test_a_loss_that_is_cut_off_from_the_parameters() -> None:
    class Detached(nn.Sequential):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs).detach()

    finding = only(nnvis.check(Detached(network()), cross_entropy, *classes()), "zero_gradients")
    assert finding.severity == "error"
    assert "not connected" in finding.causes[0]


# ---------------------------------------------------------------- initialisation


def test_units_that_start_the_same_stay_the_same() -> None:
    model = network()
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.1)
    finding = only(nnvis.check(model, cross_entropy, *classes()), "symmetric_units")
    assert (finding.severity, finding.value, finding.layers) == ("error", 1.0, ("0", "2"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)  # they do, for ever
    for _ in range(3):
        optimizer.zero_grad()
        cross_entropy(model(classes()[0]), classes()[1]).backward()
        optimizer.step()
    first: Any = model[0]
    torch.testing.assert_close(first.weight, first.weight[:1].expand_as(first.weight))
    first.weight.requires_grad_(False)
    first.bias.requires_grad_(False)
    assert only(nnvis.check(model, cross_entropy, *classes()), "symmetric_units").layers == ("2",)


def test_twenty_sigmoids_hide_the_first_from_the_loss() -> None:
    model, (inputs, targets) = network(depth=20, activation=nn.Sigmoid), classes()
    finding = only(nnvis.check(model, cross_entropy, inputs, targets), "vanishing_gradients")
    assert finding.severity == "error"
    assert finding.layers[0] == "0"
    kept: list[Tensor] = []
    x = inputs
    for layer in model:
        x = layer(x)
        kept.append(x)
    loss = cross_entropy(x, targets)
    gradients = torch.autograd.grad(loss, [kept[0], kept[-1]])
    by_hand = math.log(float(gradients[0].double().norm() / gradients[1].double().norm()))
    assert finding.value == pytest.approx(by_hand, abs=0.3)  # of 256 of the rows, in eight parts
    shallow = nnvis.check(network(depth=5, activation=nn.Sigmoid), cross_entropy, inputs, targets)
    assert found(shallow)["vanishing_gradients"] == "warning"  # a gradient of 1e-4 may do


def test_weights_that_are_too_large_for_the_depth() -> None:
    model = network(depth=20)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=1.5 * math.sqrt(2 / layer.in_features))
    diagnosis = nnvis.check(model, cross_entropy, *classes())
    assert found(diagnosis)["exploding_gradients"] == "error"
    assert only(diagnosis, "exploding_gradients").value == pytest.approx(20 * math.log(1.5), abs=2)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
    assert not nnvis.check(model, cross_entropy, *classes()).sick


def test_a_chaotic_network_is_told_by_what_a_small_change_becomes() -> None:
    model = network(depth=12, width=64, activation=nn.Tanh)
    for layer in list(model)[:-1]:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=4 / math.sqrt(layer.in_features))
    assert found(nnvis.check(model, cross_entropy, *classes()))["exploding_gradients"] == "error"


def test_dead_and_saturated_units() -> None:
    model: Any = network()
    nn.init.constant_(model[2].bias, -100.0)
    diagnosis = nnvis.check(model, cross_entropy, *classes())
    assert found(diagnosis) == {"zero_gradients": "error", "dead_units": "error"}
    assert only(diagnosis, "zero_gradients").causes == ("all units of 3 are dead: no row gets a slope through them",)
    steep: Any = network(activation=nn.Tanh)
    with torch.no_grad():
        steep[0].weight *= 500
    saturated = only(nnvis.check(steep, cross_entropy, *classes()), "saturated_activations")
    assert (saturated.severity, saturated.value, saturated.layers) == ("error", 1.0, ("1",))


def test_the_loss_at_the_start_against_its_reference() -> None:
    model: Any = network()
    model[-1].bias.data = torch.tensor([0.0, 4.0, 0.0, 0.0])
    finding = only(nnvis.check(model, cross_entropy, *classes()), "bad_initial_loss")
    assert finding.severity == "warning"
    expected = math.log(3 + math.exp(4)) - 4 / CLASSES - math.log(CLASSES)  # with other logits near 0
    assert finding.value == pytest.approx(expected, abs=0.2)
    model[-1].bias.data *= 10
    assert found(nnvis.check(model, cross_entropy, *classes()))["bad_initial_loss"] == "error"


# ---------------------------------------------------------------- data


def test_inputs_of_another_scale_are_an_error_where_they_harm() -> None:
    inputs, targets = classes()
    large = nnvis.check(network(), cross_entropy, 1000 * inputs, targets)
    assert found(large)["unnormalized_inputs"] == "error"
    assert "already the loss starts far above" in only(large, "unnormalized_inputs").evidence
    bounded = nnvis.check(network(activation=nn.Tanh), cross_entropy, 1000 * inputs, targets)
    assert found(bounded)["unnormalized_inputs"] == "error"
    assert only(bounded, "unnormalized_inputs").evidence.endswith("already units are saturated")
    assert only(bounded, "saturated_activations").layers == ("1",)
    small = nnvis.check(network(), cross_entropy, inputs / 1000, targets)
    assert found(small) == {"unnormalized_inputs": "warning"}
    normalised = nn.Sequential(nn.BatchNorm1d(FEATURES), network())
    assert not nnvis.check(normalised, cross_entropy, 1000 * inputs, targets).findings


def test_nan_in_the_data_is_a_finding() -> None:
    inputs, targets = classes()
    inputs[7, 3] = math.nan
    finding = only(nnvis.check(network(), cross_entropy, inputs, targets), "nonfinite_values")
    assert finding.severity == "error"
    assert finding.causes == ("NaN or Inf in the inputs of the probe rows",)


def test_one_class_only() -> None:
    inputs, _ = classes()
    assert found(nnvis.check(network(), cross_entropy, inputs, torch.ones(ROWS).long()))["bad_labels"] == "error"
    one_batch = nnvis.check(network(), cross_entropy, inputs[:32], torch.ones(32).long())
    assert found(one_batch)["bad_labels"] == "warning"  # sorted rows, or a rare class


def test_labels_that_were_permuted() -> None:
    inputs, targets = classes()
    permuted = nnvis.check(network(), cross_entropy, inputs, targets[torch.randperm(ROWS)])
    assert found(permuted) == {"bad_labels": "warning"}
    assert only(permuted, "bad_labels").value == pytest.approx(1, abs=0.15)  # wrong as often as by chance
    few = nnvis.check(network(), cross_entropy, inputs[:40], targets[torch.randperm(40)])
    assert "too few to tell" in few.not_judged["bad_labels"]


def test_a_class_that_hardly_occurs() -> None:
    inputs, targets = classes()
    targets = torch.where(targets == 3, 0, targets)
    targets[0] = 3
    finding = only(nnvis.check(network(), cross_entropy, inputs, targets), "class_imbalance")
    assert (finding.severity, finding.value) == ("warning", 1 / ROWS)
    few = nnvis.check(network(), cross_entropy, inputs[:40], targets[:40])
    assert "class_imbalance" not in found(few)  # one of forty may be one of ten


def test_features_without_a_spread() -> None:
    inputs, targets = classes()
    inputs[:, 2] = 1.0
    finding = only(nnvis.check(network(), cross_entropy, inputs, targets), "constant_features")
    assert (finding.severity, finding.value) == ("info", 1.0)
    same = nnvis.check(network(), cross_entropy, inputs[:1].expand(ROWS, -1), targets)
    assert found(same)["constant_features"] == "error"


# ---------------------------------------------------------------- healthy networks of other kinds


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.recurrent = nn.Embedding(50, 16), nn.LSTM(16, 32, batch_first=True)
        self.output = nn.Linear(32, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.recurrent(self.embedding(tokens))[0][:, -1])


class Language(nn.Module):
    """Embeddings of 0.02, norm layers, residual connections, an output tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 32)
        nn.init.normal_(self.embedding.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
        self.blocks, self.norm = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False), nn.LayerNorm(32)
        self.output = nn.Linear(32, 50, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.norm(self.blocks(self.embedding(tokens))))


class Residual(nn.Module):
    """Twelve blocks whose last layers start at zero (Zhang et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.output = nn.Linear(FEATURES, 32), nn.Linear(32, CLASSES)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32)) for _ in range(12)])
        for block in self.blocks:
            nn.init.zeros_(block[2].weight)  # pyright: ignore[reportIndexIssue, reportArgumentType]

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.first(inputs)
        for block in self.blocks:
            x = x + block(x)
        return self.output(x)


def of_every_token(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def images() -> tuple[nn.Module, Any, Tensor, Tensor]:
    model = nn.Sequential()
    for before, after in ((3, 16), (16, 32), (32, 32)):
        model += nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(True), nn.MaxPool2d(2)
        )
    model += nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(32, CLASSES))
    targets = torch.randint(CLASSES, (96,))
    return model, cross_entropy, torch.rand(96, 3, 8, 8) + 0.1 * targets[:, None, None, None], targets


def with_small_output(scale: float) -> nn.Sequential:
    model: Any = network()
    with torch.no_grad():
        model[-1].weight *= scale
        model[-1].bias *= scale
    return model


def zeros(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def tokens(shape: tuple[int, ...] = (64, 12)) -> Tensor:
    return torch.randint(50, shape)


HEALTHY: dict[str, Callable[[], tuple[nn.Module, Any, Any, Any]]] = {
    "an output layer of zeros": lambda: (with_small_output(0.0), cross_entropy, *classes()),
    "a small output layer": lambda: (with_small_output(0.01), cross_entropy, *classes()),
    "a residual network": lambda: (Residual(), cross_entropy, *classes()),
    "a linear classifier of zeros": lambda: (zeros(nn.Linear(FEATURES, CLASSES)), cross_entropy, *classes()),
    "images": images,
    "a recurrent network": lambda: (Recurrent(), cross_entropy, tokens(), torch.arange(64) % CLASSES),
    "a language model": lambda: (Language(), of_every_token, tokens(), tokens()),
    "an autoencoder": lambda: (network(FEATURES), squared_error, numbers()[0], numbers()[0]),
    "layer norm and gelu": lambda: (
        nn.Sequential(nn.LayerNorm(FEATURES), network(activation=nn.GELU)), cross_entropy, *classes()
    ),
    "two classes, one output": lambda: (
        network(1), nn.BCEWithLogitsLoss(), numbers()[0], (numbers()[0][:, :1] > 0).float()
    ),
    "a deep narrow network": lambda: (network(depth=8, width=5, activation=nn.Tanh), cross_entropy, *classes()),
    "a few rows": lambda: (network(), cross_entropy, classes()[0][:4], classes()[1][:4]),
    "several inputs by name": lambda: (
        nn.Bilinear(FEATURES, FEATURES, CLASSES),
        cross_entropy,
        {"input1": classes()[0], "input2": classes()[0]},
        classes()[1],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_no_error_on_healthy_networks(name: str) -> None:
    model, loss_fn, inputs, targets = HEALTHY[name]()
    diagnosis = nnvis.check(model, loss_fn, inputs, targets)
    assert not diagnosis.sick, [(finding.symptom, finding.evidence) for finding in diagnosis]


# ---------------------------------------------------------------- nothing changes


class Moody(nn.Module):
    """Dropout, running statistics, a counter, modes of its own, a frozen layer, gradients from before."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(True), nn.Dropout(0.5))
        self.output, self.calls = nn.Linear(16, CLASSES), 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        noise = random.random() + np.random.rand()  # noqa: NPY002
        return self.output(self.layers(inputs)) + 1e-3 * noise


@pytest.mark.parametrize("training", [True, False])
def test_nothing_changes(training: bool) -> None:
    model, (inputs, targets) = Moody(), classes()
    cross_entropy(model(inputs), targets).backward()
    model.train(training)
    model.layers[3].train(not training)
    model.layers[0].requires_grad_(False)
    before = copy.deepcopy(model)
    gradients = {name: (p.grad, p.grad.clone()) for name, p in model.named_parameters()}
    given = inputs.clone(), targets.clone()
    drawn: Any = np.random.get_state
    states = torch.get_rng_state(), random.getstate(), drawn()[1].copy()
    nnvis.check(model, cross_entropy, inputs, targets)
    with pytest.raises(nnvis.InputError):
        nnvis.check(model, cross_entropy, inputs, targets.float())  # raises in the middle
    assert model.calls == 1
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in before.parameters()]
    for name, tensor in before.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    for name, parameter in model.named_parameters():
        assert parameter.grad is gradients[name][0]
        torch.testing.assert_close(*gradients[name], rtol=0, atol=0)
        assert not parameter._backward_hooks
    assert torch.equal(inputs, given[0])
    assert torch.equal(targets, given[1])
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(drawn()[1], states[2])
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())


# ---------------------------------------------------------------- what cannot be checked


def shout(outputs: Tensor, targets: Tensor) -> Tensor:
    raise KeyError("two\nlines")


class OneWay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise NotImplementedError("no way back")


def no_way_back(outputs: Tensor, targets: Tensor) -> Tensor:
    return OneWay.apply(outputs).mean()  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (lambda x, y: (nn.ReLU, cross_entropy, x, y), "model should be a torch.nn.Module, got type"),
        (lambda x, y: (network(), "mse", x, y), "loss_fn should be a function of outputs and targets, got str"),
        (lambda x, y: (nn.LazyLinear(3), cross_entropy, x, y), "lazy layers"),
        (lambda x, y: (nn.Linear(8, 4, dtype=torch.cfloat), cross_entropy, x, y), "real, got complex numbers"),
        (lambda x, y: (network(), cross_entropy, x + 1j, y), "real, got complex numbers"),
        (lambda x, y: (network(), cross_entropy, x.numpy(), y), "inputs should be a tensor, .*, got ndarray"),
        (lambda x, y: (network(), cross_entropy, x[:1], y[:1]), r"inputs are \(1, 8\), .*at least 2 rows"),
        (lambda x, y: (network(), cross_entropy, x, y[:7]), r"inputs are \(300, 8\), targets \(7,\); as many rows"),
        (lambda x, y: (network(), cross_entropy, x[:, :5], y), r"forward pass raises .*; inputs \(256, 5\)"),
        (lambda x, y: (network(), shout, x, y), r"the loss raises KeyError: .*; outputs \(256, 4\), targets \(256,\)"),
        (lambda x, y: (network(), cross_entropy, x, y + 9), r"the loss raises IndexError: Target \d+ is out"),
        (lambda x, y: (network(), lambda o, t: 1.0, x, y), r"the loss should be a tensor, got float; outputs"),
        (lambda x, y: (network(), no_way_back, x, y), r"the backward pass raises .*no way back"),
    ],
)  # fmt: skip
def test_what_cannot_be_checked_is_one_clear_line(arguments: Any, said: str) -> None:
    with pytest.raises(nnvis.InputError, match=said) as caught:
        nnvis.check(*arguments(*classes()))
    text = str(caught.value)
    assert text.startswith("check: ")
    assert "\n" not in text
    assert not re.search(r"\bnnvis/|Traceback", text)
