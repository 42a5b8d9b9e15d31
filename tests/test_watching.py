"""Somebody else's loop: the numbers against plain autograd, the training the same bit for bit, faults and ends."""

import copy
import gc
import json
import math
import pickle
import subprocess
import sys
import textwrap
import time
import warnings
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

import nnvis
from nnvis import cli, figures, watching
from nnvis.errors import InputError, RunError
from nnvis.record import EventLog


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def data(rows: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, 6, generator=generator), torch.randint(0, 3, (rows,), generator=generator)


def loss_of(model: nn.Module) -> Tensor:
    inputs, targets = data()
    return nn.functional.cross_entropy(model(inputs), targets)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, probe=None) -> list[float]:
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        optimizer.step()
        if probe is not None:
            probe.log(loss=loss)
        losses.append(loss.item())
    return losses


def sgd(model: nn.Module, lr: float = 0.1) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def test_the_numbers_are_those_of_plain_autograd(tmp_path):
    model = network().eval()
    twin = copy.deepcopy(model)
    optimizer = sgd(model)
    with nnvis.watch(model, optimizer, log_dir=tmp_path, every=2) as probe:
        losses = train(model, optimizer, 5, probe)
    run = nnvis.load_run(tmp_path)
    assert run.layers["grad_norm"].steps.tolist() == [0, 2, 4]
    loss_of(twin).backward()
    norms = [math.sqrt(sum(p.grad.double().square().sum().item() for p in twin[i].parameters())) for i in (0, 3)]
    np.testing.assert_allclose(run.layers["grad_norm"].at(0), norms, rtol=1e-5)
    assert run.scalars["loss/train"].steps.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(run.scalars["loss/train"].values, losses, rtol=1e-6)
    assert run.scalars["lr"].values.tolist() == pytest.approx([0.1] * 3)


@pytest.mark.parametrize("every", [1, 3, "auto", lambda step: step in (1, 4)])
def test_watching_changes_no_bit(tmp_path, every):
    ends = []
    for watched in (False, True):
        model = network()
        optimizer = sgd(model)
        if watched:
            with nnvis.watch(model, optimizer, log_dir=tmp_path / "run", every=every) as probe:
                losses = train(model, optimizer, 8, probe)
        else:
            losses = train(model, optimizer, 8)
        ends.append((losses, [p.detach().clone() for p in model.parameters()], torch.get_rng_state(), model.training))
    (losses, weights, rng, mode), (losses2, weights2, rng2, mode2) = ends
    assert losses == losses2
    assert all(torch.equal(a, b) for a, b in zip(weights, weights2, strict=True))
    assert torch.equal(rng, rng2)
    assert mode is mode2


def test_nothing_is_left_behind(tmp_path):
    model = network()
    optimizer = sgd(model)
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    probe = nnvis.watch(model, optimizer, log_dir=tmp_path / "run", every=1)
    train(model, optimizer, 3, probe)
    restored = pickle.loads(pickle.dumps(model))
    assert restored.state_dict().keys() == model.state_dict().keys()
    loss_of(copy.deepcopy(model)).backward()  # a copy is nobody's business
    train(model, optimizer, 2, probe)
    probe.close()
    probe.close()
    assert {name: set(vars(module)) for name, module in model.named_modules()} == before
    assert not torch_module._has_any_global_hook()
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    remembered = weakref.ref(probe)
    del probe
    gc.collect()
    assert remembered() is None
    assert nnvis.load_run(tmp_path / "run").layers["grad_norm"].steps.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("before_the_update", [True, False])
