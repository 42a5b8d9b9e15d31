"""The first NaN or Inf is named: by keyword, in place, in parallel branches, with tied weights, in unused passes."""

import gc
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nnvis.probe import FirstNonfinite, Probe, first_nonfinite
from nnvis.probe.readings import ForwardPass
from nnvis.record.vocabulary import Measurement


class Root(nn.Module):
    """√|x|, whose slope at 0 is infinite."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs().sqrt()


class Spoil(nn.Module):
    """Makes a NaN of finite numbers, in place or not."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place, self.armed = in_place, False

    def forward(self, x: Tensor) -> Tensor:
        by = math.nan if self.armed else 1.0
        return x.mul_(by) if self.in_place else x * by


class Add(nn.Module):
    def forward(self, x: Tensor, *, bias: Tensor) -> Tensor:
        return x + bias


def watched(model: nn.Module, train: Callable[[int], Tensor | None], steps: int = 3) -> list[FirstNonfinite]:
    """What is found, step by step, while `train(k)` gives a loss, or None for a step that is thrown away."""
    found: list[FirstNonfinite] = []

    def look(measurement: Measurement) -> None:
        if one := first_nonfinite(measurement, probe.network, probe.wiring):
            found.append(one)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with Probe(model, [optimizer], write=look, every=1, spoilt=look) as probe:
        for k in range(steps):
            optimizer.zero_grad()
            if (loss := train(k)) is not None:
                loss.backward()
                optimizer.step()
    return found


def ones(*shape: int) -> Tensor:
    return torch.ones(*shape)


@pytest.mark.parametrize(
    "part",
    [nn.ReLU(), nn.ReLU(inplace=True), nn.Identity(), nn.Dropout(0.1, inplace=True), Spoil(in_place=True)],
    ids=lambda part: f"{type(part).__name__} {getattr(part, 'inplace', '')}",
)
def test_what_reaches_a_layer_from_outside_is_not_its_own_doing(part):
    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.part, self.last = nn.Linear(3, 3), part, nn.Linear(3, 1)
            self.factor = 1.0

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.part(self.first(x) * self.factor))

    torch.manual_seed(0)
    model = Between()

    def train(k: int) -> Tensor:
        model.factor = math.inf if k == 2 else 1.0
        return model(ones(2, 3)).sum()

    found = watched(model, train)
    assert (found[0].step, found[0].direction, found[0].layer, found[0].source) == (2, "forward", "part", "inputs")


@pytest.mark.parametrize("in_place", [False, True])
def test_what_a_layer_does_in_place_is_its_own_doing(in_place):
    part = Spoil(in_place)
    model = nn.Sequential(nn.Linear(3, 3), part, nn.Linear(3, 1))

    def train(k: int) -> Tensor:
        part.armed = k == 2
        return model(ones(2, 3)).sum()

    found = watched(model, train)
    assert (found[0].step, found[0].layer, found[0].source) == (2, "1", "operation")


def test_an_input_by_keyword_and_a_second_one():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.add, self.pair = nn.Linear(3, 3), Add(), nn.Bilinear(3, 3, 1)

        def forward(self, x: Tensor, bias: Tensor, second: Tensor) -> Tensor:
            return self.pair(self.add(self.first(x), bias=bias), second)

    for bad, layer in (("bias", "add"), ("second", "pair")):
        model = Two()

        def train(k: int, model: nn.Module = model, bad: str = bad) -> Tensor:
            given = {"bias": ones(3), "second": ones(2, 3)}
            if k == 1:
                given[bad] = given[bad] * math.nan
            return model(ones(2, 3), **given).sum()

        found = watched(model, train)
        assert (found[0].step, found[0].layer, found[0].source) == (1, layer, "inputs")


