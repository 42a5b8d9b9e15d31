"""The figures of one sample's passes and of functions: what was drawn, read back from the axes."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.collections import LineCollection, PathCollection
from reading_back import end_labels, lines, title

from nnvis.figures.depth import flow_of, forward_values, gradient_factors, norm
from nnvis.figures.functions import ACTIVATIONS, LOSSES, activation_functions, loss_functions
from nnvis.figures.neuron import neuron_sum, weight_chain
from nnvis.figures.nodes import network_blocks, network_nodes
from nnvis.figures.passes import Block, Neuron, Stage, WeightFactors
from nnvis.figures.reading import NoData
from nnvis.record.vocabulary import FloatArray


def made_up_stages(sizes: list[int], gain: float = 1.0) -> list[Stage]:
    """A chain of Linear layers with tanh, its passes computed with numpy; L is the sum of the outputs."""
    rng = np.random.default_rng(0)
    x, stages = rng.normal(size=sizes[0]), []
    for n, (inputs, outputs) in enumerate(pairwise(sizes), 1):
        weight = gain * rng.normal(size=(outputs, inputs)) / math.sqrt(inputs)
        z = weight @ x
        a = np.tanh(z)
        none = np.zeros_like(z)
        stages.append(
            Stage(f"linear{n}", "Linear", "Tanh", x, z, a, 1 - a**2, none, none, weight, None, np.zeros_like(weight))
        )
        x = a
    back: FloatArray = np.ones(sizes[-1])
    for i in reversed(range(len(stages))):
        stage = stages[i]
        assert stage.weight is not None
        delta = back * stage.slope
        stages[i] = replace(stage, grad_a=back, delta=delta, weight_gradient=np.outer(delta, stage.x))
        back = stage.weight.T @ delta
    return stages


NEURON = Neuron("linear1", 0, np.array([1.0, 0.5]), np.array([0.3, 0.7]), 0.1, 0.75, 0.679, "Sigmoid", (
    np.linspace(-4, 4, 401), 1 / (1 + np.exp(-np.linspace(-4, 4, 401)))
))  # fmt: skip
WEIGHT = WeightFactors(
    "linear1", 0, 1, 0.7, np.array([0.5]), np.array([0.75]), np.array([0.679]), np.array([0.218]), np.array([-0.321]),
    "Sigmoid", -0.034989, -0.034989, 1e-6, 1e-9, 0.5, 0.0515, 0.0509, 0.0481,
)  # fmt: skip


def test_a_neurons_bars_add_up() -> None:
    fig = neuron_sum(NEURON)
    left, right = fig.axes
    bars = [(bar.get_x(), bar.get_width()) for bar in left.patches]  # type: ignore[attr-defined]
    assert np.array(bars) == pytest.approx(np.array([(0, 0.3), (0.3, 0.35), (0.65, 0.1), (0, 0.75)]))
    assert [text.get_text() for text in left.get_yticklabels()] == [
        "W[0,0]·x[0] = 0.3",
        "W[0,1]·x[1] = 0.35",
        "b[0] = 0.1",
        "z = 0.75",
    ]
    (point,) = lines(right, "point")
    assert (*point.get_xdata(), *point.get_ydata()) == (0.75, 0.679)
    (slope,) = lines(right, "slope")
    rise = np.diff(slope.get_ydata()) / np.diff(slope.get_xdata())
    assert rise == pytest.approx([0.679 * 0.321], abs=2e-3)
    assert "z = 0.75, a = sigmoid(z) = 0.679" in title(fig)


def test_a_wide_neuron_sums_up_the_small_terms() -> None:
    x = np.arange(20.0)
    neuron = replace(NEURON, x=x, w=np.ones(20), z=float(x.sum()) + 0.1, activation="")
    ax = neuron_sum(neuron).axes[0]
    words = [text.get_text() for text in ax.get_yticklabels()]
    assert words[0] == "W[0,19]·x[19] = 19"
    assert words[8:] == ["12 others = 66", "b[0] = 0.1", "z = 190"]
    assert "8 largest of 20 products" in ax.figure.get_supxlabel()  # type: ignore[union-attr]


def test_the_chain_of_a_weight_shows_its_three_factors() -> None:
    fig = weight_chain(WEIGHT)
    words = end_labels(fig.axes[0])
    assert {"∂z/∂w = x\n= 0.5", "∂a/∂z\n= 0.218", "∂L/∂a\n= −0.321", "z = 0.75", "a = 0.679"} <= set(words)
    assert "∂L/∂a · ∂a/∂z · ∂z/∂w = −0.321 · 0.218 · 0.5 = −0.03499" in words
    assert title(fig) == "∂L/∂w = −0.035 for W[0,1] of linear1: one step turns 0.7 into 0.7175"


@pytest.mark.parametrize("depth", [1, 4, 5, 40])
def test_sizes_through_depth(depth: int) -> None:
    stages = made_up_stages([3, *[6] * (depth - 1), 2])
    above, below = forward_values(stages).axes
    for label, values in (("z", [s.z for s in stages]), ("a", [s.a for s in stages])):
        (line,) = lines(above, label)
        np.testing.assert_allclose(line.get_ydata(), [np.sqrt(np.mean(v**2)) for v in values], rtol=1e-12)
    cells = np.asarray(below.images[0].get_array())
    assert cells.shape == (6 if depth > 1 else 3, 1 + 2 * depth if depth <= 4 else depth)
    last = stages[-1].a
    np.testing.assert_allclose(cells[:2, -1], last / np.abs(last).max())
    assert np.isnan(np.ma.filled(cells[2:, -1], np.nan)).all()
    assert len(below.texts) == (3 + 2 * sum(s.z.size for s in stages) if depth <= 4 else 0)


@pytest.mark.parametrize("gain", [1e-3, 1.0, 3.0])
def test_gradients_through_depth(gain: float) -> None:
    stages = made_up_stages([4, *[5] * 30, 3], gain)
    above, below = gradient_factors(stages).axes
    deltas = [np.linalg.norm(s.delta) if s.delta is not None else 0 for s in stages]
    (measured,), (textbook,) = lines(above, "measured"), lines(above, "slopes at most")
    np.testing.assert_allclose(measured.get_ydata(), np.array(deltas) / deltas[-1], rtol=1e-10)
    np.testing.assert_array_equal(textbook.get_ydata(), np.ones(len(stages)))
    parts = {name: lines(below, name)[0].get_ydata()[:-1] for name in ("factor", "slope", "weights")}
    np.testing.assert_allclose(parts["factor"], np.array(deltas[:-1]) / deltas[1:], rtol=1e-10)
    np.testing.assert_allclose(parts["slope"] * parts["weights"], parts["factor"], rtol=1e-12)


def test_a_gradient_of_exactly_zero_is_marked_not_lost() -> None:
    stages = made_up_stages([3, 4, 4, 2])
    dead = replace(stages[0], delta=np.zeros(4), slope=np.zeros(4))
    fig = gradient_factors([dead, *stages[1:]])
    assert any("exactly 0" in text for text in end_labels(fig.axes[0]))
    with pytest.raises(NoData):
        gradient_factors(stages[:1])


def test_flow_of_what_a_loss_does_not_depend_on_is_left_out() -> None:
    stages = made_up_stages([3, 4, 2])
    aside = replace(stages[0], name="aside", delta=None, grad_a=None)
    assert flow_of([stages[0], aside, stages[1]]).layers == ("linear1", "linear2")
    assert norm(np.array([3e-200, 4e-200])) == pytest.approx(5e-200)


def test_edges_are_weights_and_gradients() -> None:
    stages = made_up_stages([2, 3, 2])
    left, right = network_nodes(stages[0].x, stages).axes
    edges = [c for c in left.collections if isinstance(c, LineCollection)]
    assert [len(c.get_segments()) for c in edges] == [6, 6]
    weights = [s.weight for s in stages if s.weight is not None]
    largest = max(np.abs(w).max() for w in weights)
    for collection, weight in zip(edges, weights, strict=True):
        expected = np.sort(np.abs(weight).ravel()) / largest
        np.testing.assert_allclose((np.sort(collection.get_linewidth()) - 0.15) / 2.05, expected, rtol=1e-9)
    back = [c for c in right.collections if isinstance(c, LineCollection)]
    widths = np.concatenate([c.get_linewidth() for c in back])
    gradients = np.concatenate([np.sort(np.abs(s.weight_gradient).ravel()) for s in stages])  # type: ignore[arg-type]
    assert (np.diff(widths[np.argsort(gradients)]) >= 0).all()  # a larger gradient is never a thinner line
    assert widths.max() == pytest.approx(2.2)
    nodes = [c for c in left.collections if isinstance(c, PathCollection)]
    assert [len(c.get_offsets()) for c in nodes] == [2, 3, 2]  # type: ignore[arg-type]


@pytest.mark.parametrize("depth", [2, 20, 100])
def test_wide_and_deep_networks_are_abridged_and_said_to_be(depth: int) -> None:
    stages = made_up_stages([30] * (depth + 1))
    fig = network_nodes(stages[0].x, stages)
    caption = fig.get_supxlabel().replace("\n", " ")
    assert "Of each layer the first 8 nodes are drawn" in caption
    for ax in fig.axes:
        nodes = [c for c in ax.collections if isinstance(c, PathCollection)]
        assert [len(c.get_offsets()) for c in nodes] == [8] * min(depth + 1, 6)  # type: ignore[arg-type]
        assert ("…" in end_labels(ax)) == (depth > 5)
    assert (f"{depth - 5} of {depth} layers, in the middle, are not drawn" in caption) == (depth > 5)


def test_nodes_are_for_linear_layers() -> None:
    (stage,) = made_up_stages([2, 2])
    with pytest.raises(NoData, match="no chain of Linear layers"):
        network_nodes(stage.x, [replace(stage, weight=None)])


def test_blocks_show_shapes_and_sizes() -> None:
    blocks = [
        Block("conv1", "Conv2d", (1, 8, 8), (4, 8, 8), 40, False, 2.0, -5, 5, 0.01),
        Block("relu1", "ReLU", (4, 8, 8), (4, 8, 8), 0, True, 1.0, 0, 5, 0.1),
        Block("aside", "Linear", (4,), (4,), 20, False, 0.0, 0, 0, None),
    ]
    drawing, forward, backward = network_blocks(blocks, [(0, 1)]).axes
    assert {"conv1", "4×8×8", "Conv2d 40", "relu1", "ReLU"} <= set(end_labels(drawing))
    np.testing.assert_allclose(lines(forward, "size")[0].get_xdata(), np.log10([2.0, 1.0]))
    np.testing.assert_allclose(lines(backward, "size")[0].get_xdata(), [-2, -1])
    assert end_labels(forward) == ["0"]
    assert end_labels(backward) == ["none arrives"]
    assert len([p for p in drawing.patches if "Arrow" in type(p).__name__]) == 1


def test_many_blocks_leave_out_the_middle() -> None:
    blocks = [Block(f"linear{i}", "Linear", (4,), (4,), 20, False, 1.0, 0, 1, 1.0) for i in range(100)]
    fig = network_blocks(blocks, [(0, 3), (40, 60), (5, 90)])
    assert "74 of 100 layers, in the middle, are not drawn" in fig.get_supxlabel().replace("\n", " ")
    assert "… 74 more …" in end_labels(fig.axes[0])
    assert {"linear0", "linear12", "linear87", "linear99"} <= set(end_labels(fig.axes[0]))
    assert len([p for p in fig.axes[0].patches if "Arrow" in type(p).__name__]) == 1


TORCH = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "ReLU": F.relu,
    "leaky ReLU": F.leaky_relu,
    "ELU": F.elu,
    "GELU": F.gelu,
    "SiLU": F.silu,
    "softplus": F.softplus,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_torchs(name: str) -> None:
    z = torch.linspace(-6, 6, 97, dtype=torch.float64) + 0.01
    z.requires_grad_()
    a = TORCH[name](z)
    (slope,) = torch.autograd.grad(a.sum(), z)
    plain = z.detach().numpy()
    np.testing.assert_allclose(ACTIVATIONS[name].value(plain), a.detach().numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(ACTIVATIONS[name].slope(plain), slope.numpy(), rtol=1e-9, atol=1e-12)
    low, high = ACTIVATIONS[name].bounds[1:-1].replace("−", "-").replace("∞", "inf").split(", ")
    far = ACTIVATIONS[name].value(np.linspace(-60, 60, 12001))
    assert far.min() == pytest.approx(float(low), abs=0.006) or float(low) == -math.inf
    assert far.max() == pytest.approx(float(high), abs=1e-6) or float(high) == math.inf


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_torchs(name: str) -> None:
    x = torch.linspace(-4, 4, 81, dtype=torch.float64) + 0.01
    x.requires_grad_()
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    loss = {
        "squared error": lambda: F.mse_loss(x, zero, reduction="none"),
        "absolute error": lambda: F.l1_loss(x, zero, reduction="none"),
        "Huber": lambda: F.huber_loss(x, zero, reduction="none"),
        "binary cross entropy": lambda: F.binary_cross_entropy_with_logits(x, one, reduction="none"),
        "cross entropy": lambda: F.cross_entropy(
            torch.cat([x[:, None], torch.zeros(len(x), 9)], 1), torch.zeros(len(x), dtype=torch.int64), reduction="none"
        ),
    }[name]()
    (slope,) = torch.autograd.grad(loss.sum(), x)
    plain = x.detach().numpy()
    np.testing.assert_allclose(LOSSES[name].value(plain), loss.detach().numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(LOSSES[name].slope(plain), slope.numpy(), rtol=1e-9, atol=1e-12)


def test_the_figures_of_functions_draw_them() -> None:
    fig = activation_functions()
    assert [ax.get_title(loc="left") for ax in fig.axes] == list(ACTIVATIONS)
    sigmoid = fig.axes[0]
    assert lines(sigmoid, "slope")[0].get_ydata().max() == 0.25
    assert "slope ≤ 0.25" in end_labels(sigmoid)[0]
    assert [end_labels(ax)[0].split("≤ ")[1] for ax in fig.axes] == ["0.25", "1", "1", "1", "1", "1.13", "1.1", "1"]
    losses = loss_functions()
    assert [ax.get_title(loc="left").split("\n")[0] for ax in losses.axes] == list(LOSSES)
    assert lines(losses.axes[1], "gradient")[0].get_ydata().max() == 1
