"""What training gets: tensors in splits, and what is needed to tell their numbers in the user's words and units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from nnvis.data.scaling import Scaling


@dataclass(frozen=True)
class Split:
    """Some of the rows."""

    inputs: Tensor
    """(N, F), (N, C, H, W) or (N, T, F) float32; (N, T) int64 for token ids."""
    targets: Tensor
    """(N,) int64 class numbers, or (N, K) float32."""
    rows: Tensor
    """(N,) int64: the rows' positions in the source, from 0 (the header of a file not counted)."""

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Splits:
    """The splits of a data set; no row is in two of them."""

    train: Split
    val: Split | None
    test: Split | None
    task: Literal["classification", "regression"]
    classes: tuple[str, ...]
    """Names by class number; empty for regression."""
    vocabulary: tuple[str, ...]
    """Tokens by id, 0 padding (at the end), 1 unknown; empty unless inputs are token ids."""
    feature_names: tuple[str, ...]
    """Of tables and sequences; empty for images and text."""
    input_scaling: Scaling | None
    """How inputs were standardised; None: they are as in the source (pixels in [0, 1])."""
    target_scaling: Scaling | None
    flipped: Tensor
    """(N of train,) bool: training rows whose label `label_noise` replaced."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one row's inputs."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def target_size(self) -> int:
        """Number of classes, or K for regression."""
        return len(self.classes) or self.train.targets.shape[1]
