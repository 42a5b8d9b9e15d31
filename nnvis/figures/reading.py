"""What the figures ask of a record: tables without empty columns, epochs, names, coverage.

table = layer_table(run, "grad_norm")       # raises NoData where nothing was measured
clock = Clock.of(run); clock.at(steps)      # steps -> epochs, where the record knows them
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnvis.errors import InputError
from nnvis.figures.words import listing, number, plural, shorten
from nnvis.record.run import Run
from nnvis.record.vocabulary import BoolArray, FloatArray, IntArray, LayerSeries, Series


class NoData(InputError):  # noqa: N818 (not an error of the figure: the record holds nothing to draw)
    """The record has no measurements for this figure."""


def layer_table(run: Run, quantity: str) -> LayerSeries:
    """A quantity's table with the layers it applies to: those measured, or absent for a reason of their own.

    Raises NoData where there is no measurement at all.
    """
    table = run.layers.get(quantity)
    if table is None or not table.present.any():
        others = ", ".join(run.layers) or "no quantity of layers (was it trained with capture.every: null?)"
        raise NoData(f"{run.name}: no {quantity} in the record; there is {others}")
    moot = np.isin(table.reasons, ["not applicable", "not recorded"])
    return _columns(table, _in_order(run, table, np.logical_not(np.all(moot, axis=0))))


def _in_order(run: Run, table: LayerSeries, kept: BoolArray) -> list[int]:
    """Columns to keep, as the layers ran; one that was never called (attention's out_proj) stands by its parent."""
    called = {layer.name for layer in run.network}
    wanted = [int(i) for i in np.flatnonzero(kept)]
    order = [i for i in wanted if table.layers[i] in called]
    for i in wanted:
        if table.layers[i] not in called:
            near = [k for k, j in enumerate(order) if table.layers[i].startswith(table.layers[j] + ".")]
            order.insert(near[-1] + 1 if near else len(order), i)
    return order


def nonlinearities(run: Run, table: LayerSeries) -> LayerSeries:
    """The table's nonlinearities, if it has two of them or more; else the table."""
    groups = {layer.name: layer.group for layer in run.network}
    kept = [i for i, layer in enumerate(table.layers) if groups.get(layer) == "nonlinearity"]
    return _columns(table, kept) if len(kept) > 1 and table.present[:, kept].any() else table


def _columns(table: LayerSeries, kept: list[int]) -> LayerSeries:
    layers = tuple(table.layers[i] for i in kept)
    return LayerSeries(table.steps, layers, table.values[:, kept], table.present[:, kept], table.reason_codes[:, kept])


def series(run: Run, tag: str) -> Series:
    """A scalar's series, empty where the record has none."""
    return run.scalars.get(tag, Series(np.zeros(0, dtype=np.int64), np.zeros(0)))


@dataclass(frozen=True)
class Clock:
    """Time on the x axis: epochs where the record has two or more, else steps."""

    unit: str  # "epoch" or "step"
    ends: IntArray  # (E,) steps at which the epochs ended

    @classmethod
    def of(cls, run: Run) -> Clock:
        ends = series(run, "loss/epoch").steps
        return cls("epoch", ends) if len(ends) > 1 and ends[0] > 0 else cls("step", ends[:0])

    def at(self, steps: IntArray) -> FloatArray:
        """(T,) times of the steps, in the clock's unit."""
        if self.unit == "step":
            return steps.astype(float)
        ends = np.concatenate([[0], self.ends])
        beyond = np.maximum(steps - ends[-1], 0) / (ends[-1] - ends[-2])
        return np.interp(steps, ends, np.arange(len(ends))) + beyond

    def say(self, time: float) -> str:
        """`epoch 12`, `step 1,200`."""
        return f"{self.unit} {number(round(time, 1), digits=6)}"

    @property
    def label(self) -> str:
        """The axis's label: `epoch (23 steps each)`."""
        lengths = np.diff(self.ends, prepend=0)
        if self.unit == "epoch" and np.all(lengths[:-1] == lengths[0]):
            return f"epoch ({plural(int(lengths[0]), 'step')} each)"
        return {"epoch": "epoch", "step": "step (optimizer updates completed)"}[self.unit]


def step_label(run: Run) -> str:
    """The label of a step axis: `step (23 to an epoch)`."""
    clock = Clock.of(run)
    return f"step ({clock.ends[0]:,} to an epoch)" if clock.unit == "epoch" else "step (optimizer updates completed)"


def chance_loss(run: Run) -> float | None:
    """What guessing costs in nats, log(classes), for a run with an accuracy; None elsewhere."""
    classes = _classes(run)
    return float(np.log(classes)) if classes else None


def chance_accuracy(run: Run) -> float | None:
    """The accuracy of guessing among equally frequent classes; None for a run without accuracy."""
    classes = _classes(run)
    return 1 / classes if classes else None


def _classes(run: Run) -> int | None:
    if not any(tag.startswith("accuracy/") for tag in run.scalars) or not run.network:
        return None
    shape = run.network[-1].output_shape
    return max(shape[-1], 2) if shape else None


def names(*runs: Run) -> list[str]:
    """What to call runs that are compared: `demo-relu`, where that tells them apart, else `demo-relu/1-seed0`."""
    short = [run.name.split("/")[0] for run in runs]
    return short if len(set(short)) == len(short) else [run.name for run in runs]


def about(*runs: Run) -> str:
    """The last words of a caption: how many runs, which seeds, which layers were not seen."""
    seeds = list(dict.fromkeys(str(run.config["seed"]) for run in runs if "seed" in run.config))
    known = f" (seed{'s' * (len(seeds) > 1)} {', '.join(seeds)})" if seeds else ""  # a watched loop keeps its own
    return f"One run{' each' * (len(runs) > 1)}{known}: no spread over seeds.{coverage(*runs)}"


def _absent(run: Run) -> dict[str, str]:
    """What the last measured step of a run without a summary, since it still trains, could not read."""
    tables = [run.layers[quantity] for quantity in ("activation_mean", "grad_norm") if quantity in run.layers]
    return {name: why for table in tables for name, why in zip(table.layers, table.reasons[-1], strict=True) if why}


def coverage(*runs: Run) -> str:
    """` Layers not seen: dropout (not called) and 3 more.`, or nothing."""
    unseen: dict[str, str] = {}
    for run in runs:
        unseen |= run.summary["capture"]["unseen"] if "capture" in run.summary else _absent(run)
    labels = shorten(list(unseen), limit=28)
    missing = listing(f"{label} ({reason})" for label, reason in zip(labels, unseen.values(), strict=True))
    return f" Layers not seen: {missing}." if missing else ""
