"""Checks: known answers, computed independently; and nothing about the training is touched."""

from __future__ import annotations

import copy
import math
import random
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnvis.probe import references
from nnvis.probe.checks import BATCHES, Checker, Rows, duplicate_fraction, normalised_slope
from nnvis.probe.schedule import Plan, Schedule, plan_checks
from nnvis.probe.structure import Graph
from nnvis.probe.untouched import on_the_side, only_reads_parameters
from nnvis.record import DIAGNOSIS_QUANTITIES, Check, EventLog, load_run


def digits(rows: int = 96, features: int = 6, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(rows, features, generator=generator)
    return x, (x @ torch.randn(features, classes, generator=generator)).argmax(dim=1)


def chain(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*layers)


# ---------------------------------------------------------------- nothing is touched


class Stateful(nn.Module):
    """Dropout, batch norm, a counter of its own, an in-place activation, a frozen layer."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.act = nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(inplace=True)
        self.frozen, self.drop, self.last = nn.Linear(16, 16), nn.Dropout(0.3), nn.Linear(16, 3)
        self.frozen.requires_grad_(False)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        noisy = F.dropout(self.act(self.norm(self.first(x))), 0.1, self.training)
        return self.last(self.drop(self.frozen(noisy))) + random.random() * 0 + np.random.rand() * 0  # noqa: NPY002


@pytest.mark.parametrize("checked", [1, 3])
def test_training_is_bit_identical_with_and_without_checks(checked: int) -> None:
    x, y = digits()
    torch.manual_seed(0)
    original = Stateful()
    ends: list[tuple[Any, ...]] = []
    for watched in (False, True):
        model = copy.deepcopy(original)
        model.drop.eval()  # a part that is not in training mode
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        criterion = nn.CrossEntropyLoss()
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        checker = Checker(model, criterion, Rows(x, y), val=Rows(x[:40], y[:40])) if watched else None
        losses = []
        for step in range(6):
            optimizer.zero_grad()
            loss = criterion(model(x[:32]), y[:32])
            loss.backward()
            if checker and step % checked == 0:
                before = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
                checker.check(step)
                for p, grad in zip(model.parameters(), before, strict=True):
                    assert (p.grad is None) is (grad is None)
                    assert p.grad is None or grad is None or torch.equal(p.grad, grad)
            optimizer.step()
            losses.append(loss.item())
        modes = [module.training for module in model.modules()]
        draws = torch.rand(3).tolist(), random.random(), np.random.rand()  # noqa: NPY002
        ends.append((losses, copy.deepcopy(model.state_dict()), modes, draws, model.norm.track_running_stats))
    (losses, weights, *rest), (losses2, weights2, *rest2) = ends
    assert losses == losses2
    assert weights.keys() == weights2.keys()
    assert all(torch.equal(weights[name], weights2[name]) for name in weights)
    assert rest == rest2


class Centred(nn.Module):
    """A loss that keeps the mean of what it has seen, as DINO's does."""

    centre: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(3))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.centre = 0.9 * self.centre + 0.1 * outputs.detach().mean(dim=0)
        return F.cross_entropy(outputs - self.centre, targets)


def test_a_loss_that_keeps_something_is_as_it_was() -> None:
    x, y = digits()
    ends = []
    for watched in (False, True):
        torch.manual_seed(0)
        model, criterion = nn.Linear(6, 3), Centred()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        checker = Checker(model, criterion, Rows(x, y), val=Rows(x[:40], y[:40])) if watched else None
        for step in range(4):
            optimizer.zero_grad()
            criterion(model(x[:32]), y[:32]).backward()
            optimizer.step()
            if checker:
                checker.check(step)
        assert criterion.training
        ends.append((model.weight.detach(), criterion.centre))
    assert torch.equal(ends[0][0], ends[1][0])
    assert torch.equal(ends[0][1], ends[1][1])


def test_no_hook_and_no_attribute_is_left_behind() -> None:
    x, y = digits()
    model = chain(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    before = {name: {key: id(value) for key, value in vars(module).items()} for name, module in model.named_modules()}
    Checker(model, nn.CrossEntropyLoss(), Rows(x, y)).check(0)
    after = {name: {key: id(value) for key, value in vars(module).items()} for name, module in model.named_modules()}
    assert before == after
    assert not torch.nn.modules.module._global_forward_hooks


class Merging(nn.Linear):
    """A low-rank adapter that is merged into the weight in eval mode."""

    def __init__(self) -> None:
        super().__init__(6, 6)
        self.down, self.up = nn.Parameter(torch.randn(2, 6)), nn.Parameter(torch.randn(6, 2))
        self.weight.requires_grad_(False)
        self.merged = False

    def train(self, mode: bool = True) -> Merging:
        super().train(mode)
        if self.merged is mode:
            self.weight.data += (self.up @ self.down).data * (-1 if mode else 1)
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight if self.merged else self.weight + self.up @ self.down, self.bias)


