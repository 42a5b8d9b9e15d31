"""Every kind of model and loop that watching must be right for, in one table.

Each case trains three times from one seed: alone, under `nnvis.watch`, and as a reference in plain autograd (a twin
whose layers keep their outputs with `retain_grad`, no hooks). The watched training must be the lonely one bit for bit,
and its record must hold the reference's numbers.
"""

import copy
import math
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional as F
from torch.nn.modules import module as torch_module
from torch.nn.utils import parametrizations

import nnvis
from nnvis.probe import probe, statistics
from nnvis.probe.layers import find_layers, first_tensor

STEPS = 4
DEVICE = "cpu"


def batch(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


# ------------------------------------------------------------------ who stands by while a loop trains


class Nobody:
    """Sees nothing. What a loop tells: when its gradients are whole, and when it lets go of what it computed."""

    def __init__(self, model: nn.Module, optimizers: list[Any], scaler: Any = None) -> None:
        self.model, self.optimizers, self.scaler = model, optimizers, scaler

    def __enter__(self) -> "Nobody":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def began(self) -> None:
        """The weights of this moment are those before the update, whatever is told later."""

    def gradients(self, scale: float = 1.0) -> None:
        """The gradients of this step stand in `.grad`, times `scale`: after backward, before clipping."""

    def forget(self) -> None:
        """Gradients were cleared: nothing before counts."""

    def updated(self) -> None:
        """The step is over."""


class Reference(Nobody):
    """What a record should hold, from outputs that keep their gradients and from `.grad` itself."""

    def __enter__(self) -> "Reference":
        self.steps: list[dict[str, dict[str, float]]] = []
        self.totals: list[tuple[float, float]] = []  # norm of the whole gradient, and what was left at the end
        self.passes: list[dict[tuple[str, int], Tensor]] = []
        self.values: dict[str, dict[str, float]] = {}
        self.before: dict[str, list[Tensor]] = {}
        self.layers = [one for one in find_layers(self.model) if not any(p.is_meta for p in one.parameters)]
        for layer in self.layers:
            if layer.module is not self.model:
                layer.module.forward = self.keeping(layer.name, layer.module.forward)
        root = self.model.forward
        inner = self.keeping(type(self.model).__name__, root) if self.layers[0].module is self.model else root

        def begin_pass(*args: Any, **kwargs: Any) -> Any:
            self.passes.append({})
            return inner(*args, **kwargs)

        self.model.forward = begin_pass
        return self

    def keeping(self, name: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def keep(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            tensor = first_tensor(output)
            if tensor is None or not (tensor.is_floating_point() or tensor.is_complex()) or not self.passes:
                return output
            call = 1 + sum(key[0] == name for key in self.passes[-1])
            kept = tensor.clone()  # what works in place on the output does not reach the copy that is kept
            self.passes[-1][name, call] = kept
            if kept.requires_grad:
                kept.retain_grad()
                return _replaced(output, tensor, kept.clone())
            return output

        return keep

    def gradients(self, scale: float = 1.0) -> None:
        calls: dict[tuple[str, int], list[Tensor]] = {}
        for outputs in self.passes:
            if any(output.grad is not None for output in outputs.values()):
                for key, output in outputs.items():
                    calls.setdefault(key, []).append(output)
        again = {name for name, call in calls if call > 1}
        values = self.values = {"grad_norm": {}, "weight_norm": {}, "activation_grad_norm": {}}
        for (name, call), outputs in calls.items():
            row = f"{name}#{call}" if name in again else name
            real = torch.cat([_real(o.detach()).flatten() for o in outputs]).double()
            found = {
                "activation_mean": real.mean(),
                "activation_std": real.std(),
                "activation_absmax": real.abs().max(),
            }
            for quantity, value in found.items():
                values.setdefault(quantity, {})[row] = float(value)
            grads = [_real(o.grad).double().flatten() for o in outputs if o.grad is not None]
            if grads:
                values["activation_grad_norm"][row] = float(torch.cat(grads).norm()) / scale
        if not self.before:
            self.began()
        for layer in self.layers:
            grads = [p.grad for p in layer.parameters if p.grad is not None]
            if grads:
                values["grad_norm"][layer.name] = _norm(grads) / scale
            if layer.parameters:
                values["weight_norm"][layer.name] = _norm(self.before[layer.name])

    def began(self) -> None:
        self.before = {layer.name: [p.detach().clone() for p in layer.parameters] for layer in self.layers}

    def forget(self) -> None:
        self.passes.clear()

    def updated(self) -> None:
        moves = {
            layer.name: _norm([p.detach() - q for p, q in zip(layer.parameters, self.before[layer.name], strict=True)])
            for layer in self.layers
            if layer.parameters
        }
        self.steps.append({**self.values, "update_norm": moves})
        left = [p.grad for p in self.model.parameters() if p.grad is not None]
        self.totals.append((math.hypot(*self.values["grad_norm"].values()), _norm(left) if left else math.nan))
        self.before = {}
        self.forget()


def _real(x: Tensor) -> Tensor:
    return torch.view_as_real(x) if x.is_complex() else x


def _norm(tensors: list[Tensor]) -> float:
    dense = [t.to_dense() if t.is_sparse else t for t in tensors]
    return float(torch.cat([_real(t.detach()).double().flatten() for t in dense]).norm())


def _replaced(output: Any, old: Tensor, new: Tensor) -> Any:
    """The same nest with one tensor for another."""
    if output is old:
        return new
    if isinstance(output, tuple):
        return tuple(_replaced(part, old, new) for part in output)
    if isinstance(output, dict):
        return {key: _replaced(part, old, new) for key, part in output.items()}
    if isinstance(output, Bundle):
        return Bundle(_replaced(output.logits, old, new), output.note)
    return output


# ------------------------------------------------------------------ models


@dataclass
class Bundle:
    logits: Tensor
    note: str


class Boxed(nn.Module):
    """A dataclass in a dict in a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((3,), 1.5))

    def forward(self, x: Tensor) -> Any:
        return ({"bundle": Bundle(x * self.scale, "nested")},)


class Awkward(nn.Module):
    """In-place activation, residual +=, a module used twice, a shared weight, nested outputs, a layer never used."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.relu = nn.ReLU(inplace=True)
        self.twice = nn.Linear(5, 5)
        self.lstm = nn.LSTM(5, 4, batch_first=True)
        self.tied, self.tied_too = nn.Linear(4, 3), nn.Linear(4, 3)
        self.tied_too.weight = self.tied.weight
        self.boxed = Boxed()
        self.never = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.first(x))
        again = self.twice(h)
        again += h
        h, _ = self.lstm(self.twice(again)[:, None])
        h = h[:, 0]
        return self.boxed(self.tied(h) + self.tied_too(h))[0]["bundle"].logits


class Checkpointed(nn.Sequential):
    reentrant: bool | None = None  # None: no checkpoint

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_(True)
        inner = nn.Sequential(self[0], self[1])
        if self.reentrant is None:
            return self[2](inner(x))
        return self[2](cast(Tensor, torch.utils.checkpoint.checkpoint(inner, x, use_reentrant=self.reentrant)))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = x[:, None] * x.new_ones(4, 1)
        h, _ = self.attention(h, h, value=h)
        return self.head(h.mean(1))


class Encoded(nn.Module):
    """A TransformerEncoder; frozen and in eval mode it takes torch's fast path, which calls no inner layer."""

    def __init__(self, frozen: bool = False) -> None:
        super().__init__()
        self.frozen = frozen
        layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).requires_grad_(not frozen)
        self.head = nn.Linear(6, 3)

    def train(self, mode: bool = True) -> "Encoded":
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x[:, None] * x.new_ones(4, 1)).mean(1))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.recurrent, self.head = kind(6, 4, num_layers=2, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(x[:, None] * x.new_ones(3, 1))[0][:, -1])


