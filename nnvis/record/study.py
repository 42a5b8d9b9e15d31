"""A study, read back from its directory: what is compared, and the runs that there are. Needs no torch, and no end.

study = load_study("runs/vanishing")
study.variants                       # ("sigmoid", "relu_he", ...), in the order of the file
study.runs["sigmoid"][0].scalars     # the run of seed 0
study.missing                        # {("relu_he", 4): "not trained yet"}

In the directory: `study.yaml` (the study as it was resolved), `runs.json` (variant -> seed -> folder), the runs
under `VARIANT/N-seedSEED/`, `comparison.json`, `figures/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnvis.errors import InputError
from nnvis.record.files import read_json, read_yaml
from nnvis.record.run import STUDY_FILE, ModelLoader, Recorded, Run, load_run

RUNS_FILE = "runs.json"


@dataclass(frozen=True)
class Study:
    """Variants of one experiment, each trained with several seeds."""

    path: Path
    name: str
    question: str
    variants: tuple[str, ...]  # in the order of the file
    overrides: dict[str, dict[str, Any]] = field(repr=False)  # by variant: dotted key -> value
    axes: dict[str, tuple[Any, ...]] = field(repr=False)  # of a grid: dotted key -> its values; {} for named variants
    seeds: tuple[int, ...]
    figures: tuple[str, ...] = field(repr=False)  # names; () for those that suit it
    expect: tuple[str, ...] = field(repr=False)  # what the file says will come out
    runs: Recorded[dict[int, Run]] = field(repr=False)  # by variant, by seed: those that there are
    missing: dict[tuple[str, int], str] = field(repr=False)  # (variant, seed) -> why there is no run

    def each_run(self) -> Iterator[tuple[str, int, Run]]:
        """(variant, seed, run) in the study's order."""
        for variant, by_seed in self.runs.items():
            for seed, run in by_seed.items():
                yield variant, seed, run


def load_study(path: str | Path, model_loader: ModelLoader | None = None) -> Study:
    """Reads the study in the directory `path`. Raises InputError where there is none that nnvis wrote."""
    path = Path(path)
    if not (path / STUDY_FILE).is_file():
        raise InputError(f"{path}: no study in it (no {STUDY_FILE}); make one: nnvis compare STUDY")
    told = read_yaml(path / STUDY_FILE)
    if not _is_whole(told):
        raise InputError(f"{path / STUDY_FILE}: not a study that nnvis wrote; make one: nnvis compare STUDY")
    variants, seeds = told["variants"], tuple(told["seeds"])
    places = read_json(path / RUNS_FILE) if (path / RUNS_FILE).exists() else {}
    if not isinstance(places, dict) or not all(isinstance(by_seed, dict) for by_seed in places.values()):
        raise InputError(f"{path / RUNS_FILE}: not the runs of a study; the same nnvis compare writes it again")
    runs: Recorded[dict[int, Run]] = Recorded({variant: {} for variant in variants})
    missing: dict[tuple[str, int], str] = {}
    for variant in variants:
        for seed in seeds:
            place = places.get(variant, {}).get(str(seed))
            try:
                if place is None:
                    raise InputError("not trained yet")
                runs[variant][seed] = load_run(path / place, model_loader)
            except InputError as error:
                missing[variant, seed] = str(error)
    return Study(
        path=path,
        name=told["name"],
        question=told["question"],
        variants=tuple(variants),
        overrides=variants,
        axes={key: tuple(values) for key, values in told["axes"].items()},
        seeds=seeds,
        figures=tuple(told["figures"]),
        expect=tuple(told["expect"]),
        runs=runs,
        missing=missing,
    )


def varied_values(path: str | Path) -> dict[str, list[Any]]:
    """By dotted key that any variant of the study in `path` sets: what each variant has there, None where nothing.

    A section that a variant sets (`optimizer: {kind: Adam}`) takes the base's place. Empty where there is no study.
    """
    if not is_study(path):
        return {}
    told = read_yaml(Path(path) / STUDY_FILE)
    variants = [*told["variants"].values()]
    return {key: [_value(overrides, told["base"], key) for overrides in variants] for key in varied_keys(variants)}


def varied_keys(variants: Iterable[Mapping[str, Any]]) -> list[str]:
    """The dotted keys that overrides set, each once; of a whole section, the keys in it."""
    return [*dict.fromkeys(key for overrides in variants for key, _ in _leaves(overrides))]


def is_study(path: str | Path) -> bool:
    """Whether a directory holds a study that nnvis wrote; somebody's own file of that name makes none."""
    file = Path(path) / STUDY_FILE
    try:
        return file.is_file() and _is_record(read_yaml(file))
    except InputError:
        return False


def _is_record(told: Mapping[str, Any]) -> bool:
    """Whether it is a study as it was resolved, rather than as somebody wrote it: that has no `axes`."""
    return all(isinstance(told.get(key), Mapping) for key in ("base", "variants", "axes")) and all(
        isinstance(overrides, Mapping) for overrides in told["variants"].values()
    )


def _is_whole(told: Mapping[str, Any]) -> bool:
    """Whether a study's record has all that it should."""
    texts, lists = (told.get("name"), told.get("question")), [told.get(key) for key in ("seeds", "figures", "expect")]
    return (
        _is_record(told)
        and all(isinstance(text, str) for text in texts)
        and all(isinstance(values, list) for values in (*lists, *told["axes"].values()))
    )


def _leaves(section: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _value(overrides: Mapping[str, Any], base: Any, key: str) -> Any:
    leaves = dict(_leaves(overrides))
    if key in leaves or any(key.startswith(f"{section}.") for section in overrides):
        return leaves.get(key)
    for part in key.split("."):
        if isinstance(base, Mapping):
            base = base.get(part)
        elif isinstance(base, list) and part.isdigit() and int(part) < len(base):
            base = base[int(part)]
        else:
            return None
    return base
