"""A sick run is fixed: what is tried, what is proved, what is written; and what cannot be."""

from __future__ import annotations

import math
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from small_studies import BASE
from torch import nn

import nnvis
from nnvis import cli
from nnvis.comparison import Effect
from nnvis.comparison.paired import difference
from nnvis.config import load_config
from nnvis.config.yaml_text import write_yaml
from nnvis.diagnosis import Diagnosis
from nnvis.errors import InputError, RunError
from nnvis.experiment import train
from nnvis.record import Finding, Run, load_run
from nnvis.record.vocabulary import Remedy
from nnvis.studies import Fix, fixing
from nnvis.studies.fixing import Tried

WILD: dict[str, Any] = {  # its weights start so large that it diverges with any seed
    "name": "wild",
    "model": {"kind": "mlp", "depth": 8, "width": 16, "init": {"kind": "normal", "std": 3.0}},
    "training": {"steps": 30, "batch_size": 16, "device": "cpu", "threads": 1},
    "diagnosis": {"stop_on": ["nonfinite_values"]},
}


def trained(folder: Path, **sections: Any) -> Path:
    """The directory of a run of the small config with these sections."""
    file = folder / "config.yaml"
    file.write_text(write_yaml({**BASE, **sections}), encoding="utf-8")
    try:
        return train(file, runs=folder / "runs", quiet=True, figures=False).path
    except RunError:
        return next((folder / "runs").glob("*/1-seed*"))


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("wild"), **WILD, seed=3)


@pytest.fixture(scope="module")
def fixed(wild: Path) -> Fix:
    return nnvis.fix(wild, runs=wild.parents[1], jobs=2, quiet=True)


def test_every_remedy_is_tried_with_the_same_seeds(fixed: Fix) -> None:
    assert fixed.study
    assert fixed.study.name == "wild-1-seed3-fix"
    assert fixed.study.seeds == (3, 4, 5, 6, 7)
    assert fixed.study.variants == ("unchanged", *(each.variant for each in fixed.tried))
    assert not fixed.study.missing
    assert 2 <= len(fixed.tried) <= fixing.MOST
    assert fixed.findings[0].severity == fixed.tried[0].finding.severity == "error"
    own = fixed.run.config
    for variant, seed, run in fixed.study.each_run():
        assert run.config["diagnosis"]["stop_on"] == []  # what a finding stops has no final loss
        same = {key: run.config[key] for key in ("data", "capture", "schedule")}
        assert same == {key: own[key] for key in same}
        assert (run.config["name"], run.config["seed"]) == (variant, seed)
    unchanged = fixed.study.runs["unchanged"][3].config
    assert {**own, "name": "unchanged", "diagnosis": unchanged["diagnosis"]} == unchanged
    alike = [fixed.study.runs["unchanged"][3], fixed.run]
    assert [run.scalars["loss/train"].values[0] for run in alike] == [alike[0].scalars["loss/train"].values[0]] * 2


def test_what_no_longer_diverges_is_proved(fixed: Fix) -> None:
    by_variant = {each.variant: each for each in fixed.tried}
    start = by_variant["init=kaiming_uniform"]
    assert start.effect.proved
    assert start.effect.rescued == (3, 4, 5, 6, 7)
    assert start.effect.p == 1 / 1024
    assert not by_variant["lr=0.01"].effect.proved
    assert fixed.best is fixed.proved[0]
    assert fixed.among == len(fixed.tried) + 3  # the second round is paid for, and was not begun
    smallest = min(fixed.tried, key=lambda each: each.effect.p)
    assert smallest.effect.p_holm == pytest.approx(smallest.effect.p * fixed.among)
    assert fixed.sentence.startswith(f"Proved: {fixed.best.change}: validation loss ")


def test_the_best_one_is_a_config_that_says_why(fixed: Fix) -> None:
    assert fixed.file
    assert fixed.best
    assert fixed.study
    assert fixed.file == fixed.study.path / "fixed.yaml"
    text = fixed.file.read_text(encoding="utf-8")
    reason = " ".join(re.findall(r"^# (.*)$", text, flags=re.MULTILINE))
    for told in ("wild/1-seed3", fixed.best.change, fixed.best.finding.symptom, "5 of 5 no longer diverge", "5 seeds"):
        assert told in reason
    assert f"adjusted for {fixed.among} remedies" in reason
    overrides = [f"{key}={value}" for key, value in fixed.best.remedy.overrides.items()]
    assert load_config(fixed.file) == load_config(fixed.run.path / "config.yaml", ["name=wild-fixed", *overrides])
    assert train(fixed.file, ["training.steps=2"], runs=fixed.file.parent / "again", quiet=True, figures=False)
    assert fixed.figure
    assert fixed.figure.stat().st_size > 10_000


