"""The probe against plain autograd on a copy, in every case where watching is known to go wrong."""

import contextlib
import copy
import gc
import io
import math
import pickle
import weakref
from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import module as torch_module
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import warn_if_has_hooks

from nnvis.errors import InputError
from nnvis.probe import Probe, native, statistics
from nnvis.probe import probe as probe_module
from nnvis.record.vocabulary import ABSENCE_REASONS, HISTOGRAM_EDGES, LAYER_QUANTITIES, LayerValues, Measurement


class Steps(list[Measurement]):
    """Collects what a probe writes."""

    def value(self, quantity: str, layer: str, step: int = 0) -> float:
        found = self.column(quantity, step)
        return float(found.values[found.layers.index(layer)])

    def reason(self, quantity: str, layer: str, step: int = 0) -> str:
        found = self.column(quantity, step)
        return ABSENCE_REASONS[found.reason_codes[found.layers.index(layer)]]

    def column(self, quantity: str, step: int = 0) -> LayerValues:
        return next(m for m in self if m.step == step).layers[quantity]


def batch(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def watch(model: nn.Module, loss_of, *, steps: int = 1, lr: float = 0.1, between=None, **options) -> Steps:
    """Train a few steps under a probe that measures each."""
    written = Steps()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with Probe(model, [optimizer], write=written.append, **{"every": 1, **options}):
        for _ in range(steps):
            optimizer.zero_grad()
            loss_of(model).backward()
            if between:
                between(model)
            optimizer.step()
    return written


# ------------------------------------------------------------------ known answers


@pytest.mark.parametrize("gain", [0.25, 1.0, 3.0])
def test_a_linear_chain_multiplies_its_gain(gain):
    """y = g^L x: the gradient with respect to the k-th output is g^(L - k) times the last one's."""
    depth = 12
    chain = nn.Sequential(*[nn.Linear(4, 4, bias=False) for _ in range(depth)])
    for layer in chain:
        layer.weight.data = gain * torch.eye(4)
    written = watch(chain, lambda m: m(batch(5, 4)).sum())
    column = written.column("activation_grad_norm")
    np.testing.assert_allclose(column.values / column.values[-1], gain ** np.arange(depth - 1, -1, -1.0), rtol=1e-5)


@pytest.mark.parametrize(("weight", "zero_share"), [(0.0, 1.0), (1.0, 0.5)])
def test_identity_and_zero_networks(weight, zero_share):
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
    net[0].weight.data = weight * torch.eye(2)
    inputs = torch.tensor([[1.0, -1.0], [2.0, -2.0], [3.0, -3.0]])
    written = watch(net, lambda m: m(inputs).sum())
    assert written.value("zero_fraction", "1") == zero_share
    assert written.value("dead_fraction", "1") == zero_share
    assert written.value("activation_absmax", "0") == 3 * weight
    assert written.value("grad_norm", "0") == pytest.approx(math.sqrt(2) * 6 if weight else 0)


@dataclass
class Bundle:
    logits: Tensor
    note: str


class Awkward(nn.Module):
    """In-place activation, residual +=, a module used twice, a shared weight; dict, tuple and dataclass outputs."""

    def __init__(self, inplace: bool = True) -> None:
        super().__init__()
        self.inplace = inplace
        self.first = nn.Linear(6, 5)
        self.relu = nn.ReLU(inplace=inplace)
        self.twice = nn.Linear(5, 5)
        self.lstm = nn.LSTM(5, 4, batch_first=True)
        self.tied = nn.Linear(4, 3)
        self.tied_too = nn.Linear(4, 3)
        self.tied_too.weight = self.tied.weight
        self.boxed = Boxed()
        self.never = nn.Linear(2, 2)
        self.outputs: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        h = self._keep("first", self.first(x))
        h = self._keep("relu", self.relu(h))
        h2 = self._keep("twice#1", self.twice(h))
        if self.inplace:
            h2 += h
        else:
            h2 = h2 + h
        h = self._keep("twice#2", self.twice(h2))
        h, _ = self.lstm(h[:, None])
        h = self._keep("lstm", h)[:, 0]
        h = self._keep("tied", self.tied(h)) + self._keep("tied_too", self.tied_too(h))
        return self.boxed(h)["bundle"].logits

    def _keep(self, name: str, output: Tensor) -> Tensor:
        if not self.inplace:  # the reference: every intermediate with its gradient
            output.retain_grad()
            self.outputs[name] = output
        return output


class Boxed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((3,), 1.5))

    def forward(self, x: Tensor) -> dict[str, Bundle]:
        return {"bundle": Bundle(x * self.scale, "dataclass in a dict")}


