"""The figures of `nnvis explain` for networks of 2, 20 and 100 layers and of every kind: no text over another."""

from __future__ import annotations

import io

import pytest
import torch
from overlaps import problems
from rich.console import Console
from torch import nn

from nnvis.figures.functions import activation_functions, loss_functions
from nnvis.lessons import explain, explaining, open_subject, tell
from nnvis.lessons.drawing import figures_of

OF_A_NETWORK = ["network_passes", "forward_values", "gradient_factors", "neuron", "weight_chain"]
NETWORKS = {
    "2 wide": ["model={kind: mlp, depth: 2, width: 512, activation: sigmoid}"],
    "20": ["model={kind: mlp, depth: 20, width: 64, activation: sigmoid}"],
    "100": ["model={kind: mlp, depth: 100, width: 32, activation: relu, init: kaiming_uniform}"],
    "50 residual": ["model={kind: mlp, depth: 50, width: 32, activation: relu, residual: true, norm: layer}"],
}


@pytest.mark.parametrize("network", NETWORKS)
def test_at_any_depth(network: str) -> None:
    figures = figures_of(explain(open_subject("digits_mlp", NETWORKS[network])))
    assert list(figures) == OF_A_NETWORK
    for name in OF_A_NETWORK:
        assert problems(figures[name]()) == [], name


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, 1e200])
def test_of_a_network_that_is_broken(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is drawn and told: the numbers that are not finite are what somebody came to see."""
    laid_open = explaining.laid_open

    def broken(model: nn.Module) -> nn.Module:
        network = laid_open(model)
        with torch.no_grad():
            network.get_parameter("linear2.weight").fill_(value)
        return network

    monkeypatch.setattr(explaining, "laid_open", broken)
    found = explain(open_subject("moons_mlp", ["model.activation=sigmoid"]))
    out = io.StringIO()
    tell(found, Console(file=out))
    assert "One step of plain SGD" in out.getvalue()
    assert ("not finite: follow" in out.getvalue()) == (value not in (0.0, 1e200))
    figures = figures_of(found)
    for name in OF_A_NETWORK:
        assert problems(figures[name]()) == [], name


@pytest.mark.parametrize("config", ["moons_mlp", "digits_cnn", "adding_lstm", "names_text"])
def test_of_any_kind(config: str) -> None:
    figures = figures_of(explain(open_subject(config)))
    for name in OF_A_NETWORK:
        assert problems(figures[name]()) == [], name


def test_of_functions() -> None:
    assert problems(activation_functions()) == []
    assert problems(loss_functions()) == []
