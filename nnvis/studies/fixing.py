"""The remedies of a run's findings, tried side by side, and the best one that is proved as a new config.

    fix = fix_run("runs/vanishing-sigmoid/1-seed0", seeds=5, jobs=2)     # nnvis.fix
    fix.best, fix.file                 # the remedy, and a config for `nnvis train`; None where none is proved
    for remedy in fix.tried: print(remedy.change, remedy.effect.proved, remedy.effect.difference)
    print_fix(fix, console)

They are a study of the run's own config, unchanged and with each remedy: `runs`/NAME-fix, which goes on as every
study does. What counts as proved is in `nnvis.comparison.proof`.
"""

from __future__ import annotations

import itertools
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nnvis.comparison import PROOF_LEVEL, Effect, effects_of, outcomes_of
from nnvis.comparison.proof import METRIC, UNSEEN_METRIC, typical
from nnvis.config import Config, StudyConfig, dump_config, parse_config, parse_study
from nnvis.config.dumping import plain
from nnvis.config.yaml_text import write_line, write_yaml
from nnvis.diagnosis import diagnose
from nnvis.diagnosis.changes import with_overrides
from nnvis.diagnosis.remedies import TREAT_CAUSES, at_rate, together
from nnvis.diagnosis.telling import in_words
from nnvis.errors import InputError, RunError
from nnvis.record import Finding, Run, Study, load_run
from nnvis.record.files import disk_errors
from nnvis.record.vocabulary import Remedy
from nnvis.studies.running import failures, run_study
from nnvis.words import number, plural

UNCHANGED = "unchanged"
MOST = 6
"""How many remedies are tried: each costs a run for every seed, and makes the proof of the others harder."""
SECOND_ROUND = 3
"""How many more are tried where none of the first is proved."""
RATES = (10.0, 0.1)
"""The learning rates of the second round, as multiples."""
FIXED_FILE = "fixed.yaml"
TWIN_FILE = "figures/twin.png"
_FIGURES = ("summary", "learning_curves", "gradient_flow")
_LONGEST = 60  # letters of a variant's name, which is a folder's
_LONGEST_TOLD = 100  # letters of a change within a sentence; a list of layers has its title there
Choice = tuple[Finding, Remedy]
_FULL_RUN = {"diagnosis.stop_on": [], "snapshots.count": None}  # a run that a finding ends has no final loss


@dataclass(frozen=True)
class Tried:
    """A remedy that was run, and what it did."""

    remedy: Remedy
    finding: Finding  # the gravest one that it is for
    variant: str  # its name in the study
    effect: Effect
    problem: str = ""  # why there is no result, or not for all seeds

    @property
    def change(self) -> str:
        """As it is written behind `nnvis train CONFIG`."""
        return in_words(self.remedy.overrides)


@dataclass(frozen=True)
class Fix:
    """What `nnvis fix` found: remedies that were tried, the gravest finding's first, and the best that is proved."""

    run: Run = field(repr=False)
    findings: tuple[Finding, ...] = field(repr=False)  # errors and warnings
    tried: tuple[Tried, ...]
    not_tried: tuple[tuple[Finding, Remedy], ...] = field(repr=False)  # beyond MOST
    advice: tuple[tuple[Finding, Remedy], ...] = field(repr=False)  # what no config says
    study: Study | None = field(repr=False)
    file: Path | None  # the run's config with the best remedy
    among: int = 0  # the number of remedies that p values are adjusted for: both rounds
    figure: Path | None = None  # the run beside its fixed twin

    @property
    def proved(self) -> tuple[Tried, ...]:
        """The remedies that are proved: those that leave the fewest runs with an error first, then by their loss."""
        proved = (each for each in self.tried if each.effect.proved)
        return tuple(sorted(proved, key=lambda each: (len(each.effect.ill), each.effect.after)))

    @property
    def best(self) -> Tried | None:
        """The first of those that are proved; None where none is."""
        return next(iter(self.proved), None)

    @property
    def sentence(self) -> str:
        """What came out, in one line."""
        name, seeds = self.run.name, plural(len(self.study.seeds), "seed") if self.study else ""
        if not self.findings:
            return f"{name}: nothing was found wrong, so there is nothing to fix."
        if not self.run.config:
            return f"{name}: no config built this network, so its remedies are advice; none was run."
        if not self.tried:
            return f"{name}: no config can express the remedies of its findings, so they are advice; none was run."
        if self.best is None:
            return (
                f"Nothing is proved: over {seeds} no remedy of {len(self.tried)} lowers the validation loss "
                f"beyond chance (p < {PROOF_LEVEL:g}, adjusted) and takes its symptom away."
            )
        return _won(self.best, self)


