"""Memory while training: nnvis against a loop written by hand, each in a process of its own.

    python tests/benchmarks/memory.py [CONFIG [key=value ...]]

What is counted is the peak resident size of 300 steps over what is resident after a short training of another network
(Linux only): torch imports 90 MiB of itself when the first optimizer is made, for nnvis and by hand alike.
"""

import re
import subprocess
import sys

ONE_RUN = """
import sys
from pathlib import Path
import sklearn.datasets, torch
import nnvis.experiment, nnvis.figures
from nnvis.bench import by_hand, by_nnvis
from nnvis.config import load_config

def resident(field):
    return int(next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(field)).split()[1])

run = {"nnvis": by_nnvis, "hand": by_hand}[sys.argv[1]]
config = load_config(sys.argv[2], ["training.epochs=null", "training.steps=300", *sys.argv[3:]])
run(load_config("moons_mlp", ["training.epochs=1"]))
before = resident("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
run(config)
print(resident("VmHWM"), resident("VmHWM") - before)
"""


def peak_mb(which: str, words: list[str]) -> tuple[float, float]:
    """MiB at the peak of one run: in all, and over what was resident before it."""
    command = [sys.executable, "-c", ONE_RUN, which, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    whole, added = re.findall(r"\d+", done.stdout)[-2:]
    return int(whole) / 1024, int(added) / 1024


def main() -> None:
    words = sys.argv[1:] or ["digits_mlp"]
    runs = {which: sorted(peak_mb(which, words) for _ in range(3))[1] for which in ("nnvis", "hand")}
    (whole, added), (whole_by_hand, added_by_hand) = runs["nnvis"], runs["hand"]
    print(
        f"{words[0]}: peak {whole:.1f} MiB, by hand {whole_by_hand:.1f}, x {whole / whole_by_hand:.3f}; "
        f"without the imports {added:.1f} MiB, by hand {added_by_hand:.1f}, x {added / added_by_hand:.3f}"
    )


if __name__ == "__main__":
    main()
