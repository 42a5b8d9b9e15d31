"""The command line: argv -> command -> exit code. The only place that prints and exits.

    nnvis train digits_mlp optimizer.lr=0.01
    nnvis --help

A command is a function from its arguments to an exit code; its docstring is its help. It imports what it
needs when it runs, so that `nnvis --help` stays quick.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from nnvis.errors import InputError, RunError

if TYPE_CHECKING:
    from nnvis.config import Config

DONE, FAILED, BAD_INPUT, FINDINGS, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_CODES = "exit codes: 0 done · 1 the run failed · 2 bad input · 3 findings · 130 interrupted (nnvis train --resume)"
OVERRIDE_HINT = "; an override is written key=value"
Command = Callable[[Sequence[str]], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (0, 1, 2, 3 or 130); errors are lines on stderr."""
    try:
        code = _run(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()  # a closed pipe shows here at the latest
        return code
    except InputError as error:
        return _complain(str(error), BAD_INPUT)
    except RunError as error:
        return _complain(str(error), FAILED)
    except KeyboardInterrupt as stop:  # training's own says how to go on
        return _complain(str(stop) or "interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at exit
        return INTERRUPTED
    except Exception as error:
        if os.environ.get("NNVIS_DEBUG"):
            raise
        if isinstance(error, OSError) and error.strerror:
            return _complain(": ".join(str(part) for part in (error.filename, error.strerror) if part), FAILED)
        return _complain(
            f"unexpected {type(error).__name__}: {' '.join(str(error).split())}; please report it, "
            "with the traceback that the environment variable NNVIS_DEBUG=1 makes it print",
            FAILED,
        )


def _run(argv: list[str]) -> int:
    known = commands()
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return DONE
    name, *rest = argv
    if name == "--version":
        from importlib.metadata import version

        print(f"nnvis {version('nnvis-trainer')}")
        return DONE
    if name not in known:
        from nnvis.config.problems import among

        raise InputError(f"nnvis: there is no command {name}{among(name, known)}")
    return known[name](rest)


def commands() -> dict[str, Command]:
    """Every command by name, in the order in which a newcomer meets them."""
    return {
        "demo": demo,
        "lesson": lesson,
        "train": train,
        "compare": compare,
        "diagnose": diagnose,
        "fix": fix,
        "figures": figures,
        "explain": explain,
        "animate": animate,
        "check": check,
        "list": list_topic,
        "schema": schema,
        "bench": bench,
    }


def _overview() -> str:
    summaries = [f"  {name:<10}{(command.__doc__ or '').partition('.')[0]}" for name, command in commands().items()]
    return "\n".join(
        [
            "usage: nnvis COMMAND …        nnvis COMMAND --help tells more",
            "",
            "See how your network learns, and why it doesn't.",
            "",
            *summaries,
            "",
            EXIT_CODES,
        ]
    )


# ---------------------------------------------------------------- commands


def demo(argv: Sequence[str]) -> int:
    """Train a deep network that does not learn and its twin that does, and draw why."""
    parser = _Parser(demo)
    _add_runs(parser)
    options = parser.parse_args(argv)
    from nnvis.demo import run_demo

    print(run_demo(options.runs))
    return DONE


def lesson(argv: Sequence[str]) -> int:
    """Give a guided lesson: an experiment, what to look for, what it shows, whether its claim holds.

    Without a NAME the lessons are listed. The last line printed is the lesson's page; exit code 1 if a claim of it does
    not hold.
    """
    parser = _Parser(lesson)
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the lesson, or its number")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where it goes (default: lessons/NAME)")
    options = parser.parse_args(argv)
    from nnvis.lessons.tour import lessons, open_lesson

    if options.name is None:
        _print_table([(f"{each.number:>2} {each.name}", each.summary) for each in lessons()])
        return DONE
    chosen = open_lesson(options.name)
    from rich.console import Console

    from nnvis.lessons.tour.giving import give

    given = give(chosen, Console(highlight=False), options.out or Path("lessons") / chosen.name)
    print(given.page)
    return DONE if given.holds else FAILED


def train(argv: Sequence[str]) -> int:
    """Train the network that a config describes, measure every layer, draw the figures.

    The last line printed is the run's directory.
    """
    parser = _Parser(train)
    _add_config(parser)
    _add_runs(parser)
    parser.add_argument("--name", help="name of the run's folder instead of the config's")
    parser.add_argument("--device", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        metavar="RUN",
        help="go on with this run, or with the newest unfinished run of the config's name",
    )
    parser.add_argument("--no-check", action="store_true", help="do not tell what is wrong before the first step")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    options = parser.parse_intermixed_args(argv)
    resume, words = options.resume, options.words
    if isinstance(resume, str) and not Path(resume).is_dir():  # a config or an override that came after `--resume`
        resume, words = True, [*words, resume]
    sources, overrides = _split_words(words)
    if not sources and isinstance(resume, str):  # a run brings its own config
        sources = [str(Path(resume) / "config.yaml")]
    from nnvis import experiment

    run = experiment.train(
        _only(parser, sources),
        overrides,
        runs=options.runs,
        name=options.name,
        device=options.device,
        resume=resume,
        trust=options.trust,
        quiet=options.quiet,
        check=not options.no_check,
    )
    print(run.path)
    codes = {"interrupted": INTERRUPTED, "diverged": FAILED, "failed": FAILED, "stopped": FINDINGS}
    return codes.get(run.summary.get("status", ""), DONE)


def compare(argv: Sequence[str]) -> int:
    """Train the variants of a study over its seeds, side by side, and say which is better and why.

    Only what is missing is trained: the same command goes on with a study that was interrupted or has grown.
    The last line printed is the study's directory; exit code 1 if a run failed, 0 if one merely diverged.
    """
    parser = _Parser(compare)
    _add_config(parser, "STUDY")
    _add_runs(parser)
    parser.add_argument("--jobs", type=int, metavar="N", help="how many runs at a time (default: 1)")
    parser.add_argument("--on", metavar="ray[://ADDRESS]", help="train on a Ray cluster, all of which sees --runs")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    options = parser.parse_intermixed_args(argv)
    sources, overrides = _split_words(options.words)
    if options.jobs is not None and options.jobs < 1:
        parser.error("--jobs must be positive")
    from nnvis.record import read_json
    from nnvis.studies import failures, run_study

    study = run_study(
        _only(parser, sources, "study"),
        overrides,
        runs=options.runs,
        jobs=options.jobs,
        on=options.on,
        trust=options.trust,
        quiet=options.quiet,
    )
    print(*read_json(study.path / "comparison.json")["verdict"], sep="\n")
    for failure in failures(study):
        _complain(f"failed: {failure}", FAILED)
    print(study.path)
    return FAILED if study.missing else DONE


def diagnose(argv: Sequence[str]) -> int:
    """Say what is wrong with a run: where, since when, why, and what to do about it.

    With --deep the learning rate is judged as well: from the run's last checkpoint 20 steps are made at 1/10 to 10
    times its value (and beyond, where the best lies at an end). Nothing is written. Exit code 3 if a finding is an
    error, 0 otherwise.
    """
    parser = _Parser(diagnose)
    parser.add_argument("run", metavar="RUN", help="a run's directory")
    parser.add_argument("--json", action="store_true", help="for machines, as in findings.json")
    parser.add_argument("--deep", action="store_true", help="try other learning rates from its last checkpoint")
    parser.add_argument("--trust", action="store_true", help="let the config run Python code of yours (kind: python)")
    options = parser.parse_args(argv)
    from nnvis.diagnosis import diagnose as judge
    from nnvis.diagnosis.telling import as_json, print_diagnosis, print_rates
    from nnvis.record import load_run

    run = load_run(options.run)
    if options.deep:
        from nnvis.checking import branch_run

        with _timed(f"{run.name}: trying other learning rates"):
            run = branch_run(run, trust=options.trust)
    found = judge(run)
    if options.json:
        import json

        print(json.dumps(as_json(found, run), indent=2, ensure_ascii=False))
    else:
        from rich.console import Console

        console = Console(highlight=False)
        print_rates(run, console)
        print_diagnosis(run, found, console)
    return FINDINGS if found.sick else DONE


def fix(argv: Sequence[str]) -> int:
    """Try the remedies of a run's findings side by side, and write the best one that is proved as a new config.

    The run's config is trained unchanged and with each remedy, with the same seeds and batches, as a study in
    RUNS/NAME-fix: the same command goes on after an interruption. Proved means that over the seeds the validation loss
    is lower beyond chance, and the symptom gone. The last line printed is the new config's file, for nnvis train; where
    nothing is proved it is the sentence that says so. Exit code 0 either way.
    """
    parser = _Parser(fix)
    parser.add_argument("run", metavar="RUN", help="a run's directory")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="how many (default: 5)")
    parser.add_argument("--jobs", type=int, metavar="N", help="how many runs at a time (default: 1)")
    _add_runs(parser)
    parser.add_argument("--trust", action="store_true", help="let the config run Python code of yours (kind: python)")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    options = parser.parse_args(argv)
    if options.seeds < 3 or (options.jobs is not None and options.jobs < 1):
        parser.error("--seeds must be at least 3, --jobs positive")
    from rich.console import Console

    from nnvis.studies import failures, fix_run, print_fix

    found = fix_run(
        options.run,
        seeds=options.seeds,
        jobs=options.jobs,
        runs=options.runs,
        trust=options.trust,
        quiet=options.quiet,
    )
    for failure in failures(found.study) if found.study else ():
        _complain(f"failed: {failure}", FAILED)
    if found.figure:
        print(f"figure: {found.figure}")
    print_fix(found, Console(highlight=False, width=None if sys.stdout.isatty() else 120))
    if found.file:
        print(found.file)
    return DONE