class Remembering(nn.Linear):
    """Holds what it has seen in attributes, and draws from a generator of its own."""

    def __init__(self) -> None:
        super().__init__(6, 6)
        self.last: Tensor | None = None
        self.seen: list[int] = []
        self.nested = {"sums": (torch.zeros(6),)}
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x) + torch.randn(6, generator=self.generator)
        if self.last is not None and self.last.shape == y.shape:
            y = y + self.last
        self.last = y.detach()
        self.seen.append(len(x))
        self.nested["sums"][0].add_(y.detach().sum(dim=0))
        return y + len(self.seen) + self.nested["sums"][0]


class Decaying(nn.Linear):
    """Decays its own parameters; the weight is in a new place each time."""

    def __init__(self) -> None:
        super().__init__(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data = self.weight.data * 0.9
        with torch.no_grad():
            self.bias.mul_(0.9)
        return super().forward(x)


@pytest.mark.parametrize("kind", [Merging, Remembering, Decaying])
def test_a_model_with_a_state_of_its_own_is_trained_as_without_checks(kind: type[nn.Module]) -> None:
    x, y = digits(64)
    torch.manual_seed(0)
    original = nn.Sequential(kind(), nn.Tanh(), nn.Linear(6, 3))
    ends = []
    for watched in (False, True):
        model = copy.deepcopy(original)
        if isinstance(first := model[0], Remembering):
            first.generator = torch.Generator().manual_seed(0)
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
        checker = Checker(model, F.cross_entropy, Rows(x, y), val=Rows(x[:8], y[:8])) if watched else None
        for step in range(4):
            if checker:
                checker.check(step)
            optimizer.zero_grad()
            F.cross_entropy(model(x[:8]), y[:8]).backward()
            optimizer.step()
        ends.append((model.state_dict(), getattr(model[0], "merged", None), getattr(model[0], "seen", None)))
    (weights, *rest), (weights2, *rest2) = ends
    assert rest == rest2
    assert all(torch.equal(weights[name], weights2[name]) for name in weights)


def _shrink(module: nn.Module, inputs: object) -> None:
    with torch.no_grad():
        module.weight.mul_(0.5)  # pyright: ignore[reportCallIssue]


def _hooked() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 3))
    model[0].register_forward_pre_hook(_shrink)
    return model


def _with_a_forward_of_its_own() -> nn.Module:
    linear = nn.Linear(6, 3)

    def forward(x: Tensor) -> Tensor:
        _shrink(linear, x)
        return F.linear(x, linear.weight)

    vars(linear)["forward"] = forward
    return nn.Sequential(linear)


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (nn.Sequential(nn.Embedding(9, 4, max_norm=0.1), nn.Flatten()), torch.arange(8).reshape(4, 2)),
        (_hooked(), torch.ones(4, 6)),
        (_with_a_forward_of_its_own(), torch.ones(4, 6)),
        (nn.Sequential(Decaying()), torch.ones(4, 6)),
    ],
    ids=["max_norm", "hook", "own forward", "own class"],
)
def test_parameters_that_a_forward_pass_writes_to_are_put_back(model: nn.Module, inputs: Tensor) -> None:
    assert not only_reads_parameters(model)
    before = copy.deepcopy(model.state_dict())
    with on_the_side(model) as side:
        model(inputs)
        assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
        side.validate()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_parameters_that_nothing_writes_to_need_no_copy() -> None:
    model = nn.Sequential(nn.Linear(10, 10), nn.BatchNorm1d(10))
    assert only_reads_parameters(model)
    before = copy.deepcopy(model.state_dict())
    with on_the_side(model, parameters_stay=True), torch.no_grad():
        for value in model.state_dict().values():
            value.add_(1)  # against the promise, for the parameters
    kept = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert kept == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}


