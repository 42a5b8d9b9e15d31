"""From a data section of the config to `Splits`: build, split, corrupt, fit on the training split, make tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nnvis.data import arrays, bundled, fashion_mnist, images, series, synthetic, tabular, text
from nnvis.data.partition import partition, stream
from nnvis.data.scaling import fit, to_tensor
from nnvis.data.source import IntArray, Source
from nnvis.data.splits import Split, Splits
from nnvis.errors import InputError

if TYPE_CHECKING:
    from nnvis.config import schema

BUILDERS: dict[str, Callable[[Any, np.random.Generator], Source]] = {
    "moons": synthetic.moons,
    "circles": synthetic.circles,
    "xor": synthetic.xor,
    "spirals": synthetic.spirals,
    "blobs": synthetic.blobs,
    "sine": synthetic.sine,
    "plane": synthetic.plane,
    "noisy_linear": synthetic.noisy_linear,
    "adding": synthetic.adding,
    "digits": bundled.digits,
    "breast_cancer": bundled.breast_cancer,
    "wine": bundled.wine,
    "iris": bundled.iris,
    "diabetes": bundled.diabetes,
    "fashion_mnist": fashion_mnist.fashion_mnist,
    "sunspots": series.sunspots,
    "language_names": text.language_names,
    "csv": tabular.load_csv,
    "text_csv": text.text_csv,
    "series_csv": series.series_csv,
    "npz": arrays.load_npz,
    "image_folder": images.image_folder,
    "python": arrays.load_python,
}
"""Kind of data section -> builder. A new kind is a class in `nnvis.config.schema` and a line here."""


def load_splits(section: schema.Data, seed: int) -> Splits:
    """The splits that a data section asks for; the same section and seed give the same bits.

    `seed` counts where the section has none of its own. No global random state is used. Raises InputError with one
    line a problem for data that cannot be used.
    """
    seed = seed if section.seed is None else section.seed
    source = BUILDERS[section.kind](section, stream(seed, "generation"))
    _refuse_wrong_task(section, source)
    rows = partition(source, section, seed)
    targets, flipped = _with_label_noise(source, rows.train, section.label_noise, seed)
    inputs, vocabulary = source.inputs, source.vocabulary
    if vocabulary:
        inputs, vocabulary = text.fit_vocabulary(inputs, rows.train, vocabulary, source.max_vocabulary)
    input_scaling = fit(inputs, rows.train, source.full_scale) if section.standardize and not vocabulary else None
    target_scaling = fit(targets, rows.train) if section.standardize_targets else None

    def split(chosen: IntArray) -> Split:
        return Split(
            torch.from_numpy(inputs[chosen])
            if vocabulary
            else to_tensor(inputs, chosen, source.full_scale, input_scaling),
            torch.from_numpy(targets[chosen]).long()
            if source.classes
            else to_tensor(targets, chosen, scaling=target_scaling),
            torch.from_numpy(chosen),
        )

    return Splits(
        train=split(rows.train),
        val=split(rows.val) if len(rows.val) else None,
        test=split(rows.test) if len(rows.test) else None,
        task=source.task,
        classes=source.classes,
        vocabulary=vocabulary,
        feature_names=source.feature_names,
        input_scaling=input_scaling,
        target_scaling=target_scaling,
        flipped=torch.from_numpy(flipped),
    )


def _with_label_noise(source: Source, train: IntArray, share: float, seed: int) -> tuple[Any, np.ndarray]:
    """The targets with a share of the training labels replaced by another class, and which of `train` they are."""
    flipped = np.zeros(len(train), dtype=np.bool_)
    if not share:
        return source.targets, flipped
    rng = stream(seed, "label_noise")
    flipped[rng.choice(len(train), round(share * len(train)), replace=False)] = True
    targets, chosen = source.targets.copy(), train[flipped]
    targets[chosen] = (targets[chosen] + rng.integers(1, len(source.classes), len(chosen))) % len(source.classes)
    return targets, flipped


def _refuse_wrong_task(section: schema.DataSection, source: Source) -> None:
    """The config cannot know the task of the user's own data, so this is checked once they are read."""
    if section.label_noise and source.task == "regression":
        raise InputError("data.label_noise: the targets are numbers (regression), expected classes")
    if section.standardize_targets and source.task == "classification":
        raise InputError("data.standardize_targets: the targets are classes, expected numbers (regression)")