def figures(argv: Sequence[str]) -> int:
    """Draw the figures of a run or a study again, from its record."""
    parser = _Parser(figures)
    parser.add_argument("path", metavar="PATH", help="a run's directory, or a study's")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where they go (default: PATH/figures)")
    options = parser.parse_args(argv)
    from nnvis.diagnosis import diagnose
    from nnvis.figures import draw_findings, draw_run
    from nnvis.record import is_study, load_run, load_study

    out = options.out or Path(options.path) / "figures"
    if is_study(options.path):
        from nnvis.figures.studying import draw_study

        study = load_study(options.path)
        for file in draw_study(study, out, study.figures, lambda text: print(text, file=sys.stderr)):
            print(file)
        return DONE
    run = load_run(options.path)
    print(*draw_run(run, out), *draw_findings(run, diagnose(run), out), sep="\n")
    return DONE


def explain(argv: Sequence[str]) -> int:
    """Explain how a network computes and learns: one sample forward and backward, every number, as text and figures.

    CONFIG's network is as training would start it; with a run's directory in its place, as it was trained.
    """
    parser = _Parser(explain)
    _add_config(parser)
    parser.add_argument(
        "--show",
        default="passes",
        metavar="TOPIC,…",
        help="what to show (default: passes); `nnvis list explanations`, or all",
    )
    parser.add_argument("--sample", type=int, default=0, metavar="K", help="row of the training split (default: 0)")
    parser.add_argument("--weight", metavar="LAYER:ROW,COL", help="the weight whose derivative is taken apart")
    parser.add_argument("--neuron", metavar="LAYER:INDEX", help="the neuron whose sum is written out")
    parser.add_argument(
        "--points",
        type=int,
        metavar="N",
        help="points along each side of a landscape (default: 51, fewer where that takes minutes)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of random directions and batches (default: 0)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where figures go (default: explained/NAME)")
    options = parser.parse_intermixed_args(argv)
    sources, overrides = _split_words(options.words)
    source = _only(parser, sources)
    if options.points is not None and options.points < 3:
        parser.error("--points must be 3 or more")
    from rich.console import Console

    from nnvis.lessons import Wish, open_subject, show, topics_of

    topics = topics_of(options.show)
    subject = open_subject(source, overrides, trust=options.trust)
    wish = Wish(options.sample, options.weight, options.neuron, options.points, options.seed)
    console = Console(highlight=False)
    print("", *show(subject, topics, wish, console, options.out or Path("explained") / subject.name), sep="\n")
    return DONE