def fix_run(
    path: str | Path,
    *,
    seeds: int = 5,
    jobs: int | None = None,
    runs: str | Path = "runs",
    trust: bool = False,
    quiet: bool = False,
) -> Fix:
    """Try the remedies of a run's findings, and write the best one that is proved as a config of its own.

    Trained are the run's config, unchanged, with each remedy, and with the first ones of several findings together
    (at most MOST remedies), with the run's own seed and those that follow it; of a seed all see the same rows in the
    same order. Where none of them is proved, a second round tries the two that did best together, and the best one at
    other learning rates. `jobs` processes train at a time (1). They lie in `runs`/NAME-fix: the same call goes on after
    an interruption, and trains nothing twice.

    A remedy is proved if over the seeds it lowers the final validation loss beyond chance, and its symptom is gone: see
    `nnvis.comparison.proof`. The config of the best one is `file`, never in place of another file. Without a config (a
    watched run), findings or remedies that a config can express, nothing is run.

    Raises InputError where there is no run, where it has no validation rows, or for fewer than three seeds; RunError
    where the unchanged config could not be trained; KeyboardInterrupt, whose text says how to go on.
    """
    if seeds < 3:
        raise InputError(f"seeds: should be a whole number of at least 3, got {seeds}: fewer prove nothing")
    run = load_run(path)
    findings = tuple(finding for finding in diagnose(run) if finding.severity != "info")
    options = _options(findings)
    advice = tuple((finding, remedy) for finding, remedy in options if not remedy.overrides)
    changes = [(finding, remedy) for finding, remedy in options if remedy.overrides]
    if not changes:
        return Fix(run, findings, (), (), advice, None, None)
    config = _config_of(run, trust)
    changes = _with_all_together(changes, config)
    first, rest = changes[:MOST], tuple(changes[MOST:])
    among = len(first) + SECOND_ROUND

    def tried(*more: Choice) -> tuple[Study, tuple[Tried, ...]]:
        chosen = [*first, *more]
        variants = _variants([remedy for _, remedy in chosen])
        config_of_it = _study_of(run, config, findings, variants, seeds)
        study = run_study(config_of_it, runs=runs, jobs=jobs, trust=trust, quiet=quiet)
        return study, _tried(study, dict(zip(variants, chosen, strict=True)), among)

    study, effects = tried()
    if not any(each.effect.proved for each in effects) and (more := _second_round(effects, config)):
        study, effects = tried(*more)
    fix = Fix(run, findings, effects, rest, advice, study, None, among)
    return _with_files(fix, fix.best, study, config) if fix.best else fix


def _tried(study: Study, choices: Mapping[str, Choice], among: int) -> tuple[Tried, ...]:
    """What each of the variants did. Raises RunError where there is nothing to compare it with."""
    if not study.runs[UNCHANGED]:
        raise RunError("\n".join([f"{study.path}: the unchanged config was not trained", *failures(study)]))
    outcomes = outcomes_of(study)
    effects = effects_of(outcomes, UNCHANGED, {name: finding.symptom for name, (finding, _) in choices.items()}, among)
    return tuple(
        Tried(remedy, finding, name, effects[name], "; ".join(dict.fromkeys(outcomes[name].missing.values())))
        for name, (finding, remedy) in choices.items()
    )


