"""transformer: a small encoder over a sequence; the mean over the sequence is mapped to the output.

    TransformerNetwork(section, input_shape=(24,), output_size=5, vocabulary_size=60)
    # embedding, positions, dropout, block1, block2, …, norm, output

The blocks are torch's `TransformerEncoderLayer`, each with weights of its own: `nn.TransformerEncoder`
would start all of them as copies of one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nnvis.config.schema import Transformer
from nnvis.models.chain import label
from nnvis.models.shapes import require_sequence


class TransformerNetwork(nn.Module):
    """(N, T, F) numbers or (N, T) token ids -> (N, output_size). Padding (id 0) has no influence.

    Raises InputError for rows that are no sequences.
    """

    def __init__(
        self, section: Transformer, input_shape: tuple[int, ...], output_size: int, vocabulary_size: int
    ) -> None:
        require_sequence("transformer", input_shape, vocabulary_size)
        super().__init__()
        if vocabulary_size:
            self.embedding = nn.Embedding(vocabulary_size, section.width, padding_idx=0)
        else:
            self.input = nn.Linear(input_shape[-1], section.width)
        self.reads_tokens = vocabulary_size > 0
        self.positions = Positions(input_shape[0], section.width)
        self.dropout = nn.Dropout(section.dropout) if section.dropout else None
        self.order = tuple(label("block", number) for number in range(1, section.depth + 1))
        for name in self.order:
            self.add_module(name, _encoder_layer(section))
        self.norm = nn.LayerNorm(section.width) if section.norm_first else None
        self.output = nn.Linear(section.width, output_size)

    def forward(self, inputs: Tensor) -> Tensor:
        padding = None
        if self.reads_tokens:
            padding = inputs == 0  # (N, T)
            padding[:, 0] = False  # an empty text attends to its first step rather than to nothing (NaN)
        steps = self.positions(self.embedding(inputs) if self.reads_tokens else self.input(inputs))  # (N, T, width)
        if self.dropout is not None:
            steps = self.dropout(steps)
        for name in self.order:
            steps = getattr(self, name)(steps, src_key_padding_mask=padding)
        if self.norm is not None:
            steps = self.norm(steps)
        return self.output(mean_over_steps(steps, padding))


class Positions(nn.Module):
    """Adds each step's position as sines and cosines (Vaswani et al. 2017, section 3.5). Nothing to train."""

    table: Tensor  # (T, width)

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        position = torch.arange(length, dtype=torch.float32).unsqueeze(1)  # (T, 1)
        frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
        table = torch.zeros(length, width)
        table[:, 0::2] = torch.sin(position * frequency)
        table[:, 1::2] = torch.cos(position * frequency[: width // 2])
        self.register_buffer("table", table, persistent=False)

    def forward(self, steps: Tensor) -> Tensor:
        return steps + self.table[: steps.shape[1]]


def _encoder_layer(section: Transformer) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        section.width,
        section.heads,
        section.feedforward,
        dropout=section.dropout,
        activation=nn.GELU() if section.activation == "gelu" else nn.ReLU(),  # a module, so that it is measured
        batch_first=True,
        norm_first=section.norm_first,
    )


def mean_over_steps(steps: Tensor, padding: Tensor | None) -> Tensor:
    """(N, T, F) -> (N, F), over the steps that are no padding."""
    if padding is None:
        return steps.mean(1)
    kept = ~padding
    return (steps * kept.unsqueeze(-1)).sum(1) / kept.sum(1, keepdim=True)
