"""A small study's file.

file = small_study(tmp_path, variants={"relu": {}, "tanh": {"model.activation": "tanh"}}, seeds=2)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnvis.config.yaml_text import write_yaml

BASE: dict[str, Any] = {
    "name": "base",
    "data": {"kind": "moons", "samples": 60},
    "model": {"kind": "mlp", "hidden": [5]},
    "optimizer": {"kind": "SGD", "lr": 0.1, "momentum": 0.9},
    "training": {"epochs": 3, "batch_size": 16, "device": "cpu"},
    "capture": {"every": 4},
}  # 48 training rows: 3 steps an epoch


def small_study(folder: Path, **sections: Any) -> Path:
    """Written into the folder: one variant and one seed, unless `sections` of the study (or of its `base`) say more."""
    base = {**BASE, **sections.pop("base", {})}
    told = {"name": "small", "question": "Which one learns?", "base": base, "variants": {"as_it_is": {}}, "seeds": 1}
    told["figures"] = ["learning_curves"]  # drawing all takes longer than training
    file = folder / "small.yaml"
    file.write_text(write_yaml({**told, **sections}), encoding="utf-8")
    return file
