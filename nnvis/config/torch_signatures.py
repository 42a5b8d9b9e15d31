"""What torch's optimizers, schedulers and layers take, read from a committed table instead of torch.

    table = torch_table()
    table.layers["Conv2d"]["kernel_size"].types     # ("int", "int[2]")
    table.optimizers["Adam"]["lr"].default          # 0.001
    table.inferred["Conv2d"]                        # "in_channels": follows from the layer's input

`tests/config/make_torch_table.py` writes the table and explains its types; a test keeps it current.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

REQUIRED: Any = object()
"""Stands for the default of an argument that has none."""


@dataclass(frozen=True)
class Parameter:
    """An argument of a torch class."""

    types: tuple[str, ...]
    default: Any = REQUIRED

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is REQUIRED


Signature = Mapping[str, Parameter]
"""The arguments of a class by name, in torch's order."""


@dataclass(frozen=True)
class TorchTable:
    """Everything in torch that a config can name."""

    torch: str  # the version the table was made from, "2.13"
    optimizers: Mapping[str, Signature]
    schedulers: Mapping[str, Signature]
    layers: Mapping[str, Signature]
    inferred: Mapping[str, str]  # layer -> the argument that follows from its input
    activations: Mapping[str, str]  # name of the function -> layer: "leaky_relu" -> "LeakyReLU"
    unusable: Mapping[str, str]  # other classes of torch -> why a config cannot name them


@cache
def torch_table() -> TorchTable:
    """The table, read once."""
    raw = json.loads(Path(__file__).with_name("torch_table.json").read_text(encoding="utf-8"))
    signatures = {key: _signatures(raw.pop(key)) for key in ("optimizers", "schedulers", "layers")}
    return TorchTable(**signatures, **raw)


def _signatures(classes: dict[str, dict[str, list[Any]]]) -> dict[str, Signature]:
    return {
        kind: {name: Parameter(tuple(types.split("|")), *default) for name, (types, *default) in entries.items()}
        for kind, entries in classes.items()
    }