def test_the_same_command_goes_on_and_overwrites_nothing(
    fixed: Fix, wild: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fixed.study
    assert fixed.file
    kept = fixed.file.read_text(encoding="utf-8")
    shutil.rmtree(fixed.study.path / "unchanged" / "2-seed4")  # as if it had been interrupted before that run
    argv = ["fix", str(wild), "--runs", str(wild.parents[1])]
    assert cli.main(argv) == 0
    out, err = capsys.readouterr()
    assert [line.split(":")[0] for line in err.splitlines()] == [
        f"[{5 * len(fixed.study.variants)}/{5 * len(fixed.study.variants)}] unchanged, seed 4"
    ]
    assert out.splitlines()[-1] == str(fixed.file)
    assert out.splitlines()[-2].startswith("Proved: ")
    assert "figure: " in out
    for each in fixed.tried:
        assert each.variant[:20] in out
    fixed.file.write_text("mine", encoding="utf-8")
    assert cli.main([*argv, "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(fixed.file.with_stem("fixed-2"))
    assert fixed.file.read_text(encoding="utf-8") == "mine"
    assert fixed.file.with_stem("fixed-2").read_text(encoding="utf-8") == kept


def test_three_seeds_do_not_prove_that_it_was_no_luck(wild: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """1/64 is more than 1%. The runs are those of the first three of the five seeds, if they are there."""
    runs = wild.parents[1]
    assert cli.main(["fix", str(wild), "--runs", str(runs), "--seeds", "3", "--quiet"]) == 0
    out, _ = capsys.readouterr()
    assert out.splitlines()[-1].startswith("Nothing is proved: over 3 seeds no remedy of 6 ")
    assert "not proved" in out


def test_nothing_found_nothing_to_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(tmp_path, training={"epochs": 40, "batch_size": 16, "device": "cpu"})
    assert cli.main(["fix", str(run), "--runs", str(tmp_path / "fixes")]) == 0
    assert capsys.readouterr().out == "base/1-seed0: nothing was found wrong, so there is nothing to fix.\n"
    assert not (tmp_path / "fixes").exists()


def test_of_a_watched_run_it_gives_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e6)
    with warnings.catch_warnings(action="ignore"), nnvis.watch(model, optimizer, log_dir=tmp_path / "mine") as probe:
        for _ in range(20):  # a NaN is warned of
            loss = model(torch.ones(4, 3)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            probe.log(loss=loss)
    assert cli.main(["fix", str(tmp_path / "mine"), "--runs", str(tmp_path / "fixes")]) == 0
    *advice, last = capsys.readouterr().out.splitlines()
    assert "advice for nonfinite_values: lower the learning rate tenfold: " in "\n".join(advice)
    assert last == "mine: no config built this network, so its remedies are advice; none was run."
    assert not (tmp_path / "fixes").exists()


def test_what_no_config_says_is_advice(wild: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shuffled = Finding("bad_labels", "error", (), 0, 0.0, 0.0, "", remedies=(Remedy("look at a few rows", "why", {}),))
    monkeypatch.setattr(fixing, "diagnose", lambda run: Diagnosis((shuffled,)))
    found = nnvis.fix(wild)
    assert (found.study, found.file, found.tried) == (None, None, ())
    assert [remedy.title for _, remedy in found.advice] == ["look at a few rows"]
    assert found.sentence.endswith(
        "no config can express the remedies of its findings, so they are advice; none was run."
    )


def test_at_most_six_are_tried_and_a_consequence_is_left_to_its_causes() -> None:
    treat = fixing.TREAT_CAUSES
    remedies = [Remedy(f"title {k}", "why", {"optimizer.lr": float(k)}) for k in range(4)]

    def finding(*own: Remedy) -> Finding:
        return Finding("dead_units", "error", (), 0, 0.0, 0.0, "", remedies=own)

    advice = Remedy("talk", "why", {})
    root, follows = finding(remedies[0], advice), finding(treat, remedies[1], remedies[0])
    other = finding(remedies[0], remedies[2])
    assert [remedy for _, remedy in fixing._options((root, follows, other))] == [remedies[0], advice, remedies[2]]
    assert [remedy for _, remedy in fixing._options((finding(advice), follows))] == [advice, remedies[1], remedies[0]]


def test_two_faults_are_treated_together_too(wild: Path) -> None:
    config = load_config(wild / "config.yaml")

    def option(symptom: str, **overrides: Any) -> tuple[Finding, Remedy]:
        told = {key.replace("__", "."): value for key, value in overrides.items()}
        remedy = Remedy(symptom[:4], "why", told)
        return Finding(symptom, "error", (), 0, 0.0, 0.0, "", remedies=(remedy,)), remedy

    a, b = option("dead_units", model__norm="batch"), option("exploding_gradients", training__clip_grad_norm=1.0)
    again, invalid = option("overfitting", model__norm="layer"), option("bad_labels", optimizer__lr=-1.0)
    other = (a[0], option("dead_units", model__residual=True)[1])
    *alone, (finding, both) = fixing._with_all_together([a, other, b, again], config)
    assert alone == [a, other, b, again]
    assert finding is a[0]
    assert both.overrides == {"model.norm": "batch", "training.clip_grad_norm": 1.0}
    assert fixing._with_all_together([a, other], config) == [a, other]  # one finding
    assert fixing._with_all_together([a, again], config) == [a, again]  # the same key
    assert fixing._with_all_together([a, invalid], config) == [a, invalid]
    many = [a, b, *[(a[0], option("dead_units", optimizer__lr=1.0 + k)[1]) for k in range(6)]]
    assert fixing._with_all_together(many, config)[fixing.MOST - 1][1].overrides == both.overrides


def tried(finding: Finding, remedy: Remedy, after: float, metric: str = "loss/val", **seeds: Any) -> Tried:
    """A remedy that ended with this loss in all seeds but for those that it lost or that are missing."""
    lists = ("rescued", "lost", "shown_before", "shown_after", "ill", "seen", "missing")
    told = {**dict.fromkeys(lists, ()), **dict.fromkeys(("p", "p_holm"), 1.0), **seeds}
    effect = Effect("", finding.symptom, metric, difference({}, {}), math.nan, after, seconds_ratio=1.0, **told)
    return Tried(remedy, finding, "", effect)


def test_a_second_round_joins_the_best_two_and_tries_other_rates(wild: Path) -> None:
    config = load_config(wild / "config.yaml", ["optimizer={kind: SGD, lr: 0.3}"])
    norm, clip = Remedy("norm", "", {"model.norm": "batch"}), Remedy("clip", "", {"training.clip_grad_norm": 1.0})
    lower, start = Remedy("lower", "", {"optimizer.lr": 0.03}), Remedy("start", "", {"model.init": "zeros"})
    stop = Remedy("stop", "", {"training.early_stopping": {"patience": 3}})
    grave, other = (
        Finding(symptom, "error", (), 0, 0.0, 0.0, "", remedies=own)
        for symptom, own in (("dead_units", (norm, stop)), ("exploding_gradients", (clip, lower, start)))
    )
    first = [
        tried(grave, norm, 0.5),
        tried(grave, stop, 0.1, metric="loss/test"),  # other rows judge it
        tried(other, clip, 0.4),
        tried(other, lower, 0.2, lost=(1,)),
        tried(other, start, 0.1, missing=(1,)),
    ]
    pair, *rates = fixing._second_round(first, config)
    assert (pair[0], pair[1].overrides) == (grave, {"training.clip_grad_norm": 1.0, "model.norm": "batch"})
    assert [(finding, remedy.overrides) for finding, remedy in rates] == [
        (other, {"training.clip_grad_norm": 1.0, "optimizer.lr": rate}) for rate in (3.0, 0.03)
    ]
    both = Remedy("clip and norm", "", dict(pair[1].overrides))
    again = fixing._second_round([*first, tried(grave, both, 0.3)], config)
    assert again[0][1].overrides == {"training.clip_grad_norm": 1.0, "optimizer.lr": 0.03}  # the next two
    assert again[1][1].overrides == {**both.overrides, "optimizer.lr": 3.0}  # together they are the best
    assert fixing._second_round([tried(grave, stop, 0.1, metric="loss/test")], config) == []


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ({"model.norm": "batch"}, "norm=batch"),
        ({"model.activation": "ReLU", "model.init": "kaiming_uniform"}, "activation=ReLU,init=kaiming_uniform"),
        ({"optimizer": {"kind": "Adam", "lr": 0.001}}, "optimizer=Adam"),
        ({"training.early_stopping": {"metric": "loss", "patience": 10}}, "early_stopping"),
        ({"optimizer.lr": 1e-05}, "lr=1.0e-05"),
        ({"model.layers": ["ReLU"]}, "use-its-name"),
    ],
)
def test_variants_are_named_for_what_they_change(overrides: dict[str, Any], name: str) -> None:
    assert list(fixing._variants([Remedy("use its' name", "", overrides)])) == [name]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["nowhere"], "nowhere: does not exist; train one: nnvis train CONFIG"),
        (["nowhere", "--seeds", "2"], "--seeds must be at least 3"),
        (["nowhere", "--jobs", "0"], "--jobs positive"),
        ([], "the following arguments are required: RUN"),
    ],
)
def test_bad_input_is_one_line(
    argv: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["fix", *argv]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_without_validation_rows_nothing_can_be_proved(tmp_path: Path) -> None:
    run = trained(tmp_path, **WILD, data={"kind": "moons", "samples": 60, "val_fraction": 0.0})
    with pytest.raises(
        InputError, match=r"config.yaml: data.val_fraction is 0: a remedy is proved on rows that are not"
    ):
        nnvis.fix(run, runs=tmp_path / "fixes")


def test_a_config_that_runs_code_has_to_be_trusted(wild: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = load_run(wild)
    model = {"kind": "python", "target": "mine:Network"}

    def load(path: object) -> Run:
        return Run(**{**run.__dict__, "config": {**run.config, "model": model}})

    monkeypatch.setattr(fixing, "load_run", load)
    with pytest.raises(InputError, match="--trust"):
        nnvis.fix(wild)