class Tokens(nn.Module):
    """Sparse gradients, and an integer output that no gradient goes through."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4, sparse=True)
        self.argmax, self.head = Argmax(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embedding((x.abs() * 4).long().clamp(max=9)).mean(1)
        return self.head(h) + 0 * self.argmax(h)[:, None]


class Argmax(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(-1)


class Waves(nn.Module):
    """Complex outputs, complex weights."""

    def __init__(self) -> None:
        super().__init__()
        self.wave, self.head = nn.Linear(6, 4, dtype=torch.complex64), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.wave(x.to(torch.complex64)).abs())


class Split(nn.Module):
    """Half in float32, half in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.last = nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.relu(self.first(x)).double())


class Fails(nn.Module):
    """Raises in the middle of every third forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.calls = nn.Linear(6, 5), nn.Linear(5, 3), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        h = self.first(x)
        if self.calls % 3 == 2:
            raise ValueError("out of luck")
        return self.last(h)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def normalised() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(8, 3))


def parametrized() -> nn.Sequential:
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 8)), nn.Tanh(), nn.Linear(8, 3))


def lazy() -> nn.Sequential:
    model = nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(3))
    model(batch(2, 6).cpu())
    return model


def partly_elsewhere() -> nn.Module:
    model = nn.ModuleDict({"used": mlp(), "elsewhere": nn.Linear(3, 3, device="meta")})
    model.forward = model["used"].__call__
    return model


def tiny(size: float) -> nn.Sequential:
    """Outputs and gradients whose squares float32 cannot hold."""
    first, last = nn.Linear(6, 8, bias=False), nn.Linear(8, 3, bias=False)
    first.weight.data *= size
    last.weight.data /= size
    return nn.Sequential(first, nn.Identity(), last)


# ------------------------------------------------------------------ loops


def loss_of(model: nn.Module, k: int, rows: int = 9) -> Tensor:
    inputs = batch(rows, 6, seed=k).to(next(model.parameters()).dtype if _half(model) else torch.float32)
    return F.cross_entropy(model(inputs).float(), torch.arange(rows, device=DEVICE) % 3)


def _half(model: nn.Module) -> bool:
    return next(model.parameters()).dtype in (torch.bfloat16, torch.float16)


def plain(by: Any, k: int) -> Tensor:
    for optimizer in by.optimizers:
        optimizer.zero_grad()
    loss = loss_of(by.model, k)
    loss.backward()
    by.gradients()
    for optimizer in reversed(by.optimizers):
        optimizer.step()
    return loss


def accumulating(by: Any, k: int) -> Tensor:
    by.optimizers[0].zero_grad()
    losses = [loss_of(by.model, 10 * k + part, rows) / 3 for part, rows in enumerate((6, 3, 9))]
    for loss in losses:
        loss.backward()
    by.gradients()
    by.optimizers[0].step()
    return torch.stack(losses).sum()


def scaled(set_to_none: bool) -> Callable[[Any, int], Tensor]:
    """Every other step overflows, is skipped, and made good by another."""

    def step(by: Any, k: int) -> Tensor:
        loss = torch.zeros(())
        for overflows in (True, False) if k % 2 else (False,):
            loss = loss_of(by.model, 10 * k + overflows) * (math.inf if overflows else 1.0)
            by.scaler.scale(loss).backward()
            if not overflows:
                by.gradients(by.scaler.get_scale())
            by.scaler.step(by.optimizers[0])
            by.scaler.update()
            by.optimizers[0].zero_grad(set_to_none=set_to_none)
            if overflows:
                by.forget()
        return loss

    return step


def skipping(by: Any, k: int) -> Tensor:
    """The loop itself throws away every other gradient, and keeps the tensors."""
    loss_of(by.model, 100 + k).backward()
    by.optimizers[0].zero_grad(set_to_none=False)
    by.forget()
    loss = loss_of(by.model, k)
    loss.backward()
    by.gradients()
    by.optimizers[0].step()
    by.optimizers[0].zero_grad(set_to_none=False)
    return loss


def clipping(clip: Callable[..., Any], limit: float) -> Callable[[Any, int], Tensor]:
    def clips(by: Any, k: int) -> Tensor:
        by.optimizers[0].zero_grad()
        loss = loss_of(by.model, k)
        loss.backward()
        by.gradients()
        clip(by.model.parameters(), limit)
        by.optimizers[0].step()
        return loss

    return clips


def scaled_and_clipped(by: Any, k: int) -> Tensor:
    by.optimizers[0].zero_grad()
    loss = loss_of(by.model, k)
    by.scaler.scale(loss).backward()
    by.gradients(by.scaler.get_scale())
    by.scaler.unscale_(by.optimizers[0])
    nn.utils.clip_grad_norm_(by.model.parameters(), 0.05)
    by.scaler.step(by.optimizers[0])
    by.scaler.update()
    return loss


def checkpointing_all(reentrant: bool) -> Callable[[Any, int], Tensor]:
    def step(by: Any, k: int) -> Tensor:
        by.optimizers[0].zero_grad()
        inputs = batch(9, 6, seed=k).requires_grad_()
        if isinstance(by, Reference):
            outputs = by.model(inputs)
        else:
            outputs = cast(Tensor, torch.utils.checkpoint.checkpoint(by.model, inputs, use_reentrant=reentrant))
        loss = outputs.square().mean()
        loss.backward()
        by.gradients()
        by.optimizers[0].step()
        return loss

    return step


def closure(by: Any, k: int) -> Tensor:
    def evaluate() -> Tensor:
        by.optimizers[0].zero_grad()
        by.forget()
        loss = loss_of(by.model, k)
        loss.backward()
        by.gradients()
        losses.append(loss)
        return loss

    losses: list[Tensor] = []
    by.began()
    by.optimizers[0].step(evaluate)
    return losses[-1]


def unfreezing(by: Any, k: int) -> Tensor:
    by.model[0].requires_grad_(k >= 2)
    return plain(by, k)


def validating(by: Any, k: int) -> Tensor:
    by.model.eval()
    with torch.no_grad():
        loss_of(by.model, 50 + k)
    loss_of(by.model, 60 + k)  # with gradients that nobody asks for
    with torch.inference_mode():
        loss_of(by.model, 70 + k)
    by.model.train()
    return plain(by, k)


def failing(by: Any, k: int) -> Tensor:
    while True:
        try:
            return plain(by, k)
        except ValueError:
            by.forget()


def copying(by: Any, k: int) -> Tensor:
    """A moving average, a pickle and a state dict in the middle of each step."""
    loss = loss_of(by.model, k)
    if not isinstance(by, Reference):  # whose patched forward does not pickle
        average = copy.deepcopy(by.model)
        loss_of(average, k + 5).backward()
        loss_of(pickle.loads(pickle.dumps(by.model)), k + 6)
    by.optimizers[0].zero_grad()
    loss.backward()
    by.gradients()
    by.optimizers[0].step()
    if not isinstance(by, Reference):
        by.model.load_state_dict(copy.deepcopy(by.model.state_dict()))
    return loss


# ------------------------------------------------------------------ the table


def sgd(model: nn.Module) -> list[Any]:
    return [torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)]


def two_optimizers(model: Any) -> list[Any]:
    return [torch.optim.SGD(model[0].parameters(), lr=0.1), torch.optim.Adam(model[2].parameters(), lr=0.01)]


def sparse(model: Any) -> list[Any]:
    return [
        torch.optim.SparseAdam(list(model.embedding.parameters()), lr=0.1),
        torch.optim.SGD(model.head.parameters(), lr=0.1),
    ]


def grad_scaler() -> torch.amp.GradScaler:
    return torch.amp.GradScaler(DEVICE, init_scale=1024.0)


@dataclass
class Case:
    build: Callable[[], nn.Module]
    step: Callable[[Any, int], Tensor] = plain
    optimizers: Callable[[Any], list[Any]] = sgd
    scaler: Callable[[], Any] = lambda: None
    absent: dict[str, str] = field(default_factory=dict)  # unseen layers, and why
    plainly: Callable[[], nn.Module] | None = None  # builds the reference
    tolerance: float = 1e-4


def checkpointed(reentrant: bool | None) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        model = Checkpointed(*mlp())
        model.reentrant = reentrant
        return model

    return build


def inner(*names: str) -> dict[str, str]:
    """Parts of a TransformerEncoder that torch calls by their functions, not by themselves."""
    return {f"encoder.layers.{i}.{name}": "not called" for i in (0, 1) for name in names}


CASES = {
    "in place, residual, reused, tied, nested, unused": Case(Awkward, absent={"never": "not called"}),
    "batch norm, dropout": Case(normalised),
    "frozen, then trained": Case(mlp, unfreezing),
    "accumulation": Case(mlp, accumulating),
    "GradScaler": Case(mlp, scaled(True), scaler=grad_scaler),
    "GradScaler, gradients zeroed": Case(mlp, scaled(False), scaler=grad_scaler),
    "GradScaler, fused": Case(
        mlp, scaled(True), lambda m: [torch.optim.Adam(m.parameters(), lr=0.01, fused=True)], grad_scaler
    ),
    "steps thrown away, gradients zeroed": Case(mlp, skipping),
    "clipping by norm": Case(mlp, clipping(nn.utils.clip_grad_norm_, 0.05)),
    "clipping by value": Case(mlp, clipping(nn.utils.clip_grad_value_, 0.01)),
    "GradScaler, clipping": Case(mlp, scaled_and_clipped, scaler=grad_scaler),
    "several optimizers": Case(mlp, optimizers=two_optimizers),
    "closure": Case(mlp, closure, lambda m: [torch.optim.LBFGS(m.parameters(), lr=0.5, max_iter=3)]),
    "checkpointing, reentrant": Case(checkpointed(True), plainly=checkpointed(None)),
    "checkpointing, not reentrant": Case(checkpointed(False), plainly=checkpointed(None)),
    "checkpointing all, reentrant": Case(mlp, checkpointing_all(True)),
    "checkpointing all, not reentrant": Case(mlp, checkpointing_all(False)),
    "evaluation in between": Case(normalised, validating),
    "exceptions in the forward pass": Case(Fails, failing),
    "copies, pickles, state dicts": Case(mlp, copying),
    "RNN": Case(lambda: Recurrent(nn.RNN)),
    "LSTM": Case(lambda: Recurrent(nn.LSTM)),
    "GRU": Case(lambda: Recurrent(nn.GRU)),
    "attention": Case(Attention, absent={"attention.out_proj": "not called"}),
    "transformer encoder": Case(Encoded, absent=inner("self_attn.out_proj")),
    "transformer encoder, fast path": Case(
        lambda: Encoded(frozen=True),
        absent=inner("self_attn", "self_attn.out_proj", "linear1", "dropout", "linear2", "norm1", "norm2")
        | inner("dropout1", "dropout2"),
    ),
    "sparse gradients, integer outputs": Case(Tokens, optimizers=sparse, absent={"argmax": "non-float output"}),
    "complex outputs": Case(Waves),
    "parametrizations": Case(parametrized),
    "lazy layers": Case(lazy),
    "bfloat16": Case(lambda: mlp().to(torch.bfloat16), tolerance=1e-2),
    "float16": Case(lambda: mlp().to(torch.float16), tolerance=1e-2),
    "1e-23": Case(lambda: tiny(1e-23), optimizers=lambda m: [torch.optim.SGD(m.parameters(), lr=0.0)]),
    "1e20": Case(lambda: tiny(1e20), optimizers=lambda m: [torch.optim.SGD(m.parameters(), lr=0.0)]),
    "a part on another device": Case(
        partly_elsewhere, absent={"elsewhere": "not called"}
    ),
}  # fmt: skip


@dataclass
class End:
    losses: list[float]
    tensors: dict[str, Tensor]  # parameters, buffers, gradients
    random: Tensor
    modes: list[bool]


def train(case: Case, bystander: Callable[..., Any], build: Callable[[], nn.Module] | None = None) -> tuple[End, Any]:
    torch.manual_seed(7)
    model = (build or case.build)().train()
    if DEVICE != "cpu":
        model.to(DEVICE)
    optimizers, scaler = case.optimizers(model), case.scaler()
    losses = []
    with bystander(model, optimizers, scaler) as by:
        for k in range(STEPS):
            losses.append(case.step(by, k).item())
            by.updated()
    tensors = {name: t.detach().clone() for name, t in model.state_dict().items() if not t.is_meta}
    tensors |= {f"{name}.grad": p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return End(losses, tensors, torch.get_rng_state(), [m.training for m in model.modules()]), by


@contextmanager
def watched(directory: Path, every: Any, model: nn.Module, optimizers: list[Any], scaler: Any) -> Iterator[Nobody]:
    attributes = {name: set(vars(m)) for name, m in model.named_modules()}
    others = bool(torch_module._has_any_global_hook())
    with nnvis.watch(model, optimizers, log_dir=directory, every=every, scaler=scaler):
        yield Nobody(model, optimizers, scaler)
    assert {name: set(vars(m)) for name, m in model.named_modules()} == attributes
    assert bool(torch_module._has_any_global_hook()) is others  # of another watch
    assert not any(o._optimizer_step_pre_hooks or o._optimizer_step_post_hooks for o in optimizers)
    assert not any(p._post_accumulate_grad_hooks or p._backward_hooks for p in model.parameters())


@pytest.mark.parametrize("name", CASES)
def test_a_case(name: str, tmp_path: Path) -> None:
    judge(CASES[name], tmp_path)


@pytest.mark.cuda
@pytest.mark.parametrize("name", [name for name in CASES if name != "a part on another device"])
def test_a_case_on_a_gpu(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "DEVICE", "cuda")
    judge(CASES[name], tmp_path)


def test_a_model_of_which_half_cannot_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on two devices: numbers of the float64 half stay tensors until the step is over."""
    for module in (statistics, probe):
        monkeypatch.setattr(module, "looking_is_free", lambda x: x.dtype != torch.float64)
    judge(Case(Split), tmp_path)


