"""The fault cases from the command line: train them once, then score the diagnosis as often as its rules change.

python tests/fault_cases train RECORDS [--seeds 5] [--only 'at_*'] [--seconds 240] [--facts FILE]
python tests/fault_cases branch RECORDS [--seeds 5] [--only 'at_*'] [--seconds 240]
python tests/fault_cases score RECORDS [--joint] [--details] [--facts FILE]
python tests/fault_cases check [--seeds 5] [--only 'at_*']      # before any training: needs no records
python tests/fault_cases fix FOLDER [--seeds 5] [--only 'at_*'] [--seconds 3600]

`train` writes RECORDS/CASE/SEED and leaves alone what is there; after --seconds it begins no further run.
`branch` adds what other learning rates do from its start and after 5% and 20% of its steps, where there is a record;
`score --joint` is of record, branches and the check before training together.
`fix` writes those that a config can say into FOLDER, and counts for how many of the faults that are detected there
`nnvis fix` proves a remedy.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
import time
from pathlib import Path

import torch
from fault_branching import FILE, branch_case
from fault_checking import check_cases
from fault_configs import fix_cases
from fault_facts import FACTS, Case, held_out, read_facts
from fault_scoring import score
from fault_training import train_case

HEALED_SEEDS = 2  # enough for what a healed run reaches


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests/fault_cases", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=("train", "branch", "score", "check", "fix"))
    parser.add_argument("records", type=Path, nargs="?")
    parser.add_argument("--facts", type=Path, default=FACTS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="*")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--joint", action="store_true", help="with branches and the check before training")
    parser.add_argument("--details", action="store_true", help="every run's findings")
    arguments = parser.parse_args()
    facts = read_facts(arguments.facts)
    cases = {name: case for name, case in facts.items() if fnmatch.fnmatch(name, arguments.only)}
    if arguments.action == "check":
        torch.set_num_threads(1)
        print(check_cases(cases, arguments.seeds, held_out(facts)).table())
    elif arguments.records is None:
        parser.error("name the folder of the records")
    elif arguments.action == "train":
        torch.set_num_threads(1)
        train(cases, arguments.seeds, arguments.records, arguments.seconds)
    elif arguments.action == "branch":
        torch.set_num_threads(1)
        branch(cases, arguments.seeds, arguments.records, arguments.seconds)
    elif arguments.action == "fix":
        torch.set_num_threads(1)
        print(fix_cases(cases, arguments.records, arguments.seeds, arguments.seconds).table())
    else:
        scored = score(cases, arguments.records, held_out(facts), joint=arguments.joint)
        if arguments.details:
            for run in scored.runs:
                print(f"{run.case.id} {run.outcome.seed} [{', '.join(run.case.label)}] {run.consequence}")
                for finding in run.findings:
                    what = f"{finding.severity} {finding.symptom} since {finding.first_step}"
                    print(f"    {what}: {finding.evidence} <- {'; '.join(finding.causes)}")
        print(scored.table())


def train(cases: dict[str, Case], seeds: int, records: Path, seconds: float) -> None:
    """Seed 0 of every case first, then the next seed."""
    began_s = time.monotonic()
    for seed in range(seeds):
        for case in cases.values():
            if case.role == "healed" and seed >= HEALED_SEEDS:
                continue
            folder = records / case.id / str(seed)
            if (folder / "outcome.json").exists():
                continue
            if time.monotonic() - began_s > seconds:
                print("not finished: out of time")
                return
            started_s = time.monotonic()
            outcome = train_case(case, seed, folder)
            progress = outcome.train[-1] / outcome.null if outcome.null else float("nan")
            print(
                f"{case.id} {seed}: {outcome.steps[-1]} of {outcome.planned} steps, loss / constant answer's "
                f"{outcome.train[0] / outcome.null if outcome.null else float('nan'):.3g} -> {progress:.3g}, "
                f"score {outcome.score:.3f}, {time.monotonic() - started_s:.1f} s",
                flush=True,
            )
    print("finished")


def branch(cases: dict[str, Case], seeds: int, records: Path, seconds: float) -> None:
    """Seed 0 of every case that has a record first, then the next seed."""
    began_s = time.monotonic()
    for seed in range(seeds):
        for case in cases.values():
            folder = records / case.id / str(seed)
            if not (folder / "outcome.json").exists() or (folder / FILE).exists():
                continue
            if time.monotonic() - began_s > seconds:
                print("not finished: out of time")
                return
            started_s = time.monotonic()
            tried_s = branch_case(case, seed, folder)
            print(f"{case.id} {seed}: {tried_s:.1f} s of {time.monotonic() - started_s:.1f} s", flush=True)
    print("finished")


if __name__ == "__main__":
    main()
    sys.exit()