def test_every_quantity_equals_plain_autograd_on_a_copy():
    torch.manual_seed(0)
    watched = Awkward()
    plain = copy.deepcopy(watched)
    plain.inplace = plain.relu.inplace = False
    inputs, targets = batch(7, 6), torch.arange(7) % 3
    before = {name: p.detach().clone() for name, p in plain.named_parameters()}
    F.cross_entropy(plain(inputs), targets).backward()
    written = watch(watched, lambda m: F.cross_entropy(m(inputs), targets))

    for name, output in plain.outputs.items():
        exact, grad = output.detach().double(), output.grad.double()
        expected = {
            "activation_mean": exact.mean(),
            "activation_std": exact.std(),
            "activation_absmax": exact.abs().max(),
            "activation_grad_norm": grad.norm(),
            "activation_grad_rms": grad.square().mean().sqrt(),
            "activation_nonfinite": torch.tensor(0.0),
        }
        for quantity, value in expected.items():
            assert written.value(quantity, name) == pytest.approx(float(value), rel=1e-4, abs=1e-9), (quantity, name)
    relu = plain.outputs["relu"].detach()
    assert written.value("zero_fraction", "relu") == pytest.approx(float((relu == 0).float().mean()))
    assert written.value("dead_fraction", "relu") == pytest.approx(float((relu == 0).all(0).float().mean()))

    for layer in ("first", "twice", "lstm", "tied", "tied_too", "boxed"):
        own = list(plain.get_submodule(layer).named_parameters(recurse=False))
        grads = torch.cat([p.grad.double().flatten() for _, p in own])
        weights = torch.cat([before.get(f"{layer}.{n}", p.detach()).double().flatten() for n, p in own])
        assert written.value("grad_norm", layer) == pytest.approx(float(grads.norm()), rel=1e-5)
        assert written.value("grad_rms", layer) == pytest.approx(float(grads.square().mean().sqrt()), rel=1e-5)
        assert written.value("weight_norm", layer) == pytest.approx(float(weights.norm()), rel=1e-5)
        assert written.value("update_norm", layer) == pytest.approx(0.1 * float(grads.norm()), rel=1e-3)
        ratio = 0.1 * float(grads.norm() / weights.norm())
        assert written.value("update_ratio", layer) == pytest.approx(ratio, rel=1e-3)
    assert written.reason("grad_norm", "never") == "no gradient"
    assert set(written[0].layers) == set(LAYER_QUANTITIES) - {"saturated_fraction", "input_nonfinite"}


def test_layers_are_in_the_order_in_which_they_ran():
    torch.manual_seed(0)
    written = watch(Awkward(), lambda m: m(batch(7, 6)).sum())
    assert written.column("activation_mean").layers == (
        "first", "relu", "twice#1", "twice#2", "lstm", "tied", "tied_too", "boxed",
    )  # fmt: skip
    assert written.column("grad_norm").layers == ("first", "twice", "lstm", "tied", "tied_too", "boxed", "never")


def test_units_of_a_convolution_are_its_channels():
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4), nn.ReLU())
    net[0].bias.data = torch.tensor([-100.0, 100.0, 100.0])
    written = watch(net, lambda m: m(batch(5, 1, 4, 4)).sum())
    assert written.value("dead_fraction", "1") == pytest.approx(1 / 3)


# ------------------------------------------------------------------ how steps and gradients are counted


def mlp() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def loss_on(inputs: Tensor):
    return lambda model: F.cross_entropy(model(inputs), torch.arange(len(inputs)) % 3)


def test_accumulated_micro_batches_are_one_step():
    inputs = batch(12, 6)
    parts = inputs.split([4, 4, 4])
    whole, split = Steps(), Steps()
    for written, chunks in ((whole, [inputs]), (split, parts)):
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with Probe(model, [optimizer], write=written.append, every=1, histogram_every=1):
            for chunk in chunks:
                (
                    loss_on(inputs)(lambda _, c=chunk, m=model: m(inputs)) if len(chunks) == 1 else _part(model, chunk)
                ).backward()
            optimizer.step()
    for quantity in (
        "activation_mean",
        "activation_std",
        "saturated_fraction",
        "activation_absmax",
        "activation_grad_norm",
        "grad_norm",
    ):
        np.testing.assert_allclose(
            split.column(quantity).values, whole.column(quantity).values, rtol=1e-4, err_msg=quantity
        )
    assert len(split) == 1
    assert (split[0].histograms["activation"].counts == whole[0].histograms["activation"].counts).all()