@pytest.mark.parametrize("kind", [nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Tanh, nn.LeakyReLU, nn.GELU])
def test_slopes_of_a_large_output_are_those_of_all_its_rows(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    x = torch.randn(48, 3, 40, 41)  # more values than a piece holds
    model = chain(nn.Conv2d(3, 5, 3), kind(), nn.Flatten(), nn.Linear(5 * 38 * 39, 2))
    rows = Rows(x, torch.arange(48) % 2)
    checker = Checker(model, F.cross_entropy, rows, gradient_rows=16, at_once=32)
    values = checker.check(0).values
    z = model[0](checker._rows.inputs).detach().double().requires_grad_()
    (slope,) = torch.autograd.grad(model[1](z).sum(), z)
    if kind is nn.GELU:
        slope = slope.abs() / slope.abs().max()
    if kind is nn.Sigmoid:
        slope = slope * 4
    means = slope.mean(dim=(0, 2, 3)).numpy()
    quantiles = values["diagnosis_slope_quantiles"][1]
    np.testing.assert_allclose(quantiles, np.quantile(means, np.linspace(0, 1, 21)), rtol=1e-3)


def test_a_scripted_model_is_left_as_it_was() -> None:
    x, _ = digits()
    model = chain(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(model)
    before = copy.deepcopy(scripted.state_dict())
    with on_the_side(scripted):
        scripted.train()(x)
    assert all(torch.equal(value, before[name]) for name, value in scripted.state_dict().items())
    assert all(module.training for module in scripted.modules())


def test_the_state_is_put_back_where_the_model_fails() -> None:
    x, y = digits()
    model = chain(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)).train()

    def fails(outputs: Tensor, targets: Tensor) -> Tensor:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        Checker(model, fails, Rows(x, y)).check(0)
    assert all(module.training for module in model.modules())
    assert model[1].track_running_stats


# ---------------------------------------------------------------- known answers


def test_gradients_and_activations_are_those_of_plain_autograd() -> None:
    x, y = digits(rows=64)
    model = chain(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    checker = Checker(model, nn.CrossEntropyLoss(), Rows(x, y))
    check = checker.check(0)
    x, y = checker._rows
    hidden = model[0](x)
    outputs = model[2](torch.tanh(hidden))
    delta_hidden, delta_out = torch.autograd.grad(F.cross_entropy(outputs, y), [hidden, outputs])
    for row, delta, value in ((0, delta_hidden, hidden), (2, delta_out, outputs)):
        for quantity, tensor in (("diagnosis_activation_grad_norm", delta), ("diagnosis_activation_norm", value)):
            by_row = tensor.detach().double().norm(dim=1).reshape(BATCHES, -1)
            np.testing.assert_allclose(check.values[quantity][row], by_row.square().mean(dim=1).sqrt(), rtol=1e-5)
    rows = F.cross_entropy(outputs, y, reduction="none").detach()
    np.testing.assert_allclose(check.values["diagnosis_row_loss"], rows, rtol=1e-5)
    prior = torch.bincount(y, minlength=3) / len(y)
    np.testing.assert_allclose(check.values["diagnosis_row_loss_constant"], -prior.log()[y], rtol=1e-5)
    slopes = np.sort((1 - torch.tanh(hidden).detach().double().square()).mean(dim=0).numpy())
    np.testing.assert_allclose(check.values["diagnosis_slope_quantiles"][1][[0, -1]], slopes[[0, -1]], rtol=1e-5)
    assert check.layers == ("0", "1", "2")
    assert check.facts["targets"]["counts"] == torch.bincount(y, minlength=3).tolist()
    assert set(check.values) <= set(DIAGNOSIS_QUANTITIES)


def test_a_linear_chain_with_gain_g_passes_back_g_to_the_depth() -> None:
    gain, depth = 0.5, 9
    model = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(depth)))
    with torch.no_grad():
        for layer in model:
            layer.weight.copy_(gain * torch.eye(4))  # pyright: ignore[reportCallIssue, reportArgumentType]
    check = Checker(model, nn.MSELoss(), Rows(torch.randn(64, 4), torch.randn(64, 4))).check(0)
    norms = check.values["diagnosis_activation_grad_norm"]
    np.testing.assert_allclose(norms[0] / norms[-1], gain ** (depth - 1), rtol=1e-5)
    assert len(check.facts["affine_pairs"]) == depth - 1


@pytest.mark.parametrize("width", [8, 512])
def test_the_ratio_of_gradients_does_not_depend_on_the_width(width: int) -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs in (6, *[width] * 4):
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-2].weight)  # pyright: ignore[reportArgumentType]
    x, y = digits(256)
    check = Checker(nn.Sequential(*layers, nn.Linear(width, 3)), nn.CrossEntropyLoss(), Rows(x, y)).check(0)
    norms = check.values["diagnosis_activation_grad_norm"]
    assert abs(math.log(norms[0].mean() / norms[-1].mean())) < 2.5