def test_own_scalars_belong_to_the_step_in_progress_or_to_the_one_just_ended(tmp_path, before_the_update):
    model = network()
    optimizer = sgd(model)
    with nnvis.watch(model, optimizer, log_dir=tmp_path / "run", every=4) as probe:
        for step in range(6):
            loss = loss_of(model)
            if before_the_update:
                probe.log(loss=loss, number=step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if not before_the_update:
                probe.log(loss=loss, number=step)
        probe.log(val_loss=0.5, val_accuracy=torch.tensor(0.75))
    run = nnvis.load_run(tmp_path / "run")
    assert run.scalars["loss/train"].steps.tolist() == list(range(6))
    assert run.scalars["number"].steps.tolist() == run.scalars["number"].values.tolist() == list(range(6))
    assert (run.scalars["loss/val"].steps.tolist(), run.scalars["accuracy/val"].values.tolist()) == ([6], [0.75])
    assert run.summary["metrics"]["val"] == {"loss": 0.5, "accuracy": 0.75}


def test_own_scalars_can_name_their_step_and_their_split(tmp_path):
    model = network()
    optimizer = sgd(model)
    with nnvis.watch(model, optimizer, log_dir=tmp_path / "run", every=1) as probe:
        for _ in range(3):
            train(model, optimizer, 1)
            loss_of(model)  # the next step has begun: what is told now would be taken for its own
            probe.log(probe.steps - 1, loss=probe.steps)
        probe.log(**{"f1/val": 0.5})
    run = nnvis.load_run(tmp_path / "run")
    assert (run.scalars["loss/train"].steps.tolist(), run.scalars["loss/train"].values.tolist()) == (
        [0, 1, 2],
        [1, 2, 3],
    )
    assert run.scalars["f1/val"].steps.tolist() == [3]


def test_a_directory_with_a_run_is_refused_unless_it_goes_on(tmp_path):
    model = network()
    optimizer = sgd(model)
    with nnvis.watch(model, optimizer, log_dir=tmp_path, every=2) as probe:
        train(model, optimizer, 3, probe)
    with pytest.raises(InputError, match="holds a run already"):
        nnvis.watch(model, optimizer, log_dir=tmp_path)
    with nnvis.watch(model, optimizer, log_dir=tmp_path, every=2, resume=True) as probe:
        train(model, optimizer, 3, probe)
    run = nnvis.load_run(tmp_path)
    assert run.scalars["loss/train"].steps.tolist() == [0, 1, 2, 3, 4, 5]
    assert run.layers["grad_norm"].steps.tolist() == [0, 2, 4]
    assert run.summary["steps"] == 6


def test_without_an_optimizer_a_step_ends_when_it_is_said(tmp_path):
    model = network().eval()
    with nnvis.watch(model, log_dir=tmp_path, every=1) as probe:
        for _ in range(3):
            model.zero_grad()
            loss_of(model).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    assert parameter.grad is not None
                    parameter -= 0.5 * parameter.grad
            probe.step()
    layers = nnvis.load_run(tmp_path).layers
    assert layers["update_norm"].steps.tolist() == [0, 1, 2]
    np.testing.assert_allclose(layers["update_norm"].values, 0.5 * layers["grad_norm"].values, rtol=1e-4)


def test_of_several_optimizers_the_first_one_ends_the_step(tmp_path):
    model = network()
    first, second = sgd(model[0]), sgd(model[3])
    with nnvis.watch(model, [first, second], log_dir=tmp_path, every=1) as probe:
        for _ in range(3):
            loss_of(model).backward()
            second.step()
            first.step()
            model.zero_grad()
        with pytest.raises(InputError, match="without an optimizer"):
            probe.step()
    assert nnvis.load_run(tmp_path).layers["update_norm"].steps.tolist() == [0, 1, 2]


def test_layers_by_glob_and_by_type(tmp_path):
    model = network()
    for number, (layers, names) in enumerate([("0", ["0"]), (nn.Linear, ["0", "3"]), (["1", nn.Dropout], ["1", "2"])]):
        optimizer = sgd(model)
        with nnvis.watch(model, optimizer, log_dir=tmp_path / str(number), every=1, layers=layers):
            train(model, optimizer, 1)
        assert list(nnvis.load_run(tmp_path / str(number)).layers["activation_mean"].layers) == names


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"log_dir": None}, "log_dir should be a folder's path, got NoneType"),
        ({"every": 0}, "every should be"),
        ({"every": True}, "every should be"),
        ({"every": "often"}, "every should be"),
        ({"budget": 0.1}, "budget is a share"),
        ({"every": "auto", "budget": 2}, "budget is a share"),
        ({"layers": "encoder.*"}, "matches no layer"),
        ({"layers": nn.LSTM}, "no layer is a LSTM; there are Dropout, Linear, ReLU"),
        ({"layers": 3}, "layers should be"),
        ({"optimizer": "Adam"}, "optimizer should be"),
        ({"model": lambda x: x}, "model should be a torch.nn.Module"),
    ],
)
def test_arguments_that_cannot_be(tmp_path, arguments, words):
    model = network()
    given = {"model": model, "optimizer": sgd(model), "log_dir": tmp_path / "run", **arguments}
    with pytest.raises(InputError, match=words):
        nnvis.watch(**given)


def test_a_budget_spaces_the_measured_steps():
    """Simulated: a step takes 1 ms, measuring one 3 ms more; 2% are allowed."""
    probe = SimpleNamespace(seconds=0.0, steps_measured=0)
    recorder = SimpleNamespace(elapsed=0.0, probe=probe)
    schedule = watching._Budget(0.02, recorder)  # pyright: ignore[reportArgumentType]
    measured = []
    for step in range(20_000):
        if schedule(step):
            measured.append(step)
            probe.seconds += 0.003
            probe.steps_measured += 1
            recorder.elapsed += 0.003
        recorder.elapsed += 0.001
    assert measured[0] == 0
    assert 0.018 < probe.seconds / recorder.elapsed <= 0.02
    assert np.diff(measured[10:]).min() > 100  # evenly, not in bursts


class Break(nn.Module):
    """Makes a NaN of finite numbers, forward or backward, from its third call on."""

    def __init__(self, direction: str) -> None:
        super().__init__()
        self.direction, self.calls = direction, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls < 3:
            return x * 1.0
        return x * math.nan if self.direction == "forward" else x + (x * 0).sqrt()  # the slope of sqrt at 0 is Inf


