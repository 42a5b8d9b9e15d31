"""From a resolved config and its data to everything that learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import count, islice
from typing import Any, cast

import torch
from torch import nn

from nnvis.config import Config
from nnvis.config.dumping import plain
from nnvis.data import Splits, load_splits, shared_rows
from nnvis.diagnosis import Diagnosis
from nnvis.diagnosis.evidence import largest_rate
from nnvis.errors import InputError
from nnvis.models import build_model
from nnvis.probe.branches import FACTORS, try_rates
from nnvis.probe.branches import STEPS as BRANCH_STEPS
from nnvis.probe.checks import GRADIENT_ROWS, LEAST_ROWS, Checker, Rows, has_running_statistics
from nnvis.probe.layers import find_layers
from nnvis.probe.schedule import Plan, Schedule, plan_checks
from nnvis.probe.untouched import only_reads_parameters
from nnvis.record import FIGURES_BYTES, EventLog, checks_bytes, expected_bytes, load_run
from nnvis.record.vocabulary import FloatArray
from nnvis.training.batches import Batches, take
from nnvis.training.batches import Rows as BatchRows
from nnvis.training.devices import cpu_threads, resolve_device, resolve_precision
from nnvis.training.examination import Branching, Examination, Picture
from nnvis.training.failures import explained
from nnvis.training.learner import Learner, Placed
from nnvis.training.loop import Length
from nnvis.training.losses import build_objective, resolve_loss
from nnvis.training.optimizers import build_optimizer, build_schedule, needs_closure
from nnvis.training.randomness import seeded
from nnvis.training.recording import SCALARS_EVERY
from nnvis.training.state import State

BRANCHES = (0.0, 0.05, 0.2)
"""Parts of a run after which other learning rates are tried, where that is asked for."""


def resolve(config: Config) -> Config:
    """The config with the actual device and number of CPU threads: the bits of the result depend on both."""
    device = resolve_device(config.training.device)
    threads = config.training.threads or torch.get_num_threads()
    training = config.training.model_copy(update={"device": str(device), "threads": threads})
    return config.model_copy(update={"training": training})


def with_loss(config: Config, splits: Splits) -> Config:
    """The config with the loss that is meant. Raises InputError where it does not fit the data."""
    return config.model_copy(update={"loss": resolve_loss(config.loss, splits.task)})


@contextmanager
def prepared(config: Config) -> Iterator[tuple[Config, Splits, Learner]]:
    """The resolved config, its data, and what learns from it, as training starts them; global state is put back.

    Raises InputError for what cannot be trained, and RunError for what training cannot go on with inside.
    """
    config = resolve(config)
    target = torch.device(config.training.device)
    with cpu_threads(config.training.threads), seeded(config.seed, target), explained(config.training):
        splits = load_splits(config.data, config.seed)
        config = with_loss(config, splits)
        yield config, splits, build_learner(config, splits)


def build_batches(config: Config, splits: Splits) -> Batches:
    """The batches of the training split."""
    training = config.training
    return Batches(
        len(splits.train), training.batch_size, training.accumulate, config.seed, torch.device(training.device)
    )


def build_learner(config: Config, splits: Splits) -> Learner:
    """Model, objective, optimizer, schedule and number format of a resolved config.

    Weights are drawn from torch's global generator, on the CPU.

    Raises InputError where parts of the config do not fit each other or the data.
    """
    training, device = config.training, torch.device(config.training.device)
    precision = resolve_precision(training.precision, device)
    objective = build_objective(resolve_loss(config.loss, splits.task), splits.target_size)
    architecture = {
        "input_shape": list(splits.input_shape),
        "output_size": objective.output_size,
        "vocabulary_size": len(splits.vocabulary),
    }
    model = build_model(config.model, **architecture).to(device, precision.dtype)
    find_layers(model, config.capture.layers)  # a glob that matches none is refused before a directory is made
    optimizer = build_optimizer(config.optimizer, model)
    steps, epochs = length_of(config).total(build_batches(config, splits).steps_per_epoch)
    schedule = build_schedule(config.schedule, optimizer, steps=steps, epochs=epochs, validates=splits.val is not None)
    stopping = training.early_stopping
    if stopping and splits.val is None:
        raise InputError("training.early_stopping: needs a validation split; set data.val_fraction above 0")
    if stopping and stopping.metric == "accuracy" and not objective.classifies:
        raise InputError("training.early_stopping.metric: accuracy is for classification; choose loss")
    if training.precision == "fp16" and needs_closure(optimizer):
        raise InputError("training.precision: fp16 does not go with LBFGS; choose bf16, float32 or float64")
    if training.precision == "fp16" and config.diagnosis.branches:
        raise InputError("diagnosis.branches: do not go with fp16, whose gradients are scaled; choose bf16 or float32")
    return Learner(
        model=model,
        forward=cast(nn.Module, torch.compile(model)) if training.compile else model,
        objective=objective,
        optimizer=optimizer,
        schedule=schedule,
        precision=precision,
        scaler=precision.scaler(),
        settings=training,
        architecture=architecture,
    )


def place(splits: Splits, learner: Learner) -> dict[str, Placed]:
    """The splits there are, on the learner's device, by name."""
    by_name = {"train": splits.train, "val": splits.val, "test": splits.test}
    return {name: learner.place(split) for name, split in by_name.items() if split is not None}