@pytest.mark.parametrize(
    ("module", "slope"),
    [
        (nn.ReLU(), lambda z: (z > 0).double()),
        (nn.Sigmoid(), lambda z: 4 * torch.sigmoid(z) * (1 - torch.sigmoid(z))),
        (nn.Tanh(), lambda z: 1 - torch.tanh(z) ** 2),
        (nn.LeakyReLU(0.1), lambda z: torch.where(z > 0, 1.0, 0.1)),
        (nn.Softplus(), torch.sigmoid),
        (nn.ELU(), lambda z: torch.where(z > 0, 1.0, z.exp())),
    ],
    ids=lambda value: type(value).__name__,
)
def test_slopes(module: nn.Module, slope: Callable[[Tensor], Tensor]) -> None:
    z = torch.linspace(-3, 3, 30).reshape(5, 6)
    found = normalised_slope(module, z, module(z))
    assert found is not None
    torch.testing.assert_close(found.double(), slope(z.double()).double(), atol=5e-3, rtol=5e-3)


def test_dead_and_saturated_units_are_counted() -> None:
    model = chain(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 10), nn.Sigmoid(), nn.Linear(10, 3))
    with torch.no_grad():
        model.get_parameter("0.bias")[:3] = -1e6  # three of four units are never on
        model.get_parameter("2.bias")[:6] = 1e3  # six of ten sit at 1
    x, y = digits()
    check = Checker(model, nn.CrossEntropyLoss(), Rows(x, y)).check(0)
    assert check.values["diagnosis_flat_fraction"][1] == 0.75
    assert (check.values["diagnosis_slope_quantiles"][3] < 0.05).mean() == pytest.approx(0.6, abs=0.05)


def test_twins_need_the_same_weights_before_and_behind() -> None:
    before, behind = nn.Linear(3, 4), nn.Linear(4, 2)
    assert duplicate_fraction(before, [behind]) == 0
    with torch.no_grad():
        before.weight[1], before.bias[1] = before.weight[0], before.bias[0]
    assert duplicate_fraction(before, [behind]) == 0
    with torch.no_grad():
        behind.weight[:, 1] = behind.weight[:, 0] * (1 + 1e-8)
    assert duplicate_fraction(before, [behind]) == 0.5
    nn.init.zeros_(behind.weight)  # an output layer that starts at zero makes no twins
    nn.init.normal_(before.weight)
    assert duplicate_fraction(before, [behind]) == 0


def test_twins_of_convolutions_through_flatten() -> None:
    model = chain(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4, 3))
    for name, parameter in model.named_parameters():
        nn.init.constant_(parameter, 0.1 if name.endswith("weight") else 0.0)
    x, y = torch.randn(32, 1, 4, 4), torch.randint(0, 3, (32,))
    assert Checker(model, nn.CrossEntropyLoss(), Rows(x, y)).check(0).values["diagnosis_duplicate_fraction"][0] == 1


LOSSES: list[tuple[str, Any, tuple[int, ...], str]] = [
    ("cross_entropy", nn.CrossEntropyLoss(), (3,), "classes"),
    ("cross_entropy", nn.CrossEntropyLoss(reduction="sum"), (3,), "classes"),
    ("binary_cross_entropy", nn.BCEWithLogitsLoss(), (1,), "binary"),
    ("binary_cross_entropy_of_probabilities", nn.BCELoss(), (1,), "binary"),
    ("mean_squared_error", nn.MSELoss(), (2,), "numbers"),
    ("mean_squared_error", lambda o, t: 0.5 * ((o - t) ** 2).sum(), (2,), "numbers"),
    ("mean_absolute_error", nn.L1Loss(), (1,), "numbers"),
    ("nll", nn.NLLLoss(), (3,), "classes"),
    ("cross_entropy_of_probabilities", lambda o, t: F.nll_loss(o.log(), t), (3,), "classes"),
    ("cross_entropy_normalised", lambda o, t: F.nll_loss((o / o.sum(1, keepdim=True)).log(), t), (3,), "classes"),
    ("other", nn.HuberLoss(delta=0.1), (1,), "numbers"),
    ("other", nn.CrossEntropyLoss(label_smoothing=0.2), (3,), "classes"),
]


def targets_of(what: str, shape: tuple[int, ...], rows: int = 400) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    if what == "classes":
        return torch.randint(0, 3, (rows,), generator=generator)
    numbers = torch.randn(rows, *shape, generator=generator)
    return (numbers > 0.5).float() if what == "binary" else numbers


