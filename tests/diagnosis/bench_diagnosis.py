"""What a diagnosis costs: python tests/diagnosis/bench_diagnosis.py. Limits: 2 s without torch, 2% of training time.

First `nnvis diagnose` on a record of 100 layers, 5,000 measured steps and 20 checks, as a process of its own; then
training a 20 x 256 network with checks and without, in turns, and the share that the run itself says its checks took.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from made_up import CONSTANT, facts

from nnvis.config import parse_config
from nnvis.experiment import train
from nnvis.record import LAYER_QUANTITIES, Check, EventLog, LayerValues, Measurement, write_json

LAYERS, STEPS, QUANTITIES, CHECKS = 100, 5000, 15, 20
LIMIT_S, LIMIT_SHARE = 2.0, 0.02
NETWORK = """
name: cost
data: {kind: digits, val_fraction: 0.2, standardize: true}
model: {kind: mlp, depth: 20, width: 256, init: kaiming_uniform}
optimizer: {kind: SGD, lr: 0.01, momentum: 0.9}
training: {epochs: null, batch_size: 128, threads: 1, checkpoint_every: 1000000}
"""


def write_record(directory: Path) -> None:
    """A healthy run of 100 layers."""
    random = np.random.default_rng(0)
    names = tuple(f"block{i}.linear" for i in range(LAYERS))
    absent = np.zeros(LAYERS, np.uint8)
    table = [{**facts()["layers"][0], "name": name} for name in names]
    with EventLog.create(directory) as log:
        for step in range(STEPS):
            rows = {
                q: LayerValues(names, random.lognormal(size=LAYERS), absent)
                for q in list(LAYER_QUANTITIES)[:QUANTITIES]
            }
            for quantity in rows:
                if quantity.endswith("nonfinite"):
                    rows[quantity] = LayerValues(names, np.zeros(LAYERS), absent)
            log.write(Measurement(step, rows), {"loss/train": 1.0, "lr": 0.1})
        for number in range(CHECKS):
            loss = CONSTANT * 0.8**number * random.normal(1, 0.1, 1024)
            values = {
                "diagnosis_activation_norm": random.lognormal(0, 0.1, (LAYERS, 8)),
                "diagnosis_activation_grad_norm": random.lognormal(0, 0.1, (LAYERS, 8)),
                "diagnosis_parameter_grad_norm": np.ones(LAYERS),
                "diagnosis_slope_quantiles": np.full((LAYERS, 21), np.nan),
                "diagnosis_flat_fraction": np.full(LAYERS, np.nan),
                "diagnosis_duplicate_fraction": np.zeros(LAYERS),
                "diagnosis_row_loss": loss,
                "diagnosis_row_loss_val": loss,
                "diagnosis_recall": np.ones(4),
                "diagnosis_nonfinite": np.zeros(3),
            }
            if number == 0:
                values |= {f"diagnosis_row_loss_{name}": np.full(1024, CONSTANT) for name in ("constant", "linear")}
            log.check(Check(number * STEPS // CHECKS, values, facts(layers=table)))
    write_json(directory / "summary.json", {"status": "completed", "steps": STEPS})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "record"
        write_record(run)
        seconds = []
        for _ in range(options.pairs):
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-X", "importtime", "-m", "nnvis", "diagnose", str(run)],
                capture_output=True,
                text=True,
            )
            seconds.append(time.perf_counter() - start)
            assert done.returncode in (0, 3), done.stderr
            assert not any(line.rstrip().endswith("| torch") for line in done.stderr.splitlines())
        kept = "kept" if statistics.median(seconds) < LIMIT_S else "MISSED"
        print(
            f"nnvis diagnose, {LAYERS} layers, {STEPS:,} steps: {statistics.median(seconds):.2f} s, no torch  "
            f"({LIMIT_S} s: {kept})"
        )
        took: dict[str, list[float]] = {"null": [], "auto": []}
        shares = []
        for _ in range(options.pairs):
            for every, times in took.items():
                text = (
                    NETWORK.replace("epochs: null", f"epochs: null, steps: {options.steps}")
                    + f"diagnosis: {{every: {every}}}"
                )
                trained = train(parse_config(text), runs=Path(folder), quiet=True, figures=False)
                times.append(trained.summary["seconds"])
                if every == "auto":
                    shares.append(trained.summary["diagnosis"]["seconds"] / times[-1])
        ratio = statistics.median(took["auto"]) / statistics.median(took["null"])
        kept = "kept" if statistics.median(shares) < LIMIT_SHARE else "MISSED"
        print(
            f"training 20 x 256, {options.steps:,} steps, {statistics.median(took['auto']):.1f} s: checks and rules "
            f"take {statistics.median(shares):.2%} of it  ({LIMIT_SHARE:.0%}: {kept}); {ratio:.3f} of the time without"
        )


if __name__ == "__main__":
    main()
