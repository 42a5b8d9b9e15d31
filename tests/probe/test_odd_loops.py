"""Loops that part from `model(inputs)`, `backward`, `step`: what is measured is right, or absent with its reason."""

import copy
import math
import warnings
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.jit import TracerWarning  # pyright: ignore[reportPrivateImportUsage]

from nnvis.probe import Probe
from nnvis.record.vocabulary import ABSENCE_REASONS, Measurement


def batch(seed: int = 0, rows: int = 8) -> Tensor:
    return torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed))


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def watched(model: nn.Module, step, steps: int = 1, lr: float = 0.0, **options) -> list[Measurement]:
    """What a probe writes of `step(model, k)`, which leaves gradients."""
    written: list[Measurement] = []
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with Probe(model, [optimizer], write=written.append, **{"every": 1, **options}) as probe:
        for k in range(steps):
            optimizer.zero_grad()
            step(model, k)
            optimizer.step()
    assert not probe.failure
    assert len(written) == probe.step
    return written


def trained(model: nn.Module, k: int) -> None:
    model(batch(k)).square().mean().backward()


def values(measurement: Measurement, quantity: str) -> dict[str, Any]:
    """By row; where there is no value, why."""
    column = measurement.layers[quantity]
    rows = zip(column.layers, column.values, column.reason_codes, strict=True)
    return {name: ABSENCE_REASONS[code] if code else pytest.approx(value, rel=1e-4) for name, value, code in rows}


def norm(tensors) -> float:
    return math.hypot(*(t.detach().norm().item() for t in tensors))


def layer_norms(model: nn.Sequential, of=lambda p: p.grad) -> dict[str, float]:
    return {str(i): norm(of(p) for p in model[i].parameters()) for i in (0, 2)}


# ------------------------------------------------------------------ outputs and parameters that are no plain numbers