@pytest.mark.parametrize(("kind", "loss_fn", "shape", "what"), LOSSES)
def test_a_loss_is_known_by_what_it_does(kind: str, loss_fn: Any, shape: tuple[int, ...], what: str) -> None:
    targets = targets_of(what, shape)
    outputs = torch.rand(len(targets), *shape)
    assert references.identify(loss_fn, outputs, targets).kind == kind


@pytest.mark.parametrize(("kind", "loss_fn", "shape", "what"), LOSSES)
def test_no_constant_output_is_better_than_the_best_one(
    kind: str, loss_fn: Any, shape: tuple[int, ...], what: str
) -> None:
    """Against a search over constants that knows nothing of formulas."""
    targets = targets_of(what, shape)
    outputs = torch.rand(len(targets), *shape)
    found = references.constant_loss(references.identify(loss_fn, outputs, targets), loss_fn, outputs, targets)
    assert found is not None
    generator = torch.Generator().manual_seed(0)
    tried = []
    for _ in range(3000):
        constant = (
            torch.rand(shape, generator=generator) if what != "numbers" else torch.randn(shape, generator=generator)
        )
        if kind in ("nll", "cross_entropy_of_probabilities"):
            constant = constant / constant.sum()
        if kind == "nll":
            constant = constant.log()
        rows = references.rows_loss(loss_fn, constant.expand(20, *shape), targets[:20])
        assert rows is not None
        tried.append((float(rows.mean()), constant))
    best = min(tried, key=lambda pair: pair[0])[1]
    whole = references.rows_loss(loss_fn, best.expand(len(targets), *shape), targets)
    assert whole is not None
    assert float(found.mean()) <= float(whole.mean()) + 1e-3 * abs(float(whole.mean()))


def test_the_best_constant_is_one_that_the_output_can_be() -> None:
    """KL divergence of log probabilities has no lower bound over all numbers; over log probabilities it has."""
    shares = torch.rand(400, 3).softmax(dim=1)
    loss_fn = nn.KLDivLoss(reduction="batchmean")
    outputs = torch.rand(400, 3).log_softmax(dim=1)
    facts = references.identify(loss_fn, outputs, shares)
    assert facts.kind == "other"
    assert references.constant_loss(facts, loss_fn, outputs, shares) is None
    found = references.constant_loss(facts, loss_fn, outputs, shares, "logsoftmax")
    best = F.kl_div(shares.mean(dim=0).log().expand_as(shares), shares, reduction="batchmean")
    assert found is not None
    assert float(found.mean()) == pytest.approx(float(best), rel=1e-3)


def test_the_linear_baseline_learns_what_is_linear_and_nothing_of_noise() -> None:
    x, y = digits(rows=400)
    criterion = nn.CrossEntropyLoss()
    outputs = torch.zeros(400, 3)
    facts = references.identify(criterion, outputs, y)
    constant = references.constant_loss(facts, criterion, outputs, y)
    linear = references.linear_loss(facts, references.features(x), y, outputs)
    chance = torch.randn(400, 6, generator=torch.Generator().manual_seed(1))
    noise = references.linear_loss(facts, references.features(chance), y, outputs)
    assert constant is not None
    assert linear is not None
    assert noise is not None
    assert linear.mean() < 0.4 * constant.mean()
    assert noise.mean() > 0.99 * constant.mean()
    numbers = x @ torch.randn(6, 2) + 3
    by_squares = references.LossFacts("mean_squared_error")
    squares = references.linear_loss(by_squares, references.features(x), numbers, numbers)
    assert squares is not None
    assert float(squares.mean()) < 1e-2 * float(numbers.var())


@pytest.mark.parametrize(
    ("loss_fn", "outputs", "targets", "reduction", "broadcast"),
    [
        (nn.MSELoss(), 1, (96,), "mean", True),
        (nn.MSELoss(), 1, (96, 1), "mean", False),
        (nn.MSELoss(reduction="sum"), 1, (96, 1), "sum", False),
        (nn.L1Loss(), 1, (96,), "mean", True),
    ],
)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_reduction_and_broadcast(
    loss_fn: Any, outputs: int, targets: tuple[int, ...], reduction: str, broadcast: bool
) -> None:
    torch.manual_seed(0)
    check = Checker(nn.Linear(6, outputs), loss_fn, Rows(torch.randn(96, 6), torch.randn(targets))).check(0)
    assert check.facts["loss"]["broadcast"] is broadcast
    if not broadcast:
        assert check.facts["loss"]["reduction"] == reduction


