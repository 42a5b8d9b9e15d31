"""In what the variants of a study differ: the axes of a grid, or the keys that its named variants override.

varied(study)                         # {"optimizer.lr": {"low": 0.01, "high": 1.0}}
labels, note = naming(study, 24)      # names that fit: "0.1 · 16" of "lr=0.1,width=16", and what to say of them
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnvis.figures.words import clipped, number
from nnvis.record.study import Study


def varied(study: Study) -> dict[str, dict[str, Any]]:
    """Dotted key -> variant -> value, of the keys that do not have the same value everywhere.

    A variant that does not override a key has the value of its config; None where there is no run to read it from.
    """
    keys = study.axes or dict.fromkeys(key for overrides in study.overrides.values() for key in overrides)
    values = {key: {variant: setting(study, variant, key) for variant in study.variants} for key in keys}
    return {key: of for key, of in values.items() if len({repr(value) for value in of.values()}) > 1}


def setting(study: Study, variant: str, key: str) -> Any:
    """The value of a dotted key for a variant; None where it is not known."""
    if key in study.overrides[variant]:
        return study.overrides[variant][key]
    section: Any = next((run.config for run in study.runs[variant].values()), {})
    for part in key.split("."):
        section = section.get(part) if isinstance(section, Mapping) else None
    return section


def short_key(key: str) -> str:
    """`lr` of `optimizer.lr`."""
    return key.rpartition(".")[2]


def setting_words(value: Any) -> str:
    """A value of a setting."""
    return number(value) if isinstance(value, float) else str(value)


def naming(study: Study, limit: int) -> tuple[dict[str, str], str]:
    """What to call each variant in `limit` characters, and a sentence for the caption, with a space before it.

    Points of a grid whose names are longer are called by their values alone.
    """
    if study.axes and max(map(len, study.variants)) > limit:
        axes = varied(study)
        labels = {v: " · ".join(setting_words(of[v]) for of in axes.values()) for v in study.variants}
        if max(map(len, labels.values())) <= limit:
            return labels, f" Names: {' · '.join(map(short_key, axes))}."
    return {variant: clipped(variant, limit) for variant in study.variants}, ""