@pytest.mark.parametrize("case", ["operation", "inputs", "parameters", "backward", "update"])
def test_the_first_nonfinite_value_is_named(tmp_path, case):
    broken = Break("backward" if case == "backward" else "forward") if case in ("operation", "backward") else nn.Tanh()
    model = nn.Sequential(nn.Linear(4, 4), broken, nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))

    def run() -> object:
        with nnvis.watch(model, optimizer, log_dir=tmp_path, every=1) as probe:
            for step in range(4):
                if step == 2 and case == "inputs":
                    inputs[0, 0] = math.inf
                if step == 2 and case == "parameters":
                    next(model[2].parameters()).data.fill_(math.nan)
                if step == 2 and case == "update":
                    optimizer.param_groups[0]["lr"] = math.inf
                optimizer.zero_grad()
                model(inputs).square().mean().backward()
                optimizer.step()
            return probe.nonfinite

    with pytest.warns(UserWarning, match="no longer finite") as told:
        found = run()
    assert len(told) == 1
    direction = case if case in ("backward", "update") else "forward"
    layer = {"operation": "1", "inputs": "0", "parameters": "2", "backward": "1", "update": "0"}[case]
    source = case if direction == "forward" else "operation"
    assert (found.step, found.direction, found.layer, found.source) == (2, direction, layer, source)  # pyright: ignore
    summary = nnvis.load_run(tmp_path).summary
    assert (summary["nonfinite"]["layer"], summary["nonfinite"]["step"]) == (layer, 2)


@pytest.mark.parametrize("method", ["write", "scalars"])
def test_a_full_disk_warns_once_and_spares_the_training(tmp_path, monkeypatch, method):
    def full(*args, **kwargs):
        raise RunError("cannot be written: No space left on device")

    model = network()
    optimizer = sgd(model)

    def run() -> list[float]:
        with nnvis.watch(model, optimizer, log_dir=tmp_path, every=1) as probe:
            losses = train(model, optimizer, 3, probe)
            monkeypatch.setattr(EventLog, method, full)
            probe.flush()
            return losses + train(model, optimizer, 40, probe)

    with pytest.warns(UserWarning, match="No space left") as told:
        losses = run()
    assert len(told) == 1
    assert len(losses) == 43
    assert losses[-1] < losses[0]
    summary = nnvis.load_run(tmp_path).summary
    assert summary["status"] == "failed"
    assert "No space left" in summary["capture"]["failure"]
    assert summary["steps"] < 43


def test_a_full_disk_while_a_loop_logs_spares_it_too(tmp_path, monkeypatch):
    def full(*args: object) -> None:
        raise RunError("cannot be written: No space left on device")

    monkeypatch.setattr(EventLog, "text", full)
    model = network()

    def run() -> None:
        with nnvis.watch(model, sgd(model), log_dir=tmp_path) as probe:
            probe.log(loss=math.nan)
            probe.log(loss=1.0)

    with pytest.warns(UserWarning, match="No space left"), pytest.warns(UserWarning, match="no longer finite"):
        run()
    assert nnvis.load_run(tmp_path).summary["capture"]["failure"].startswith("step 0: RunError")


def test_a_fault_in_a_hook_is_in_the_summary(tmp_path, monkeypatch):
    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("device lost")

    model = network()
    optimizer = sgd(model)

    def run() -> None:
        with nnvis.watch(model, optimizer, log_dir=tmp_path, every=1) as probe:
            train(model, optimizer, 3, probe)
            monkeypatch.setattr("nnvis.probe.probe.read_output", broken)
            train(model, optimizer, 3, probe)

    with pytest.warns(UserWarning, match="stops measuring, training goes on: RuntimeError: device lost") as told:
        run()
    assert len(told) == 1
    run_ = nnvis.load_run(tmp_path)
    assert run_.summary["status"] == "failed"
    assert run_.summary["error"] == "nnvis stopped measuring at step 3: RuntimeError: device lost"
    assert run_.summary["capture"]["failure"] == "step 3: RuntimeError: device lost"
    assert run_.layers["grad_norm"].steps.tolist() == [0, 1, 2]


HOOKS = [
    "nnvis.probe.probe.read_output",
    "nnvis.probe.probe.nonfinite_among",
    "nnvis.probe.probe.read_gradient",
    "nnvis.probe.probe.is_wrapper",
    "nnvis.probe.probe.Pending",
    "nnvis.probe.probe.Probe._backward_begins",
    "nnvis.probe.probe.Probe.log",
    "nnvis.probe.probe.ParameterReadings.read_gradients",
    "nnvis.probe.probe.ParameterReadings.before_update",
    "nnvis.probe.probe.ParameterReadings.after_update",
    "nnvis.watching.EventLog.write",
    "nnvis.watching.Examination.look",
    "the schedule",
]
"""One that fails in each kind of hook, before, in and after an update."""


