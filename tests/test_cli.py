"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import nnvis.config
from nnvis import cli
from nnvis.bench import VARIANTS
from nnvis.config import schema, schema_text
from nnvis.listing import EXPLANATIONS, LOSSES, TOPICS, listing

NNVIS = [sys.executable, "-m", "nnvis"]
ADAFACTOR = "lr=0.01, beta2_decay=-0.8, eps=[null, 0.001], d=1.0, weight_decay=0.0, foreach=null, maximize=false"
COMMANDS = ["demo", "lesson", "train", "compare", "diagnose", "fix", "figures"]
COMMANDS += ["explain", "animate", "check", "list", "schema", "bench"]


def test_help_names_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    bare = capsys.readouterr().out
    assert cli.main(["--help"]) == 0
    assert capsys.readouterr().out == bare
    assert [line.split()[0] for line in bare.splitlines() if line.startswith("  ")][: len(COMMANDS)] == COMMANDS
    assert "130 interrupted" in bare


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main([command, "--help"])
    assert f"usage: nnvis {command}" in capsys.readouterr().out


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    def seconds() -> float:  # of processor time: wall time would count what else the machine does
        before = os.times()
        subprocess.run([*NNVIS, "--help"], capture_output=True, check=True)
        after = os.times()
        return after.children_user - before.children_user + after.children_system - before.children_system

    assert min(seconds() for _ in range(3)) < 0.3
    code = "import sys, nnvis.cli; nnvis.cli.main([]); print(sorted({'torch', 'pydantic', 'numpy'} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.endswith("[]\n")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    name, version = capsys.readouterr().out.split()
    assert name == "nnvis"
    assert version[0].isdigit()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ["trian"],
            "choices: demo, lesson, train, compare, diagnose, fix, figures, explain, animate, check, list, schema, "
            'bench; did you mean "train"',
        ),
        (["train"], "name one config"),
        (["train", "digits_mlp", "digits_cnn"], "not 2 (digits_mlp digits_cnn)"),
        (["train", "digits_mpl"], 'did you mean "digits_mlp"'),
        (["train", "digits_mlp", "optimizer.lr=fast"], "optimizer.lr=fast: should be a number"),
        (["train", "digits_mlp", "optimizer.lr:0.1"], "an override is written key=value"),
        (["train", "digits_mlp", "model.hidden.-1=12"], "model.hidden is a list; choices: 0, 1"),
        (["train", "digits_mlp", "data.my-key=3"], "data.my-key=3: unknown key"),
        (["train", "digits_mlp", "--epochs", "3"], "unrecognized arguments: --epochs"),
        (["train", "--resume", "digits_mlp"], "nothing to resume"),
        (["compare"], "name one study"),
        (["compare", "vanishin"], 'did you mean "vanishing"'),
        (["compare", "vanishing", "seeds=0"], "seeds=0: should be a list of seeds, or how many"),
        (["compare", "vanishing", "--jobs", "0"], "--jobs must be positive"),
        (["compare", "vanishing", "--on", "spark"], "on: should be ray or ray://ADDRESS, got spark"),
        (["figures", "nowhere"], "nowhere"),
        (["lesson", "vanishin"], "there is no lesson vanishin; choices: neuron, forward, "),
        (["lesson", "1", "2"], "unrecognized arguments: 2"),
        (["check"], "name a config"),
        (["bench", "digits_mlp", "--pairs", "0"], "must be positive"),
        (["bench", "digits_mlp", "training.accumulate=2"], "the hand-written loop is plain"),
        (["list", "quantites"], 'did you mean "quantities"'),
    ],
)
def test_bad_input_is_told_on_stderr(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert len(err.splitlines()) == 1


def test_check_tells_all_problems_of_all_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    good, bad = tmp_path / "lr=0.1.yaml", tmp_path / "bad.yaml"  # a path with = in it is no override
    good.write_text("name: good\ndata: {kind: moons}\nmodel: {kind: mlp, hidden: [4]}\n")
    bad.write_text("name: bad\nsede: 1\ndata: {kind: mooons}\nmodel: {kind: mlp, hidden: [4]}\n")
    assert cli.main(["check", "--file-only", str(bad), str(good), "missing"]) == 2
    out, err = capsys.readouterr()
    assert out == f"{good}: ok\n"
    lines = err.splitlines()
    assert [line.startswith(f"{bad}:{row}:") for row, line in zip((2, 3), lines, strict=False)] == [True, True]
    assert lines[2].startswith("missing: no such file")
    assert lines[2].endswith("an override is written key=value")


def test_check_tells_what_is_wrong_with_a_network(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    small = ["data.train_size=300", "training.epochs=1"]
    assert cli.main(["check", "digits_mlp", "vanishing", *small[1:]]) == 0
    out, _ = capsys.readouterr()
    assert "vanishing: ok, 6 variants × 5 seeds\n" in out
    assert "digits-mlp: nothing was found\nlooked for and not found: nonfinite_values, output_mismatch, " in out
    assert "not judged, since training has not begun: learning_rate_too_high, not_learning, " in out

    assert cli.main(["check", "vanishing_sigmoid", "moons_mlp", *small]) == 3
    out, _ = capsys.readouterr()
    assert out.startswith(
        "vanishing_sigmoid: 1 finding\nERROR vanishing_gradients in linear1, linear2, linear3 and 15 "
    )
    assert "remedy: use ReLU with He's initialisation" in out
    assert "[model.activation=ReLU model.init=kaiming_uniform]" in out
    assert "step 0" not in out
    assert "\nmoons-mlp: nothing was found\n" in out

    bad, unreadable = tmp_path / "bad.yaml", tmp_path / "unreadable.yaml"
    bad.write_text("name: bad\ndata: {kind: moons}\nmodel: {kind: mlpp, hidden: [4]}\n")
    unreadable.write_text("name: x\ndata: {kind: csv, path: no.csv, target: y}\nmodel: {kind: mlp, hidden: [4]}\n")
    assert cli.main(["check", str(bad), "vanishing_sigmoid", str(unreadable)]) == 2
    out, err = capsys.readouterr()
    assert "ERROR vanishing_gradients" in out  # what can be judged is judged
    first, second = err.splitlines()
    assert first.startswith(f"{bad}:3:15: model.kind: ")
    assert second.startswith(f"{unreadable}: ")
    assert "no.csv" in second
    assert not list(tmp_path.glob("runs*"))


def test_train_tells_what_is_wrong_before_it_trains(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    argv = ["train", "vanishing_sigmoid", "training.steps=3", "training.epochs=null", "--runs", str(tmp_path)]
    assert cli.main(argv) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[1].startswith("before training: error vanishing_gradients in linear1")
    assert not lines[0].startswith("before training")
    assert cli.main([*argv, "--no-check"]) == 0
    assert "before training" not in capsys.readouterr().err


def test_a_bad_file_is_told_without_torch(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: bad\n")
    code = f"import sys; from nnvis import cli; cli.main(['check', {str(bad)!r}]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_train_prints_the_run_directory_last(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    argv = ["train", "training.steps=3", "moons_mlp", "--runs", str(tmp_path), "training.epochs=null", "--name", "mine"]
    assert cli.main(argv) == 0
    out, err = capsys.readouterr()
    run = tmp_path / "mine" / "1-seed0"
    assert out.splitlines()[-1] == str(run)
    assert (run / "summary.json").is_file()
    assert "step 3/3" in err

    assert cli.main(["figures", str(run), "--out", str(tmp_path / "drawn")]) == 0
    drawn = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert tmp_path / "drawn" / "gradient_flow.png" in drawn
    assert all(path.stat().st_size > 1000 for path in drawn)

    assert cli.main(["train", "--resume", str(run)]) == 2
    assert "the run is completed" in capsys.readouterr().err


def test_a_run_that_diverges_exits_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["train", "exploding_relu", "--runs", str(tmp_path), "--quiet"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "linear" in line  # the layer that went first


def test_an_interrupted_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*NNVIS, "train", "moons_mlp", "training.epochs=400", "--runs", str(tmp_path)]
    with subprocess.Popen(
        argv, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    ) as process:
        assert process.stderr
        while not process.stderr.readline().startswith("step"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        last = process.stderr.read().splitlines()[-1]
    assert process.returncode == 130
    run = tmp_path / "moons-mlp" / "1-seed0"
    assert f"nnvis train --resume {run}" in last

    resume = ["train", "--resume", "moons_mlp", "training.epochs=400", "--runs", str(tmp_path), "--device", "cpu"]
    assert cli.main([*resume, "training.batch_size=16"]) == 2
    assert "training.batch_size is 16, was 32" in capsys.readouterr().err


def test_an_unexpected_error_asks_to_be_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("one\ntwo")

    monkeypatch.setattr(nnvis.config, "load_config", broken)
    monkeypatch.delenv("NNVIS_DEBUG", raising=False)
    assert cli.main(["check", "digits_mlp"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("unexpected ZeroDivisionError: one two; please report it")
    monkeypatch.setenv("NNVIS_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main(["check", "digits_mlp"])


def test_a_file_that_cannot_be_written_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "no" / "schema.json"
    assert cli.main(["schema", "-o", str(target)]) == 2
    assert capsys.readouterr().err == f"{target}: No such file or directory\n"


def test_ctrl_c_exits_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(nnvis.config, "load_config", interrupted)
    assert cli.main(["check", "digits_mlp"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_closed_pipe_is_no_error() -> None:
    with subprocess.Popen([*NNVIS, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 130


def test_bench_compares_with_a_hand_written_loop(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "moons_mlp", "--pairs", "1", "--seconds", "0.01"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [
        re.fullmatch(r"(.*?) +([\d.]+) of a hand-written loop's time \(.* to .*\), .* ms a step", line)
        for line in lines
    ]
    assert [row and row[1] for row in rows] == list(VARIANTS)
    assert all(row and float(row[2]) > 0 for row in rows)


def test_schema(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["schema"]) == 0
    assert capsys.readouterr().out == schema_text()
    assert cli.main(["schema", "-o", str(tmp_path / "schema.json")]) == 0
    assert (tmp_path / "schema.json").read_text(encoding="utf-8") == schema_text()


def test_list_without_a_topic_lists_the_topics(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(TOPICS)


def test_the_explanations_are_told_in_the_words_of_their_topics() -> None:
    from nnvis.lessons import TOPICS as TOLD

    assert {name: (topic.__doc__ or "").partition("\n")[0] for name, topic in TOLD.items()} == EXPLANATIONS


@pytest.mark.parametrize(
    ("topic", "row"),
    [
        ("configs", ("moons_mlp", "How does a network bend a straight border around two interleaved half moons?")),
        ("datasets", ("moons", "Two interleaved half circles (2 inputs, 2 classes).")),
        ("models", ("python", "The user's own `torch.nn.Module`. Needs `--trust`.")),
        ("layers", ("Linear", "out_features, bias=true")),
        ("layers", ("residual", "a list of layers; their input is added to their output")),
        ("activations", ("leaky_relu", "negative_slope=0.01")),
        ("losses", ("huber", "regression; squared up to `delta`, then linear")),
        ("optimizers", ("Adafactor", ADAFACTOR)),
        ("schedulers", ("StepLR", "step_size, gamma=0.1")),
        ("quantities", ("update_ratio", "update_norm / weight_norm")),
    ],
)
def test_list(topic: str, row: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    rows = listing(topic)
    assert row in rows
    assert len(dict(rows)) == len(rows)
    assert cli.main(["list", topic]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [name for name, _ in rows]


def test_list_wraps_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    assert cli.main(["list", "optimizers"]) == 0
    plain = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)
    assert max(map(len, plain.splitlines())) <= 60


def test_every_loss_is_described() -> None:
    assert list(LOSSES) == list(get_args(schema.Loss.model_fields["kind"].annotation))
