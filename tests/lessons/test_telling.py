"""What `nnvis explain` prints and leaves: readable at any depth, and nothing that was not computed."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from nnvis import cli
from nnvis.lessons import Explanation, explain, open_subject, tell
from nnvis.lessons.drawing import figures_of

FIGURES = [
    "network_passes",
    "forward_values",
    "gradient_factors",
    "neuron",
    "weight_chain",
]
DEEP = ["model={kind: mlp, depth: 100, width: 32, activation: relu, init: kaiming_uniform}"]


def text_of(explanation: Explanation) -> str:
    out = io.StringIO()
    tell(explanation, Console(file=out, highlight=False, width=80))
    return out.getvalue()


def test_numbers_in_the_text_are_those_of_the_network() -> None:
    found = explain(open_subject("moons_mlp", ["data.samples=100"]), weight="linear1:2,1")
    text = text_of(found)
    neuron, weight = found.neuron, found.weight
    assert neuron
    assert weight

    def said(pattern: str) -> float:
        match = re.search(pattern + r" ([−\d.e]+)", text)
        assert match, pattern
        return float(match[1].replace("−", "-"))

    first = found.passes.stages[0]
    assert first.weight is not None
    assert said(r"W\[2,0\]·x\[0\] = \S+ · \S+ =") == pytest.approx(first.weight[2, 0] * first.x[0], rel=1e-5)
    assert said(r"z = Σ .* = \S+ \+ \S+ =") == pytest.approx(first.z[2], rel=1e-5)
    assert said(r"a = tanh\(z\) =") == pytest.approx(first.a[0], rel=1e-3)
    assert said(r"∂L/∂a =") == pytest.approx(weight.grad_a[0], rel=1e-5)
    assert said(r"∂a/∂z =") == pytest.approx(1 - first.a[2] ** 2, rel=1e-5)
    assert said(r"∂z/∂w =") == pytest.approx(first.x[1], rel=1e-5)
    assert said(r"∂L/∂w = ∂L/∂a · ∂a/∂z · ∂z/∂w =") == pytest.approx(weight.product, rel=1e-5)
    assert said(r"autograd:\s+") == pytest.approx(weight.product, rel=1e-5)
    assert said(r"finite difference:") == pytest.approx(weight.product, rel=1e-5)
    assert said(r"w − lr·∂L/∂w = \S+ − \S+ · \S+ =") == pytest.approx(weight.w - 0.01 * weight.product, rel=1e-5)
    assert "first 6 of 16" in text
    assert "all three agree" in text
    assert "\x1b" not in text


def test_a_deep_network_is_abridged_and_said_to_be() -> None:
    text = text_of(explain(open_subject("digits_mlp", DEEP)))
    assert len(text.splitlines()) < 160
    assert "… 190 layers between are not listed" in text
    assert "… 89 layers between are not listed" in text
    assert "first 6 of 64" in text


def test_what_is_too_small_for_a_finite_difference_is_said_to_be() -> None:
    text = text_of(explain(open_subject("vanishing_sigmoid")))
    assert "too small for a finite difference" in text
    assert "all three agree" not in text


def test_a_network_without_linear_layers() -> None:
    layers = "model={kind: layers, layers: [{Conv2d: {out_channels: 10, kernel_size: 8}}, Flatten]}"
    found = explain(open_subject("digits_mlp", [layers]))
    assert found.neuron is None
    assert found.weight is None
    assert "the network has no Linear layer" in text_of(found)
    assert "its 650 parameters are not shown one by one" in text_of(found)
    assert list(figures_of(found)) == ["network_passes", "forward_values"]


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["explain", "moons_mlp", "data.samples=100", "--sample", "3", "--neuron", "linear2:1"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "row 3 of 80 for training" in out
    assert "One neuron: linear2, unit 1" in out
    files = [Path(line) for line in out.splitlines()[-len(FIGURES) :]]
    assert files == [Path("explained/moons-mlp") / f"{name}.png" for name in FIGURES]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sample", "800"], "choose 0 to 799"),
        (["--sample", "one"], "invalid int value"),
        (["--weight", "output:2,0"], "choose 0 to 1"),
        (["--neuron", "outptu:0"], 'did you mean "output"'),
    ],
)
def test_wrong_input_is_one_line(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "moons_mlp", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert len(err.splitlines()) == 1
