"""python: the user's own class is found, called, and tried on a batch without a trace."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from nnvis.config.schema import PythonModel
from nnvis.errors import InputError
from nnvis.models import build_model

CODE = '''
import torch
from torch import nn

class Net(nn.Module):
    """Counts its calls and draws noise, in eval mode as well."""
    def __init__(self, width=4, outputs=3):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.steps = 0
        self.norm = nn.BatchNorm1d(5)
        self.hidden, self.output = nn.Linear(5, width), nn.Linear(width, outputs)

    def forward(self, rows):
        self.calls += 1
        self.steps += 1
        return self.output(torch.relu(self.hidden(self.norm(rows)))) + torch.randn(len(rows), 1)

class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.output = nn.utils.weight_norm(nn.Linear(5, 3))
    def forward(self, rows):
        return self.output(rows)

class Pair(Net):
    def forward(self, rows):
        return super().forward(rows), rows

class Broken(Net):
    def forward(self, rows):
        raise KeyError("no such thing")

class Demanding(nn.Module):
    def __init__(self, width):
        raise ValueError("width must be even")

def lazy():
    return nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(3))

class Fixed(nn.Module):
    def forward(self, rows):
        return rows[:, :3]

def leaves():
    raise SystemExit

def number():
    return 7
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module with a name of its own in the current directory, which is not on the path."""
    name = f"mine_{random.getrandbits(64)}"
    (tmp_path / f"{name}.py").write_text(CODE)
    (tmp_path / "torn.py").write_text("import no_such_package")
    (tmp_path / "unclosed.py").write_text("\nprint(")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in sys.path if entry])
    return name


def build(target: str, **arguments: object) -> nn.Module:
    return build_model(PythonModel(kind="python", target=target, arguments=arguments), (5,), 3)


def test_the_users_class_gets_its_arguments(module: str):
    model = build(f"{module}:Net", width=7)
    assert type(model).__name__ == "Net"
    assert model.get_parameter("hidden.weight").shape == (7, 5)


def test_trying_it_leaves_no_trace(module: str):
    torch.manual_seed(3)
    model = build(f"{module}:Net")
    after = torch.get_rng_state()
    torch.manual_seed(3)
    by_hand = type(model)()
    assert torch.equal(after, torch.get_rng_state())
    assert model.training
    assert model.steps == 0
    for (name, mine), (_, plain) in zip(model.state_dict().items(), by_hand.state_dict().items(), strict=True):
        assert torch.equal(mine, plain), name


def test_lazy_layers_have_their_sizes_and_a_seeded_start(module: str):
    models = []
    for _ in range(2):
        torch.manual_seed(5)
        models.append(build(f"{module}:lazy"))
    first, second = (list(model.parameters()) for model in models)
    assert [tuple(parameter.shape) for parameter in first] == [(4, 5), (4,), (3, 4), (3,)]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert models[0].training


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_class_that_cannot_be_copied_is_tried_all_the_same(module: str):
    assert build(f"{module}:Normed")(torch.zeros(2, 5)).shape == (2, 3)


@pytest.mark.parametrize(
    ("target", "arguments", "phrases"),
    [
        ("no_such_module:Net", {}, ["no module 'no_such_module'", "where packages are installed"]),
        ("torch.no_such_module:Net", {}, ["no module 'torch.no_such_module'"]),
        ("torn:Net", {}, ["model.target: torn:Net", "ModuleNotFoundError", "no_such_package"]),
        ("{module}:Nett", {}, ["has no 'Nett'", "choices: Net, Normed", 'did you mean "Net"']),
        ("{module}:Net", {"widht": 3}, ["model.target", "TypeError", "'widht'$"]),
        ("unclosed:Net", {}, ["SyntaxError: '(' was never closed (", "unclosed.py:2)$"]),
        ("{module}:leaves", {}, [":leaves: SystemExit (", ".py:"]),
        ("{module}:Fixed", {}, ["nothing to train; let its parameters require a gradient$"]),
        ("{module}:Demanding", {"width": 3}, ["model.target", "ValueError: width must be even"]),
        ("{module}:number", {}, ["expected a torch.nn.Module", "gives int"]),
        ("{module}:Net", {"outputs": 4}, ["(N, 5) come out as (N, 4)", "need (N, 3)", "last layer"]),
        ("{module}:Pair", {}, ["gives tuple", "a tensor (N, 3) is needed"]),
        ("{module}:Broken", {}, ["(N, 5)", "KeyError: 'no such thing' (", ".py:32)$"]),
    ],
)
def test_what_cannot_be_used_is_refused(module: str, target: str, arguments: dict[str, object], phrases: list[str]):
    with pytest.raises(InputError) as error:
        build(target.format(module=module), **arguments)
    for phrase in phrases:
        assert phrase in f"{error.value}$"