def _options(findings: tuple[Finding, ...]) -> list[Choice]:
    """Each remedy once, with the first finding that has it: those that change the same are the same.

    What follows from other findings (it is to be cured by treating them) is left to theirs, if a config can say any.
    """
    roots = [finding for finding in findings if TREAT_CAUSES not in finding.remedies]
    if not any(remedy.overrides for finding in roots for remedy in finding.remedies):
        roots = [*findings]
    options, seen = [], []
    for finding in roots:
        for remedy in finding.remedies:
            key = remedy.overrides or remedy.title
            if key not in seen and remedy != TREAT_CAUSES:
                seen.append(key)
                options.append((finding, remedy))
    return options


def _with_all_together(changes: list[Choice], config: Config) -> list[Choice]:
    """One more to try, where there are several findings: the first remedy of each at once. Two faults hide each other.

    Where two change the same key, the graver finding's is taken; nothing is added where the sum is no valid config.
    """
    firsts = [next(remedy for remedy in finding.remedies if remedy.overrides) for finding, _ in changes]
    remedy = together(firsts, config, "each finding's first remedy, for two faults hide each other")
    if remedy is None or any(other.overrides == remedy.overrides for _, other in changes):
        return changes
    place = min(len(changes), MOST - 1)
    return [*changes[:place], (changes[0][0], remedy), *changes[place:]]


def _second_round(tried: Sequence[Tried], config: Config) -> list[Choice]:
    """At most SECOND_ROUND more where nothing is proved: the two that did best by themselves together, and the best of
    all at another learning rate, which what a remedy changes may want.

    Only those that the validation rows judge, and that have a result in all seeds.
    """
    able = [each for each in tried if each.effect.metric == METRIC and not each.effect.missing]
    ranked = sorted(
        (each for each in able if not math.isnan(each.effect.after)),
        key=lambda each: (len(each.effect.lost), each.effect.after),
    )
    single = [each for each in ranked if each.remedy in each.finding.remedies]
    more = [_pair(single, tried, config), *(_at_rate(best, factor, config) for best in ranked[:1] for factor in RATES)]
    return [choice for choice in more if choice and all(each.remedy.overrides != choice[1].overrides for each in tried)]


def _pair(single: Sequence[Tried], tried: Sequence[Tried], config: Config) -> Choice | None:
    """The first two of them that go together and were not tried yet, for the graver finding; None without any."""
    for pair in itertools.combinations(single, 2):
        remedy = together([each.remedy for each in pair], config, "the two that did best by themselves")
        if remedy and all(each.remedy.overrides != remedy.overrides for each in tried):
            return min(pair, key=tried.index).finding, remedy
    return None


def _at_rate(best: Tried, factor: float, config: Config) -> Choice | None:
    remedy = at_rate(best.remedy, factor, config)
    return (best.finding, remedy) if remedy else None


def _config_of(run: Run, trust: bool) -> Config:
    """The run's config. Raises InputError where it could prove nothing."""
    file = run.path / "config.yaml"
    config = parse_config(write_yaml(run.config), str(file), trust=trust)
    if not config.data.val_fraction:
        raise InputError(
            f"{file}: data.val_fraction is 0: a remedy is proved on rows that are not trained on; "
            "train it again with data.val_fraction=0.2"
        )
    return config


def _variants(remedies: list[Remedy]) -> dict[str, dict[str, Any]]:
    """Name -> overrides, in the order of the remedies."""
    named: dict[str, dict[str, Any]] = {}
    for remedy in remedies:
        name = _name(remedy)
        named[name if name not in named else f"{name}-{len(named)}"] = remedy.overrides
    return named