def test_the_graph_tells_what_stands_before_the_loss() -> None:
    x = torch.randn(5, 6)
    first, second = nn.Linear(6, 4), nn.Linear(4, 3)
    hidden = first(x)
    plain = second(hidden.reshape(5, 2, 2).flatten(1))
    graph = Graph(F.softmax(torch.relu(plain), 1), {hidden.grad_fn: "first", plain.grad_fn: "second"})
    assert graph.output_activations == ("softmax", "relu")
    assert graph.pairs == [("first", "second")]
    hidden = first(x)
    apart = second(torch.tanh(hidden))
    graph = Graph(apart, {hidden.grad_fn: "first", apart.grad_fn: "second"})
    assert (graph.output_activations, graph.pairs, graph.predecessors["second"]) == ((), [], {"first"})


@pytest.mark.parametrize(
    ("forward", "activations"),
    [
        (lambda z: torch.sigmoid(z[:, None])[:, -1, 0], ["sigmoid"]),
        (lambda z: torch.log_softmax(z[:, None], -1)[:, -1], ["logsoftmax"]),
        (lambda z: torch.sigmoid(z).clamp(1e-6, 1 - 1e-6), ["sigmoid"]),
        (lambda z: z - z.logsumexp(dim=1, keepdim=True), []),
    ],
)
def test_what_is_picked_of_an_output_keeps_its_activation(forward: Any, activations: list[str]) -> None:
    x, y = digits()
    model = chain(nn.Linear(6, 3))
    check = Checker(
        model, lambda o, t: o.square().mean() + 0 * t.sum(), Rows(x, y), forward=lambda x: forward(model(x))
    ).check(0)
    assert check.facts["output"]["activations"] == activations
    if forward(model(x)).max() <= 0:
        assert check.facts["output"]["log_probabilities"]


@pytest.mark.parametrize(
    ("loss_fn", "width", "unstable"),
    [
        (lambda o, t: F.nll_loss(o.log(), t), 3, True),
        (lambda o, t: F.nll_loss((o / o.sum(1, keepdim=True)).clamp(1e-7, 1).log(), t), 3, False),  # as Keras does
        (lambda o, t: -(t * o.log() + (1 - t) * (1 - o).log()).mean(), 1, True),
        (nn.BCELoss(), 1, False),
    ],
)
def test_a_log_is_unstable_where_a_sure_and_wrong_output_breaks_it(loss_fn: Any, width: int, unstable: bool) -> None:
    x, y = digits()
    targets = y if width > 1 else (y[:, None] > 0).float()
    squash = nn.Softmax(1) if width > 1 else nn.Sigmoid()
    check = Checker(chain(nn.Linear(6, width), squash), loss_fn, Rows(x, targets)).check(0)
    assert check.facts["loss"]["unstable"] is unstable


@pytest.mark.parametrize("normed", [False, True])
def test_training_rows_are_looked_at_as_validation_rows_are(normed: bool) -> None:
    x, y = digits()
    model = chain(nn.Linear(6, 8), nn.BatchNorm1d(8) if normed else nn.Tanh(), nn.Linear(8, 3))
    checker = Checker(model, nn.CrossEntropyLoss(), Rows(x, y), val=Rows(x[:40], y[:40]))
    values = checker.check(0).values
    assert ("diagnosis_row_loss_eval" in values) is normed
    if normed:
        inputs, targets = checker._rows
        expected = F.cross_entropy(model.eval()(inputs), targets, reduction="none").detach()
        np.testing.assert_allclose(values["diagnosis_row_loss_eval"], expected, rtol=1e-5)
        assert not np.allclose(values["diagnosis_row_loss_eval"], values["diagnosis_row_loss"], rtol=1e-2)


# ---------------------------------------------------------------- all kinds of models


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn, self.head = nn.Embedding(11, 5), nn.GRU(5, 7, batch_first=True), nn.Linear(9, 3)

    def forward(self, words: Tensor, numbers: Tensor) -> Tensor:
        return self.head(torch.cat([self.rnn(self.embed(words))[0][:, -1], numbers], dim=1))