def length_of(config: Config) -> Length:
    """How long the run is."""
    return Length(config.training.epochs, config.training.steps)


def checks_of(config: Config, splits: Splits, learner: Learner) -> Plan | None:
    """When fixed rows are looked at, and how many; None where they are not."""
    every, batches = config.diagnosis.every, build_batches(config, splits)
    if every is None or len(splits.train) < LEAST_ROWS:
        return None
    steps, _ = length_of(config).total(batches.steps_per_epoch)
    plan = plan_checks(
        steps,
        math.ceil(len(splits.train) / batches.steps_per_epoch),
        len(splits.train),
        validates=splits.val is not None,
        normalizes=has_running_statistics(learner.model),
        every=None if every == "auto" else every,
    )
    return plan._replace(steps=(*sorted({*plan.steps, *branch_steps(steps)}),)) if config.diagnosis.branches else plan


def build_checker(
    splits: Splits, learner: Learner, placed: dict[str, Placed], plan: Plan, facts: Mapping[str, Any] | None = None
) -> Checker:
    """What looks at fixed rows of the splits; `facts` of the first check, in a run that goes on."""
    train, val = placed["train"], placed.get("val")
    sizes = {"most_rows": plan.rows, "gradient_rows": plan.gradient_rows, "val_rows": plan.rows}
    if facts:
        sizes = {"gradient_rows": GRADIENT_ROWS, **facts}
    return Checker(
        learner.model,
        learner.objective.function,
        Rows(train.inputs, train.targets),
        val=Rows(val.inputs, val.targets) if val else None,
        forward=lambda inputs: learner.precision.run(learner.model, inputs),
        most_rows=sizes.get("most_rows"),
        most_val_rows=sizes.get("val_rows"),
        gradient_rows=sizes["gradient_rows"],
        at_once=plan.at_once,
        parameters_stay=only_reads_parameters(learner.model),
        known={"shared_rows": facts.get("shared_rows") if facts else shared_rows(splits)},
    )


def branch_steps(steps: int) -> frozenset[int]:
    """When a run of so many steps tries other learning rates.

    At its start, which nothing has spoilt yet, and twice more by the time at which a network that learns has shown it,
    so that what they say has lasted.
    """
    return frozenset(round(part * steps) for part in BRANCHES)


