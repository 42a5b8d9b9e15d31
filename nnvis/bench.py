"""What training through nnvis costs on this machine, as a ratio to a training loop written by hand.

    for row in bench("digits_mlp"):
        print(row.variant, row.ratio)          # 1.0 is the hand-written loop

Both train the same network on the same tensors for the same steps, in turn: A B B A …. A ratio is taken within each
pair, so that a machine whose speed drifts does not matter; the median over the pairs is what to quote.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from nnvis.config import Config, dump_config, load_config, parse_config
from nnvis.data import load_splits
from nnvis.errors import InputError
from nnvis.experiment import train
from nnvis.training.devices import cpu_threads
from nnvis.training.randomness import seeded
from nnvis.training.setup import build_learner, place, resolve, with_loss

VARIANTS = {
    "capture off": ["capture.every=null", "diagnosis.every=null"],
    "capture as configured": ["diagnosis.every=null"],
    "capture and diagnosis": [],
}
"""What is compared with the hand-written loop: name -> overrides."""
_NEVER = 1_000_000


@dataclass(frozen=True)
class Cost:
    """One variant against the hand-written loop."""

    variant: str
    step_ms: float  # median over the pairs
    ratios: tuple[float, ...]  # one a pair

    @property
    def ratio(self) -> float:
        """Median over the pairs."""
        return statistics.median(self.ratios)


def bench(
    source: str | Path,
    overrides: Sequence[str] = (),
    *,
    pairs: int = 5,
    seconds: float = 2.0,
    variants: Sequence[str] = tuple(VARIANTS),
    trust: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Cost]:
    """Compare `variants` (keys of VARIANTS) with the hand-written loop, in `pairs` pairs of about `seconds` each.

    Validation after each epoch (loss and accuracy) and saving at the end are part of both; checkpoints in between are
    not: they take 1% of the time of a long run, and would take more of so short a one. So does the diagnosis, whose
    0.4 s are a variant of its own.

    Raises InputError for a config that cannot be trained, and for what the hand-written loop does not do.
    """
    fixed = ["training.epochs=null", "training.steps=1", f"training.checkpoint_every={_NEVER}"]
    config = load_config(source, [*fixed, *overrides], trust=trust)
    _require_plain(config)
    by_hand(config)  # warms up
    steps = max(20, math.ceil(seconds / by_hand(_with(config, ["training.steps=20"])) * 20))
    for variant in variants:
        varied = _with(config, [f"training.steps={steps}", *VARIANTS[variant]])

        def tell(pair: int, variant: str = variant) -> None:
            say(f"{variant}: pair {pair + 1} of {pairs}, {steps} steps each")

        ours_s, theirs_s = paired(partial(by_nnvis, varied), partial(by_hand, varied), pairs, tell)
        ratios = tuple(ours / theirs for ours, theirs in zip(ours_s, theirs_s, strict=True))
        yield Cost(variant, 1000 * statistics.median(ours_s) / steps, ratios)


def paired(
    ours: Callable[[], float], theirs: Callable[[], float], pairs: int, tell: Callable[[int], None] = lambda pair: None
) -> tuple[list[float], list[float]]:
    """Seconds that each of the two takes, run in turn: theirs, ours, ours, theirs, ...."""
    ours_s: list[float] = []
    theirs_s: list[float] = []
    for pair in range(pairs):
        tell(pair)
        turns = [(ours_s, ours), (theirs_s, theirs)]
        for seconds_s, run in turns if pair % 2 else reversed(turns):
            seconds_s.append(run())
    return ours_s, theirs_s


def by_nnvis(config: Config) -> float:
    """Seconds that nnvis's loop takes: batches, measuring, logging, checkpoints, validation; no figures."""
    with tempfile.TemporaryDirectory() as folder:
        return train(config, runs=folder, quiet=True, figures=False).summary["seconds"]


def by_hand(config: Config) -> float:
    """Seconds that the loop takes which people write who have no trainer."""
    config = resolve(config)
    device = torch.device(config.training.device)
    with cpu_threads(config.training.threads), seeded(config.seed, device):
        splits = load_splits(config.data, config.seed)
        learner = build_learner(with_loss(config, splits), splits)
        data = place(splits, learner)
        model, criterion, optimizer = learner.model, learner.objective.function, learner.optimizer
        inputs, targets = data["train"].inputs, data["train"].targets
        size = len(inputs) if config.training.batch_size == "full" else config.training.batch_size
        began, step, steps = time.perf_counter(), 0, config.training.steps or 0
        while step < steps:
            for rows in torch.randperm(len(inputs), device=device).split(size):
                optimizer.zero_grad()
                loss = criterion(model(inputs[rows]), targets[rows])
                loss.backward()
                optimizer.step()
                loss.item()
                step += 1
                if step == steps:
                    break
            if "val" in data:
                model.eval()
                val_loss, right = 0.0, 0
                with torch.no_grad():
                    for rows in torch.arange(len(data["val"]), device=device).split(max(size, 256)):
                        outputs, expected = model(data["val"].inputs[rows]), data["val"].targets[rows]
                        val_loss += criterion(outputs, expected).item() * len(rows)
                        if learner.objective.classifies:
                            right += int(learner.objective.correct(outputs, expected).item())
                model.train()
        with tempfile.TemporaryFile() as file:
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
        return time.perf_counter() - began


def _with(config: Config, overrides: Sequence[str]) -> Config:
    return parse_config(dump_config(config), overrides=overrides, trust=True)


def _require_plain(config: Config) -> None:
    training = config.training
    plain = training.precision == "float32" and training.accumulate == 1 and not training.compile
    plain = plain and config.schedule.kind == "constant" and config.optimizer.kind != "LBFGS"
    if not plain or training.clip_grad_norm or training.clip_grad_value or training.early_stopping:
        raise InputError(
            "nnvis bench: the hand-written loop is plain; take a config in float32 without accumulation, clipping, "
            "early stopping, schedule, compile and LBFGS, or override them (training.clip_grad_norm=null)"
        )
