"""nnvis: see how your network learns, and why it doesn't.

    import nnvis

    run = nnvis.train("digits_mlp", ["optimizer.lr=0.01"])
    run.scalars["loss/val"].values                     # (T,)
    run = nnvis.load_run("runs/digits-mlp/1-seed0")    # needs no torch
    run.load_model()
    study = nnvis.compare("vanishing", jobs=2)         # variants × seeds: study.runs["relu_he"][0]
    nnvis.diagnose(run)                                # what is wrong with it, where, since when; needs no torch
    nnvis.check(model, loss_fn, inputs, targets)       # the same before any training, by one batch
    nnvis.fix(run.path, seeds=5, jobs=2)               # its remedies, tried side by side; the best one as a new config

    with nnvis.watch(model, optimizer, log_dir="runs/mine"):    # around your own loop
        ...

Names are imported when they are first used, so that `import nnvis` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from nnvis.checking import check
    from nnvis.config import Config, load_config
    from nnvis.diagnosis import Diagnosis, diagnose
    from nnvis.errors import InputError, RunError
    from nnvis.experiment import load_model, train
    from nnvis.record import Finding, Run, Study
    from nnvis.studies import Fix, compare, fix
    from nnvis.watching import watch

    __version__: str

__all__ = [
    "Config",
    "Diagnosis",
    "Finding",
    "Fix",
    "InputError",
    "Run",
    "RunError",
    "Study",
    "__version__",
    "check",
    "compare",
    "diagnose",
    "fix",
    "load_config",
    "load_model",
    "load_run",
    "load_study",
    "train",
    "watch",
]

_HOMES = {
    "Config": "nnvis.config",
    "Diagnosis": "nnvis.diagnosis",
    "Finding": "nnvis.record",
    "Fix": "nnvis.studies",
    "InputError": "nnvis.errors",
    "Run": "nnvis.record",
    "RunError": "nnvis.errors",
    "Study": "nnvis.record",
    "check": "nnvis.checking",
    "compare": "nnvis.studies",
    "diagnose": "nnvis.diagnosis",
    "fix": "nnvis.studies",
    "load_config": "nnvis.config",
    "load_model": "nnvis.experiment",
    "train": "nnvis.experiment",
    "watch": "nnvis.watching",
}


def load_run(path: str | Path) -> Run:
    """The run in a directory, finished or not: nnvis's own, or one that was watched. Raises InputError.

    Needs no torch; `run.load_model()` does, where a config built the model.
    """
    from nnvis import record

    return record.load_run(path, _load_model)


def load_study(path: str | Path) -> Study:
    """The study in a directory, with the runs that there are. Needs no torch. Raises InputError."""
    from nnvis import record

    return record.load_study(path, _load_model)


def _load_model(path: Path, trust: bool) -> nn.Module:
    from nnvis.experiment import load_model

    return load_model(path, trust=trust)


def __getattr__(name: str) -> Any:
    import random
    from importlib import import_module, metadata

    if name == "__version__":
        return metadata.version("nnvis-trainer")
    if name not in _HOMES:
        raise AttributeError(f"module 'nnvis' has no attribute {name!r}; it has {', '.join(__all__)}")
    state = random.getstate()
    try:
        return getattr(import_module(_HOMES[name]), name)
    finally:
        random.setstate(state)  # rich draws a number when it is imported; somebody's loop may have been seeded before


def __dir__() -> list[str]:
    return __all__