def _part(model: nn.Module, chunk: Tensor) -> Tensor:
    """A third of the whole batch's mean loss; the batch's targets repeat every three rows."""
    start = {float(batch(12, 6)[i, 0]): i for i in range(12)}[float(chunk[0, 0])]
    return F.cross_entropy(model(chunk), torch.arange(start, start + len(chunk)) % 3) / 3


def test_gradients_are_those_before_clipping_and_the_factor_is_told():
    inputs = batch(9, 6)
    free = watch(mlp(), loss_on(inputs))
    clipped = watch(mlp(), loss_on(inputs), between=lambda m: nn.utils.clip_grad_norm_(m.parameters(), 0.01))
    np.testing.assert_allclose(clipped.column("grad_norm").values, free.column("grad_norm").values)
    total = free[0].scalars["grad_norm/total"]
    assert free[0].scalars["clip_factor"] == pytest.approx(1.0)
    assert clipped[0].scalars["clip_factor"] == pytest.approx(0.01 / total, rel=1e-3)
    assert clipped.value("update_norm", "0") == pytest.approx(
        0.1 * 0.01 / total * clipped.value("grad_norm", "0"), rel=1e-3
    )


def test_a_scaler_is_undone_and_a_skipped_step_is_no_step():
    inputs, model, written = batch(9, 6), mlp(), Steps()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with Probe(model, [optimizer], write=written.append, every=1, scaler=scaler):
        for overflow in (True, False):
            optimizer.zero_grad()
            loss = loss_on(inputs)(model) * (float("inf") if overflow else 1.0)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    reference = watch(mlp(), loss_on(inputs))
    assert [m.step for m in written] == [0]
    for quantity in ("grad_norm", "activation_grad_norm", "update_norm", "activation_std"):
        np.testing.assert_allclose(written.column(quantity).values, reference.column(quantity).values, rtol=1e-4)
    assert written[0].scalars["clip_factor"] == pytest.approx(1.0, rel=1e-4)


def test_of_a_closure_the_last_evaluation_counts():
    inputs, model, written = batch(9, 6), mlp(), Steps()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3, lr=0.5)
    seen: list[float] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_on(inputs)(model)
        loss.backward()
        seen.append(float(torch.cat([p.grad.flatten() for p in model.parameters()]).norm()))
        return loss

    with Probe(model, [optimizer], write=written.append, every=1):
        optimizer.step(closure)
        optimizer.step(closure)
    assert [m.step for m in written] == [0, 1]
    assert written[1].scalars["grad_norm/total"] == pytest.approx(seen[-1], rel=1e-4)
    assert written[1].scalars["clip_factor"] == pytest.approx(1.0)
    assert written.value("activation_nonfinite", "0", step=1) == 0


def test_a_closure_that_clips_after_a_micro_batch_outside_of_it():
    """As trainers do that hand `optimizer.step` a closure, and accumulate."""
    inputs, written = batch(12, 6), [Steps(), Steps()]
    for in_closure in (False, True):
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def second(model: nn.Module = model) -> None:
            (loss_on(inputs[6:])(model) / 2).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.01)

        with Probe(model, [optimizer], write=written[in_closure].append, every=1):
            (loss_on(inputs[:6])(model) / 2).backward()
            if in_closure:
                optimizer.step(second)  # pyright: ignore[reportArgumentType]
            else:
                second()
                optimizer.step()
    plain, ours = written
    assert 0 < plain[0].scalars["clip_factor"] < 0.1
    assert ours[0].scalars == pytest.approx(plain[0].scalars)
    for quantity, column in plain[0].layers.items():
        np.testing.assert_array_equal(ours.column(quantity).values, column.values, err_msg=quantity)


def test_two_forward_passes_of_one_backward_pass_are_pooled():
    inputs = batch(12, 6)
    pair = watch(mlp(), lambda model: model(inputs[:4]).square().sum() + model(inputs[4:]).square().sum())
    whole = watch(mlp(), lambda model: model(inputs).square().sum())
    for quantity, column in whole[0].layers.items():
        np.testing.assert_allclose(pair.column(quantity).values, column.values, rtol=1e-4, err_msg=quantity)