def judge(case: Case, tmp_path: Path) -> None:
    """Watch it at every step and at every second one."""
    alone, _ = train(case, Nobody)
    reference = train(case, Reference, case.plainly)[1]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "nnvis: not measured")
        if case.scaler():
            warnings.filterwarnings("ignore", "nnvis: no longer finite")
        for every in (1, 2):
            seen, _ = train(case, lambda *given, e=every: watched(tmp_path / str(e), e, *given))
            assert seen.losses == alone.losses
            assert seen.tensors.keys() == alone.tensors.keys()
            assert all(same(seen.tensors[key], alone.tensors[key]) for key in alone.tensors)
            assert torch.equal(seen.random, alone.random)
            assert seen.modes == alone.modes
            check(nnvis.load_run(tmp_path / str(every)), reference, case, every)


def same(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.to_dense(), b.to_dense()) if a.is_sparse else torch.equal(a, b)


def check(run: nnvis.Run, reference: Reference, case: Case, every: int) -> None:
    """Every value of the reference is in the record, and the record has no others."""
    assert run.summary["status"] == "completed"
    assert run.summary["steps"] == STEPS
    assert run.summary["capture"]["unseen"] == case.absent
    for step, expected in enumerate(reference.steps):
        if step % every:
            continue
        if case.step.__name__ in ("clips", "scaled_and_clipped"):
            total, left = reference.totals[step]
            scalars = {tag: run.scalars[tag].values[step // every] for tag in ("grad_norm/total", "clip_factor")}
            assert scalars == pytest.approx({"grad_norm/total": total, "clip_factor": left / total}, rel=1e-4)
            assert scalars["clip_factor"] < 1
        for quantity, values in expected.items():
            series = run.layers[quantity]
            row = series.steps.tolist().index(step)
            present = {
                name: v for name, v, p in zip(series.layers, series.values[row], series.present[row], strict=True) if p
            }
            missing = set(values) - set(present) - set(_not_in_an_optimizer(reference, quantity))
            assert not missing, (step, quantity, missing)
            assert not set(present) - set(values), (step, quantity)
            for name, value in present.items():
                spread = expected["activation_absmax"][name] if quantity == "activation_mean" else 0.0
                near = pytest.approx(values[name], rel=case.tolerance, abs=1e-6 * spread + 1e-30)
                assert value == near, (step, quantity, name)


def _not_in_an_optimizer(reference: Reference, quantity: str) -> list[str]:
    owned = {id(p) for o in reference.optimizers for group in o.param_groups for p in group["params"]}
    outside = [layer.name for layer in reference.layers if not any(id(p) in owned for p in layer.parameters)]
    return outside if quantity in ("weight_norm", "update_norm") else []


# ------------------------------------------------------------------ two networks, watched at once


def adversaries(bystander: Callable[..., Any]) -> tuple[list[float], list[Tensor], tuple[Any, Any]]:
    """A GAN: the generator's loss goes through the discriminator, whose gradients are thrown away."""
    torch.manual_seed(7)
    generator, discriminator = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 4)), nn.Linear(4, 1)
    optimizers = [torch.optim.Adam(model.parameters(), lr=0.01) for model in (generator, discriminator)]
    losses = []
    with (
        bystander("generator", generator, [optimizers[0]]) as by_generator,
        bystander("discriminator", discriminator, [optimizers[1]]) as by_discriminator,
    ):
        for k in range(STEPS):
            fake = generator(batch(6, 2, seed=k))
            discriminator.zero_grad()
            by_discriminator.forget()
            scores = -discriminator(batch(6, 4, seed=100 + k)), discriminator(fake.detach())
            loss = torch.stack([F.softplus(score).mean() for score in scores]).sum()
            loss.backward()
            by_discriminator.gradients()
            optimizers[1].step()
            by_discriminator.updated()
            generator.zero_grad()
            deceived = F.softplus(-discriminator(fake)).mean()
            deceived.backward()
            by_generator.gradients()
            optimizers[0].step()
            by_generator.updated()
            losses += [loss.item(), deceived.item()]
    weights = [p.detach().clone() for model in (generator, discriminator) for p in model.parameters()]
    return losses, weights, (by_generator, by_discriminator)


