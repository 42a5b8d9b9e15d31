"""Every activation that torch has runs in the built-in networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from nnvis.config import torch_table
from nnvis.config.schema import Cnn, Mlp, TorchLayer
from nnvis.errors import InputError
from nnvis.models import build_model
from nnvis.models.activations import ACTIVATIONS, activation

NEEDED: dict[str, dict[str, Any]] = {"Threshold": {"threshold": 0.1, "value": 0.0}}
ENTRIES = [TorchLayer(kind=kind, arguments=NEEDED.get(kind, {})) for kind in ACTIVATIONS]


def test_all_of_torchs_activations_are_there():
    assert set(ACTIVATIONS) == set(torch_table().activations.values())
    assert len(ENTRIES) == 29


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.kind)
def test_every_activation_trains_a_network(entry: TorchLayer, residual: bool):
    if entry.kind == "Softmax2d":  # takes images only
        section = Cnn(kind="cnn", channels=[4, 4], hidden=[], activation=entry, residual=residual)
    else:
        section = Cnn(kind="cnn", channels=[4, 4], hidden=[6, 6], activation=entry, residual=residual, norm="batch")
    model = build_model(section, (3, 8, 8), 5)
    outputs = model(torch.randn(2, 3, 8, 8))
    outputs.square().sum().backward()
    assert outputs.shape == (2, 5)
    assert all(parameter.grad is not None for parameter in model.parameters())
    layers = [module for module in model.modules() if type(module) is ACTIVATIONS[entry.kind]]
    assert len(layers) == len(section.channels) + len(section.hidden)  # none shared


def test_softmax_is_over_the_units():
    for kind in ("Softmax", "Softmin", "LogSoftmax"):
        layer = activation(TorchLayer(kind=kind))
        outputs = layer(torch.randn(2, 5, 3, 3))
        total = outputs.exp() if kind == "LogSoftmax" else outputs
        torch.testing.assert_close(total.sum(1), torch.ones(2, 3, 3))


def test_glu_keeps_the_width_that_was_asked_for():
    model = build_model(Mlp(kind="mlp", hidden=[6], norm="layer", activation=TorchLayer(kind="GLU")), (3,), 2)
    rows = torch.randn(4, 3)
    wide = model.get_submodule("norm1")(model.get_submodule("linear1")(rows))
    assert wide.shape == (4, 12)
    hidden = wide[:, :6] * wide[:, 6:].sigmoid()  # Dauphin et al. 2017
    torch.testing.assert_close(model(rows), model.get_submodule("output")(hidden))


def test_arguments_reach_torch():
    layer = activation(TorchLayer(kind="LeakyReLU", arguments={"negative_slope": 0.2}))
    assert isinstance(layer, nn.LeakyReLU)
    assert layer(torch.tensor(-1.0)).item() == pytest.approx(-0.2)


@pytest.mark.parametrize(
    ("entry", "phrases"),
    [
        (
            TorchLayer(kind="Hardtanh", arguments={"min_val": 1, "max_val": -1}),
            ["model.activation: Hardtanh", "max_val"],
        ),
        (TorchLayer(kind="Softmax2d"), ["(N, 3)", "Softmax2d"]),
        (TorchLayer(kind="GLU", arguments={"dim": 0}), ["(N, 3)", "do not run"]),
    ],
)
def test_what_cannot_activate_is_refused(entry: TorchLayer, phrases: list[str]):
    with pytest.raises(InputError) as error:
        build_model(Mlp(kind="mlp", hidden=[4], activation=entry), (3,), 2)
    for phrase in phrases:
        assert phrase in str(error.value)