def test_a_model_whose_parts_alone_are_called():
    """As a training step does that calls `self.encoder` and `self.head`: the pass is all until the backward pass."""

    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.head = nn.Sequential(mlp()[0], mlp()[1]), mlp()[2]
            self.encoder.requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.encoder(x).detach().requires_grad_())

    def by_parts(model: Parts) -> Tensor:
        with torch.no_grad():
            model.head(model.encoder(100 * inputs))  # does not count
        return model.head(model.encoder(inputs).detach().requires_grad_()).square().sum()

    inputs = batch(9, 6)
    whole = watch(Parts(), lambda model: model(inputs).square().sum(), steps=2)
    parts = watch(Parts(), by_parts, steps=2)
    assert whole.column("activation_mean").layers == ("encoder.0", "encoder.1", "head")
    for step in (0, 1):
        assert parts[step].scalars == pytest.approx(whole[step].scalars)
        for quantity, column in whole[step].layers.items():
            ours = parts.column(quantity, step)
            assert ours.layers == column.layers
            np.testing.assert_array_equal(ours.values, column.values, err_msg=quantity)


def test_steps_are_numbered_by_the_updates_before_them():
    written = watch(mlp(), loss_on(batch(9, 6)), steps=7, every=3, first_step=4)
    assert [m.step for m in written] == [6, 9]


def test_a_glob_chooses_layers_and_one_that_matches_none_is_refused():
    written = watch(mlp(), loss_on(batch(9, 6)), layers=["[02]"])
    assert written.column("activation_mean").layers == written.column("grad_norm").layers == ("0", "2")
    with pytest.raises(InputError, match="'hidden\\*' matches no layer; choices: 0, 1, 2"):
        watch(mlp(), loss_on(batch(9, 6)), layers=["0", "hidden*"])


def test_forward_passes_without_a_backward_pass_do_not_count():
    model, inputs, written = mlp(), batch(9, 6), Steps()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Probe(model, [optimizer], write=written.append, every=1) as probe:
        with torch.no_grad():
            model(100 * inputs)
        model(100 * inputs)
        model.eval()(100 * inputs)
        model.train()
        loss_on(inputs)(model).backward()
        with probe.pause():
            model(100 * inputs)
        optimizer.step()
    reference = watch(mlp(), loss_on(inputs))
    np.testing.assert_allclose(written.column("activation_absmax").values, reference.column("activation_absmax").values)


