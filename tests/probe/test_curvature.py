"""The largest curvature against known spectra, and the limits of stability against what optimizers do there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nnvis.probe.curvature import NotKnown, largest_curvature, stability


def quadratic(spectrum: list[float], seed: int = 0) -> tuple[Tensor, nn.Parameter]:
    """A symmetric matrix with these eigenvalues, and a place to start from."""
    turned = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(spectrum),) * 2))[0]
    matrix = torch.from_numpy(turned @ np.diag(spectrum) @ turned.T)
    generator = torch.Generator().manual_seed(seed)
    return matrix, nn.Parameter(torch.randn(len(spectrum), generator=generator, dtype=torch.float64))


SPECTRA = {
    "spread": [0.1, 0.5, 1.0, 2.0, 7.0],
    "close": [4.999, 5.0, 5.0, 0.3],
    "signs": [-20.0, -1.0, 0.0, 3.0],
    "negative": [-5.0, -3.0, -2.0],
    "long": [*np.linspace(0.01, 1, 60), 12.0],
    "one": [2.5],
}


@pytest.mark.parametrize("name", SPECTRA)
def test_known_spectra(name: str) -> None:
    matrix, x = quadratic(SPECTRA[name])
    found = largest_curvature(lambda: 0.5 * x @ matrix @ x, [x], [1.0])
    assert found == pytest.approx(max(SPECTRA[name]), rel=2e-3)
    assert x.grad is None


def test_a_network_against_its_whole_hessian() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    inputs, targets = torch.randn(30, 4, dtype=torch.float64), torch.randint(3, (30,))
    parameters = list(model.parameters())
    sizes = [p.numel() for p in parameters]
    scales = [torch.rand_like(p) + 0.1 for p in parameters]

    def loss(flat: Tensor | None = None) -> Tensor:
        if flat is None:
            return nn.functional.cross_entropy(model(inputs), targets)
        parts = zip(model.named_parameters(), flat.split(sizes), strict=True)
        named = {name: part.reshape(p.shape) for (name, p), part in parts}
        return nn.functional.cross_entropy(torch.func.functional_call(model, named, inputs), targets)

    flat = torch.cat([p.detach().flatten() for p in parameters])
    hessian: Any = torch.autograd.functional.hessian(loss, flat)
    diagonal = torch.cat([s.flatten() for s in scales])
    whole = np.linalg.eigvalsh((diagonal[:, None] * hessian * diagonal).numpy())
    assert largest_curvature(loss, parameters, scales) == pytest.approx(whole[-1], rel=2e-3)


def test_a_linear_loss_has_none_and_one_that_is_not_finite_is_nan() -> None:
    x = nn.Parameter(torch.ones(3))
    assert largest_curvature(lambda: x.sum(), [x], [1.0]) == 0.0
    assert math.isnan(largest_curvature(lambda: (x * math.inf).square().sum(), [x], [1.0]))


@pytest.mark.parametrize(
    "settings",
    [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.8, "dampening": 0.5}],
    ids=str,
)
def test_gradient_descent_descends_below_its_limit_and_climbs_above(settings: dict[str, Any]) -> None:
    matrix, x = quadratic([0.2, 1.0, 4.0])
    for share in (0.97, 1.03):
        x.data.normal_(generator=torch.Generator().manual_seed(1))
        optimizer = torch.optim.SGD([x], lr=1.0, **settings)
        optimizer.param_groups[0]["lr"] = share * stability(optimizer)[2] / 4.0
        parameters, scales, limit = stability(optimizer)
        ratio = largest_curvature(lambda: 0.5 * x @ matrix @ x, parameters, scales) / limit
        assert ratio == pytest.approx(share, rel=2e-3)
        before = float(x.detach().norm())
        for _ in range(1500):
            x.grad = (matrix @ x).detach()
            optimizer.step()
        assert (float(x.detach().norm()) > before) == (share > 1)


def test_adam_with_its_averages_held_climbs_above_38() -> None:
    """Steps along an average of gradients (β₁ = 0.9) over fixed √v, which is what Adam is where v has settled."""
    matrix, x = quadratic([0.2, 1.0, 4.0])
    v = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    optimizer = torch.optim.Adam([x], lr=1.0)
    x.grad = torch.zeros_like(x)
    optimizer.step()
    optimizer.state[x]["exp_avg_sq"] = v * (1 - 0.999**1)
    parameters, scales, limit = stability(optimizer)
    assert limit == pytest.approx(38)
    root = np.sqrt(1 / (np.sqrt(v.numpy()) + 1e-8))
    expected = np.linalg.eigvalsh(root[:, None] * matrix.numpy() * root)[-1]
    assert largest_curvature(lambda: 0.5 * x @ matrix @ x, parameters, scales) == pytest.approx(expected, rel=2e-3)
    for share in (0.97, 1.03):
        place, average = torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
        for _ in range(600):
            average = 0.9 * average + 0.1 * matrix @ place
            place = place - share * 38 / expected * average / (v.sqrt() + 1e-8)
        assert (float(place.norm()) > 10) == (share > 1)


def test_each_optimizers_divisor() -> None:
    gradient = torch.tensor([1.0, -2.0])
    for kind, divisor in (
        ("RMSprop", (0.01 * gradient.square()).sqrt() + 1e-8),
        ("Adagrad", gradient.abs() + 1e-10),
        ("AdamW", gradient.abs() + 1e-8),
    ):
        x = nn.Parameter(torch.zeros(2))
        optimizer = getattr(torch.optim, kind)([x], lr=0.1)
        with pytest.raises(NotKnown, match="no step has been made"):
            stability(optimizer)
        x.grad = gradient.clone()
        optimizer.step()
        (scale,) = stability(optimizer)[1]
        torch.testing.assert_close(scale, (0.1 / divisor).sqrt())
    with pytest.raises(NotKnown, match="Rprop"):
        stability(torch.optim.Rprop([nn.Parameter(torch.zeros(2))]))
