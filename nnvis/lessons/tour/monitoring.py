"""A plain PyTorch loop, watched by nnvis, with a slip of the learning rate planted in it and without."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np

from nnvis.diagnosis import diagnose
from nnvis.errors import RunError
from nnvis.figures.curves import learning_curves_compared
from nnvis.figures.heatmap import layer_heatmap
from nnvis.figures.updates import update_ratio
from nnvis.lessons.tour.stage import Claim, Numbers, Stage
from nnvis.lessons.tour.text import fill
from nnvis.lessons.tour.variants import titled
from nnvis.record import Run, load_run

SLIP, RIGHT = 0.1, 0.001  # the learning rate of the sixth epoch
EPOCH = 23  # steps
FIRST = 5 * EPOCH  # step of the sixth
AGAIN = 2  # times, at most


def experiment(stage: Stage) -> Numbers:
    """What the loss shows of the slip, what the layers show of it, and what the diagnosis finds."""
    healthy, slip = _watched(stage, "healthy", RIGHT), _watched(stage, "slip", SLIP)
    for _ in range(AGAIN):
        if sum(check.step > FIRST for check in slip.checks) < 2:  # so many a diagnosis of dead units wants
            stage.say("the machine is busy, so that the probe has spared itself a look at the layers; once more")
            slip = _watched(stage, "slip", SLIP)
    dead, ratio = slip.layers["dead_fraction"], slip.layers["update_ratio"]
    killed = np.flatnonzero((dead.values > 0.5).all(axis=1))
    before, during = dead.steps < FIRST, (ratio.steps >= FIRST) & (ratio.steps < FIRST + EPOCH)
    found, none = diagnose(slip), diagnose(healthy)
    numbers: Numbers = {
        "same_steps": _same_until(slip, healthy),
        "slip_step": FIRST,
        "dead_step": int(dead.steps[killed[0]]) if len(killed) else -1,
        "dead_before": float(dead.values[before].max()),
        "dead_after": float(dead.values[-1].mean()),
        "ratio_before": float(ratio.values[ratio.steps < FIRST].max()),
        "ratio_slip": float(ratio.values[during].max()),
        "loss_after": float(slip.scalars["loss/val"].values[-1]),
        "accuracy_before": float(slip.scalars["accuracy/val"].values[4]),
        "accuracy_after": float(slip.scalars["accuracy/val"].values[-1]),
        "accuracy_healthy": float(healthy.scalars["accuracy/val"].values[-1]),
        "errors": sum(finding.severity == "error" for finding in found),
        "errors_healthy": sum(finding.severity == "error" for finding in none),
        "dead_layers": sum(len(f.layers) for f in found if f.symptom == "dead_units" and f.severity == "error"),
    }
    fell = fill("One epoch of too high a learning rate: from {accuracy_before:%} to {accuracy_after:%}", numbers)
    leapt = fill(
        "The largest step of a layer: {ratio_slip:2} of its weights at the slip, {ratio_before:2} before",
        numbers,
    )
    stage.draw("curves", titled(learning_curves_compared(healthy, slip), fell))
    stage.draw("dead", layer_heatmap(slip, "dead_fraction"))
    stage.draw("updates", titled(update_ratio(slip), leapt))
    return numbers


def _watched(stage: Stage, name: str, lr: float) -> Run:
    """Runs the loop of the text in a process of its own, as its user would; its run. Raises RunError where it fails."""
    run = stage.folder / "runs" / name
    shutil.rmtree(run, ignore_errors=True)  # of this lesson, given before
    stage.say(f"python loop.py {run} {lr}")
    command, program = [sys.executable, "-", str(run), str(lr)], stage.lesson.blocks["loop.py"]
    done = subprocess.run(command, input=program, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"loop.py: {(done.stderr.strip() or 'ended').splitlines()[-1]}")
    return load_run(run)


def _same_until(one: Run, other: Run) -> int:
    """The first step at which the two losses differ."""
    a, b = one.scalars["loss/train"], other.scalars["loss/train"]
    differ = np.flatnonzero(a.values != b.values)
    return int(a.steps[differ[0]]) if len(differ) else int(a.steps[-1]) + 1


CLAIMS = (
    Claim(
        "The two losses differ from step {same_steps} on, one step after the slip began, and by no bit before.",
        lambda n: n["same_steps"] == n["slip_step"] + 1,
    ),
    Claim(
        "One epoch with too high a learning rate ruins the network for good: {accuracy_before:%} before it, "
        "{accuracy_after:%} at the end, and {accuracy_healthy:%} without it.",
        lambda n: n["accuracy_after"] < 0.5 < n["accuracy_before"] and n["accuracy_healthy"] > 0.85,
    ),
    Claim(
        "More than half of the units of every layer are dead by step {dead_step}, within the epoch of the slip.",
        lambda n: n["slip_step"] < n["dead_step"] < n["slip_step"] + EPOCH,
    ),
    Claim(
        "The diagnosis finds the dead units, in {dead_layers} layers, and {errors_healthy} errors in the other loop.",
        lambda n: n["dead_layers"] > 0 == n["errors_healthy"],
    ),
)
