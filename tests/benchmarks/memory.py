"""Peak memory while training: nnvis against a loop written by hand, each in a process of its own.

    python tests/benchmarks/memory.py [CONFIG [key=value ...]]

What is counted is the peak resident size less what was resident once everything was imported (Linux only).
"""

import re
import subprocess
import sys

ONE_RUN = """
import sys
from nnvis.bench import by_hand, by_nnvis
from nnvis.config import load_config
import sklearn.datasets, torch._dynamo, tensorboard.compat.proto.event_pb2

def resident(field):
    return int(next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(field)).split()[1])

config = load_config(sys.argv[2], ["training.epochs=null", "training.steps=300", *sys.argv[3:]])
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
{"nnvis": by_nnvis, "hand": by_hand}[sys.argv[1]](config)
print(resident("VmHWM") - before)
"""


def peak_mb(which: str, words: list[str]) -> float:
    """MiB that one run adds at its peak."""
    done = subprocess.run([sys.executable, "-c", ONE_RUN, which, *words], capture_output=True, text=True, check=True)
    return int(re.findall(r"\d+", done.stdout)[-1]) / 1024


def main() -> None:
    words = sys.argv[1:] or ["digits_mlp"]
    pairs = [(peak_mb("nnvis", words), peak_mb("hand", words)) for _ in range(5)]
    ours, theirs = (sorted(column)[2] for column in zip(*pairs, strict=True))
    print(f"{words[0]}: nnvis {ours:.1f} MiB, by hand {theirs:.1f} MiB, x {ours / theirs:.3f} (median of 5)")


if __name__ == "__main__":
    main()
