"""The user's own table: numbers as they are, texts one-hot, one column as target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nnvis.data.source import FloatArray, IntArray, Source, number_classes
from nnvis.data.tables import Table, all_numbers, read_table
from nnvis.errors import InputError

if TYPE_CHECKING:
    from nnvis.config import schema

MOST_CATEGORIES = 256
"""Different texts that a one-hot column may hold; a column of names, dates or keys has more."""
MOST_GUESSED_CLASSES = 20
"""Different whole numbers that a target may hold and still be taken for class labels."""


def load_csv(section: schema.Csv, rng: np.random.Generator) -> Source:
    """Rows (N, F) in the file's order. A text column `color` becomes features `color=red`, `color=blue`, …"""
    table = read_table(section.path, section.delimiter)
    target = table.named(section.target, "data.target")
    names = _feature_columns(table, section, target)
    task = section.task or _guessed_task(table, target)
    targets, classes = class_labels(table, target) if task == "classification" else (table.numbers(target)[:, None], ())
    columns = [_features(table, name) for name in names]
    table.refuse_bad_cells()
    return Source(
        np.concatenate([values for values, _ in columns], axis=1),
        targets,
        classes,
        tuple(feature for _, features in columns for feature in features),
    )


def class_labels(table: Table, name: str) -> tuple[IntArray, tuple[str, ...]]:
    """A column of labels, names or whole numbers from 0 up -> class numbers (N,) and the classes' names, sorted.

    Raises InputError for bad cells, those of other columns told so far included, and for a single class.
    """
    cells = table.texts(name)
    labels = all_numbers(cells)
    if labels is None:
        labels = np.array(cells)
    else:
        for row in np.flatnonzero((labels < 0) | (labels != np.floor(labels))):
            table.refuse(
                name, int(row), "a class label: a name, or a whole number from 0 up (or set data.task: regression)"
            )
    table.refuse_bad_cells()
    return number_classes(labels, f"{table.path}: column {name!r}")


def _feature_columns(table: Table, section: schema.Csv, target: str) -> list[str]:
    if section.features is None:
        names = [name for name in table.columns if name != target]
    else:
        names = [table.named(name, "data.features") for name in section.features]
    if target in names:
        raise InputError(f"data.features: {target!r} is the target; a network would only copy it")
    if not names:
        raise InputError(f"{table.path}: no input columns beside the target {target!r}")
    if "" in names:
        position = list(table.columns).index("") + 1
        raise InputError(f"{table.path}:1: column {position} has no name; name it, or list the inputs in data.features")
    return names


def _guessed_task(table: Table, target: str) -> str:
    instead = " (or set data.task: classification)"
    if not table.is_numeric(target, instead):
        return "classification"
    values = table.numbers(target, f"a number{instead}")
    table.refuse_bad_cells()
    whole = bool((values == np.floor(values)).all())
    return "classification" if whole and len(np.unique(values)) <= MOST_GUESSED_CLASSES else "regression"


def _features(table: Table, name: str) -> tuple[FloatArray, list[str]]:
    """A column's values (N, features) and the features' names."""
    if table.is_numeric(name):
        return table.numbers(name)[:, None], [name]
    cells = table.texts(name)
    categories, indices = np.unique(np.array(cells), return_inverse=True)
    if len(categories) > MOST_CATEGORIES:
        raise InputError(
            f"{table.path}: column {name!r}: {len(categories)} different texts, at most {MOST_CATEGORIES} become "
            "inputs (one-hot); leave it out by listing the inputs in data.features"
        )
    return np.eye(len(categories))[indices], [f"{name}={category}" for category in categories]