def _name(remedy: Remedy) -> str:
    """`norm=batch`, `activation=relu,init=kaiming_uniform`; the title where the values are long."""
    parts = []
    for key, value in remedy.overrides.items():
        said = value.get("kind", key) if isinstance(value, Mapping) and "kind" in value else value
        told = write_line(said).removesuffix("\n...") if not isinstance(said, list | dict) else ""
        parts.append(f"{key.rpartition('.')[2]}{'=' if told else ''}{told}")
    name = ",".join(parts)
    if len(name) > _LONGEST or any(isinstance(value, list) for value in remedy.overrides.values()):
        name = remedy.title
    return re.sub(r"[^A-Za-z0-9._=,-]+", "-", name.replace("'", ""))[:_LONGEST].strip("-")


def _study_of(
    run: Run, config: Config, findings: tuple[Finding, ...], variants: Mapping[str, Any], seeds: int
) -> StudyConfig:
    """The study as a config of it, ready to run."""
    symptoms = ", ".join(dict.fromkeys(finding.symptom for finding in findings))
    base = plain(with_overrides(config, _FULL_RUN))
    first = base.pop("seed")
    told = {
        "name": f"{run.name.replace('/', '-')}-fix",
        "question": f"Which remedy cures {run.path} of {symptoms}?",
        "base": base,
        "variants": {UNCHANGED: {}, **variants},
        "seeds": [first + offset for offset in range(seeds)],
        "figures": [*_FIGURES],
    }
    return parse_study(write_yaml(told), f"the remedies of {run.path}", trust=True)


# ---------------------------------------------------------------- what it leaves


def _with_files(fix: Fix, best: Tried, study: Study, config: Config) -> Fix:
    """Writes the best config, and draws the twins of the run's own seed."""
    fixed = with_overrides(config, {"name": f"{config.name}-fixed", **best.remedy.overrides})
    file = _write_beside(study.path / FIXED_FILE, _comment(fix, best, study) + dump_config(fixed))
    sick, cured = (study.runs[variant].get(config.seed) for variant in (UNCHANGED, best.variant))
    figure = _draw(sick, cured, best.change, study.path / TWIN_FILE) if sick and cured else None
    return replace(fix, file=file, figure=figure)


def _draw(sick: Run, cured: Run, change: str, file: Path) -> Path | None:
    """The twins; None where the runs have nothing to draw (`capture: {every: null}`)."""
    from nnvis.figures import NoData, save, twin

    with disk_errors(file), suppress(NoData):
        return save(twin(sick, cured, change), file)
    return None


def _write_beside(file: Path, text: str) -> Path:
    """Writes a file that there was not: fixed.yaml, fixed-2.yaml, …; one that says the same is left as it is."""
    for count in itertools.count(1):
        path = file.with_stem(f"{file.stem}-{count}") if count > 1 else file
        with disk_errors(path):
            try:
                with path.open("x", encoding="utf-8") as new:
                    new.write(text)
                return path
            except FileExistsError:
                if path.read_text(encoding="utf-8") == text:
                    return path
    raise AssertionError


def _comment(fix: Fix, best: Tried, study: Study) -> str:
    """Why the config is as it is: which run, which finding, which numbers."""
    lines = [
        f"{fix.run.name}, fixed: {best.remedy.title}; {best.remedy.why}",
        f"changed: {best.change}",
        f"because: {best.finding.severity} {best.finding.symptom}: {best.finding.evidence}",
        f"proved: {_measured(best.effect)}, over {plural(len(study.seeds), 'seed')}; one-sided p = "
        f"{number(best.effect.p_holm, 2)}, adjusted for {_remedies(fix.among)}",
        f"runs: {study.path}",
    ]
    return "".join(textwrap.indent(textwrap.fill(line, 117), "# ") + "\n" for line in lines)


# ---------------------------------------------------------------- in words


def print_fix(fix: Fix, console: Console) -> None:
    """The remedies as a table, those that were not run as advice, and one sentence."""
    if fix.study:
        console.print(_table(fix, fix.study))
        console.print()
    for finding, remedy in fix.not_tried:
        _say(console, f"not tried, since {MOST} are tried at most: {in_words(remedy.overrides)} ({finding.symptom})")
    for finding, remedy in fix.advice:
        _say(console, f"advice for {finding.symptom}: {remedy.title}: {remedy.why}")
    _say(console, fix.sentence)


