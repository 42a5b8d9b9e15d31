"""Which backward passes are read, and which call a gradient belongs to: against plain autograd."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nnvis.probe import Probe
from nnvis.record.vocabulary import ABSENCE_REASONS, Measurement


def batch(seed: int = 0, rows: int = 8) -> Tensor:
    return torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed))


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def watched(model: nn.Module, step, steps: int = 1, **options) -> list[Measurement]:
    """What a probe writes of `step(model, k)`, which leaves gradients."""
    written: list[Measurement] = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with Probe(model, [optimizer], write=written.append, **{"every": 1, **options}) as probe:
        for k in range(steps):
            optimizer.zero_grad()
            step(model, k)
            optimizer.step()
    assert not probe.failure
    return written


def values(measurement: Measurement, quantity: str) -> dict[str, Any]:
    """By row; where there is no value, why."""
    column = measurement.layers[quantity]
    rows = zip(column.layers, column.values, column.reason_codes, strict=True)
    return {name: ABSENCE_REASONS[code] if code else pytest.approx(value, rel=1e-4) for name, value, code in rows}


def kept(model: nn.Sequential, inputs: Tensor) -> list[Tensor]:
    """The outputs of all layers, whose gradients plain autograd keeps."""
    outputs = [inputs]
    for layer in model:
        outputs.append(layer(outputs[-1]))
        outputs[-1].retain_grad()
    return outputs[1:]


def grads_of(*passes: list[Tensor]) -> dict[str, float]:
    return {
        str(i): math.hypot(*(0.0 if o.grad is None else o.grad.norm().item() for o in calls))
        for i, calls in enumerate(zip(*passes, strict=True))
    }


def parameter_grads(model: nn.Sequential) -> dict[str, float]:
    return {str(i): math.hypot(*(p.grad.norm().item() for p in model[i].parameters())) for i in (0, 2)}


def penalty_on_inputs(outputs: Tensor, inputs: Tensor) -> Tensor:
    (grad,) = torch.autograd.grad(outputs.sum(), inputs, create_graph=True)
    return 10 * (grad.norm(dim=1) - 1).square().mean()


@pytest.mark.parametrize("zeroed", [True, False])
def test_a_gradient_penalty_is_read_where_it_is_backpropagated(zeroed):
    """`autograd.grad` changes no `.grad`: only the backward pass of the loss counts (WGAN-GP)."""

    def critic(model: nn.Module, k: int) -> None:
        inputs = batch(k).requires_grad_()
        outputs = model(inputs)
        penalty = penalty_on_inputs(outputs, inputs)
        if zeroed:
            model.zero_grad(set_to_none=False)
        (outputs.mean() + penalty).backward()

    plain = mlp()
    inputs = batch(1).requires_grad_()
    outputs = kept(plain, inputs)
    (grad,) = torch.autograd.grad(outputs[-1].sum(), inputs, create_graph=True)
    for output in outputs:
        output.grad = None
    (outputs[-1].mean() + 10 * (grad.norm(dim=1) - 1).square().mean()).backward()
    seen = watched(mlp(), critic, steps=2)[1]
    assert values(seen, "activation_grad_norm") == grads_of(outputs)
    assert values(seen, "grad_norm") == parameter_grads(plain)


def test_a_pass_for_adversarial_examples_does_not_count():
    """Through `autograd.grad`, in between micro-batches."""

    def attacked(model: nn.Module, k: int) -> None:
        model(batch(0)).square().mean().backward()
        inputs = batch(5).requires_grad_()
        torch.autograd.grad(100 * model(inputs).sum(), inputs)
        model(batch(2)).square().mean().backward()

    plain = mlp()
    passes = [kept(plain, batch(0)), kept(plain, batch(2))]
    for outputs in passes:
        outputs[-1].square().mean().backward()
    seen = watched(mlp(), attacked)[0]
    assert values(seen, "activation_grad_norm") == grads_of(*passes)
    stds = {str(i): torch.cat(both).std().item() for i, both in enumerate(zip(*passes, strict=True))}
    assert values(seen, "activation_std") == stds


def test_what_is_trained_may_lie_outside_of_the_model():
    """A prompt, an image: no `.grad` of the model changes, one of the optimizer's does."""
    prompt = nn.Parameter(batch())
    model, plain = mlp().requires_grad_(False), mlp()
    written: list[Measurement] = []
    optimizer = torch.optim.SGD([prompt], lr=0.1)
    with Probe(model, [optimizer], write=written.append, every=1):
        model(prompt).square().mean().backward()
        optimizer.step()
    outputs = kept(plain, batch())
    outputs[-1].square().mean().backward()
    assert values(written[0], "activation_grad_norm") == grads_of(outputs)


