"""rnn and transformer: parameters by formula, known answers, and padding that has no influence."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from nnvis.config.schema import Rnn, Transformer
from nnvis.errors import InputError
from nnvis.models import build_model
from nnvis.models.transformer import Positions

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
TOKENS = torch.tensor([[5, 2, 7, 0, 0, 0, 0], [3, 3, 6, 1, 2, 4, 0], [8, 0, 0, 0, 0, 0, 0], [2, 3, 4, 5, 6, 7, 8]])


def rnn(**fields: Any) -> Rnn:
    return Rnn(kind="rnn", **fields)


def transformer(**fields: Any) -> Transformer:
    return Transformer(kind="transformer", **{"width": 8, "heads": 2, "feedforward": 12, **fields})


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("vocabulary", [0, 9])
def test_rnn_has_the_parameters_of_the_formula(cell: str, bidirectional: bool, vocabulary: int):
    section = rnn(cell=cell, hidden_size=5, layers=3, bidirectional=bidirectional, embedding=4, dropout=0.1)
    model = build_model(section, (7,) if vocabulary else (7, 2), 3, vocabulary_size=vocabulary)
    directions = 1 + bidirectional
    inputs = [4 if vocabulary else 2, directions * 5, directions * 5]
    recurrent = sum(directions * GATES[cell] * 5 * (size + 5 + 2) for size in inputs)
    assert parameters(model) == vocabulary * 4 + recurrent + (directions * 5 + 1) * 3
    assert model(TOKENS if vocabulary else torch.randn(4, 7, 2)).shape == (4, 3)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("vocabulary", [0, 9])
def test_transformer_has_the_parameters_of_the_formula(norm_first: bool, vocabulary: int):
    model = build_model(
        transformer(depth=3, norm_first=norm_first),
        (7,) if vocabulary else (7, 2),
        5,
        vocabulary_size=vocabulary,
    )
    width, feedforward = 8, 12
    attention = 4 * (width * width + width)
    block = attention + (2 * width * feedforward + feedforward + width) + 2 * 2 * width
    first = vocabulary * width if vocabulary else (2 + 1) * width
    assert parameters(model) == first + 3 * block + norm_first * 2 * width + (width + 1) * 5
    assert model(TOKENS if vocabulary else torch.randn(4, 7, 2)).shape == (4, 5)


@pytest.mark.parametrize(
    ("section", "vocabulary", "names"),
    [
        (rnn(layers=2, dropout=0.1), 0, "lstm1 dropout1 lstm2 dropout2 output"),
        (rnn(cell="GRU"), 9, "embedding gru1 output"),
        (transformer(depth=2, dropout=0.1), 0, "input positions dropout block1 block2 norm output"),
        (transformer(depth=1, norm_first=False), 9, "embedding positions block1 output"),
    ],
)
def test_names_are_in_the_order_in_which_the_layers_run(section: Rnn | Transformer, vocabulary: int, names: str):
    model = build_model(section, (7,) if vocabulary else (7, 2), 3, vocabulary_size=vocabulary)
    assert [name for name, _ in model.named_children()] == names.split()
    ran: list[str] = []
    for name, module in model.named_children():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    model(TOKENS if vocabulary else torch.randn(4, 7, 2))
    assert ran == names.split()


@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_rnn_layers_are_torchs_stacked_network(cell: str, bidirectional: bool):
    model = build_model(rnn(cell=cell, hidden_size=5, layers=2, bidirectional=bidirectional), (7, 2), 3)
    stacked = getattr(nn, cell)(2, 5, num_layers=2, batch_first=True, bidirectional=bidirectional)
    for number in (1, 2):
        for name, weights in model.get_submodule(f"{cell.lower()}{number}").named_parameters():
            stacked.get_parameter(name.replace("l0", f"l{number - 1}")).data.copy_(weights)
    inputs = torch.randn(4, 7, 2)
    last = stacked(inputs)[1]  # (layers · directions, N, H), with an LSTM's cell state beside it
    last = last[0] if cell == "LSTM" else last
    state = torch.cat([last[-2], last[-1]], dim=1) if bidirectional else last[-1]
    torch.testing.assert_close(model(inputs), model.get_submodule("output")(state))


@pytest.mark.parametrize(
    "section",
    [rnn(cell=cell, layers=2, bidirectional=both) for cell in GATES for both in (False, True)]
    + [transformer(norm_first=first) for first in (False, True)],
    ids=str,
)
@pytest.mark.parametrize("training", [True, False])
def test_padding_has_no_influence(section: Rnn | Transformer, training: bool):
    model = build_model(section, (7,), 3, vocabulary_size=9).train(training)
    outputs = model(TOKENS)
    for text, output in zip(TOKENS, outputs, strict=True):
        torch.testing.assert_close(model(text[text != 0].unsqueeze(0))[0], output, rtol=1e-4, atol=1e-5)
    with torch.no_grad():  # torch's quick path for inference
        torch.testing.assert_close(model(TOKENS), outputs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("section", [rnn(), rnn(bidirectional=True), transformer()], ids=str)
def test_a_text_of_padding_alone_is_harmless(section: Rnn | Transformer):
    model = build_model(section, (7,), 3, vocabulary_size=9)
    outputs = model(torch.zeros_like(TOKENS))
    outputs.sum().backward()
    assert outputs.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
    assert not model.get_submodule("embedding").get_parameter("weight")[0].any()


def test_positions_are_sines_and_cosines():
    table = Positions(6, 5)(torch.zeros(1, 6, 5))[0]
    for step in range(6):
        for unit in range(5):
            angle = step / 10_000 ** (2 * (unit // 2) / 5)
            assert table[step, unit].item() == pytest.approx(math.cos(angle) if unit % 2 else math.sin(angle), abs=1e-6)


def test_transformer_sees_the_order_of_its_steps():
    model = build_model(transformer(), (7, 2), 3).eval()
    inputs = torch.randn(4, 7, 2)
    assert (model(inputs) - model(inputs.flip(1))).abs().max() > 1e-4


def test_transformer_blocks_start_with_weights_of_their_own():
    first, second = (
        build_model(transformer(), (7, 2), 3).get_submodule(name).get_parameter("linear1.weight")
        for name in ("block1", "block2")
    )
    assert not torch.equal(first, second)


@pytest.mark.parametrize("section", [rnn(), transformer()])
@pytest.mark.parametrize(("shape", "vocabulary"), [((30,), 0), ((1, 8, 8), 0), ((7, 2), 9)])
def test_rows_that_are_no_sequences_are_refused(section: Rnn | Transformer, shape: tuple[int, ...], vocabulary: int):
    arrives = f"(N, {', '.join(map(str, shape))}) arrives"
    with pytest.raises(InputError, match="takes sequences") as error:
        build_model(section, shape, 3, vocabulary_size=vocabulary)
    assert arrives in str(error.value)