class Same(nn.Module):
    """Returns what it is given, so that its inputs have to be looked at before."""

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize("place", HOOKS)
def test_a_fault_in_any_hook_spares_the_training(tmp_path, monkeypatch, place):
    def broken(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    def schedule(step: int) -> bool:
        return step < 2 or bool(broken())

    def train_on(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        train(model, optimizer, 2)
        if place != "the schedule":
            monkeypatch.setattr(place, broken)
        nn.Sequential(nn.ReLU())
        train(model, optimizer, 25)

    monkeypatch.setattr("nnvis.probe.probe._MOST_NUMBERS", 500)  # numbers: some ten steps
    alone, model = (nn.Sequential(*network(), Same()) for _ in range(2))
    optimizer = sgd(model)
    torch.manual_seed(1)
    train(alone, sgd(alone), 27)
    torch.manual_seed(1)
    every = schedule if place == "the schedule" else 1
    rows = {"loss_fn": nn.CrossEntropyLoss(), "probe_data": data()} if "Examination" in place else {}
    probe = nnvis.watch(model, optimizer, log_dir=tmp_path, every=every, **rows)
    with pytest.warns(UserWarning, match="stops measuring, training goes on: OSError.*No space left") as told:
        train_on(model, optimizer)
    probe.close()
    assert len(told) == 1
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), model.parameters(), strict=True))
    assert not torch_module._has_any_global_hook()
    assert not torch_module._global_module_registration_hooks
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert "No space left" in nnvis.load_run(tmp_path).summary["capture"]["failure"]


def test_the_time_of_log_and_flush_is_the_probes(tmp_path, monkeypatch):
    written = EventLog.scalars

    def slow(*args: Any) -> None:
        time.sleep(0.05)
        written(*args)

    monkeypatch.setattr(EventLog, "scalars", slow)
    monkeypatch.setattr(watching, "_LONGEST_WAIT_S", 0.0)
    model = network()
    optimizer = sgd(model)
    with nnvis.watch(model, optimizer, log_dir=tmp_path, every=100) as probe:
        train(model, optimizer, 11, probe)
    summary = nnvis.load_run(tmp_path).summary
    assert 0.4 < summary["capture"]["overhead_fraction"] * summary["seconds"] < summary["seconds"]


@pytest.mark.parametrize("logged_first", [False, True])
def test_a_loss_that_is_not_backpropagated_is_told_with_the_layer(tmp_path, logged_first):
    broken = Break("forward")
    model = nn.Sequential(nn.Linear(4, 4), broken, nn.Linear(4, 1))
    optimizer = sgd(model)

    def run() -> object:
        with nnvis.watch(model, optimizer, log_dir=tmp_path, every=1) as probe:
            for _ in range(5):
                loss = model(torch.ones(8, 4)).square().mean()
                if logged_first:
                    probe.log(loss=loss)
                if not loss.isfinite():
                    continue
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            return probe.nonfinite

    with pytest.warns(UserWarning, match="step 2, forward pass, 1: it made NaN or Inf of finite inputs") as told:
        found = run()
    assert len(told) == 1
    assert (found.step, found.layer, found.source) == (2, "1", "operation")  # pyright: ignore
    assert nnvis.load_run(tmp_path).summary["nonfinite"]["layer"] == "1"


def test_a_loss_that_no_layer_explains(tmp_path):
    def run(name: str, every: int, steps: int) -> object:
        model = network()
        optimizer = sgd(model)
        with nnvis.watch(model, optimizer, log_dir=tmp_path / name, every=every) as probe:
            for k in range(steps):
                loss = loss_of(model) * (math.inf if k == steps - 1 else 1.0)
                probe.log(loss=loss)
                if not loss.isfinite():
                    break
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            return probe.nonfinite

    with pytest.warns(UserWarning, match="step 2, forward pass, loss: every layer's output is finite, the loss is not"):
        run("measured", 1, 3)
    with pytest.warns(UserWarning, match="step 3, forward pass, loss: .* not measured, so that no layer can be named"):
        found = run("between", 10, 4)
    assert (found.step, found.layer, found.source) == (3, "loss", "unknown")  # pyright: ignore