def test_a_penalty_on_the_weights_alone_is_part_of_the_gradient():
    """Its backward pass meets no layer's output."""

    def penalised(model: nn.Module, k: int) -> None:
        model(batch(k)).square().mean().backward()
        (5 * torch.stack([p.square().sum() for p in model.parameters()]).sum()).backward()

    plain = mlp()
    penalised(plain, 0)
    seen = watched(mlp(), lambda model, k: penalised(model, 0), steps=3)
    for measurement in seen:
        assert values(measurement, "grad_norm") == parameter_grads(plain)
        assert measurement.scalars["clip_factor"] == pytest.approx(1.0)


def test_a_penalty_that_begins_late_is_no_clip_factor_above_1():
    """Hooks on parameters are kept only where they were needed; then the next measured step has them."""

    def penalised(model: nn.Module, k: int) -> None:
        model(batch(k)).square().mean().backward()
        if k >= 2:
            (5 * torch.stack([p.square().sum() for p in model.parameters()]).sum()).backward()
        hooks.append(any(p._backward_hooks for p in model.parameters()))

    hooks: list[bool] = []
    written: list[Measurement] = []
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with Probe(model, [optimizer], write=written.append, every=1):
        for k in range(6):
            optimizer.zero_grad()
            penalised(model, k)
            optimizer.step()
    assert hooks == [True, False, False, True, True, True]
    assert "clip_factor" not in written[2].scalars
    assert values(written[5], "grad_norm") == parameter_grads(model)
    assert written[5].scalars["clip_factor"] == pytest.approx(1.0)


def test_two_backward_passes_through_one_forward_pass():
    """Gradients add up where their norms do not: what both went through is absent, the rest is there."""

    def two_losses(model: nn.Module, k: int) -> None:
        outputs = model(batch())
        outputs[:, 0].mean().backward(retain_graph=True)
        outputs.square().mean().backward()

    plain = mlp()
    two_losses(plain, 0)
    seen = watched(mlp(), two_losses)[0]
    assert values(seen, "activation_grad_norm") == dict.fromkeys("012", "several backward passes")
    assert values(seen, "activation_grad_rms") == dict.fromkeys("012", "several backward passes")
    assert values(seen, "grad_norm") == parameter_grads(plain)


def test_a_second_backward_pass_after_the_gradients_were_cleared():
    def thrown_away(model: nn.Module, k: int) -> None:
        outputs = model(batch())
        (100 * outputs.mean()).backward(retain_graph=True)
        model.zero_grad()
        outputs.square().mean().backward()

    outputs = kept(mlp(), batch())
    outputs[-1].square().mean().backward()
    assert values(watched(mlp(), thrown_away)[0], "activation_grad_norm") == grads_of(outputs)


class Shared(nn.Module):
    """One layer for all of its depth; in segments that checkpointing recomputes, or plainly."""

    def __init__(self, segments: tuple[int, ...], beside: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 1)
        self.segments, self.beside, self.plainly = segments, beside, False
        self.outputs: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        for length in self.segments:
            h = self.run(h, length) if self.plainly else checkpoint(self.run, h, length, use_reentrant=True)
        if self.beside:
            with torch.no_grad():
                self.layer(h)
        return self.head(h)

    def run(self, h: Tensor, length: int) -> Tensor:
        for _ in range(length):
            h = self.layer(h)
            if self.plainly:
                h.retain_grad()
                self.outputs.append(h)
        return h


@pytest.mark.parametrize("segments", [(1, 1, 1), (2, 1, 3), (3,)])
def test_a_shared_layer_in_segments_that_are_recomputed_backwards(segments):
    plain = Shared(segments)
    plain.plainly = True
    plain(batch()).square().mean().backward()
    expected = {f"layer#{i}": h.grad.norm().item() for i, h in enumerate(plain.outputs, 1)}
    seen = watched(Shared(segments), lambda model, k: model(batch()).square().mean().backward())[0]
    found = values(seen, "activation_grad_norm")
    assert {row: found[row] for row in expected} == expected


def test_a_call_that_is_not_recomputed_makes_the_others_uncertain():
    seen = watched(Shared((1, 1), beside=True), lambda model, k: model(batch()).square().mean().backward())[0]
    found = values(seen, "activation_grad_norm")
    assert {found[f"layer#{call}"] for call in (1, 2, 3)} == {"recomputed"}
    assert found["head"] != "recomputed"
