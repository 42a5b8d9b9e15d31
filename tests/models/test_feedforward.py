"""mlp and cnn: names, parameter counts by formula, residual blocks, and what is refused."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import nn

from nnvis.config.schema import Cnn, Init, Mlp, TorchLayer
from nnvis.errors import InputError
from nnvis.models import build_model
from nnvis.models.chain import Chain, Residual

ZEROS = Init(kind="constant", value=0.0)


def mlp(**fields: Any) -> Mlp:
    return Mlp(kind="mlp", **fields)


def cnn(**fields: Any) -> Cnn:
    return Cnn(kind="cnn", **fields)


def leaves(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if not list(module.children())]


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def names_as_they_run(model: nn.Module, inputs: torch.Tensor) -> list[str]:
    ran: list[str] = []
    for name, module in model.named_modules():
        if not list(module.children()):
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    model(inputs)
    return ran


@pytest.mark.parametrize(
    ("section", "shape", "names"),
    [
        (mlp(hidden=[5, 4]), (3,), "linear1 relu1 linear2 relu2 output"),
        (
            mlp(depth=1, width=7, norm="batch", dropout=0.1, activation=TorchLayer(kind="ReLU6")),
            (1, 2, 3),
            "flatten linear1 norm1 relu6_1 dropout1 output",
        ),
        (mlp(hidden=[]), (3,), "output"),
        (
            mlp(hidden=[4, 4], norm="layer", residual=True),
            (3,),
            "block1.linear block1.norm block1.relu block1.projection block2.linear block2.norm block2.relu output",
        ),
        (
            cnn(channels=[4, 6], hidden=[5], norm="batch", pool="average"),
            (3, 8, 10),
            "conv1 norm1 relu1 pool1 conv2 norm2 relu2 pool2 flatten linear3 norm3 relu3 output",
        ),
        (
            cnn(channels=[3], hidden=[], residual=True, kernel_size=4, pool="none", dropout=0.2),
            (3, 5, 6),
            "block1.pad block1.conv block1.relu block1.dropout flatten output",
        ),
    ],
)
def test_names_are_in_the_order_in_which_the_layers_run(section: Mlp | Cnn, shape: tuple[int, ...], names: str):
    model = build_model(section, shape, 10)
    assert leaves(model) == names.split()
    assert names_as_they_run(model, torch.randn(4, *shape)) == names.split()


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_mlp_has_the_parameters_of_the_formula(norm: str, residual: bool, bias: bool):
    widths = [2 * 3 * 5, 8, 8, 6]
    model = build_model(mlp(hidden=widths[1:], norm=norm, residual=residual, bias=bias, dropout=0.2), (2, 3, 5), 4)
    weights = sum(a * b for a, b in itertools.pairwise([*widths, 4]))
    biases = bias * (8 + 8 + 6 + 4)
    scales_and_shifts = (norm != "none") * 2 * (8 + 8 + 6)
    projections = residual * (30 * 8 + 8 * 6)  # the middle block keeps its width
    assert parameters(model) == weights + biases + scales_and_shifts + projections
    assert model(torch.randn(7, 2, 3, 5)).shape == (7, 4)


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("pool", ["max", "average", "none"])
@pytest.mark.parametrize("kernel", [1, 3, 4])
def test_cnn_has_the_parameters_of_the_formula(norm: str, residual: bool, pool: str, kernel: int):
    section = cnn(channels=[4, 4, 6], kernel_size=kernel, pool=pool, hidden=[5], norm=norm, residual=residual)
    model = build_model(section, (3, 9, 17), 2)
    pixels = 9 * 17 if pool == "none" else (9 // 8) * (17 // 8)
    convolutions = (3 * 4 + 4 * 4 + 4 * 6) * kernel**2 + (4 + 4 + 6)
    linear = (6 * pixels * 5 + 5) + (5 * 2 + 2)
    scales_and_shifts = (norm != "none") * 2 * (4 + 4 + 6 + 5)
    projections = residual * (3 * 4 + 4 * 6 + 6 * pixels * 5)
    assert parameters(model) == convolutions + linear + scales_and_shifts + projections
    assert model(torch.randn(2, 3, 9, 17)).shape == (2, 2)


@pytest.mark.parametrize(("norm", "kind"), [("batch", nn.BatchNorm2d), ("layer", nn.GroupNorm)])
def test_cnn_norms_see_channels(norm: str, kind: type[nn.Module]):
    model = build_model(cnn(channels=[4], norm=norm, hidden=[]), (3, 8, 8), 2)
    assert isinstance(model.get_submodule("norm1"), kind)


def test_layer_norm_of_an_image_is_over_channels_height_and_width():
    model = build_model(cnn(channels=[4], norm="layer", hidden=[]), (3, 8, 8), 2)
    images = torch.randn(5, 4, 8, 8) * 3 + 7
    expected = nn.functional.layer_norm(images, (4, 8, 8))
    torch.testing.assert_close(model.get_submodule("norm1")(images), expected)


def test_even_kernel_is_the_same_convolution_as_torchs_same_padding():
    model = build_model(cnn(channels=[2], kernel_size=4, pool="none", hidden=[]), (3, 7, 6), 2)
    conv = model.get_submodule("conv1")
    assert isinstance(conv, nn.Conv2d)
    images = torch.randn(2, 3, 7, 6)
    padded = nn.functional.pad(images, (1, 2, 1, 2))
    expected = nn.functional.conv2d(padded, conv.weight, conv.bias)
    torch.testing.assert_close(conv(model.get_submodule("pad1")(images)), expected)


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_residual_blocks_with_zero_weights_are_the_identity(norm: str):
    rows = torch.randn(6, 5)
    model = build_model(mlp(depth=3, width=5, residual=True, norm=norm, init=ZEROS), (5,), 2)
    for name in ("block1", "block2", "block3"):
        block = model.get_submodule(name)
        assert isinstance(block, Residual)
        assert torch.equal(block(rows), rows)

    images = torch.randn(6, 3, 4, 4)
    block = build_model(cnn(channels=[3], residual=True, norm=norm, init=ZEROS), (3, 4, 4), 2).get_submodule("block1")
    assert torch.equal(block(images), images)


def test_residual_block_projects_its_input_where_sizes_differ():
    rows = torch.randn(6, 5)
    block = build_model(mlp(hidden=[4], residual=True), (5,), 2).get_submodule("block1")
    weights = dict(block.named_parameters())
    relu = (rows @ weights["linear.weight"].T + weights["linear.bias"]).clamp(min=0)
    torch.testing.assert_close(block(rows), relu + rows @ weights["projection.weight"].T)


def test_chain_hands_on_the_first_entry_of_a_tuple():
    recurrent = nn.LSTM(3, 4, batch_first=True)
    steps = torch.randn(2, 6, 3)
    assert torch.equal(Chain({"lstm1": recurrent, "flatten1": nn.Flatten()})(steps), recurrent(steps)[0].flatten(1))


@pytest.mark.parametrize(
    ("section", "shape", "vocabulary", "phrases"),
    [
        (cnn(channels=[4] * 5), (1, 8, 8), 0, ["block 4 of 5", "1 × 1", "8 × 8", "at most 3 channels", "pool: none"]),
        (cnn(channels=[4]), (1, 1, 8), 0, ["block 1 of 1", "1 × 8", "set pool: none"]),
        (cnn(), (30,), 0, ["takes images", "(N, 30) arrives", "choose mlp"]),
        (cnn(), (24,), 60, ["token ids", "rnn or transformer"]),
        (mlp(depth=1, width=4), (24,), 60, ["token ids", "rnn or transformer"]),
    ],
)
def test_what_does_not_fit_is_refused(section: Mlp | Cnn, shape: tuple[int, ...], vocabulary: int, phrases: list[str]):
    with pytest.raises(InputError) as error:
        build_model(section, shape, 10, vocabulary_size=vocabulary)
    for phrase in phrases:
        assert phrase in str(error.value)


def test_images_may_be_halved_down_to_one_pixel():
    model = build_model(cnn(channels=[2] * 3, hidden=[]), (1, 8, 8), 10)
    assert math.prod(model.get_submodule("output").get_parameter("weight").shape) == 2 * 10
