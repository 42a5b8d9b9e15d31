"""rnn: recurrent layers over a sequence, the last step's state is mapped to the output.

    RecurrentNetwork(section, input_shape=(50, 2), output_size=1, vocabulary_size=0)      # lstm1, lstm2, output
    RecurrentNetwork(section, input_shape=(24,), output_size=5, vocabulary_size=60)       # embedding, lstm1, …

Each recurrent layer is a module of its own (same parameters as torch's num_layers), so that every layer is
seen. Dropout follows each of them, the last one included.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from nnvis.config.schema import Rnn
from nnvis.models.chain import label, run
from nnvis.models.shapes import require_sequence


class RecurrentNetwork(nn.Module):
    """(N, T, F) numbers or (N, T) token ids -> (N, output_size). Padding (id 0 at the end) has no influence.

    The state of the last step is, for a bidirectional network, the forward direction's at the last step beside
    the backward direction's at the first. Raises InputError for rows that are no sequences.
    """

    def __init__(self, section: Rnn, input_shape: tuple[int, ...], output_size: int, vocabulary_size: int) -> None:
        require_sequence("rnn", input_shape, vocabulary_size)
        super().__init__()
        self.order: list[str] = []
        self.embedding: nn.Embedding | None = None
        features = input_shape[-1]
        if vocabulary_size:
            features = section.embedding or 32
            self.embedding = nn.Embedding(vocabulary_size, features, padding_idx=0)
        cell = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}[section.cell]
        for number in range(1, section.layers + 1):
            recurrent = cell(features, section.hidden_size, batch_first=True, bidirectional=section.bidirectional)
            self._append(label(section.cell.lower(), number), recurrent)
            if section.dropout:
                self._append(label("dropout", number), nn.Dropout(section.dropout))
            features = section.hidden_size * (2 if section.bidirectional else 1)
        self.bidirectional = section.bidirectional
        self.output = nn.Linear(features, output_size)

    def _append(self, name: str, layer: nn.Module) -> None:
        self.add_module(name, layer)
        self.order.append(name)

    def forward(self, inputs: Tensor) -> Tensor:
        steps, lengths = inputs, None
        if self.embedding is not None:
            steps = self.embedding(inputs)  # (N, T, F)
            lengths = (inputs != 0).sum(1).clamp(min=1)  # (N,)
        for name in self.order:
            layer = getattr(self, name)
            steps = _run(layer, steps, lengths) if isinstance(layer, nn.RNNBase) else layer(steps)
        return self.output(last_state(steps, lengths, self.bidirectional))


def _run(layer: nn.RNNBase, steps: Tensor, lengths: Tensor | None) -> Tensor:
    """(N, T, F) -> (N, T, H)."""
    if lengths is None or not layer.bidirectional:  # what comes after the last step cannot reach back to it
        return run(layer, steps)[0]
    packed = pack_padded_sequence(steps, lengths.cpu(), batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(run(layer, packed)[0], batch_first=True, total_length=steps.shape[1])[0]


def last_state(steps: Tensor, lengths: Tensor | None, bidirectional: bool) -> Tensor:
    """(N, T, H) -> (N, H)."""
    if lengths is None:
        last = steps[:, -1]
    else:
        last = torch.take_along_dim(steps, (lengths - 1)[:, None, None], dim=1).squeeze(1)
    if not bidirectional:
        return last
    half = steps.shape[-1] // 2
    return torch.cat([last[:, :half], steps[:, 0, half:]], dim=1)