def branch(
    checker: Checker, learner: Learner, train: Placed, batches: Batches, state: State, steps: int = BRANCH_STEPS
) -> dict[str, FloatArray]:
    """What other learning rates do from here, on the batches that come next, clipped as training clips."""
    coming = list(islice(_coming(batches, state), steps))

    def taken() -> Iterator[list[Rows]]:
        for step in coming:
            yield [Rows(take(train.inputs, rows), take(train.targets, rows)) for rows in step]

    return try_rates(checker, learner.optimizer, taken, clip=learner.clip_gradients)


def _coming(batches: Batches, state: State) -> Iterator[tuple[BatchRows, ...]]:
    """The row numbers of the steps that come next, without an end."""
    yield from batches.epoch(state.epoch, first=state.batch)
    for epoch in count(state.epoch + 1):
        yield from batches.epoch(epoch)


def examine(
    config: Config,
    splits: Splits,
    learner: Learner,
    placed: dict[str, Placed],
    log: EventLog,
    plan: Plan | None,
    state: State,
    *,
    tell: Callable[[str, str], None],
    picture: Picture,
    beforehand: Callable[[Diagnosis], None] | None = None,
) -> Examination:
    """What looks at fixed rows of the splits while training runs; at nothing where that is off."""
    if plan is None:
        return Examination(None, Schedule(), log)
    earlier = load_run(log.path.parent).checks if log.last_step > 0 else ()
    checker = build_checker(splits, learner, placed, plan, earlier[0].facts if earlier else None)
    branches = None
    if config.diagnosis.branches:
        try_them = partial(branch, checker, learner, placed["train"], build_batches(config, splits), state)
        branches = Branching(branch_steps(plan.steps[-1]), try_them)
    return Examination(
        checker,
        Schedule(plan.steps),
        log,
        earlier=earlier,
        budget=plan.steps[-1],
        planned_rate=largest_rate(plain(config)),
        stop_on=config.diagnosis.stop_on,
        tell=tell,
        picture=picture,
        beforehand=beforehand,
        branches=branches,
    )


def describe(config: Config, splits: Splits, learner: Learner, state: State) -> str:
    """What is about to be trained, on what, and how large its log will be."""
    sizes = {"train": splits.train, "val": splits.val, "test": splits.test}
    rows = ", ".join(f"{len(split):,} {name}" for name, split in sizes.items() if split)
    task = f"{len(splits.classes)} classes" if splits.classes else splits.task
    parameters = sum(parameter.numel() for parameter in learner.model.parameters())
    training = config.training
    threads = f", {training.threads} thread{'s' * (training.threads != 1)}" if training.device == "cpu" else ""
    resumed = f" · goes on at step {state.step:,}" if state.step else ""
    return (
        f"{config.name}: {rows} rows · {task} · {parameters:,} parameters · {training.device}{threads}"
        f" · log about {_size(_log_bytes(config, splits, learner))}, with figures {_size(FIGURES_BYTES)} more{resumed}"
    )


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _log_bytes(config: Config, splits: Splits, learner: Learner) -> int:
    capture = config.capture
    steps, _ = length_of(config).total(build_batches(config, splits).steps_per_epoch)
    layers, plan, checks = len(find_layers(learner.model, capture.layers)), checks_of(config, splits, learner), 0
    if plan is not None:
        rows = min(len(splits.train), plan.rows) + (min(len(splits.val), plan.rows) if splits.val else 0)
        checks = checks_bytes(layers, rows, len(plan.steps))
        if config.diagnosis.branches:
            checks += checks_bytes(0, rows, len(branch_steps(steps)) * (len(FACTORS) + 2))
    if not capture.every:
        return expected_bytes(0, math.ceil(steps / SCALARS_EVERY)) + checks
    with_histograms = math.ceil(capture.histogram_every / capture.every) * capture.every
    return checks + expected_bytes(
        layers,
        math.ceil(steps / capture.every),
        histogram_steps=math.ceil(steps / with_histograms) if capture.histograms else 0,
    )