@pytest.mark.parametrize("every", [1, 2])
def test_a_loss_that_is_logged_and_then_backpropagated_all_the_same(tmp_path, every):
    model = network()
    optimizer = sgd(model)

    def run() -> None:
        with nnvis.watch(model, optimizer, log_dir=tmp_path, every=every) as probe:
            for k in range(6):
                loss = loss_of(model) * (math.inf if k == 3 else 1.0)
                probe.log(loss=loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    with pytest.warns(UserWarning, match="no longer finite") as told:
        run()
    texts = [str(one.message) for one in told]
    assert "step 3, forward pass, loss" in texts[0]
    assert ["step 4, forward pass, 0: its parameters" in text for text in texts[1:]] == [True] * (every - 1)
    summary = nnvis.load_run(tmp_path).summary
    assert (summary["status"], summary["steps"], summary["nonfinite"]["layer"]) == ("completed", 6, "loss")


def test_how_it_grew_is_told_and_kept(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    sizes: list[float] = []

    def run() -> None:
        with nnvis.watch(model, optimizer, log_dir=tmp_path, every=2):
            for k in range(9):
                optimizer.zero_grad()
                output = model[0](torch.ones(2, 4) * 1e5**k)
                sizes.append(output.abs().max().item())
                (model(torch.ones(2, 4) * 1e5**k) * 0).sum().backward()
                optimizer.step()

    with pytest.warns(UserWarning, match="no longer finite: step 8") as told:
        run()
    told_sizes = ", ".join(f"{sizes[k]:.3g} (step {k})" for k in (0, 2, 4, 6, 8))
    assert f"0: NaN or Inf reached it from outside of the layers; its activation_absmax: {told_sizes}" in str(
        told[0].message
    )
    log = next(tmp_path.glob("events*")).read_bytes()
    assert f"| 6 | {sizes[6]:.3g} |".encode() in log


def test_coverage_is_told(tmp_path):
    class Partly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(6, 3), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    model = Partly()
    optimizer = sgd(model)

    def run() -> dict[str, str]:
        with nnvis.watch(model, optimizer, log_dir=tmp_path, every=1) as probe:
            train(model, optimizer, 3, probe)
            return probe.unseen

    with pytest.warns(UserWarning, match=r"not measured: unused \(not called\)") as told:
        assert run() == {"unused": "not called"}
    assert len(told) == 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["capture"]["unseen"] == {"unused": "not called"}
    assert summary["capture"]["steps_measured"] == summary["steps"] == 3


def test_an_end_by_exception_is_told(tmp_path):
    model = network()

    def run(error: BaseException, name: str) -> None:
        with nnvis.watch(model, sgd(model), log_dir=tmp_path / name):
            raise error

    for error, status in ((ValueError("mine"), "failed"), (KeyboardInterrupt(), "interrupted")):
        with pytest.raises(type(error)):
            run(error, status)
        assert nnvis.load_run(tmp_path / status).summary["status"] == status


def test_the_figures_of_a_watched_run(tmp_path):
    model = network()
    optimizer = sgd(model)
    model[0].requires_grad_(False)

    def run() -> None:
        with nnvis.watch(model, optimizer, log_dir=tmp_path, every=1) as probe:
            train(model, optimizer, 3, probe)

    with pytest.warns(UserWarning, match=r"not measured: 0 \(frozen\)"):
        run()
    figure = figures.gradient_flow(nnvis.load_run(tmp_path))
    assert "Layers not seen: 0 (frozen)." in " ".join(figure.get_supxlabel().split())
    assert cli.main(["figures", str(tmp_path)]) == 0
    assert {"gradient_flow", "learning_curves", "network"} <= {path.stem for path in tmp_path.glob("figures/*.png")}


def test_a_snapshot_shows_itself(tmp_path):
    model = network()
    optimizer = sgd(model)
    with nnvis.watch(model, optimizer, log_dir=tmp_path, every=1) as probe:
        assert "nothing measured yet" in str(probe.snapshot())
        train(model, optimizer, 2, probe)
        shown = probe.snapshot()
    text = str(shown)
    assert shown.measurement is not None
    assert f"{shown.measurement.layers['grad_norm'].values[0]:.3g}" in text
    assert all(name in text for name in ("Linear", "ReLU", "Dropout", "step 1", "update ratio"))
    assert shown._repr_html_().count("<tr>") == 5


LONG = """
import gc
import sys
from pathlib import Path
import torch
from torch import nn
import nnvis

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
inputs, targets = torch.randn(16, 6), torch.randint(3, (16,))

def train(steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        probe.log(loss=loss)
    probe.flush()  # what waits to be written is not what is kept
    gc.collect()
    return resident(), len(gc.get_objects())

with nnvis.watch(model, optimizer, log_dir=sys.argv[1], every=5) as probe:
    before, objects = train(2000)
    after, objects_after = train(8000)
print(after - before, objects_after - objects)
"""


def test_memory_does_not_grow(tmp_path):
    """10,000 watched steps in a process of their own: what other tests leave behind would be counted as well."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs Linux")
    command = [sys.executable, "-c", LONG, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    grown_bytes, more_objects = map(int, done.stdout.split())
    assert grown_bytes < 4 * 2**20
    assert more_objects < 500


DDP = """
import sys
from contextlib import nullcontext
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
import nnvis

dist.init_process_group("gloo")
rank = dist.get_rank()
inputs = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(3))[rank]


def train(watched):
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 2)).eval())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with nnvis.watch(model, optimizer, log_dir=sys.argv[1], every=1) if watched else nullcontext() as probe:
        for _ in range(3):
            optimizer.zero_grad()
            loss = model(inputs).square().mean()
            loss.backward()
            optimizer.step()
            if watched:
                probe.log(loss=loss)
    return [loss.detach(), torch.get_rng_state(), *(p.detach() for p in model.parameters())]


