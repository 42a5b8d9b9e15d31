"""The forward pass as the lesson tells it, computed again from the weights with numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from nnvis import load_run
from nnvis.lessons import open_subject
from nnvis.lessons.tour import open_lesson
from nnvis.lessons.tour.forward import CLAIMS, experiment
from nnvis.lessons.tour.stage import Stage


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_numbers_of_the_forward_pass(seed: int, tmp_path: Path) -> None:
    stage = Stage(open_lesson("forward"), tmp_path, Console(quiet=True))
    numbers = experiment(stage, seed)
    assert all(claim.holds(numbers) for claim in CLAIMS)
    subject, run = stage.open(seed=seed), load_run(tmp_path / "runs" / "forward" / f"1-seed{seed}")
    x, target = subject.splits.train.inputs.double().numpy(), subject.splits.train.targets.numpy()
    for model, when in ((subject.model, "before"), (open_subject(run.path).model, "after")):
        w1, b1, w2, b2, w3, b3 = (p.detach().double().numpy() for p in model.parameters())
        logits = np.tanh(np.tanh(x @ w1.T + b1) @ w2.T + b2) @ w3.T + b3
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        assert numbers[f"p_{when}"] == pytest.approx(p[0, target[0]], rel=1e-12)
        assert numbers[f"accuracy_{when}"] == pytest.approx(np.mean(logits.argmax(1) == target), abs=1e-6)
        if when == "before":
            assert [numbers["logit0"], numbers["logit1"]] == pytest.approx(logits[0], rel=1e-12)
            assert numbers["loss_before"] == pytest.approx(-np.log(p[0, target[0]]), rel=1e-12)
    assert numbers["weights"] == 2 * 5 + 5 + 5 * 4 + 4 + 4 * 2 + 2
    assert (numbers["rows"], numbers["steps"]) == (320, 40 * 10)
