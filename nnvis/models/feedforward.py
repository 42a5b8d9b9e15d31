"""mlp and cnn: numbered blocks of map -> norm -> activation -> dropout, then the output layer.

    mlp(section, input_shape=(1, 8, 8), output_size=10, vocabulary_size=0)
    # flatten, linear1, norm1, relu1, dropout1, linear2, …, output
    cnn(section, input_shape=(1, 28, 28), output_size=10, vocabulary_size=0)
    # conv1, norm1, relu1, pool1, conv2, …, flatten, linear3, norm3, relu3, output

With `residual` a block is one module (`block1.linear`, `block1.norm`, `block1.relu`) that adds its input,
through `block1.projection` (linear, no bias) where the sizes differ; pooling comes after the sum.
The number in a name is the block's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import nn

from nnvis.config.schema import Cnn, Mlp, ModelSection
from nnvis.errors import InputError
from nnvis.models.activations import activation, widening
from nnvis.models.chain import Chain, Residual, label, stem
from nnvis.models.shapes import require_image, require_numbers

NamedLayers = dict[str, nn.Module]


def mlp(section: Mlp, input_shape: tuple[int, ...], output_size: int, vocabulary_size: int) -> Chain:
    """Fully connected layers over flattened inputs. Raises InputError for token ids."""
    require_numbers("mlp", vocabulary_size)
    layers: NamedLayers = {"flatten": nn.Flatten()} if len(input_shape) > 1 else {}
    layers |= _dense(section, math.prod(input_shape), _hidden_sizes(section), output_size, bias=section.bias)
    return Chain(layers)


def cnn(section: Cnn, input_shape: tuple[int, ...], output_size: int, vocabulary_size: int) -> Chain:
    """Convolutions of unchanged image size, each block's pooling halves it, then fully connected layers.

    Raises InputError for rows that are no images, and for images too small for so many halvings.
    """
    require_numbers("cnn", vocabulary_size)
    channels, height, width = require_image(input_shape)
    layers: NamedLayers = {}
    for number, block_channels in enumerate(section.channels, start=1):
        layers |= _block(section, number, _convolutions(section.kernel_size), channels, block_channels)
        channels = block_channels
        if section.pool != "none":
            _require_halvable(section, number, (height, width), input_shape)
            layers[label("pool", number)] = nn.MaxPool2d(2) if section.pool == "max" else nn.AvgPool2d(2)
            height, width = height // 2, width // 2
    layers["flatten"] = nn.Flatten()
    inputs = channels * height * width
    layers |= _dense(section, inputs, section.hidden, output_size, first=len(section.channels) + 1)
    return Chain(layers)


@dataclass(frozen=True)
class _Maps:
    """How a block maps its input: the trained map, the shortcut's projection, the norms that fit."""

    trained: Callable[[int, int], NamedLayers]  # (inputs, outputs) -> layers
    projection: Callable[[int, int], nn.Module]
    norms: Mapping[str, Callable[[int], nn.Module]]


def _linear_maps(bias: bool) -> _Maps:
    return _Maps(
        trained=lambda inputs, outputs: {"linear": nn.Linear(inputs, outputs, bias=bias)},
        projection=partial(nn.Linear, bias=False),
        norms={"batch": nn.BatchNorm1d, "layer": nn.LayerNorm},
    )


def _convolutions(kernel_size: int) -> _Maps:
    def padded_conv(inputs: int, outputs: int) -> NamedLayers:
        conv = nn.Conv2d(inputs, outputs, kernel_size, padding=(kernel_size - 1) // 2)
        # An even kernel needs one pixel more on one side. torch's padding="same" warns about that.
        return {"conv": conv} if kernel_size % 2 else {"pad": nn.ZeroPad2d((0, 1, 0, 1)), "conv": conv}

    # "layer" is one mean and variance over (C, H, W) and a scale for each channel: GroupNorm with one group
    # (Wu & He 2018), which unlike nn.LayerNorm does not depend on the image's size.
    return _Maps(
        trained=padded_conv,
        projection=partial(nn.Conv2d, kernel_size=1, bias=False),
        norms={"batch": nn.BatchNorm2d, "layer": partial(nn.GroupNorm, 1)},
    )


def _block(section: ModelSection, number: int, maps: _Maps, inputs: int, outputs: int) -> NamedLayers:
    wide = outputs * widening(section.activation)
    layers = maps.trained(inputs, wide)
    if section.norm != "none":
        layers["norm"] = maps.norms[section.norm](wide)
    layers[stem(section.activation.kind)] = activation(section.activation)
    if section.dropout:
        layers["dropout"] = nn.Dropout(section.dropout)
    if not section.residual:
        return {label(name, number): layer for name, layer in layers.items()}
    projection = None if inputs == outputs else maps.projection(inputs, outputs)
    return {label("block", number): Residual(layers, projection)}


def _dense(
    section: ModelSection, inputs: int, hidden: list[int], output_size: int, first: int = 1, bias: bool = True
) -> NamedLayers:
    """Linear blocks numbered from `first`, then the output layer."""
    layers: NamedLayers = {}
    for number, outputs in enumerate(hidden, start=first):
        layers |= _block(section, number, _linear_maps(bias), inputs, outputs)
        inputs = outputs
    return layers | {"output": nn.Linear(inputs, output_size, bias=bias)}


def _hidden_sizes(section: Mlp) -> list[int]:
    if section.hidden is not None:
        return section.hidden
    return [section.width or 0] * (section.depth or 0)  # the config makes sure that both are there


def _require_halvable(section: Cnn, number: int, size: tuple[int, int], input_shape: tuple[int, ...]) -> None:
    if min(size) < 2:
        raise InputError(
            f"model.channels: block {number} of {len(section.channels)} gets images of {size[0]} × {size[1]} and "
            f"cannot halve them: {input_shape[1]} × {input_shape[2]} can be halved {number - 1} times; "
            + (f"keep at most {number - 1} channels, or " if number > 1 else "")
            + "set pool: none"
        )