assert all(torch.equal(a, b) for a, b in zip(train(True), train(False), strict=True))
dist.barrier()  # nobody leaves while another still talks
dist.destroy_process_group()
"""


def test_ddp_leaves_one_record_with_the_global_gradients(tmp_path):
    script = tmp_path / "loop.py"
    script.write_text(textwrap.dedent(DDP))
    command = ["torch.distributed.run", "--nproc-per-node=2", "--master-addr=127.0.0.1", "--master-port=0"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            *command,
            "--rdzv-backend=c10d",
            "--rdzv-endpoint=127.0.0.1:0",
            str(script),
            str(tmp_path / "run"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    run = nnvis.load_run(tmp_path / "run")
    assert run.layers["grad_norm"].layers == ("0", "3")
    assert run.layers["grad_norm"].steps.tolist() == [0, 1, 2]
    torch.manual_seed(0)
    twin = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    both = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(3)).reshape(16, 4)
    twin(both).square().mean().backward()
    norms = [torch.cat([p.grad.flatten() for p in twin[i].parameters()]).norm().item() for i in (0, 2)]
    np.testing.assert_allclose(run.layers["grad_norm"].at(0), norms, rtol=1e-5)


def test_no_warning_in_an_ordinary_loop(tmp_path):
    model = network()
    optimizer = sgd(model)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with nnvis.watch(model, optimizer, log_dir=tmp_path, every=1) as probe:
            train(model, optimizer, 3, probe)
    assert not told


def test_a_scaler_that_nobody_told_of_is_noticed(tmp_path):
    def run(name: str, told: bool, divide: float = 1.0) -> None:
        model, scaler = network(), torch.amp.GradScaler("cpu", init_scale=1024.0)
        optimizer = sgd(model)
        with nnvis.watch(model, optimizer, log_dir=tmp_path / name, every=1, scaler=scaler if told else None):
            for _ in range(5):
                optimizer.zero_grad()
                loss = loss_of(model)
                if divide == 1.0:
                    scaler.scale(loss).backward()
                    scaler.step(optimizer)
                    scaler.update()
                else:  # a mean over micro-batches
                    loss.backward()
                    for parameter in model.parameters():
                        assert parameter.grad is not None
                        parameter.grad /= divide
                    optimizer.step()

    with pytest.warns(UserWarning, match="exactly 1,024 times smaller .* scaler=") as warned:
        run("untold", told=False)
    assert len(warned) == 1
    run("told", told=True)
    run("mean", told=False, divide=4.0)


def test_how_often_gradients_were_clipped_is_told(tmp_path):
    model = network()
    optimizer = sgd(model)
    with nnvis.watch(model, optimizer, log_dir=tmp_path, every=1):
        for k in range(4):
            optimizer.zero_grad()
            loss_of(model).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3 if k == 1 else 1e3)
            optimizer.step()
    assert nnvis.load_run(tmp_path).summary["capture"]["clipped_fraction"] == 0.25


@pytest.mark.parametrize("step_raises", [False, True])
def test_a_step_that_calls_its_base_classs_step_is_one_step(tmp_path, step_raises):
    class Doubling(torch.optim.SGD):
        calls = 0

        def step(self, closure: Any = None) -> Any:
            self.calls += 1
            if step_raises and self.calls == 2:
                raise ArithmeticError
            found = super().step(closure)
            super().step()
            return found

    sgd(network())  # from its first object on torch hooks the class's step
    model = network().eval()
    optimizer = Doubling(model.parameters(), lr=0.1)
    asked = []

    def every(step: int) -> bool:
        asked.append(step)
        return True

    given = {"loss_fn": nn.functional.cross_entropy, "probe_data": data()}
    moved = []
    with nnvis.watch(model, optimizer, log_dir=tmp_path, every=every, **given) as probe:
        for k in range(4):
            before = [p.detach().clone() for p in model[0].parameters()]
            if step_raises and k == 1:
                with pytest.raises(ArithmeticError):
                    train(model, optimizer, 1, probe)
                continue
            train(model, optimizer, 1, probe)
            moves = [p.detach() - b for p, b in zip(model[0].parameters(), before, strict=True)]
            moved.append(torch.cat([move.flatten() for move in moves]).norm().item())
    run = nnvis.load_run(tmp_path)
    steps = list(range(len(moved)))
    assert asked == [*steps, len(steps)]
    assert run.summary["steps"] == len(steps)
    assert run.layers["update_norm"].steps.tolist() == run.scalars["loss/train"].steps.tolist() == steps
    np.testing.assert_allclose(run.layers["update_norm"].values[:, 0], moved, rtol=1e-4)


FORGETFUL = """
import sys
import torch
from torch import nn
import nnvis

