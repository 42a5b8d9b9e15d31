"""layers: sizes are inferred, shapes are followed, and what does not fit is told where it stands."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnvis.config.schema import Layers, TorchLayer
from nnvis.errors import InputError
from nnvis.models import build_model
from nnvis.models.inferred_sizes import complete_arguments
from nnvis.models.layer_list import layer_list


def section(*entries: Any, **fields: Any) -> Layers:
    """Entries as a config file has them."""
    return Layers.model_validate({"kind": "layers", "layers": list(entries), **fields})


def build(*entries: Any, shape: tuple[int, ...], outputs: int = 2, vocabulary: int = 0) -> nn.Module:
    return build_model(section(*entries), shape, outputs, vocabulary_size=vocabulary)


ROW, SEQUENCE, IMAGE, VOLUME, TEXT = (8,), (6, 8), (4, 8, 10), (2, 4, 4, 4), (7,)

SHAPES: list[tuple[Any, tuple[int, ...], tuple[int, ...]]] = [
    ({"Linear": 5}, ROW, (5,)),
    ({"Linear": 5}, IMAGE, (4, 8, 5)),
    ({"Conv1d": [5, 3]}, SEQUENCE, (5, 6)),
    ({"Conv2d": [5, 3]}, IMAGE, (5, 6, 8)),
    ({"Conv2d": {"out_channels": 8, "kernel_size": 3, "groups": 4, "padding": "same"}}, IMAGE, (8, 8, 10)),
    ({"Conv3d": [5, 3]}, VOLUME, (5, 2, 2, 2)),
    ({"ConvTranspose2d": {"out_channels": 3, "kernel_size": 2, "stride": 2}}, IMAGE, (3, 16, 20)),
    ("BatchNorm1d", ROW, ROW),
    ("BatchNorm1d", SEQUENCE, SEQUENCE),
    ("BatchNorm2d", IMAGE, IMAGE),
    ("BatchNorm3d", VOLUME, VOLUME),
    ("InstanceNorm2d", IMAGE, IMAGE),
    ({"GroupNorm": 2}, IMAGE, IMAGE),
    ("LayerNorm", SEQUENCE, SEQUENCE),
    ("LayerNorm", IMAGE, IMAGE),
    ("RMSNorm", ROW, ROW),
    ({"RNN": 5}, SEQUENCE, (6, 5)),
    ({"LSTM": {"hidden_size": 5, "bidirectional": True}}, SEQUENCE, (6, 10)),
    ({"GRU": {"hidden_size": 5, "num_layers": 2}}, SEQUENCE, (6, 5)),
    ({"GRUCell": 5}, ROW, (5,)),
    ({"MultiheadAttention": 2}, SEQUENCE, SEQUENCE),
    ({"TransformerEncoderLayer": {"nhead": 2, "dim_feedforward": 5}}, SEQUENCE, SEQUENCE),
    ("Flatten", IMAGE, (320,)),
    ({"Flatten": {"start_dim": 2}}, IMAGE, (4, 80)),
    ({"Unflatten": {"dim": 1, "unflattened_size": [2, 4]}}, ROW, (2, 4)),
    ({"MaxPool2d": 2}, IMAGE, (4, 4, 5)),
    ({"AvgPool1d": 2}, SEQUENCE, (6, 4)),
    ({"AdaptiveAvgPool2d": 1}, IMAGE, (4, 1, 1)),
    ({"AdaptiveMaxPool3d": 2}, VOLUME, (2, 2, 2, 2)),
    ({"FractionalMaxPool2d": {"kernel_size": 2, "output_size": 4}}, IMAGE, (4, 4, 4)),
    ({"Upsample": {"scale_factor": 2}}, IMAGE, (4, 16, 20)),
    ({"PixelShuffle": 2}, IMAGE, (1, 16, 20)),
    ({"ZeroPad2d": 1}, IMAGE, (4, 10, 12)),
    ({"Unfold": 2}, IMAGE, (16, 63)),
    ("Softmax", IMAGE, IMAGE),
    ("GLU", ROW, (4,)),
    ("RReLU", ROW, ROW),
    ({"Dropout2d": 0.3}, IMAGE, IMAGE),
    ({"residual": ["ReLU", {"Linear": 8}]}, SEQUENCE, SEQUENCE),
    ({"sequential": [{"residual": [{"Linear": 3}, "Tanh", {"Linear": 8}]}, {"Linear": 5}]}, ROW, (5,)),
]


@pytest.mark.parametrize(("entry", "shape", "expected"), SHAPES, ids=str)
def test_sizes_are_inferred_and_shapes_followed(entry: Any, shape: tuple[int, ...], expected: tuple[int, ...]):
    alone = layer_list(section(entry), shape, 0)
    assert alone(torch.randn(3, *shape)).shape == (3, *expected)
    network = build(entry, "Flatten", {"Linear": 2}, shape=shape)
    network(torch.randn(3, *shape)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("entry", [{"Embedding": 5}, {"Embedding": {"embedding_dim": 5, "num_embeddings": 20}}])
def test_text_is_embedded(entry: Any):
    model = build(entry, {"LSTM": 4}, "Flatten", {"Linear": 2}, shape=TEXT, vocabulary=12)
    assert model(torch.randint(12, (3, 7))).shape == (3, 2)


def test_names_count_each_kind_and_say_where_it_is_nested():
    model = build(
        {"Conv2d": [4, 3]},
        "ReLU6",
        {"MaxPool2d": 2},
        {"residual": ["BatchNorm2d", {"sequential": ["ReLU", {"Conv2d": {"out_channels": 4, "kernel_size": 1}}]}]},
        {"residual": ["Tanh"]},
        "Flatten",
        {"Linear": 5},
        "ReLU6",
        {"Linear": 2},
        shape=IMAGE,
    )
    leaves = [name for name, module in model.named_modules() if not list(module.children())]
    assert leaves == [
        "conv1",
        "relu6_1",
        "maxpool1",
        "residual1.batchnorm1",
        "residual1.sequential1.relu1",
        "residual1.sequential1.conv1",
        "residual2.tanh1",
        "flatten1",
        "linear1",
        "relu6_2",
        "linear2",
    ]


def test_inference_draws_nothing_and_touches_no_buffer():
    torch.manual_seed(1)
    entries = ({"Conv2d": [5, 3]}, "BatchNorm2d", {"Dropout2d": 0.5}, {"FractionalMaxPool2d": [2, 3]})
    model = build(*entries, "Flatten", {"Linear": 2}, shape=IMAGE)
    after = torch.get_rng_state()
    torch.manual_seed(1)
    by_hand = [*nn.Conv2d(4, 5, 3).parameters(), *nn.BatchNorm2d(5).parameters(), *nn.Linear(45, 2).parameters()]
    assert torch.equal(after, torch.get_rng_state())
    assert all(torch.equal(mine, plain) for mine, plain in zip(model.parameters(), by_hand, strict=True))
    assert model.get_submodule("batchnorm1").get_buffer("num_batches_tracked") == 0
    assert all(module.training for module in model.modules())
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())


def test_attention_is_of_the_sequence_to_itself():
    attention = layer_list(section({"MultiheadAttention": 2}), SEQUENCE, 0).get_submodule("attention1")
    plain = nn.MultiheadAttention(8, 2, batch_first=True)
    plain.load_state_dict(attention.state_dict())
    steps = torch.randn(3, *SEQUENCE)
    torch.testing.assert_close(attention(steps), plain(steps, steps, steps)[0])


def test_softmax_without_a_dimension_is_over_the_units():
    for shape, dim in ((ROW, 1), (SEQUENCE, 2), (IMAGE, 1)):
        outputs = layer_list(section("Softmax"), shape, 0)(torch.randn(3, *shape))
        torch.testing.assert_close(outputs.sum(dim), torch.ones_like(outputs.sum(dim)))


FLAT = ("Flatten", {"Linear": 2})


@pytest.mark.parametrize(
    ("entries", "shape", "vocabulary", "phrases"),
    [
        # what comes out is not what the loss needs
        ([{"Linear": 3}], ROW, 0, ["(N, 8) come out as (N, 3)", "need (N, 2)", "end with `- Linear: 2`"]),
        ([{"Linear": 2}], IMAGE, 0, ["as (N, 4, 8, 2)", "put `- Flatten` before a last `- Linear: 2`"]),
        (["Flatten"], (1, 2), 0, ["nothing to train", "`- Linear: 2`"]),
        # what arrives is not what the layer takes
        ([{"Conv2d": [3, 3]}, *FLAT], ROW, 0, ["model.layers.0: Conv2d", "takes (N, C, H, W)", "(N, 8) arrives"]),
        ([{"Conv2d": [3, 3]}, *FLAT], (2, 3), 0, ["takes (N, C, H, W)", "(N, 2, 3) arrives"]),
        ([{"LSTM": 3}, *FLAT], ROW, 0, ["takes (N, T, F)", "(N, 8) arrives"]),
        (["BatchNorm1d", *FLAT], IMAGE, 0, ["takes (N, C) or (N, C, L)", "(N, 4, 8, 10) arrives"]),
        ([{"MaxPool2d": 9}, *FLAT], IMAGE, 0, ["model.layers.0: MaxPool2d", "too small", "(N, 4, 8, 10) arrives"]),
        ([{"ZeroPad1d": -4}, *FLAT], SEQUENCE, 0, ["ZeroPad1d", "leaves nothing of (N, 6, 8)", "(N, 6, 0)"]),
        ([{"GroupNorm": 3}, *FLAT], IMAGE, 0, ["GroupNorm", "divisible", "(N, 4, 8, 10) arrives"]),
        ([{"MultiheadAttention": 3}, *FLAT], SEQUENCE, 0, ["MultiheadAttention", "divisible by num_heads"]),
        ([{"Flatten": {"start_dim": 0}}, *FLAT], IMAGE, 0, ["Flatten", "merges the rows", "dim 0"]),
        (
            [{"Linear": {"out_features": 2, "in_features": 9}}],
            ROW,
            0,
            ["in_features is 9", "must be 8", "leave it out"],
        ),
        # text
        ([{"Linear": 2}], TEXT, 9, ["model.layers.0: Linear", "token ids", "begin with `- Embedding: 32`"]),
        ([{"Embedding": 4}, *FLAT], ROW, 0, ["Embedding", "token ids", "the data are numbers"]),
        ([{"Embedding": {"embedding_dim": 4, "num_embeddings": 8}}, *FLAT], TEXT, 9, ["8", "9 tokens", "leave it out"]),
        # blocks
        (["ReLU", {"residual": ["ReLU", {"Linear": 3}]}], ROW, 0, ["model.layers.1: residual", "(N, 8)", "(N, 3)"]),
        ([{"residual": [{"sequential": ["ReLU", "BatchNorm2d"]}]}], ROW, 0, ["model.layers.0.residual.0.sequential.1"]),
    ],
    ids=str,
)
def test_what_does_not_fit_is_told_where_it_stands(
    entries: list[Any], shape: tuple[int, ...], vocabulary: int, phrases: list[str]
):
    with pytest.raises(InputError) as error:
        build(*entries, shape=shape, vocabulary=vocabulary)
    for phrase in phrases:
        assert phrase in str(error.value)


@pytest.mark.parametrize("entries", [[{"LSTM": 4}], [{"Linear": 4}, {"residual": [{"GRU": 4}]}]], ids=str)
def test_recurrent_layers_run_in_bfloat16_on_any_cpu(entries: list[Any]):
    model = build(*entries, "Flatten", {"Linear": 2}, shape=SEQUENCE)
    inputs = torch.randn(3, *SEQUENCE)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(inputs)
    outputs.sum().backward()
    torch.testing.assert_close(outputs.float(), model(inputs), atol=0.05, rtol=0.05)


def test_no_layer_works_in_place():
    with pytest.raises(InputError, match=r"^here: inplace is True, but must be False"):
        complete_arguments(nn.ReLU, {"inplace": True}, torch.zeros(3, 8), 0, "here")


def test_a_layer_that_this_torch_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(nn, "RMSNorm")
    with pytest.raises(InputError, match=r"model.layers.1: RMSNorm: torch .* has no such layer"):
        build("ReLU", "RMSNorm", {"Linear": 2}, shape=ROW)


ENTRIES = st.recursive(
    st.sampled_from([TorchLayer.model_validate(entry) for entry, _, _ in SHAPES[:-2]])
    | st.builds(lambda size: TorchLayer(kind="Linear", arguments={"out_features": size}), st.integers(1, 9))
    | st.just(TorchLayer.model_validate({"Embedding": 5})),
    lambda inner: st.builds(
        lambda kind, children: TorchLayer.model_validate({kind: children}),
        st.sampled_from(["residual", "sequential"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(ENTRIES, min_size=1, max_size=5),
    st.sampled_from([ROW, SEQUENCE, IMAGE, VOLUME, TEXT]),
    st.booleans(),
)
def test_any_list_either_runs_or_is_refused(entries: list[TorchLayer], shape: tuple[int, ...], ends: bool):
    vocabulary = 9 if shape == TEXT else 0
    if ends:
        entries = [*entries, TorchLayer(kind="Flatten"), TorchLayer(kind="Linear", arguments={"out_features": 2})]
    try:
        model = build_model(Layers(kind="layers", layers=entries), shape, 2, vocabulary_size=vocabulary)
    except InputError as error:
        refusal = str(error)
    else:
        refusal = ""
        inputs = torch.randint(9, (3, *shape)) if vocabulary else torch.randn(3, *shape)
        assert model(inputs).shape == (3, 2)
    assert "\n" not in refusal
    assert "7919" not in refusal