def test_of_several_optimizers_the_first_one_ends_the_step():
    model, written = mlp(), Steps()
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)
    second = torch.optim.SGD(model[2].parameters(), lr=0.1)
    with Probe(model, [first, second], write=written.append, every=1):
        for _ in range(3):
            first.zero_grad()
            second.zero_grad()
            loss_on(batch(9, 6))(model).backward()
            second.step()
            first.step()
    assert [m.step for m in written] == [0, 1, 2]
    assert written.value("update_ratio", "2", step=1) > 0
    assert written.value("update_ratio", "0", step=1) > 0


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing_is_read_once(reentrant):
    class Checkpointed(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            x.requires_grad_(True)
            return self[2](
                torch.utils.checkpoint.checkpoint(nn.Sequential(self[0], self[1]), x, use_reentrant=reentrant)
            )

    inputs = batch(9, 6)
    written = watch(Checkpointed(*mlp()), loss_on(inputs))
    reference = watch(mlp(), loss_on(inputs))
    for quantity, column in reference[0].layers.items():
        np.testing.assert_allclose(written.column(quantity).values, column.values, rtol=1e-5, err_msg=quantity)
        assert written.column(quantity).layers == column.layers


def test_frozen_and_unfrozen_layers_say_so():
    model, written = mlp(), Steps()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Probe(model, [optimizer], write=written.append, every=1) as probe:
        for step in range(2):
            model[0].requires_grad_(step == 1)
            optimizer.zero_grad()
            loss_on(batch(9, 6))(model).backward()
            optimizer.step()
            probe.flush()
            if step == 0:
                assert probe.unseen == {"0": "frozen"}
    assert written.reason("grad_norm", "0") == "frozen"
    assert written.value("grad_norm", "0", step=1) > 0


def test_sparse_integer_and_odd_outputs():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(10, 4, sparse=True)
            self.argmax = Argmax()
            self.norm = nn.BatchNorm1d(4)

        def forward(self, tokens: Tensor) -> Tensor:
            h = self.norm(self.embedding(tokens).mean(1))
            return h.sum() + 0 * self.argmax(h).sum()

    class Argmax(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.argmax(-1)

    torch.manual_seed(0)
    model = Odd()
    tokens = torch.tensor([[1, 2, 3], [3, 4, 5]])
    plain = copy.deepcopy(model)
    plain(tokens).backward()
    written = watch(model, lambda m: m(tokens))
    assert written.reason("activation_mean", "argmax") == "non-float output"
    expected = float(plain.embedding.weight.grad.to_dense().norm())
    assert written.value("grad_norm", "embedding") == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_of_a_compiled_model_the_parameters_are_read():
    inputs, model, written = batch(9, 6), mlp(), Steps()
    compiled = cast(nn.Module, torch.compile(model, backend="aot_eager"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Probe(compiled, [optimizer], write=written.append, every=2) as probe:
        for _ in range(3):
            optimizer.zero_grad()
            loss_on(inputs)(compiled).backward()
            optimizer.step()
    reference = watch(mlp(), loss_on(inputs), steps=3, every=2)
    for quantity in ("grad_norm", "weight_norm", "update_ratio"):
        for step in (0, 2):
            ours, plain = written.column(quantity, step), reference.column(quantity, step)
            assert ours.layers == plain.layers
            np.testing.assert_allclose(ours.values, plain.values, rtol=1e-4)
    assert "activation_mean" not in written[0].layers
    assert probe.unseen == {"0": "compiled", "1": "compiled", "2": "compiled"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions(dtype):
    model = mlp().to(dtype)
    inputs = batch(9, 6).to(dtype)
    plain = copy.deepcopy(model)
    loss_on(inputs)(plain).backward()
    written = watch(model, loss_on(inputs))
    expected = torch.cat([p.grad.double().flatten() for p in plain[0].parameters()]).norm()
    assert written.value("grad_norm", "0") == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_counts_of_half_precision_are_exact(dtype):
    net = nn.Sequential(nn.Linear(1, 33), nn.Sigmoid(), nn.Linear(33, 33), nn.ReLU()).to(dtype)
    inputs = batch(3001, 1).to(dtype)
    plain = copy.deepcopy(net)
    relu, sigmoid = plain(inputs), plain[:2](inputs)
    written = watch(net, lambda m: m(inputs).sum())
    assert written.value("zero_fraction", "1") == 0
    assert written.value("zero_fraction", "3") == pytest.approx(float((relu == 0).double().mean()))
    saturated = ((sigmoid.double() - 0.5).abs() >= 0.47).double().mean()
    assert written.value("saturated_fraction", "1") == pytest.approx(float(saturated), abs=1e-3)


def test_a_layers_histogram_holds_its_parameters_in_proportion():
    net = nn.Sequential(nn.Linear(512, 512))
    written = watch(net, lambda m: m(1e-6 * batch(4, 512)).sum(), histogram_every=1)
    counts = written[0].histograms["grad"].counts[0]
    large = counts[:-2][np.abs(HISTOGRAM_EDGES[:-1]) >= 1e-3].sum()  # the bias's gradient is 4
    assert counts.sum() <= 4100
    assert large / counts.sum() == pytest.approx(1 / 513, abs=1e-3)


def test_a_fused_optimizers_skipped_step_is_no_step():
    inputs, model, written = batch(9, 6), mlp(), Steps()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    with Probe(model, [optimizer], write=written.append, every=1, scaler=scaler) as probe:
        for step in range(4):
            optimizer.zero_grad()
            scaler.scale(loss_on(inputs)(model) * (math.inf if step < 2 else 1.0)).backward()
            scaler.step(optimizer)
            scaler.update()
    assert [m.step for m in written] == [0, 1]
    assert probe.step == 2
    assert np.isfinite(written.column("grad_norm").values).all()
    assert written[0].scalars["clip_factor"] == pytest.approx(1.0)


def test_nonfinite_values_are_counted():
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
    net[0].weight.data = torch.tensor([[3e38, 3e38], [1.0, 1.0]])
    written = watch(net, lambda m: m(torch.full((4, 2), 2.0)).sum())
    assert written.value("activation_nonfinite", "0") == 4
    assert written.value("activation_absmax", "0") == math.inf
    assert written.value("activation_grad_nonfinite", "0") == 0


# ------------------------------------------------------------------ watching changes nothing


def train(model: nn.Module, watched: bool, steps: int = 6) -> tuple[list[float], dict[str, Tensor], Tensor, list[bool]]:
    torch.manual_seed(11)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    probe = Probe(model, [optimizer], write=lambda m: None, every=2, histogram_every=2) if watched else None
    if probe:
        probe.__enter__()
    for step in range(steps):
        optimizer.zero_grad()
        loss = model(batch(7, 6, seed=step)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    if probe:
        probe.close()
    return losses, copy.deepcopy(model.state_dict()), torch.get_rng_state(), [m.training for m in model.modules()]


class Noisy(Awkward):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(super().forward(x), 0.3)


@pytest.mark.parametrize(
    "kind", [Awkward, Noisy, lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(True), nn.Dropout())]
)
def test_watching_changes_nothing(kind):
    torch.manual_seed(1)
    model = kind()
    plain = train(copy.deepcopy(model), watched=False)
    seen = train(copy.deepcopy(model), watched=True)
    assert plain[0] == seen[0]
    assert all(torch.equal(plain[1][name], seen[1][name]) for name in plain[1])
    assert torch.equal(plain[2], seen[2])
    assert plain[3] == seen[3]


def test_nothing_is_left_behind():
    model, inputs = mlp(), batch(9, 6)
    hooks_before = (len(torch_module._global_forward_hooks), len(torch_module._global_forward_pre_hooks))
    attributes = {name: set(vars(m)) for name, m in model.named_modules()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    outputs: list[weakref.ref[Tensor]] = []
    probe = Probe(model, [optimizer], write=lambda m: None, every=1)
    with probe:
        for _ in range(3):
            optimizer.zero_grad()
            output = model(inputs)
            outputs.append(weakref.ref(output))
            output.sum().backward()
            optimizer.step()
            del output
            gc.collect()
            assert all(ref() is None for ref in outputs)  # nothing outlives its step
        copied, saved = copy.deepcopy(model), io.BytesIO()  # an EMA copy and a pickle, while watched
        pickle.dump(model, saved)
        torch.save(model.state_dict(), saved)
        copied(inputs).sum().backward()
    assert (len(torch_module._global_forward_hooks), len(torch_module._global_forward_pre_hooks)) == hooks_before
    assert {name: set(vars(m)) for name, m in model.named_modules()} == attributes
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert all(p._backward_hooks is None and p._post_accumulate_grad_hooks is None for p in model.parameters())


def test_parameters_that_are_replaced_in_a_measured_step_keep_nothing():
    model = mlp()
    optimizer, before = torch.optim.SGD(model.parameters(), lr=0.1), [*model.parameters()]
    with Probe(model, [optimizer], write=lambda m: None, every=1):
        model.load_state_dict({name: p.clone() for name, p in model.state_dict().items()}, assign=True)
        loss_on(batch(9, 6))(model).backward()
        optimizer.step()
    assert all(p._backward_hooks is None for p in (*before, *model.parameters()))


def test_a_parameter_goes_to_another_process_without_a_warning():
    model = mlp()
    with Probe(model, [torch.optim.SGD(model.parameters())], write=lambda m: None, every=1):
        assert all(p._backward_hooks for p in model.parameters())
        for p in model.parameters():
            warn_if_has_hooks(p)  # what torch.multiprocessing asks; a warning is an error here


def test_gradients_can_be_swapped_in_a_measured_step(monkeypatch):
    """Torch refuses to swap tensors of which anybody holds a weak reference."""
    monkeypatch.setattr(torch.__future__, "_swap_module_params_on_conversion", True)
    model, written = mlp(), Steps()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Probe(model, [optimizer], write=written.append, every=1) as probe:
        loss_on(batch(9, 6))(model).backward()
        model.double()
        optimizer.step()
    assert not probe.failure
    assert written[0].scalars["clip_factor"] == pytest.approx(1)


def test_gradients_that_lie_elsewhere_after_clipping_are_found():
    def halve(model: nn.Module) -> None:
        for p in model.parameters():
            assert p.grad is not None
            p.grad.data = p.grad.data / 2  # the same tensor, in other memory

    written = watch(mlp(), loss_on(batch(9, 6)), steps=2, between=halve)
    assert [m.scalars["clip_factor"] for m in written] == [pytest.approx(0.5)] * 2


def test_torch_looks_for_no_hooks_at_parameters_afterwards():
    """It keeps looking into the dict of a post-accumulate hook that was removed: 0.5 µs a parameter, for good."""
    model, inputs = mlp(), batch(9, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Probe(model, [optimizer], write=lambda m: None, every=1):
        model(inputs).sum().backward()
        both = [(p._backward_hooks, p._post_accumulate_grad_hooks) for p in model.parameters()]
        optimizer.step()
    held = [hooks for pair in both for hooks in pair if hooks is not None]
    assert held
    called = []
    for hooks in held:
        hooks[0] = called.append
    model(inputs).sum().backward()
    assert not called


def test_between_measured_steps_no_hook_is_live():
    live = []
    model = mlp()
    model.register_forward_hook(lambda *_: live.append(bool(torch_module._global_forward_hooks)))
    watch(model, loss_on(batch(9, 6)), steps=5, every=2)
    assert live == [True, False, True, False, True]


def test_a_fault_in_the_probe_spares_the_training(monkeypatch):
    def full_disk(measurement: Measurement) -> None:
        raise OSError(28, "No space left on device")

    model, inputs = mlp(), batch(9, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train() -> None:
        with Probe(model, [optimizer], write=full_disk, every=1):
            for _ in range(40):
                optimizer.zero_grad()
                loss_on(inputs)(model).backward()
                optimizer.step()

    monkeypatch.setattr(probe_module, "_MOST_NUMBERS", 500)
    with pytest.warns(UserWarning, match="No space left") as told:
        train()
    assert len(told) == 1
    assert not torch_module._global_forward_hooks


def test_what_an_update_that_fails_leaves_is_let_go():
    model = nn.Linear(300, 300)  # a parameter that is copied by itself
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def closure() -> float:
        model(batch(2, 300)).sum().backward()
        raise ValueError("no loss")

    probe = Probe(model, [optimizer], write=lambda m: None, every=1)
    with probe, pytest.raises(ValueError, match="no loss"):
        optimizer.step(closure)
    model.zero_grad()
    gc.collect()
    large = [x for x in gc.get_objects() if type(x) in (Tensor, nn.Parameter) and x.shape == (300, 300)]
    assert [x is model.weight for x in large] == [True]


def test_gradients_that_the_loop_throws_away_are_not_kept():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Probe(model, [optimizer], write=lambda m: None, every=1):
        loss_on(batch(9, 6))(model).backward()
        gradients = [weakref.ref(p.grad) for p in model.parameters()]
        model.zero_grad(set_to_none=True)
        assert all(ref() is None for ref in gradients)


def test_a_model_compiled_in_mid_training_goes_on_by_its_parameters():
    inputs, model, written = batch(9, 6), mlp(), Steps()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Probe(model, [optimizer], write=written.append, every=1) as probe:
        for k in range(6):
            if k == 2:
                model.compile(backend="eager")
            optimizer.zero_grad()
            loss_on(inputs)(model).backward()
            optimizer.step()
    assert not probe.failure
    reference = watch(mlp(), loss_on(inputs), steps=6)
    for step in (0, 1, 3, 4, 5):  # the step in which it was compiled had hooks already
        expected = reference.column("grad_norm", step).values
        np.testing.assert_allclose(written.column("grad_norm", step).values, expected, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of torch.compile
def test_a_compiled_part_that_comes_in_is_seen_as_compiled():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Probe(model, [optimizer], write=lambda m: None, every=2) as probe:
        for k in range(2):
            if k == 1:  # not a measured step, so that torch sees no hooks
                model.append(cast(nn.Module, torch.compile(nn.Linear(3, 3), backend="eager")))
            loss_on(batch(9, 6))(model).backward()
            optimizer.step()
        assert probe._compiled


class Fused(torch.optim.Optimizer):
    """Skips its step where it is told that gradients are not finite, as torch's fused ones do."""

    def __init__(self, parameters) -> None:
        super().__init__(parameters, {})
        self.found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        for p in self.param_groups[0]["params"]:
            p -= 0.1 * p.grad * (self.found_inf is None)


class FusedTwice(Fused):
    def step(self, closure=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        super().step()
        super().step()


@pytest.mark.parametrize("kind", [Fused, FusedTwice])
def test_steps_between_measured_ones_are_counted_right(kind):
    """By the first optimizer, each once, those that a fused one has skipped not at all."""
    model, other = mlp(), mlp()
    first, second = kind(model.parameters()), torch.optim.SGD(other.parameters(), lr=0.1)
    written = Steps()
    with Probe(model, [first, second], write=written.append, every=4) as probe:
        for k in range(14):
            for net, optimizer in ((model, first), (other, second)):
                optimizer.zero_grad()
                loss_on(batch(9, 6))(net).backward()
            first.found_inf = torch.tensor(1.0) if k in (2, 6) else None
            first.step()
            second.step()
        assert probe.step == 12
    assert [m.step for m in written] == [0, 4, 8]


def test_a_fault_while_closing_spares_the_training():
    model = mlp()
    probe = Probe(model, [torch.optim.SGD(model.parameters(), lr=0.1)], write=lambda m: None, every=1)
    probe._pending = [BrokenPending()]  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.warns(UserWarning, match="device lost"):
        probe.close()
    probe.close()


class BrokenPending:
    @property
    def layout(self) -> None:
        raise RuntimeError("device lost")


class SyncCounter(TorchDispatchMode):
    """Counts the operations that would wait for a device, or move data to the host."""

    waits = ("_local_scalar_dense", "_to_copy", "nonzero", "is_nonzero", "bincount", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        to_host = name != "_to_copy" or (kwargs or {}).get("device") is not None
        if name in self.waits and to_host:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def test_no_device_is_waited_for_inside_forward_and_backward(monkeypatch):
    monkeypatch.setattr(native, "kernels", lambda: None)
    monkeypatch.setattr(statistics, "looking_is_free", lambda x: False)
    model, inputs = (
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3), nn.Sigmoid()),
        batch(5, 1, 4, 4),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    written = Steps()
    with Probe(model, [optimizer], write=written.append, every=1, histogram_every=1):
        with SyncCounter() as counter:
            model(inputs).sum().backward()
        optimizer.step()
    assert counter.seen == []
    assert written.value("grad_norm", "0") > 0
    assert written[0].histograms["grad"].counts.sum() > 0


def measured_steps(device: str, guard, dtype: torch.dtype = torch.float32) -> Steps:
    """Three measured steps, of which nothing but the end may wait for the device."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False),
        nn.BatchNorm2d(3),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(12, 3),
        nn.Sigmoid(),
    ).to(device, dtype)
    inputs = [batch(5, 1, 4, 4, seed=k).to(device, dtype) for k in range(6)]
    optimizer, written = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), Steps()
    probe = Probe(model, [optimizer], write=written.append, every=1, histogram_every=1, spoilt=written.append)
    with probe, pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe_module, "_LONGEST_WAIT_S", math.inf)  # a slow machine would be told in between
        with guard:
            for pair in zip(inputs[::2], inputs[1::2], strict=True):
                optimizer.zero_grad()
                for part in pair:
                    probe.log({"loss": (loss := model(part).square().mean())})
                    loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 0.01)
                optimizer.step()
        assert not written  # all of it is told later
    assert not probe.failure
    assert [m.step for m in written] == [0, 1, 2]
    return written


def test_no_device_is_waited_for_in_a_measured_step(monkeypatch):
    """In float64, which is read on a CPU as on a device."""
    expected = measured_steps("cpu", contextlib.nullcontext(), torch.float64)
    for module in (statistics, probe_module):
        monkeypatch.setattr(module, "looking_is_free", lambda x: False)
    counter = SyncCounter()
    assert_same_steps(measured_steps("cpu", counter, torch.float64), expected)
    assert counter.seen == []


@pytest.mark.cuda
def test_no_gpu_is_waited_for_in_a_measured_step():
    @contextlib.contextmanager
    def waiting_is_an_error():
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    found = measured_steps("cuda", waiting_is_an_error())
    assert_same_steps(found, measured_steps("cpu", contextlib.nullcontext()), rtol=2e-3)


def assert_same_steps(found: Steps, expected: Steps, rtol: float = 1e-5) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.scalars == pytest.approx(theirs.scalars, rel=rtol)
        for quantity, column in theirs.layers.items():
            values = ours.layers[quantity].values
            np.testing.assert_allclose(values, column.values, rtol=rtol, atol=1e-6, err_msg=quantity)