@pytest.mark.parametrize("as_dict", [False, True])
def test_several_inputs_tokens_and_recurrent_layers(as_dict: bool) -> None:
    torch.manual_seed(0)
    words, numbers = torch.randint(0, 11, (40, 6)), torch.randn(40, 2)
    inputs = {"words": words, "numbers": numbers} if as_dict else (words, numbers)
    check = Checker(TwoInputs(), nn.CrossEntropyLoss(), Rows(inputs, torch.randint(0, 3, (40,)))).check(0)
    assert check.layers == ("embed", "rnn", "head")
    assert np.isfinite(check.values["diagnosis_activation_grad_norm"]).all()
    assert "diagnosis_row_loss_linear" not in check.values
    assert np.isfinite(check.values["diagnosis_row_loss"]).all()


class Output(OrderedDict[str, Any]):
    """Keys that are attributes, too."""

    def __getattr__(self, key: str) -> Any:
        return self[key]


@pytest.mark.parametrize(
    ("wrapped", "logits"),
    [
        (lambda z: {"logits": z, "hidden": (z, z.mean())}, lambda output: output["logits"]),
        (lambda z: (z, [z * 2]), lambda output: output[0]),
        (lambda z: Rows(z, None), lambda output: output.inputs),
        (lambda z: Output(logits=z), lambda output: output.logits),
    ],
    ids=["dict", "tuple", "named tuple", "attributes"],
)
def test_all_rows_are_looked_at_in_outputs_of_any_kind(wrapped: Any, logits: Any) -> None:
    x, y = digits(rows=400)
    model = chain(nn.Linear(6, 3))
    checker = Checker(
        model,
        lambda o, t: F.cross_entropy(logits(o), t),
        Rows(x, y),
        val=Rows(x, y),
        forward=lambda x: wrapped(model(x)),
    )
    check = checker.check(0)
    inputs, targets = checker._rows
    right = model(inputs).argmax(dim=1) == targets
    np.testing.assert_allclose(
        check.values["diagnosis_recall"], [float(right[targets == c].double().mean()) for c in range(3)], rtol=1e-6
    )


def test_a_loss_without_rows_is_said_to_have_none() -> None:
    x, y = digits()
    check = Checker(chain(nn.Linear(6, 3)), lambda o, t: o.std(dim=0).sum() + 0 * t.sum(), Rows(x, y)).check(0)
    assert check.facts["loss"]["kind"] == ""
    assert "diagnosis_row_loss_constant" not in check.values


def test_of_a_large_network_fewer_rows_are_looked_at_and_as_many_when_it_goes_on() -> None:
    x, y = torch.randn(1000, 6), torch.randint(0, 3, (1000,))
    small = chain(nn.Linear(6, 8), nn.Linear(8, 3))
    large = chain(nn.Linear(6, 600), nn.Linear(600, 600), nn.Linear(600, 3))  # 365,400 multiplications a row
    val = Rows(x[:500], y[:500])
    counts = {}
    for name, model, before in (("small", small, None), ("large", large, None), ("goes on", large, 300)):
        check = Checker(model, nn.CrossEntropyLoss(), Rows(x, y), val=val, most_rows=before).check(0)
        counts[name] = len(check.values["diagnosis_row_loss"]), len(check.values["diagnosis_row_loss_val"])
        assert check.facts["rows"] == counts[name][0] == len(check.values["diagnosis_row_loss_constant"])
    assert counts == {"small": (1000, 500), "large": (150_000_000 // 365_400, 410), "goes on": (300, 300)}


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        Checker(nn.Linear(2, 1), nn.MSELoss(), Rows(torch.zeros(1, 2), torch.zeros(1, 1)))


def test_a_table_of_four_rows_is_looked_at_row_by_row() -> None:
    torch.manual_seed(0)
    x, y = torch.tensor([[1.0, 1], [1, 0], [0, 0], [0, 1]]), torch.tensor([[0.0], [1], [0], [1]])
    model = nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 1))
    values = Checker(model, nn.MSELoss(), Rows(x, y)).check(0).values
    expected = model[0](x).norm(dim=1).sort().values  # the rows are shuffled
    torch.testing.assert_close(
        torch.from_numpy(values["diagnosis_activation_norm"][0]).sort().values, expected.double()
    )
    losses = (model(x) - y).square()[:, 0].double()
    torch.testing.assert_close(torch.from_numpy(values["diagnosis_row_loss"]).sort().values, losses.sort().values)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_number_formats(dtype: torch.dtype) -> None:
    x, y = digits()
    model = chain(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3)).to(dtype)
    check = Checker(model, nn.CrossEntropyLoss(), Rows(x.to(dtype), y)).check(0)
    assert check.facts["loss"]["kind"] == "cross_entropy"
    assert (check.values["diagnosis_activation_grad_norm"][[0, 2]] > 0).all()


