"""How often `nnvis fix` would prove what does nothing: healthy networks, really trained, and placebos for remedies.

    python tests/benchmarks/placebo.py [--baselines 2000] [--skip 0] [--remedies 4] [--seeds 5] [--steps 100]

A placebo is the same config with other random numbers: of a seed the baseline and every placebo see the same rows
(`data.seed`), but start from other weights and draw other batches. It differs in every bit and in nothing that counts.
Where none of them is proved there is a second round, as `nnvis fix` has one. A healthy run has no symptom that could
go, so the validation loss alone decides, and what is counted is more than a fix would call proved. Baselines differ in
network, data, optimizer and learning rate, so that they have other spreads.

The networks, data, batches and losses are those that `nnvis train` makes of these configs; all networks of a baseline
take their steps together (`torch.func`), which is the same arithmetic in another order. `test_placebo.py` holds the two
against each other. About 1 s a baseline on one core.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from scipy.stats import beta
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from nnvis.comparison import PROOF_LEVEL
from nnvis.comparison.proof import adjusted_for, p_better
from nnvis.config import Config, parse_config
from nnvis.data import load_splits
from nnvis.studies.fixing import SECOND_ROUND
from nnvis.training.batches import Batches
from nnvis.training.learner import Learner, Placed
from nnvis.training.randomness import seeded
from nnvis.training.setup import build_batches, build_learner, place

CONFIG = """
name: placebo
data: {{kind: {data}, samples: 240, val_fraction: 0.25}}
model: {{kind: mlp, hidden: [{width}, {width}], activation: {activation}, init: {init}}}
optimizer: {{kind: {optimizer}, lr: {lr}}}
training: {{steps: {steps}, batch_size: 32, device: cpu, threads: 1}}
capture: {{every: null}}
diagnosis: {{every: null}}
"""
VARIETY = {
    "data": ("moons", "circles", "xor", "sine", "plane"),
    "width": (8, 24),
    "activation, init": (("tanh", "xavier_uniform"), ("relu", "kaiming_uniform")),
    "optimizer, lr": (("Adam", 0.01), ("Adam", 0.003), ("SGD", 0.1), ("SGD", 0.03)),
}
OPTIMIZERS = {"Adam": torch.optim.Adam, "SGD": torch.optim.SGD}


def configs(count: int, steps: int) -> list[Config]:
    """Healthy ones, in turn from all combinations."""
    combinations = itertools.cycle(itertools.product(*VARIETY.values()))
    return [
        parse_config(CONFIG.format(data=d, width=w, activation=a, init=i, optimizer=o, lr=lr, steps=steps))
        for d, w, (a, i), (o, lr) in itertools.islice(combinations, count)
    ]


def with_seeds(config: Config, data_seed: int, seed: int) -> Config:
    data = config.data.model_copy(update={"seed": data_seed})
    return config.model_copy(update={"data": data, "seed": seed})


def final_losses(runs: Sequence[Config]) -> list[float]:
    """The validation losses at the end, of configs that differ in their seeds alone."""
    config, built = runs[0], [_built(run) for run in runs]
    model, function = built[0].learner.model, built[0].learner.objective.function
    parameters, buffers = stack_module_state([each.learner.model for each in built])

    def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        return function(functional_call(model, (parameters, buffers), (inputs,)), targets)

    optimizer = OPTIMIZERS[config.optimizer.kind]([*parameters.values()], **config.optimizer.arguments)
    for rows in itertools.islice(_steps([each.batches for each in built]), config.training.steps):
        optimizer.zero_grad()
        batch = [(each.train.inputs[some], each.train.targets[some]) for each, some in zip(built, rows, strict=True)]
        vmap(loss)(parameters, buffers, *_stacked(batch)).sum().backward()
        optimizer.step()
    with torch.no_grad():
        return vmap(loss)(
            parameters, buffers, *_stacked([(each.val.inputs, each.val.targets) for each in built])
        ).tolist()


class _Built(NamedTuple):
    learner: Learner
    train: Placed
    val: Placed
    batches: Batches


def _built(config: Config) -> _Built:
    """A run as `nnvis train` starts it."""
    with seeded(config.seed, torch.device("cpu")):
        splits = load_splits(config.data, config.seed)
        learner = build_learner(config, splits)
    placed = place(splits, learner)
    return _Built(learner, placed["train"], placed["val"], build_batches(config, splits))


def _steps(orders: Sequence[Batches]) -> Iterator[list[Tensor]]:
    """For every step the rows (B,) of each run."""
    for epoch in itertools.count():
        for step in zip(*(batches.epoch(epoch) for batches in orders), strict=True):
            yield [rows for (rows,) in step if rows is not None]


def _stacked(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    inputs, targets = zip(*pairs, strict=True)
    return torch.stack(inputs), torch.stack(targets)


def interval(found: int, of: int) -> tuple[float, float]:
    """The exact 95% interval of a share (Clopper & Pearson 1934)."""
    low = float(beta.ppf(0.025, found, of - found + 1)) if found else 0.0
    return low, float(beta.ppf(0.975, found + 1, of - found)) if found < of else 1.0


def told(what: str, found: int, of: int) -> str:
    low, high = interval(found, of)
    return f"{what}: {found} of {of} ({found / of:.2%}, exact 95% interval {low:.2%} to {high:.2%})"


def proved(p_values: Sequence[float], first: int) -> int:
    """How many are, in the first round, or else with the second: as in `nnvis.studies.fixing`."""
    rounds = (adjusted_for(tried, len(p_values)) for tried in (p_values[:first], p_values))
    return next(filter(None, (sum(p < PROOF_LEVEL for p in each) for each in rounds)), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--baselines", type=int, default=2000)
    parser.add_argument("--skip", type=int, default=0, help="baselines that another process counts")
    parser.add_argument("--remedies", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    arms = range(1 + options.remedies + SECOND_ROUND)
    began_s, number = time.monotonic(), itertools.count(1 + options.skip * len(arms) * options.seeds)
    any_proved, all_proved, uncorrected, tried = 0, 0, 0, 0
    chosen = configs(options.skip + options.baselines, options.steps)[options.skip :]
    for done, config in enumerate(chosen, 1):
        keys = [(arm, seed) for arm in arms for seed in range(options.seeds)]
        losses = final_losses(
            [with_seeds(config, 1000 * (options.skip + done) + seed, next(number)) for _, seed in keys]
        )
        by_arm = [{seed: loss for (a, seed), loss in zip(keys, losses, strict=True) if a == arm} for arm in arms]
        p_values = [p_better(own, by_arm[0]) for own in by_arm[1:]]
        called = proved(p_values, options.remedies)
        all_proved, any_proved = all_proved + called, any_proved + bool(called)
        uncorrected, tried = uncorrected + sum(p < 0.025 for p in p_values), tried + len(p_values)
        if done % 50 == 0 or done == options.baselines:
            print(
                told(f"{time.monotonic() - began_s:.0f} s: baselines with a placebo proved", any_proved, done),
                flush=True,
            )
    print(told("placebos proved", all_proved, tried))
    print(told("with p < 0.025 and no correction, for comparison", uncorrected, tried))


if __name__ == "__main__":
    sys.exit(main())
