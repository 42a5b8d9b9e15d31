"""The JSON Schema takes what the checker takes, and is what is committed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nnvis.config import ConfigError, dump_config, json_schema, load_config, parse_config, schema_text, shipped_configs
from nnvis.config.editor_schema import field_texts
from nnvis.config.schema import Digits
from nnvis.config.yaml_text import read_yaml, write_yaml

COMMITTED = Path(__file__).parents[2] / "configs" / "schema.json"
BASE: dict[str, Any] = {"name": "a", "data": {"kind": "digits"}, "model": {"kind": "mlp", "hidden": [8]}}


def test_the_committed_schema_is_current() -> None:
    committed = json.loads(COMMITTED.read_text(encoding="utf-8"))
    assert committed == json_schema(), f"nnvis schema -o {COMMITTED}"
    assert committed == json.loads(schema_text())


def test_every_field_of_every_class_can_be_explained() -> None:
    texts = field_texts(Digits)
    assert texts["val_fraction"].startswith("Share of the rows")
    assert json_schema()["$defs"]["Digits"]["properties"]["val_fraction"]["description"] == texts["val_fraction"]


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(json_schema())
    return jsonschema.Draft202012Validator(json_schema())


@pytest.mark.parametrize("path", shipped_configs().values(), ids=lambda path: path.stem)
def test_shipped_configs_fit(validator: Any, path: Path) -> None:
    validator.validate(read_yaml(path.read_text(encoding="utf-8"), path.name).data)
    validator.validate(read_yaml(dump_config(load_config(path)), path.name).data)


def layers(*entries: Any) -> dict[str, Any]:
    return {"model": {"kind": "layers", "layers": list(entries)}}


@pytest.mark.parametrize(
    "sections",
    [
        layers("ReLU", {"Linear": 64}, {"Linear": {"out_features": 4, "bias": False}}, {"Conv2d": [16, 3]}),
        layers({"residual": [{"sequential": [{"Dropout": 0.2}, "LayerNorm"]}]}, {"Flatten": None}),
        layers(
            {"AdaptiveAvgPool2d": {"output_size": [None, 3]}}, {"Conv2d": {"out_channels": 3, "kernel_size": [1, 2]}}
        ),
        {"model": {**BASE["model"], "activation": "leaky_relu", "init": "orthogonal"}},
        {"model": {**BASE["model"], "activation": {"LeakyReLU": 0.2}, "init": {"kind": "normal", "std": 0.1}}},
        {"optimizer": "Adam", "schedule": "constant", "loss": "cross_entropy"},
        {"optimizer": {"kind": "AdamW", "betas": [0.9, 0.99]}, "schedule": {"kind": "StepLR", "step_size": 3}},
        {"optimizer": {"lr": 1}, "schedule": {"interval": "step", "kind": "OneCycleLR", "max_lr": 0.1}},
        {"training": {"batch_size": "full", "early_stopping": None}, "capture": {"every": None}},
    ],
)
def test_both_take_it(validator: Any, sections: dict[str, Any]) -> None:
    validator.validate({**BASE, **sections})
    parse_config(write_yaml({**BASE, **sections}))


@pytest.mark.parametrize(
    "sections",
    [
        layers("Linear"),
        layers("relu"),
        layers({"Linear": 64, "ReLU": None}),
        layers({"Linear": {"units": 64}}),
        layers({"Linear": "many"}),
        layers({"Conv2d": [16]}),
        layers({"Conv2d": {"out_channels": 16}}),
        layers({"residual": []}),
        {"model": {**BASE["model"], "activation": "Linear"}},
        {"model": {**BASE["model"], "init": "xavier"}},
        {"optimizer": {"kind": "Adam", "momentum": 0.9}},
        {"optimizer": {"kind": "SDG"}},
        {"schedule": "StepLR"},
        {"schedule": {"kind": "StepLR"}},
        {"loss": {"kind": "huber", "delta": 0}},
        {"training": {"batch_size": "all"}},
        {"data": {"kind": "moons", "sampels": 3}},
        {"epochs": 3},
    ],
)
def test_both_refuse_it(validator: Any, sections: dict[str, Any]) -> None:
    assert not validator.is_valid({**BASE, **sections})
    with pytest.raises(ConfigError):
        parse_config(write_yaml({**BASE, **sections}))