def test_a_sparse_output_is_absent_and_the_others_are_there():
    class Sparse(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.relu().to_sparse()

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.sparse, self.last = nn.Linear(6, 6), Sparse(), nn.Linear(6, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.sparse(self.first(x)).to_dense())

    model = Model()
    seen = watched(model, trained, steps=2)[1]
    found = values(seen, "activation_std")
    assert found == {"first": model.first(batch(1)).std().item(), "sparse": "no plain tensor", "last": found["last"]}


@pytest.mark.parametrize("inside", [True, False])
def test_layers_under_vmap(inside):
    """Per-sample gradients beside the loop are no training; a layer that the model maps itself has no plain output."""

    class Mapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.head = mlp(), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(vmap(self.layers)(x) if inside else self.layers(x))

    def per_sample(model: nn.Module, k: int) -> None:
        trained(model, k)
        parameters = {name: p.detach() for name, p in model.named_parameters()}
        vmap(grad(lambda p, x: functional_call(model, p, (x,)).sum()), (None, 0))(parameters, batch())

    model = Mapped()
    found = values(watched(model, trained if inside else per_sample)[0], "activation_std")
    stds = {f"layers.{i}": mlp()[: i + 1](batch()).std().item() for i in range(3)}
    expected = dict.fromkeys(stds, "no plain tensor") if inside else stds
    assert found == {**expected, "head": model(batch()).std().item()}


def test_a_parameter_of_integers_in_the_optimizer():
    model = mlp()
    expected = layer_norms(model, of=lambda p: p)
    model[0].register_parameter("levels", nn.Parameter(torch.arange(4), requires_grad=False))
    assert values(watched(model, trained)[0], "weight_norm") == expected


def test_a_parameter_as_an_output_has_no_hooks_afterwards():
    class Prompt(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.values = nn.Parameter(batch(1, 1)[0])

        def forward(self) -> Tensor:
            return self.values

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.prompt, self.head = Prompt(), nn.Linear(6, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x + self.prompt())

    model = Model()
    seen = watched(model, trained)[0]
    assert values(seen, "activation_grad_norm")["prompt"] == norm([model.prompt.values.grad])
    assert all(p._backward_hooks is None for p in model.parameters())


def test_units_of_a_convolution_without_a_batch():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU())
    model[0].bias.data = torch.tensor([-100.0, 100.0, 100.0])
    for shape in ((2, 8, 8), (5, 2, 8, 8)):
        seen = watched(model, lambda m, k, shape=shape: m(torch.ones(shape)).mean().backward())[0]
        assert values(seen, "dead_fraction") == {"1": 1 / 3}


# ------------------------------------------------------------------ passes that are counted


@pytest.mark.parametrize("what", ["evaluates", "raises", "raises later"])
def test_of_parts_only_the_calls_that_are_backpropagated_count(what):
    parts = nn.ModuleDict({"encoder": nn.Linear(6, 6), "head": nn.Linear(6, 1)})

    def step(model: nn.ModuleDict, k: int) -> None:
        if k == 1 and what == "raises":
            with pytest.raises(RuntimeError):
                model["head"](model["encoder"](batch(9))[:, :3])
        if k == 1 and what == "raises later":
            model["head"](model["encoder"](batch(9)))  # as if the loss had
        loss = model["head"](model["encoder"](batch(k))).square().mean()
        if k == 1 and what == "evaluates":
            with torch.no_grad():
                model["head"](model["encoder"](100 * batch(9, 1000)))
        loss.backward()

    for k, seen in enumerate(watched(parts, step, steps=3)):
        hidden = parts["encoder"](batch(k))
        stds = {"encoder": hidden.std().item(), "head": parts["head"](hidden).std().item()}
        assert values(seen, "activation_std") == stds


def test_a_model_that_calls_itself():
    class Recursive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.down, self.up = nn.Linear(6, 6), nn.Linear(6, 6)
            self.outputs: dict[str, Tensor] = {}

        def forward(self, x: Tensor, depth: int = 2) -> Tensor:
            h = self.keep("down", 3 - depth, self.down(x))
            h = self(h, depth - 1) if depth else h
            return self.keep("up", 1 + sum("up" in name for name in self.outputs), self.up(h))

        def keep(self, name: str, call: int, output: Tensor) -> Tensor:
            if not hooked:
                output.retain_grad()
                self.outputs[f"{name}#{call}"] = output
            return output

    hooked = False
    plain = Recursive()
    trained(plain, 0)
    hooked = True
    for seen in watched(Recursive(), lambda model, k: trained(model, 0), steps=2):
        assert values(seen, "activation_std") == {n: o.std().item() for n, o in plain.outputs.items()}
        assert values(seen, "activation_grad_norm") == {n: o.grad.norm().item() for n, o in plain.outputs.items()}


def test_tracing_in_a_measured_step_leaves_no_mark():
    graphs = []

    def traces(model: nn.Module, k: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("error", TracerWarning)
            traced = cast(Any, torch.jit.trace(model, batch()))
        graphs.append([node.kind() for node in traced.inlined_graph.nodes()])
        trained(model, k)

    seen = watched(mlp(), traces)[0]
    traces(mlp(), 0)
    assert graphs[0] == graphs[1]
    assert values(seen, "activation_std") == {str(i): mlp()[: i + 1](batch()).std().item() for i in range(3)}


# ------------------------------------------------------------------ a model that changes


def test_parameters_that_were_replaced_after_the_beginning():
    """As `load_state_dict(assign=True)` does."""
    model, written = mlp(), []
    with Probe(model, [], write=written.append, every=1) as probe:
        for k in range(2):
            model.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            trained(model, k)
            grads = layer_norms(model)
            optimizer.step()
            probe.end_step()
            probe.flush()
            assert values(written[k], "grad_norm") == grads
            assert values(written[k], "update_norm") == {name: 0.1 * grad for name, grad in grads.items()}


def test_a_layer_that_was_replaced_and_one_that_was_added():
    def grows(model: nn.Sequential, k: int) -> None:
        if k == 1:
            model[2] = nn.Linear(8, 5)
            model.append(nn.ReLU())
        trained(model, k)
        expected.append({str(i): layer(batch(k)).std().item() for i, layer in enumerate(up_to(model))})

    def up_to(model: nn.Sequential):
        return [model[: i + 1] for i in range(len(model))]

    expected: list[dict[str, float]] = []
    model, written = mlp(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with Probe(model, [optimizer], write=written.append, every=1) as probe:
        for k in range(3):
            optimizer.zero_grad()
            grows(model, k)
            optimizer.step()
    assert [values(seen, "activation_std") for seen in written] == expected
    assert {info.name: info.output_shape for info in probe.network} == {"0": (8,), "1": (8,), "2": (5,), "3": (5,)}
    assert values(written[2], "grad_norm")["2"] == norm(p.grad for p in model[2].parameters())


# ------------------------------------------------------------------ updates within the backward pass


@pytest.mark.parametrize("backwards", [True, False])
@pytest.mark.parametrize("every", [1, 2])
def test_optimizers_that_update_while_the_backward_pass_goes_on(backwards, every):
    model, plain, written = mlp(), mlp(), []
    optimizers: dict[Tensor, torch.optim.Optimizer] = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}

    def update(p: Tensor) -> None:
        optimizers[p].step()
        optimizers[p].zero_grad()

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(update)
    given = list(optimizers.values())
    with Probe(model, given[::-1] if backwards else given, write=written.append, every=every) as probe:
        for k in range(4):
            trained(model, k)
    assert probe.step == 4
    assert [m.step for m in written] == list(range(0, 4, every))
    reference = torch.optim.SGD(plain.parameters(), lr=0.1)
    for k in range(4):
        reference.zero_grad()
        trained(plain, k)
        if k % every == 0:
            seen = written[k // every]
            grads = layer_norms(plain)
            assert values(seen, "grad_norm") == grads
            assert values(seen, "weight_norm") == layer_norms(plain, of=lambda p: p)
            assert values(seen, "update_norm") == {name: 0.1 * grad for name, grad in grads.items()}
            assert seen.scalars["clip_factor"] == pytest.approx(1.0)
        reference.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize("compiled", [False, True])
def test_after_a_backward_pass_that_raises_the_next_step_is_measured(compiled):
    model, written = mlp(), []
    call = cast(nn.Module, torch.compile(model, backend="eager")) if compiled else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def raises(gradient: Tensor) -> None:
        raise ValueError("no gradient")

    with Probe(model, [optimizer], write=written.append, every=1) as probe:
        for k in range(4):
            if k == 1:
                handle = model.get_parameter("0.weight").register_hook(raises)
                with pytest.raises(ValueError, match="no gradient"):
                    call(batch(k)).square().mean().backward()
                handle.remove()
                optimizer.zero_grad()
            if k == 2:
                handle = model.get_parameter("0.weight").register_hook(raises)
                with pytest.raises(ValueError, match="no gradient"):  # and the loop goes on to its update
                    call(batch(k)).square().mean().backward()
                handle.remove()
            else:
                call(batch(k)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert not probe.failure
    assert probe.step == 4
    assert [m.step for m in written] == ([0, 3] if compiled else [0, 1, 3])
    for m in written:
        assert np.isfinite(m.layers["grad_norm"].values).all()


class ExportsAPart(nn.Module):
    """As lazily, within its first forward pass, as a runtime that makes kernels of parts does."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(6, 8), mlp(), nn.Linear(8, 3)
        self.exported: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        if not self.exported:
            self.exported.append(torch.export.export(self.inner, (x.detach(),), strict=False))
        return self.last(self.first(x))


def operations(exported: Any) -> list[str]:
    return [str(node.target) for node in exported.graph.nodes]


def test_what_is_exported_in_a_measured_pass_is_as_without_a_probe():
    plain, model = ExportsAPart(), ExportsAPart()
    plain(batch())
    watched(model, lambda model, k: model(batch(k)).square().mean().backward(), steps=2)
    assert operations(model.exported[0]) == operations(plain.exported[0])


def test_a_part_that_is_exported_while_a_loop_calls_parts_is_as_without_a_probe():
    def step(model: nn.Module, k: int) -> None:
        hidden = cast(Any, model)[0](batch(k))
        exported.append(torch.export.export(cast(Any, model)[1], (hidden.detach(),), strict=False))
        cast(Any, model)[2](cast(Any, model)[1](hidden)).square().mean().backward()

    exported: list[Any] = []
    written = watched(mlp(), step, steps=2)
    plain = torch.export.export(nn.Tanh(), (torch.ones(8, 8),), strict=False)
    assert [operations(one) for one in exported] == [operations(plain)] * 2
    assert all(m.layers["activation_std"].layers == ("0", "1", "2") for m in written)


def test_batched_gradients_of_autograd_grad_pass_by():
    """Of several losses at once, through layers that are watched: nothing is accumulated, and the step is measured."""

    def step(model: nn.Module, k: int) -> None:
        output = model(batch(k))
        torch.autograd.grad(output, [*model.parameters()], torch.eye(24).view(24, 8, 3), True, is_grads_batched=True)
        output.square().mean().backward()

    seen = watched(mlp(), step, steps=2)
    plain = watched(mlp(), lambda model, k: model(batch(k)).square().mean().backward(), steps=2)
    for one, other in zip(seen, plain, strict=True):
        np.testing.assert_allclose(one.layers["grad_norm"].values, other.layers["grad_norm"].values, rtol=1e-6)
