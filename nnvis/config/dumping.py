"""A config as text that is read back to the same config, and as flat pairs.

dump_config(config)      # "name: digits-mlp\\nseed: 0\\ndata:\\n  kind: digits\\n…"
flatten(config)          # {"name": "digits-mlp", "seed": 0, "data.kind": "digits", …}
"""

from __future__ import annotations

from typing import Any

from nnvis.config.schema import Config
from nnvis.config.yaml_text import write_line, write_yaml

Scalar = str | int | float | bool


def dump_config(config: Config) -> str:
    """YAML with every value spelled out, defaults included; `load_config` reads it back to an equal config."""
    return write_yaml(plain(config))


def flatten(config: Config) -> dict[str, Scalar]:
    """Dotted keys and their values; a list is one text, what is null is left out."""
    return dict(_pairs(plain(config), ()))


def plain(config: Config) -> dict[str, Any]:
    """The sections as they are written, the kind first."""
    sections = config.model_dump().items()
    return {
        name: {**({"kind": section["kind"]} if "kind" in section else {}), **section}
        if isinstance(section, dict)
        else section
        for name, section in sections
    }


def _pairs(value: Any, path: tuple[str, ...]) -> list[tuple[str, Scalar]]:
    if isinstance(value, dict):
        return [pair for key, below in value.items() for pair in _pairs(below, (*path, key))]
    if isinstance(value, list):
        value = write_line(value)
    return [] if value is None else [(".".join(path), value)]
