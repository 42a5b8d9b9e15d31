"""summary.json: how a run ended, in the same words for `nnvis train` and for a watched loop.

write_json(directory / "summary.json", run_summary("completed", steps=690, seconds=12.5, ...))
run_status(directory)      # "completed"
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from nnvis.errors import InputError
from nnvis.record.files import read_json

Status = Literal["completed", "interrupted", "diverged", "stopped", "failed"]
ENDED = ("completed", "diverged", "stopped")
"""A run of one of these does not go on."""


def run_status(directory: Path) -> str | None:
    """How the run in a directory ended; None while it has not, or was killed. Raises InputError: a damaged file."""
    summary = directory / "summary.json"
    if not summary.exists():
        return None
    told = read_json(summary)
    if not isinstance(told, dict):
        raise InputError(f"{summary}: not the summary of a run")
    return told.get("status")


def run_summary(
    status: Status,
    *,
    steps: int,
    seconds: float,
    device: str,
    metrics: Mapping[str, Mapping[str, float]],
    steps_measured: int,
    probe_seconds: float,
    unseen: Mapping[str, str],
    clipped_fraction: float | None = None,
    failure: str = "",
    diagnosis: Mapping[str, Any] | None = None,
    stopped_by: str = "",
    epochs: int | None = None,
    seed: int | None = None,
    best: Mapping[str, Any] | None = None,
    nonfinite: Mapping[str, Any] | None = None,
    error: str = "",
) -> dict[str, Any]:
    """`metrics` by split and name; `unseen`: layers that were not measured, and why; `nonfinite`: the first NaN or Inf.

    `clipped_fraction`: of the measured steps, how many had their gradients clipped, 0 to 1, where that is known.
    `failure`: from which step on nothing was measured any more, and why. `diagnosis`: what the checks have cost;
    `stopped_by`: the symptom that ended the run.

    What a watched loop does not know (epochs, seed, best) is null.
    """
    return {
        "status": status,
        "epochs": epochs,
        "steps": steps,
        "seconds": seconds,
        "device": device,
        "seed": seed,
        "metrics": metrics,
        "best": best,
        "capture": {
            "steps_measured": steps_measured,
            "overhead_fraction": probe_seconds / seconds if seconds else 0.0,
            "unseen": unseen,
            **({} if clipped_fraction is None else {"clipped_fraction": clipped_fraction}),
            **({"failure": failure} if failure else {}),
        },
        **({"diagnosis": diagnosis} if diagnosis else {}),
        **({"stopped_by": stopped_by} if stopped_by else {}),
        **({"nonfinite": nonfinite} if nonfinite else {}),
        **({"error": error} if error else {}),
    }