def animate(argv: Sequence[str]) -> int:
    """Draw a run's training as a moving picture: what the network does, weights, gradients, loss and landscape.

    It is made of the run's snapshots (snapshots: {count: 40} in its config). The last line printed is the file.
    """
    parser = _Parser(animate)
    parser.add_argument("run", metavar="RUN", help="a run's directory")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a .gif or, with ffmpeg, an .mp4")
    parser.add_argument("--frames", type=int, metavar="N", help="at most so many of its snapshots (default: all)")
    parser.add_argument("--fps", type=float, default=8.0, metavar="F", help="frames a second (default: 8)")
    parser.add_argument("--trust", action="store_true", help="let a config run Python code of yours (kind: python)")
    options = parser.parse_args(argv)
    if (options.frames is not None and options.frames < 1) or not 0 < options.fps <= 100:
        parser.error("--frames must be positive, --fps between 0 and 100")
    from nnvis.lessons.animating import animate as draw

    print(draw(options.run, options.out, frames=options.frames, fps=options.fps, trust=options.trust))
    return DONE


def check(argv: Sequence[str]) -> int:
    """Check configs and studies without training: every problem of every file, then what is wrong with the network.

    A config's network is built, its data are read, and its start is looked at as training does before the first step:
    structure, data, initialisation. With --deep, which takes seconds, 16 rows are to be learned by heart, and the first
    20 steps are tried at 1/10 to 10 times the learning rate (and beyond, where the best lies at an end). Of a study the
    file alone is looked at. Exit code 2 for a file that is wrong or cannot be trained, 3 if a finding is an error, 0
    otherwise.
    """
    parser = _Parser(check)
    _add_config(parser, "CONFIG|STUDY…")
    parser.add_argument("--deep", action="store_true", help="learn a few rows by heart, try learning rates: in seconds")
    parser.add_argument("--file-only", action="store_true", help="look at the files alone; no network, no data")
    options = parser.parse_intermixed_args(argv)
    if options.deep and options.file_only:
        parser.error("--deep trains a little, --file-only looks at no network: leave one of them out")
    sources, overrides = _split_words(options.words)
    if not sources:
        parser.error("name a config or a study: a file, or one of `nnvis list configs` and `nnvis list studies`")
    from nnvis.config import is_study_file, load_config, load_study_config

    complaints: list[str] = []
    configs: dict[str, Config] = {}
    for source in sources:
        try:
            if is_study_file(source):
                study = load_study_config(source, overrides, trust=options.trust)
                print(f"{source}: ok, {len(study.variants)} variants × {len(study.seeds)} seeds")
            else:
                configs[source] = load_config(source, overrides, trust=options.trust)
                if options.file_only:
                    print(f"{source}: ok")
        except InputError as error:
            lost = source != sources[0] and "no such file" in str(error)  # a shipped name is no path
            complaints.append(f"{error}{OVERRIDE_HINT if lost else ''}")
    sick = False if options.file_only else _check_networks(configs, complaints, deep=options.deep)
    if complaints:
        return _complain("\n".join(complaints), BAD_INPUT)
    return FINDINGS if sick else DONE


