"""The same disease gets the same verdict where theory says so: in other units, sizes, batches, optimizers, formats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nnvis


@dataclass(frozen=True)
class Setting:
    """A training; the defaults are those that the others are compared with."""

    width: int = 32
    batch: int = 32
    adam: bool = False
    loss_scale: float = 1.0
    input_scale: float = 1.0
    reduction: str = "mean"
    dtype: torch.dtype = torch.float32
    steps: int = 240


SETTINGS = {
    "as it is": Setting(),
    "loss times 1000": Setting(loss_scale=1000.0),
    "loss over 1000": Setting(loss_scale=1e-3),
    "inputs and first layer rescaled": Setting(input_scale=5.0),
    "wide": Setting(width=128),
    "large batches": Setting(batch=128),
    "sum over rows": Setting(reduction="sum"),
    "Adam": Setting(adam=True),
    "Adam, loss times 1000": Setting(adam=True, loss_scale=1000.0),
    "bfloat16": Setting(dtype=torch.bfloat16, adam=True),
    "float64": Setting(dtype=torch.float64),
}


def network(setting: Setting, depth: int, act: type[nn.Module], init: Any) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs in (8, *[setting.width] * (depth - 1)):
        linear = nn.Linear(inputs, setting.width)
        init(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [linear, act()]
    model = nn.Sequential(*layers, nn.Linear(setting.width, 4))
    with torch.no_grad():
        model.get_parameter("0.weight").div_(setting.input_scale)
    return model


def healthy(setting: Setting) -> nn.Sequential:
    return network(setting, 2, nn.ReLU, nn.init.kaiming_normal_)


def vanishing(setting: Setting) -> nn.Sequential:
    return network(setting, 12, nn.Sigmoid, nn.init.xavier_uniform_)


def symmetric(setting: Setting) -> nn.Sequential:
    model = network(setting, 2, nn.Tanh, lambda weight: nn.init.constant_(weight, 1 / weight.shape[1]))
    nn.init.constant_(model.get_parameter("4.weight"), 0.1)
    return model


def softmax_twice(setting: Setting) -> nn.Sequential:
    return nn.Sequential(*healthy(setting), nn.Softmax(dim=1))


Case = Callable[[Setting], nn.Sequential]
CASES: dict[Case, set[str]] = {
    healthy: set(),
    vanishing: {"vanishing_gradients", "not_learning"},
    symmetric: {"symmetric_units"},
    softmax_twice: {"output_mismatch"},
}


def errors(case: Case, setting: Setting, log_dir: Path) -> set[str]:
    """The symptoms of severity error after a short training."""
    generator = torch.Generator().manual_seed(0)
    centres = 3 * torch.randn(4, 8, generator=generator)
    targets = torch.randint(0, 4, (512,), generator=generator)
    inputs = (centres[targets] + torch.randn(512, 8, generator=generator)).div(3)
    inputs = (inputs * setting.input_scale).to(setting.dtype)
    torch.manual_seed(0)
    model = case(setting).to(setting.dtype)
    criterion = nn.CrossEntropyLoss(reduction=setting.reduction)

    def loss_fn(outputs: Tensor, wanted: Tensor) -> Tensor:
        return setting.loss_scale * criterion(outputs, wanted)

    lr = 0.1 / setting.loss_scale / (setting.batch if setting.reduction == "sum" else 1)
    eps = 1e-8 * setting.loss_scale  # else Adam would learn from gradients that it ignored before
    optimizer = (
        torch.optim.Adam(model.parameters(), 0.003, eps=eps)
        if setting.adam
        else torch.optim.SGD(model.parameters(), lr)
    )
    with nnvis.watch(
        model, optimizer, log_dir=log_dir, every=50, loss_fn=loss_fn, probe_data=(inputs, targets)
    ) as probe:
        for step in range(setting.steps):
            rows = torch.arange(step * setting.batch, (step + 1) * setting.batch) % len(inputs)
            optimizer.zero_grad()
            loss = loss_fn(model(inputs[rows]), targets[rows])
            loss.backward()
            optimizer.step()
            probe.log(loss=loss)
    return {finding.symptom for finding in nnvis.diagnose(nnvis.load_run(log_dir)) if finding.severity == "error"}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_verdict_is_the_same(case: Case, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert errors(case, SETTINGS[name], tmp_path / "run") == CASES[case]
    told = capfd.readouterr().err
    assert all(f"{symptom}: " in told for symptom in CASES[case] - {"not_learning", "vanishing_gradients"})


def test_the_cases_are_sensitive_to_what_makes_them_sick(tmp_path: Path) -> None:
    """Otherwise the same verdict would be no news: the disease healed, the finding goes."""

    def healed(setting: Setting) -> nn.Sequential:
        return network(setting, 12, nn.ReLU, nn.init.kaiming_normal_)

    assert errors(healed, replace(Setting(), adam=True), tmp_path / "run") == set()