def test_a_gan_of_two_watched_networks(tmp_path: Path) -> None:
    alone = adversaries(lambda name, *given: Nobody(*given))
    seen = adversaries(lambda name, *given: watched(tmp_path / name, 1, *given, scaler=None))
    assert seen[0] == alone[0]
    assert all(torch.equal(a, b) for a, b in zip(seen[1], alone[1], strict=True))
    _, _, references = adversaries(lambda name, *given: Reference(*given))
    for name, reference in zip(("generator", "discriminator"), references, strict=True):
        check(nnvis.load_run(tmp_path / name), reference, Case(mlp), 1)


# ------------------------------------------------------------------ torch.compile


class Compilable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).tanh())


def compiled_training(form: str, directory: Path | None) -> tuple[list[float], list[Tensor], list[int]]:
    """Losses, weights at the end, graphs compiled so far at each step; `form` says what is compiled, and when."""
    torch._dynamo.reset()
    what, _, when = form.partition(", ")
    counter = CompileCounterWithBackend("aot_eager")
    torch.manual_seed(7)
    model = Compilable()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def compiled() -> nn.Module:
        if what == "in place":
            model.compile(backend=counter)
        elif what == "a part":
            model.first = cast(Any, torch.compile(model.first, backend=counter))
        else:
            return cast(nn.Module, torch.compile(model, backend=counter))
        return model

    called = model if when == "afterwards" else compiled()
    if when == "called before":
        loss_of(called, 0)
    watched = called if what == "wrapper" else model
    probe = nnvis.watch(watched, optimizer, log_dir=directory, every=2) if directory else None
    if when == "afterwards":
        called = compiled()
    losses, graphs = [], []
    for k in range(5):
        optimizer.zero_grad()
        loss = loss_of(called, k)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        graphs.append(counter.frame_count)
    if probe:
        probe.close()
    return losses, [p.detach().clone() for p in model.parameters()], graphs