def loop(model, optimizer, probe, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(torch.ones(4, 2)).square().mean()
        loss.backward()
        optimizer.step()
        if probe:
            probe.log(loss=loss)

model = nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
how, directory = sys.argv[1:]
if how == "statement":
    nnvis.watch(model, optimizer, log_dir=directory, every=1)
    loop(model, optimizer, None, 3)
elif how == "function":
    def train():
        probe = nnvis.watch(model, optimizer, log_dir=directory, every=1)
        loop(model, optimizer, probe, 3)
    train()
    assert nnvis.load_run(directory).summary["steps"] == 3
    assert not optimizer._optimizer_step_pre_hooks
else:
    probe = nnvis.watch(model, optimizer, log_dir=directory, every=1)
    loop(model, optimizer, probe, 3)
    if how == "error":
        raise ValueError("mine")
"""


@pytest.mark.parametrize("how", ["end", "error", "function", "statement"])
def test_a_watch_that_nobody_closes_ends_with_its_program(tmp_path, how):
    (tmp_path / "loop.py").write_text(FORGETFUL)
    command = [sys.executable, str(tmp_path / "loop.py"), how, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == (1 if how == "error" else 0), done.stderr
    assert "nnvis" not in done.stderr
    run = nnvis.load_run(tmp_path / "run")
    assert run.layers["grad_norm"].steps.tolist() == [0, 1, 2]
    assert how == "statement" or run.scalars["loss/train"].steps.tolist() == [0, 1, 2]
    assert (run.summary["status"], run.summary["steps"]) == ("failed" if how == "error" else "completed", 3)
    assert run.summary.get("error") == ("mine" if how == "error" else None)


def test_a_schedule_that_raises_is_refused_and_leaves_nothing(tmp_path):
    model = network()
    optimizer = sgd(model)
    with pytest.raises(InputError, match=r"watch: every\(0\) raises ZeroDivisionError"):
        nnvis.watch(model, optimizer, log_dir=tmp_path / "run", every=lambda step: 1 // step > 0)
    assert not (tmp_path / "run").exists()
    assert not optimizer._optimizer_step_pre_hooks
    with nnvis.watch(model, optimizer, log_dir=tmp_path / "run", every=1) as probe:
        train(model, optimizer, 3, probe)
    with pytest.raises(InputError, match=r"watch: every\(3\) raises ZeroDivisionError"):
        nnvis.watch(model, optimizer, log_dir=tmp_path / "run", every=lambda step: 1 // (3 - step) > 0, resume=True)
    assert nnvis.load_run(tmp_path / "run").layers["grad_norm"].steps.tolist() == [0, 1, 2]


def test_a_watch_that_cannot_begin_leaves_no_hook(tmp_path, monkeypatch):
    def full(*args: object) -> None:
        raise RunError("No space left on device")

    model = network()
    optimizer = sgd(model)
    monkeypatch.setattr("nnvis.watching._Recorder.examine", full)
    with pytest.raises(RunError, match="No space"):
        nnvis.watch(model, optimizer, log_dir=tmp_path)
    assert not torch_module._has_any_global_hook()
    assert not optimizer._optimizer_step_pre_hooks


def test_where_warnings_are_errors_nothing_ends(tmp_path, told_on_stderr):
    first, last = nn.Linear(6, 8), nn.Linear(8, 3)
    model = nn.Sequential(first, nn.ReLU(), last)
    model.forward = lambda input: last(first(input))
    optimizer = sgd(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with nnvis.watch(model, optimizer, log_dir=tmp_path / "run", every=1) as probe:
            train(model, optimizer, 3, probe)
            probe.flush()
            last.weight.data.fill_(math.nan)
            train(model, optimizer, 3, probe)
            probe._probe.fail(RuntimeError("device lost"))  # pyright: ignore[reportAttributeAccessIssue]
        with nnvis.watch(model, optimizer, log_dir=tmp_path / "other", every=1):
            optimizer.step()  # without a pass
    coverage, nonfinite, failure, nothing = told_on_stderr
    assert coverage.startswith("nnvis: not measured: 1 (not called)")
    assert nonfinite.startswith("nnvis: no longer finite: step 3")
    assert failure == "nnvis stops measuring, training goes on: RuntimeError: device lost"
    assert nothing.startswith("nnvis: nothing was measured")
    assert nnvis.load_run(tmp_path / "run").layers["grad_norm"].steps.tolist() == list(range(6))
    told_on_stderr.clear()


def test_going_on_between_two_measured_steps(tmp_path):
    model = network()
    optimizer = sgd(model)

    def go_on(steps: int) -> None:
        with nnvis.watch(model, optimizer, log_dir=tmp_path, every=10, resume=True) as probe:
            for _ in range(steps):
                loss = loss_of(model)
                probe.log(loss=loss, lr=0.5)  # before the update, and a tag that nnvis writes too
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    go_on(13)
    go_on(9)
    run = nnvis.load_run(tmp_path)
    assert run.summary["steps"] == 22
    assert run.layers["grad_norm"].steps.tolist() == [0, 10, 20]
    assert run.scalars["loss/train"].steps.tolist() == list(range(22))
    assert set(run.scalars["lr"].values) == {0.5}


def test_what_cannot_be_logged(tmp_path):
    model = network()
    with nnvis.watch(model, sgd(model), log_dir=tmp_path) as probe:
        with pytest.raises(InputError, match="clip_factor is measured by nnvis itself"):
            probe.log(clip_factor=1.0)
        with pytest.raises(InputError, match=r"a single number, got a tensor \(2,\)"):
            probe.log(loss=torch.ones(2))
        for tag in ("network", "layers/grad_norm", "histograms/grad", "checks/facts", "exact/x", "log10_grad/000.0"):
            with pytest.raises(InputError, match="is measured by nnvis itself; give yours another name"):
                probe.log(**{tag: 1.0})
        for value in ("abc", "1", None, 1j, torch.tensor(1j), [1, 2]):
            with pytest.raises(InputError, match="loss should be a single number, got"):
                probe.log(loss=value)  # pyright: ignore[reportArgumentType]
        with pytest.raises(InputError, match="the step should be a number, got dict; scalars go by name"):
            probe.log({"loss": 1.0})  # pyright: ignore[reportArgumentType]
        probe.log(loss=np.float32(2.5), layers_used=np.array(3))  # pyright: ignore[reportArgumentType]
    run = nnvis.load_run(tmp_path)
    assert (run.summary["status"], run.scalars["loss/train"].values.tolist()) == ("completed", [2.5])
    assert run.scalars["layers_used"].values.tolist() == [3]


def test_a_refused_watch_leaves_nothing(tmp_path):
    model = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(InputError, match="run one batch through it"):
        nnvis.watch(model, log_dir=tmp_path / "run")
    with pytest.raises(InputError, match="watch: layers: 'x' matches no layer"):
        nnvis.watch(network(), log_dir=tmp_path / "run", layers="x")
    assert not (tmp_path / "run").exists()


def test_gradients_that_an_optimizer_has_had_are_not_read_again(tmp_path):
    discriminator, generator = nn.Linear(4, 1), nn.Linear(2, 4)
    model = nn.Sequential(generator, discriminator)
    optimizers = [sgd(generator), sgd(discriminator)]
    noise = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    with nnvis.watch(model, optimizers, log_dir=tmp_path, every=1):
        model(noise).square().mean().backward()
        seen = [p.grad.norm().item() for p in discriminator.parameters() if p.grad is not None]
        optimizers[1].step()
        model(noise).sum().backward()  # adds to the discriminator's gradients, which have been used
        optimizers[0].step()
    run = nnvis.load_run(tmp_path)
    assert run.layers["grad_norm"].at(0)[1] == pytest.approx(math.hypot(*seen), rel=1e-5)
    assert run.scalars["clip_factor"].values.tolist() == pytest.approx([1.0])


def test_the_clip_factor_is_that_of_what_the_optimizer_got(tmp_path):
    model = network()
    optimizer = torch.optim.SGD(model[3].parameters(), lr=0.1)  # a head on a backbone that is not trained
    with nnvis.watch(model, optimizer, log_dir=tmp_path, every=1):
        loss_of(model).backward()
        nn.utils.clip_grad_value_(model[0].parameters(), 1e-6)
        optimizer.step()
    assert nnvis.load_run(tmp_path).scalars["clip_factor"].values.tolist() == pytest.approx([1.0])


def test_nan_is_no_zero(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    optimizer = sgd(model)

    def run() -> None:
        with nnvis.watch(model, optimizer, log_dir=tmp_path, every=1):
            model(torch.full((3, 2), math.nan)).sum().backward()
            optimizer.step()

    with pytest.warns(UserWarning, match="no longer finite"):
        run()
    assert np.isnan(nnvis.load_run(tmp_path).layers["zero_fraction"].values).all()


def test_nothing_measured_is_told(tmp_path):
    model = network()
    optimizer = sgd(model)

    def run() -> None:
        with nnvis.watch(model, optimizer, log_dir=tmp_path, every=1):
            loss_of(copy.deepcopy(model)).backward()  # the model itself is never called, nor is a part of it
            optimizer.step()

    with pytest.warns(UserWarning, match="nothing was measured"):
        run()
    assert nnvis.load_run(tmp_path).summary["capture"]["unseen"] == dict.fromkeys("0123", "not called")


def test_a_step_that_was_never_seen_to_end_is_told(tmp_path):
    model = network()
    optimizer, other = sgd(model), sgd(model)

    def run() -> None:
        with nnvis.watch(model, other, log_dir=tmp_path, every=1) as probe:
            train(model, optimizer, 2, probe)

    with pytest.warns(UserWarning, match=r"nothing was measured: no optimizer.step\(\) was seen"):
        run()
