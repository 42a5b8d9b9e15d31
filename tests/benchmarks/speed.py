"""Training through nnvis against a loop written by hand, on three networks.

    python tests/benchmarks/speed.py [--pairs 7] [--seconds 3] [--threads N] [--network NAME] [--diagnosis]

The limits are those that the project holds itself to: 1.05 with capture off, 1.10 with the default capture. With as
many threads as there are cores, whatever else the machine does delays every step: `--threads 1` is the steadier number.
"""

import argparse
from pathlib import Path

from nnvis.bench import VARIANTS, bench

NETWORKS = {
    "digits_mlp": ["digits_mlp"],
    "20 x 256 MLP": ["digits_mlp", "model.hidden=null", "model.depth=20", "model.width=256", "training.batch_size=128"],
    "fashion_cnn": ["fashion_cnn", "data.train_size=6000", "schedule={kind: constant}"],
}
LIMITS = {"capture off": 1.05, "capture as configured": 1.10}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--threads", type=int, help="of torch; as many as there are cores if left out")
    parser.add_argument("--network", choices=NETWORKS, help="only this one")
    parser.add_argument("--diagnosis", action="store_true", help="measure capture with diagnosis as well")
    parser.add_argument("--fashion-root", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    options = parser.parse_args()
    variants = list(VARIANTS if options.diagnosis else LIMITS)
    for network, (config, *overrides) in NETWORKS.items():
        if options.network not in (None, network):
            continue
        if config == "fashion_cnn":
            if not options.fashion_root.is_dir():
                print(f"{network}: not measured, no data in {options.fashion_root}")
                continue
            overrides.append(f"data.root={options.fashion_root}")
        if options.threads:
            overrides.append(f"training.threads={options.threads}")
        for cost in bench(config, overrides, pairs=options.pairs, seconds=options.seconds, variants=variants):
            limit = LIMITS.get(cost.variant)
            verdict = "" if limit is None else f"  limit {limit}: {'kept' if cost.ratio <= limit else 'MISSED'}"
            spread = f"{min(cost.ratios):.2f} to {max(cost.ratios):.2f}"
            print(f"{network:<14}{cost.variant:<28}{cost.step_ms:8.2f} ms  x {cost.ratio:.3f} ({spread}){verdict}")


if __name__ == "__main__":
    main()
