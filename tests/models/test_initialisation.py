"""Weights start with the standard deviations of the papers' formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nnvis.config.schema import Cnn, Init, Layers, Mlp, Rnn, TorchLayer, Transformer
from nnvis.models import build_model

FAN_IN, FAN_OUT = 300, 500


def first_weights(init: Init, activation: str = "ReLU", arguments: dict[str, Any] | None = None) -> Tensor:
    """(500, 300): 150,000 values, so that a standard deviation is off by 0.2%."""
    torch.manual_seed(0)
    section = Mlp(
        kind="mlp", hidden=[FAN_OUT], activation=TorchLayer(kind=activation, arguments=arguments or {}), init=init
    )
    return build_model(section, (FAN_IN,), 2).get_parameter("linear1.weight").detach()


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
@pytest.mark.parametrize(
    ("init", "expected_std"),
    [
        ({"kind": "xavier"}, math.sqrt(2 / (FAN_IN + FAN_OUT))),  # Glorot & Bengio 2010, equation 16
        ({"kind": "xavier", "gain": 3.0}, 3 * math.sqrt(2 / (FAN_IN + FAN_OUT))),
        ({"kind": "kaiming"}, math.sqrt(2 / FAN_IN)),  # He et al. 2015, equation 10
        ({"kind": "kaiming", "mode": "fan_out"}, math.sqrt(2 / FAN_OUT)),  # equation 14
    ],
)
def test_scaled_starts_have_the_std_of_their_formula(distribution: str, init: dict[str, Any], expected_std: float):
    weights = first_weights(Init(**{**init, "kind": f"{init['kind']}_{distribution}"}))
    assert weights.std().item() == pytest.approx(expected_std, rel=0.01)
    assert abs(weights.mean().item()) < 0.01 * expected_std
    bound = math.sqrt(3) * expected_std  # of a uniform distribution with that std
    if distribution == "uniform":
        assert weights.abs().max().item() == pytest.approx(bound, rel=0.001)
    else:
        assert weights.abs().max().item() > 1.5 * bound


@pytest.mark.parametrize(
    ("activation", "arguments", "gain"),
    [
        ("ReLU", {}, math.sqrt(2)),
        ("LeakyReLU", {"negative_slope": 0.5}, math.sqrt(2 / (1 + 0.5**2))),  # He et al. 2015, equation 15
        ("PReLU", {"init": 0.5}, math.sqrt(2 / (1 + 0.5**2))),
        ("Tanh", {}, 5 / 3),
        ("Sigmoid", {}, 1.0),
        ("SELU", {}, 3 / 4),
        ("Identity", {}, 1.0),
        ("GELU", {}, math.sqrt(2)),  # none of its own in torch
    ],
)
def test_kaimings_gain_follows_the_activation(activation: str, arguments: dict[str, Any], gain: float):
    weights = first_weights(Init(kind="kaiming_normal"), activation, arguments)
    assert weights.std().item() == pytest.approx(gain / math.sqrt(FAN_IN), rel=0.01)


def test_orthogonal_keeps_lengths_times_its_gain():
    weights = first_weights(Init(kind="orthogonal", gain=2.0))  # Saxe et al. 2014
    torch.testing.assert_close(weights.T @ weights, 4 * torch.eye(FAN_IN), atol=1e-4, rtol=0)


def test_normal_and_constant_are_as_written():
    assert first_weights(Init(kind="normal", std=0.3)).std().item() == pytest.approx(0.3, rel=0.01)
    assert torch.equal(first_weights(Init(kind="constant", value=0.5)), torch.full((FAN_OUT, FAN_IN), 0.5))


def test_default_is_torchs_own_start():
    weights = first_weights(Init())
    torch.manual_seed(0)
    assert torch.equal(weights, nn.Linear(FAN_IN, FAN_OUT).weight)


@pytest.mark.parametrize(("mode", "fan"), [("fan_in", 16 * 25), ("fan_out", 64 * 25)])
@pytest.mark.parametrize("transposed", [False, True])
def test_fans_of_a_kernel_count_its_pixels(mode: str, fan: int, transposed: bool):
    layers = [
        TorchLayer(
            kind="ConvTranspose2d" if transposed else "Conv2d", arguments={"out_channels": 64, "kernel_size": 5}
        ),
        TorchLayer(kind="ReLU"),
        TorchLayer(kind="Flatten"),
        TorchLayer(kind="Linear", arguments={"out_features": 2}),
    ]
    torch.manual_seed(0)
    init = Init.model_validate({"kind": "kaiming_normal", "mode": mode})
    model = build_model(Layers(kind="layers", layers=layers, init=init), (16, 6, 6), 2)
    weights = next(model.parameters())
    assert weights.std().item() == pytest.approx(math.sqrt(2 / fan), rel=0.02)


@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_each_gate_is_drawn_on_its_own(cell: Any):
    section = Rnn(kind="rnn", cell=cell, hidden_size=6, bidirectional=True, init=Init(kind="orthogonal"))
    for name, weights in build_model(section, (7, 4), 2).named_parameters():
        if "weight_hh" in name:
            for gate in weights.detach().split(6):
                torch.testing.assert_close(gate @ gate.T, torch.eye(6), atol=1e-5, rtol=0)


def test_query_key_and_value_are_drawn_on_their_own():
    section = Transformer(kind="transformer", width=12, heads=3, init=Init(kind="orthogonal"))
    stacked = build_model(section, (7, 4), 2).get_parameter("block1.self_attn.in_proj_weight").detach()
    for weights in stacked.split(12):
        torch.testing.assert_close(weights @ weights.T, torch.eye(12), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("section", "shape", "vocabulary"),
    [
        (Mlp(kind="mlp", hidden=[5, 5], norm="batch", residual=True, init=Init(kind="constant", value=0.5)), (3,), 0),
        (Cnn(kind="cnn", norm="layer", residual=True, init=Init(kind="constant", value=0.5)), (3, 8, 8), 0),
        (Rnn(kind="rnn", layers=2, init=Init(kind="constant", value=0.5)), (7,), 9),
        (Transformer(kind="transformer", init=Init(kind="constant", value=0.5)), (7,), 9),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_weights_are_set_biases_are_zero_and_the_rest_is_torchs(section: Any, shape: tuple[int, ...], vocabulary: int):
    model = build_model(section, shape, 2, vocabulary_size=vocabulary)
    for name, layer in model.named_modules():
        for own, parameter in layer.named_parameters(recurse=False):
            if "norm" in name:
                expected = 0.0 if "bias" in own else 1.0
            elif isinstance(layer, nn.Embedding):
                assert parameter[1:].std().item() == pytest.approx(1, rel=0.2)
                continue
            else:
                expected = 0.0 if "bias" in own else 0.5
            assert torch.equal(parameter, torch.full_like(parameter, expected)), f"{name}.{own}"