# ---------------------------------------------------------------- in the record, and in time


def test_a_check_comes_back_as_it_was_written(tmp_path: Any) -> None:
    facts = {"layers": [{"name": "a"}], "loss": {"scale": math.nan}}
    first = Check(
        0, {"diagnosis_row_loss": np.arange(5.0), "diagnosis_output_range": np.array([-np.inf, np.nan])}, facts
    )
    later = Check(10, {"diagnosis_row_loss": np.arange(5.0) * 1e-300}, facts)
    with EventLog.create(tmp_path) as log:
        log.check(first)
        log.check(later)
    with EventLog.resume(tmp_path) as log:
        log.check(Check(20, {"diagnosis_row_loss": np.zeros(5)}, {**facts, "rows": 5}))
    read = load_run(tmp_path).checks
    assert [check.step for check in read] == [0, 10, 20]
    for written, back in zip((first, later), read, strict=False):
        assert written.values.keys() == back.values.keys()
        for quantity, values in written.values.items():
            np.testing.assert_array_equal(back.values[quantity], values)
    assert read[1].facts == {"layers": [{"name": "a"}], "loss": {"scale": None}}
    assert read[2].facts["rows"] == 5
    assert read[0].layers == ("a",)


def test_checks_are_due_often_at_first_and_seldom_later() -> None:
    def due(schedule: Schedule, steps: int) -> list[int]:
        found = []
        for step in range(steps + 1):
            if schedule.due(step):
                with schedule.timed(step):
                    found.append(step)
        return found

    assert due(Schedule(), 4000) == [0, 10, 20, 40, 80, 160, 320, 640, 1280, 2280, 3280]
    dear = Schedule()
    dear._busy_s = 1e6  # a slow check
    assert due(dear, 4000) == [0]


@pytest.mark.parametrize(("busy_s", "slept_s", "further"), [(1.0, 0.0, []), (0.0, 100.0, [10, 20])])
def test_checks_are_spaced_by_what_they_take_of_the_processor(busy_s, slept_s, further, monkeypatch) -> None:
    """On a busy machine a check takes long by the clock, and is as cheap as before."""
    clock, processor = [0.0], [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("time.process_time", lambda: processor[0])
    schedule = Schedule()
    assert schedule.due(0)
    with schedule.timed(0):
        clock[0] += busy_s + slept_s
        processor[0] += busy_s
    assert schedule.seconds == busy_s + slept_s
    assert [step for step in range(1, 21) if schedule.due(step)] == further


def test_a_plan_follows_from_the_length_and_the_batches_alone() -> None:
    short = plan_checks(400, 64, 1437)
    assert short.steps == (0, 40, 80, 200, 320, 400)
    assert (short.rows, short.gradient_rows, short.at_once) == (256, 64, 256)
    # 1.5% of 10,000 steps are 150: twelve checks of 12.5 each. Of 64 rows a step, 192 passes, 4.5 of these are 864
    # passes, 2.5 for each training row: 345, of which the largest multiple of 64 is 320.
    long = plan_checks(10_000, 64, 50_000)
    assert long.steps == (0, 1000, 1500, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000, 10_000)
    assert (long.rows, long.gradient_rows) == (320, 64)
    normalized = plan_checks(10_000, 64, 50_000, normalizes=True)
    assert (len(normalized.steps), normalized.rows) == (6, 896)  # twelve of 256 rows would take 152 steps
    longest = plan_checks(1_000_000, 8, 50_000)
    assert (longest.rows, longest.gradient_rows, longest.at_once) == (1024, 64, 64)
    assert plan_checks(20, 64, 1437, every=7).steps == (0, 7, 14, 20)
    assert plan_checks(3, 64, 1437).steps == (0, 1, 2, 3)

    def seldom(plan: Plan) -> list[int]:
        schedule = Schedule(plan.steps)
        schedule._busy_s = 1e6  # a slow check changes nothing
        return [step for step in range(plan.steps[-1] + 1) if schedule.due(step)]

    assert seldom(short) == [*short.steps]


def test_a_check_keeps_nothing_of_its_graph_alive() -> None:
    model, alive = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), []
    model[0].register_forward_hook(lambda module, inputs, output: alive.append(weakref.ref(output)))
    checker = Checker(model, nn.CrossEntropyLoss(), Rows(*digits(rows=32)))
    for step in range(2):
        checker.check(step)
        assert alive
        assert not [one for one in alive if one() is not None]
