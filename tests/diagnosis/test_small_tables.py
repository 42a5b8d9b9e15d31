"""Tables of a few rows are judged as the whole that they are: gradient descent on a parabola, below and above 2 / λ."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import nnvis
from nnvis.diagnosis.evidence import Interval, over_rows

X = torch.tensor([[float(x) ** 2, float(x), 1.0] for x in range(4)])
Y = X[:, :1].clone()


def squares(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs - targets).square().sum()


@pytest.mark.parametrize("times", [0.5, 1.1])
def test_the_limit_of_gradient_descent_shows_on_four_rows(times: float, tmp_path: Path) -> None:
    limit = 2 / float(torch.linalg.eigvalsh(2 * X.T @ X)[-1])  # 2 / largest curvature
    model = nn.Sequential(nn.Linear(3, 1, bias=False))
    nn.init.zeros_(model[0].weight)  # pyright: ignore[reportArgumentType]
    optimizer = torch.optim.SGD(model.parameters(), lr=times * limit)
    with nnvis.watch(model, optimizer, log_dir=tmp_path / "run", loss_fn=squares, probe_data=(X, Y)) as probe:
        for _ in range(100):
            optimizer.zero_grad()
            loss = squares(model(X), Y)
            loss.backward()
            optimizer.step()
            probe.log(loss=loss)
    errors = {f.symptom for f in nnvis.diagnose(nnvis.load_run(tmp_path / "run")) if f.severity == "error"}
    if times < 1:
        assert not errors
    else:
        assert {"learning_rate_too_high", "not_learning"} <= errors


def test_an_interval_is_for_rows_that_stand_for_others() -> None:
    assert over_rows([1.0, 3.0]) == Interval(2.0, 2.0, 2.0)
    many = over_rows([1.0, 3.0] * 50)
    assert many.low < 2.0 < many.high