def _check_networks(configs: Mapping[str, Config], complaints: list[str], *, deep: bool) -> bool:
    """Tell what is wrong with each; what cannot be trained is added to the complaints. Returns whether one is sick."""
    if not configs:
        return False
    from rich.console import Console

    from nnvis.checking import check_config
    from nnvis.diagnosis.telling import print_diagnosis, print_rates

    console, sick = Console(highlight=False), False
    for number, (source, config) in enumerate(configs.items()):
        try:
            with _timed(f"{source}: learning 16 rows by heart, trying learning rates") if deep else nullcontext():
                run, found = check_config(config, deep=deep)
        except (InputError, RunError) as error:
            complaints.append(f"{source}: {error}")
            continue
        if number:
            console.print()
        if found.findings:
            console.print(f"{source}: {len(found)} finding{'s' * (len(found) != 1)}")
        print_rates(run, console)
        print_diagnosis(run, found, console)
        sick |= found.sick
    return sick


def list_topic(argv: Sequence[str]) -> int:
    """List what there is: datasets, layers, activations, quantities, shipped configs, ….

    Without a TOPIC the topics are listed.
    """
    parser = _Parser(list_topic)
    parser.add_argument("topic", nargs="?", metavar="TOPIC")
    options = parser.parse_args(argv)
    from nnvis.listing import listing

    _print_table(listing(options.topic))
    return DONE


