"""Data: a section of the config becomes tensors in splits.

    splits = load_splits(config.data, seed=config.seed)
    splits.train.inputs                # (N, ...) float32
    splits.train.targets               # (N,) int64 class numbers, or (N, K) float32
    splits.classes, splits.input_shape

Each kind has a builder (`loading.BUILDERS`) that returns all rows as a `Source`; what follows is the same for all:
`partition` draws the splits, `scaling` and `text.fit_vocabulary` are fitted on the training split.
"""

from nnvis.data.loading import load_splits
from nnvis.data.scaling import Scaling
from nnvis.data.sharing import shared_rows
from nnvis.data.splits import Split, Splits

__all__ = ["Scaling", "Split", "Splits", "load_splits", "shared_rows"]
