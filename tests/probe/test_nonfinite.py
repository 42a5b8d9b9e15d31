"""The first NaN is found where it was made: in the forward pass, in the backward pass, or by the update."""

import pytest
import torch
from torch import Tensor, nn

from nnvis.probe import locate_nonfinite


class Root(nn.Module):
    """√x, whose slope at 0 is infinite."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs().sqrt()


class Log(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log(x - x)


def chain(middle: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), middle, nn.Linear(3, 1))


def test_forward():
    model = chain(Log())
    found = locate_nonfinite(model, lambda: model(torch.ones(2, 3)).sum())
    assert (found.direction, found.layer) == ("forward", "2")


def test_inputs():
    model = chain(nn.Tanh())
    found = locate_nonfinite(model, lambda: model(torch.full((2, 3), torch.nan)).sum())
    assert (found.direction, found.layer) == ("forward", "inputs")


def test_loss():
    model = chain(nn.Tanh())
    found = locate_nonfinite(model, lambda: model(torch.ones(2, 3)).sum() * torch.inf)
    assert (found.direction, found.layer) == ("forward", "loss")


@pytest.mark.parametrize("updated", [False, True])
def test_backward_even_after_the_update_has_spoilt_the_parameters(updated):
    model = chain(Root())
    for parameter in model[1].parameters():
        nn.init.zeros_(parameter)
    loss = model(torch.ones(2, 3)).sum()
    assert loss.isfinite()
    loss.backward()
    if updated:
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    found = locate_nonfinite(model, lambda: model(torch.ones(2, 3)).sum())
    assert (found.direction, found.layer) == ("backward", "1")  # the last layer that the bad gradient reached


def test_update():
    model = chain(nn.Tanh())
    model(torch.ones(2, 3)).sum().backward()
    next(model[1].parameters()).data.fill_(torch.inf)
    found = locate_nonfinite(model, lambda: model(torch.ones(2, 3)).sum())
    assert (found.direction, found.layer) == ("update", "1")
    assert "overflowed" in str(found)