def schema(argv: Sequence[str]) -> int:
    """Print the JSON Schema of a config or a study, for editors that check while you type."""
    parser = _Parser(schema)
    parser.add_argument("--study", action="store_true", help="of a study")
    parser.add_argument("-o", dest="file", type=Path, metavar="FILE", help="write it there instead")
    options = parser.parse_args(argv)
    from nnvis.config import schema_text

    text = schema_text(study=options.study)
    if options.file:
        try:
            options.file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(f"{options.file}: {error.strerror}") from error
    print(options.file or text, end="\n" if options.file else "")
    return DONE


def bench(argv: Sequence[str]) -> int:
    """Measure what training and capture cost on this machine, as a ratio to a loop written by hand."""
    parser = _Parser(bench)
    _add_config(parser)
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="pairs of runs a ratio is the median of")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="about how long each run is")
    options = parser.parse_intermixed_args(argv)
    sources, overrides = _split_words(options.words)
    if options.pairs < 1 or options.seconds <= 0:
        parser.error("--pairs and --seconds must be positive")
    from nnvis.bench import bench as measure

    costs = measure(
        _only(parser, sources),
        overrides,
        pairs=options.pairs,
        seconds=options.seconds,
        trust=options.trust,
        say=lambda text: print(text, file=sys.stderr),
    )
    for cost in costs:
        print(
            f"{cost.variant:<26} {cost.ratio:.3f} of a hand-written loop's time "
            f"({min(cost.ratios):.3f} to {max(cost.ratios):.3f}), {cost.step_ms:.2f} ms a step",
            flush=True,
        )
    return DONE


# ---------------------------------------------------------------- words in, lines out


class _Parser(argparse.ArgumentParser):
    """The parser of one command: its help is the command's docstring, its errors are single lines."""

    def __init__(self, command: Command) -> None:
        name = next(name for name, each in commands().items() if each is command)
        super().__init__(prog=f"nnvis {name}", description=command.__doc__, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog}: {message}; {self.prog} --help tells more")


def _add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where runs go (default: runs)")


def _add_config(parser: argparse.ArgumentParser, metavar: str = "CONFIG") -> None:
    parser.add_argument(
        "words", nargs="*", metavar=f"{metavar} [key=value …]", help="files or names of shipped configs; overrides"
    )
    parser.add_argument("--trust", action="store_true", help="let a config run Python code of yours (kind: python)")


@contextmanager
def _timed(doing: str) -> Iterator[None]:
    """What is done that takes seconds, and how many it took, for those who wait; a line each, as warnings have."""
    print(f"{doing} …", file=sys.stderr, flush=True)
    began_s, ending = time.perf_counter(), "  stopped"
    try:
        yield
        ending = f"  {time.perf_counter() - began_s:.1f} s"
    finally:
        print(ending, file=sys.stderr)


def _split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Configs, and overrides."""
    overrides = [word for word in words if _is_override(word)]
    return [word for word in words if word not in overrides], overrides


def _is_override(word: str) -> bool:
    """Whether it is key=value; paths such as lr=0.1.yaml and runs/lr=0.1/config.yaml are not."""
    key, equals, _ = word.partition("=")
    return bool(equals) and "/" not in key and not os.path.isfile(word)


def _only(parser: argparse.ArgumentParser, sources: Sequence[str], what: str = "config") -> str:
    if len(sources) != 1:
        given = f", not {len(sources)} ({' '.join(sources)})" if sources else ""
        if any(not os.path.exists(word) for word in sources[1:]):
            given += OVERRIDE_HINT
        listed = {"config": "configs", "study": "studies"}[what]
        parser.error(f"name one {what}: a file, or one of `nnvis list {listed}`{given}")
    return sources[0]


def _print_table(rows: Sequence[tuple[str, str]]) -> None:
    """Names and what they are: wrapped for people on a terminal, one line each in a pipe."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, style="bold")
        for name, text in rows:
            table.add_row(Text(name), Text(text))
        Console(highlight=False).print(table)
        return
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name:<{width}}  {text}".rstrip())


def _complain(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code