@pytest.mark.parametrize(
    "form",
    ["wrapper, before", "wrapper, called before", "model, before", "model, afterwards"]
    + [f"{what}, {when}" for what in ("in place", "a part") for when in ("called before", "afterwards")],
)
def test_compiled_models(form: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "nnvis: not measured")
        alone, seen = compiled_training(form, None), compiled_training(form, tmp_path)
    assert seen[0] == alone[0]
    assert all(torch.equal(a, b) for a, b in zip(seen[1], alone[1], strict=True))
    traced_once = form == "in place, afterwards"  # compiled in the middle of a measured step: nothing tells of it
    assert seen[2][1:] == [n + traced_once for n in alone[2][1:]]
    run = nnvis.load_run(tmp_path)
    assert run.summary["capture"]["unseen"] == {"first": "compiled", "last": "compiled"}
    reference = train(Case(Compilable, optimizers=lambda m: [torch.optim.SGD(m.parameters(), lr=0.1)]), Reference)[1]
    for step in (0, 2)[traced_once:]:
        for quantity in ("grad_norm", "weight_norm", "update_norm"):
            series = run.layers[quantity]
            expected = [reference.steps[step][quantity][name] for name in series.layers]
            assert series.at(step) == pytest.approx(expected, rel=1e-4), (step, quantity)
