"""How often `nnvis fix` would prove what does nothing: healthy networks, really trained, and placebos for remedies.

    python tests/benchmarks/placebo.py [--baselines 200] [--remedies 4] [--seeds 5] [--steps 100]

A placebo is the same config with other random numbers: of a seed the baseline and every placebo see the same rows
(`data.seed`), but start from other weights and draw other batches. It differs in every bit and in nothing that counts.
A healthy run has no symptom that could go, so the validation loss alone decides, and what is counted is more than a fix
would call proved. Baselines differ in network, data, optimizer and learning rate, so that they have other spreads.

About 0.1 s a run on one core: 4 · 200 · 5 placebos and 200 · 5 baselines take ten minutes.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path

from scipy.stats import beta

from nnvis.comparison import PROOF_LEVEL, holm
from nnvis.comparison.proof import p_better
from nnvis.config import Config, parse_config
from nnvis.experiment import train

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


def configs(count: int, steps: int) -> list[Config]:
    """Healthy ones, in turn from all combinations."""
    combinations = itertools.cycle(itertools.product(*VARIETY.values()))
    return [
        parse_config(CONFIG.format(data=d, width=w, activation=a, init=i, optimizer=o, lr=lr, steps=steps))
        for d, w, (a, i), (o, lr) in itertools.islice(combinations, count)
    ]


def final_loss(config: Config, data_seed: int, seed: int, runs: Path) -> float:
    """The validation loss at the end."""
    data = config.data.model_copy(update={"seed": data_seed})
    run = train(config.model_copy(update={"data": data, "seed": seed}), runs=runs, quiet=True, figures=False)
    return run.summary["metrics"]["val"]["loss"]


def interval(found: int, of: int) -> tuple[float, float]:
    """The exact 95% interval of a share (Clopper & Pearson 1934)."""
    low = float(beta.ppf(0.025, found, of - found + 1)) if found else 0.0
    return low, float(beta.ppf(0.975, found + 1, of - found)) if found < of else 1.0


def told(what: str, found: int, of: int) -> str:
    low, high = interval(found, of)
    return f"{what}: {found} of {of} ({found / of:.1%}, exact 95% interval {low:.1%} to {high:.1%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--baselines", type=int, default=200)
    parser.add_argument("--remedies", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    began_s, number = time.monotonic(), itertools.count(1)
    any_proved, proved, uncorrected = 0, 0, 0
    for place, config in enumerate(configs(options.baselines, options.steps), 1):
        with tempfile.TemporaryDirectory() as folder:
            arms = [
                {
                    seed: final_loss(config, 1000 * place + seed, next(number), Path(folder))
                    for seed in range(options.seeds)
                }
                for _ in range(1 + options.remedies)
            ]
        p_values = [p_better(own, arms[0]) for own in arms[1:]]
        called = int((holm(p_values) < PROOF_LEVEL).sum())
        proved, any_proved = proved + called, any_proved + bool(called)
        uncorrected += sum(p < 0.025 for p in p_values)
        if place % 20 == 0 or place == options.baselines:
            print(
                told(f"{time.monotonic() - began_s:.0f} s: baselines with a placebo proved", any_proved, place),
                flush=True,
            )
    tried = options.baselines * options.remedies
    print(told("placebos proved", proved, tried))
    print(told("with p < 0.025 and no correction, for comparison", uncorrected, tried))


if __name__ == "__main__":
    sys.exit(main())