class Branches(nn.Module):
    """Two branches that run in turns."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 3)
        self.left, self.right = nn.Linear(3, 3), nn.Linear(3, 3)
        self.root, self.tanh = Root(), nn.Tanh()
        self.head = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        left, right = self.left(h), self.right(h)
        return self.head(self.root(left) + self.tanh(right))


def zero(layer: Any) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


def test_neighbours_in_the_graph_and_not_in_the_running_order():
    model = Branches()
    zero(model.left)  # where the root has no slope; `right` ran in between, and has nothing to do with it
    (found,) = watched(model, lambda k: model(ones(2, 3)).sum(), steps=1)
    assert (found.direction, found.layer, found.source, found.also) == ("backward", "root", "operation", ())


def test_several_readers_of_a_spoilt_output_are_all_named():
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.a, self.b = nn.Linear(3, 3), Root(), nn.Tanh()

        def forward(self, x: Tensor) -> Tensor:
            h = self.stem(x)
            return self.a(h) + self.b(h)

    model = Fork()
    zero(model.stem)
    (found,) = watched(model, lambda k: model(ones(2, 3)).sum(), steps=1)
    assert (found.layer, found.also, found.source) == ("b", ("a",), "operation")
    assert "b (or a): NaN or Inf came out of its backward pass" in str(found)


def test_a_gradient_that_the_loss_has_spoilt():
    model = Branches()
    (found,) = watched(model, lambda k: (model(ones(2, 3)) * 0).abs().sqrt().sum(), steps=1)
    assert (found.direction, found.layer, found.source) == ("backward", "head", "inputs")


def test_tied_weights_do_not_blame_the_later_layer():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.root, self.outer = nn.Linear(3, 3), Root(), nn.Linear(3, 3)
            self.outer.weight = self.inner.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.outer(self.root(self.inner(x)))

    model = Tied()
    zero(model.inner)
    model.inner.weight.data.zero_()
    (found,) = watched(model, lambda k: model(ones(2, 3)).sum(), steps=1)
    assert (found.layer, found.source) == ("root", "operation")


def test_a_pass_that_is_never_backpropagated_is_told_with_its_layer():
    part = Spoil(in_place=False)
    model = nn.Sequential(nn.Linear(3, 3), part, nn.Linear(3, 1))

    def train(k: int) -> Tensor | None:
        part.armed = k == 1
        loss = model(ones(2, 3)).sum()
        return loss if loss.isfinite() else None

    found = watched(model, train)
    assert [(one.step, one.layer, one.source) for one in found] == [(1, "1", "operation")]


def test_so_is_one_that_ends_by_an_exception():
    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.spoil = nn.Linear(3, 3), Spoil(in_place=False)

        def forward(self, x: Tensor) -> Tensor:
            x = self.spoil(self.first(x))
            assert x.isfinite().all()
            return x

    model = Careful()
    model.spoil.armed = True
    found: list[FirstNonfinite | None] = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    probe = Probe(
        model,
        [optimizer],
        write=lambda m: None,
        spoilt=lambda m: found.append(first_nonfinite(m, probe.network, probe.wiring)),
    )
    with pytest.raises(AssertionError), probe:
        model(ones(2, 3))
    assert found[0] is not None
    assert (found[0].layer, found[0].source) == ("spoil", "operation")


def test_passes_that_nobody_backpropagates_are_let_go():
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def living() -> int:
        gc.collect()
        return sum(type(one) is ForwardPass for one in gc.get_objects())

    written: list[Measurement] = []
    before = living()
    with Probe(model, [optimizer], write=written.append, every=1):
        waiting = model(ones(2, 3)).sum()  # backpropagated in the end
        for _ in range(50):
            model(ones(2, 3) * 5).sum()
        assert living() <= before + 3
        waiting.backward()
        optimizer.step()
    assert written[0].layers["activation_absmax"].values[0] == pytest.approx(model_absmax(model, optimizer), rel=1e-5)


def model_absmax(model: Any, optimizer: Any) -> float:
    """Of the first layer's output, before the update."""
    with torch.no_grad():
        weight, bias = (p + 0.1 * p.grad for p in (model[0].weight, model[0].bias))
        return float((ones(2, 3) @ weight.T + bias).abs().max())


def test_micro_batches_without_an_optimizer_object_add_up():
    model = nn.Linear(3, 1, bias=False)
    written: list[Measurement] = []
    with Probe(model, [], write=written.append, every=1) as probe:
        for size in (1.0, 2.0):
            model(size * ones(1, 3)).sum().backward()
        probe.end_step()
    assert written[0].layers["grad_norm"].values[0] == pytest.approx(3 * math.sqrt(3))
