"""The committed table is what torch says, and the checks made with it agree with torch."""

from __future__ import annotations

import math
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nnvis.config import ConfigError, parse_config, torch_table
from nnvis.config.torch_arguments import LAYER_RANGES, OPTIMIZER_RANGES, SCHEDULER_RANGES, check_arguments
from nnvis.config.torch_signatures import Parameter

TABLE = torch_table()
WEIGHT = [nn.Parameter(torch.zeros(2, 2))]
SAMPLES = {"int": 2, "float": 0.5, "bool": True, "str": "x", "int[]": [2], "float[]": [0.5], "int?[]": [2]}


def sample(parameter: Parameter) -> Any:
    """A value of the first type of a parameter."""
    option = parameter.types[0]
    return option.strip("'") if option.startswith("'") else SAMPLES[option]


def test_the_table_is_current() -> None:
    if TABLE.torch != ".".join(torch.__version__.split(".")[:2]):
        pytest.skip(f"the table is of torch {TABLE.torch}")
    maker = runpy.run_path(str(Path(__file__).with_name("make_torch_table.py")))
    assert maker["TABLE"].read_text(encoding="utf-8") == maker["text"](), "run tests/config/make_torch_table.py"


def test_it_has_what_people_use() -> None:
    assert {"SGD", "Adam", "AdamW", "RMSprop", "LBFGS"} <= TABLE.optimizers.keys()
    assert {"StepLR", "OneCycleLR", "CosineAnnealingLR", "ReduceLROnPlateau"} <= TABLE.schedulers.keys()
    assert {
        "Linear",
        "Conv3d",
        "LSTM",
        "MultiheadAttention",
        "Embedding",
        "LayerNorm",
        "Flatten",
    } <= TABLE.layers.keys()
    assert {"Sequential", "MSELoss", "LazyLinear", "Bilinear", "LambdaLR"} <= TABLE.unusable.keys()
    assert TABLE.optimizers["Adam"]["betas"] == Parameter(("float[2]",), [0.9, 0.999])
    assert TABLE.layers["Conv2d"]["kernel_size"].required


@pytest.mark.parametrize("kind", TABLE.layers)
def test_torch_makes_a_layer_of_what_passes(kind: str) -> None:
    signature = TABLE.layers[kind]
    given = {name: sample(parameter) for name, parameter in signature.items() if parameter.required}
    given |= {"output_size": 2} if kind.startswith("FractionalMaxPool") else {}
    arguments, complaints = check_arguments(kind, given, signature, LAYER_RANGES)
    assert not complaints
    assert isinstance(getattr(nn, kind)(**arguments), nn.Module)


@pytest.mark.parametrize("kind", TABLE.optimizers)
def test_torch_makes_an_optimizer_of_the_defaults(kind: str) -> None:
    defaults = {name: parameter.default for name, parameter in TABLE.optimizers[kind].items()}
    arguments, complaints = check_arguments(kind, defaults, TABLE.optimizers[kind], OPTIMIZER_RANGES)
    assert not complaints
    assert getattr(torch.optim, kind)(WEIGHT, **arguments).defaults["lr"] == TABLE.optimizers[kind]["lr"].default


@pytest.mark.parametrize("kind", TABLE.schedulers)
def test_torch_makes_a_scheduler_of_what_passes(kind: str) -> None:
    signature = TABLE.schedulers[kind]
    given = {name: sample(parameter) for name, parameter in signature.items() if parameter.required}
    given |= {"total_steps": 9} if kind == "OneCycleLR" else {}
    arguments, complaints = check_arguments(kind, given, signature, SCHEDULER_RANGES)
    assert not complaints
    getattr(torch.optim.lr_scheduler, kind)(torch.optim.SGD(WEIGHT, momentum=0.9), **arguments)


REFUSED_BY_TORCH = [
    (kind, name, value)
    for kind, signature in TABLE.optimizers.items()
    for name, parameter in signature.items()
    if OPTIMIZER_RANGES.get(name, "").startswith("[0") and "float" in parameter.types[0]
    for value in ([[-0.1, 0.5], [0.9, 1.0]] if parameter.types == ("float[2]",) else [-0.1])
    if not (kind in ("ASGD", "LBFGS", "Muon", "Adafactor") and name not in ("lr", "weight_decay"))
    if not (name == "eps" and kind == "Adafactor")
]


@pytest.mark.parametrize(("kind", "name", "value"), REFUSED_BY_TORCH)
def test_what_torch_refuses_is_refused_before(kind: str, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"nvalid|should be"):
        getattr(torch.optim, kind)(WEIGHT, **{name: value})
    _, (complaint,) = check_arguments(kind, {name: value}, TABLE.optimizers[kind], OPTIMIZER_RANGES)
    assert complaint.path == (name,)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("lr", True, "a number, got true"),
        ("lr", "0.1", 'a number, got "0.1"'),
        ("lr", None, "a number, got nothing"),
        ("lr", math.nan, "finite"),
        ("lr", math.inf, "finite"),
        ("lr", 10**30, "too large"),
        ("betas", 0.9, "a list of 2 numbers"),
        ("betas", [0.9], "a list of 2 numbers"),
        ("betas", [0.9, "x"], "a list of 2 numbers"),
        ("betas", [0.9, 1], r"in [0, 1)"),
        ("amsgrad", 1, "true or false"),
        ("fused", "yes", "true or false or null"),
        ("leanring_rate", 1, "choices: lr, betas"),
        ("params", [], "takes no such argument"),
    ],
)
def test_arguments_of_the_wrong_kind(name: str, value: Any, words: str) -> None:
    _, (complaint,) = check_arguments("Adam", {name: value}, TABLE.optimizers["Adam"], OPTIMIZER_RANGES)
    assert complaint.path == (name,)
    assert words in complaint.message


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("Hardtanh", {"min_val": -math.inf}),
        ("ConstantPad2d", {"padding": [-1, -1, 0, 0], "value": -math.inf}),
        ("Adafactor", {"eps": [None, 0.001]}),
        ("AdaptiveAvgPool2d", {"output_size": [None, 3]}),
        ("Conv2d", {"in_channels": 3, "out_channels": 4, "kernel_size": [1, 3], "padding": "same", "groups": 2}),
    ],
)
def test_unusual_arguments_that_are_right(kind: str, given: dict[str, Any]) -> None:
    signature = (TABLE.layers | dict(TABLE.optimizers))[kind]  # pyright: ignore[reportOperatorIssue]
    assert check_arguments(kind, given, signature, LAYER_RANGES) == (given, [])


@pytest.mark.parametrize("name", ["inplace", "differentiable", "capturable", "sparse", "batch_first"])
def test_arguments_that_only_break_things_are_not_offered(name: str) -> None:
    signatures = (*TABLE.layers.values(), *TABLE.optimizers.values())
    assert not any(name in signature for signature in signatures)


def test_each_reason_why_a_class_is_not_usable_reaches_the_user() -> None:
    for kind, reason in TABLE.unusable.items():
        text = f"name: a\ndata: {{kind: digits}}\nmodel: {{kind: layers, layers: [{kind}]}}\n"
        with pytest.raises(ConfigError) as caught:
            parse_config(text)
        assert str(caught.value) == f"<config>:3:32: model.layers.0: {kind} {reason}"