def _say(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=not console.is_terminal)


def _table(fix: Fix, study: Study) -> Table:
    """The unchanged config, and a row for each remedy in the order in which they were tried."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("", "validation loss", "times (95% interval)", "p", "symptom gone", "time", ""):
        table.add_column(column, no_wrap=column == "p", overflow="fold")
    base = outcomes_of(study)[UNCHANGED]
    diverged = f"{len(base.diverged)} of {len(base.seen)} diverged" if base.diverged else ""
    mean = typical(base.values.get(METRIC, {}).values())
    table.add_row(UNCHANGED, ", ".join(filter(None, ["" if math.isnan(mean) else number(mean), diverged])))
    for each in fix.tried:
        effect = each.effect
        ill = f"; errors in {len(effect.ill)} of {len(effect.seen)}" if effect.ill else ""
        verdict = Text(f"proved{ill}", "bold green") if effect.proved else Text(f"not proved{_why_not(each)}", "dim")
        loss = "—" if math.isnan(effect.after) else number(effect.after)
        loss += " (test)" if effect.metric == UNSEEN_METRIC else ""
        cells = [each.variant, loss, _times(effect), number(effect.p_holm), _gone(effect), _time(effect)]
        table.add_row(*map(Text, cells), verdict)
    return table


def _why_not(each: Tried) -> str:
    effect = each.effect
    if not effect.seen:
        return f": {each.problem}" if each.problem else ""
    if effect.metric == UNSEEN_METRIC and math.isnan(effect.after):
        return ": validation rows pick its weights, so only test rows can judge it: data.test_fraction=0.2"
    if effect.missing:
        return f": no result in {len(effect.missing)} seeds: {each.problem}"
    if effect.lost:
        return f": diverged in {len(effect.lost)} of {len(effect.seen)}"
    return ": the symptom stays" if effect.better else ""


def _times(effect: Effect, interval: str = "") -> str:
    """`×0.42 (×0.3 to ×0.6)`: what the loss is multiplied by; and in how many seeds there is one for the first time."""
    mean, low, high = (number(value, 2) for value in effect.factor)
    parts = [f"×{mean}" + (f" ({interval}×{low} to ×{high})" if effect.difference.judged else "")]
    parts = parts if effect.difference.seeds else []
    parts += [f"{len(effect.rescued)} of {len(effect.seen)} no longer diverge"] if effect.rescued else []
    return "; ".join(parts) or "—"


def _gone(effect: Effect) -> str:
    return f"{len(effect.seen) - len(effect.shown_after)} of {len(effect.seen)}"


def _time(effect: Effect) -> str:
    return "—" if math.isnan(effect.seconds_ratio) else f"×{number(effect.seconds_ratio, 2)}"


def _measured(effect: Effect) -> str:
    """`validation loss 0.15 in place of 2.3, ×0.07 (…), symptom gone in 5 of 5, at 1.1 times the time`."""
    before = "" if math.isnan(effect.before) else f" in place of {number(effect.before)}"
    kind = "test" if effect.metric == UNSEEN_METRIC else "validation"
    parts = [f"{kind} loss {number(effect.after)}{before}, {_times(effect, '95% interval ')}"]
    parts.append(f"{effect.symptom} gone in {_gone(effect)}")
    parts += [] if math.isnan(effect.seconds_ratio) else [f"at {number(effect.seconds_ratio, 2)} times the time"]
    return ", ".join(parts)


def _won(best: Tried, fix: Fix) -> str:
    others = len(fix.proved) - 1
    more = f"; {plural(others, 'other remedy' if others == 1 else 'other remedie')} proved as well" if others else ""
    change = best.change if len(best.change) <= _LONGEST_TOLD else best.remedy.title
    return f"Proved: {change}: {_measured(best.effect)}{more}."


def _remedies(count: int) -> str:
    return "1 remedy" if count == 1 else f"{count} remedies"
