"""The sick run beside its fixed twin: what is drawn, and what its words say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from made_up_runs import LONG
from overlaps import problems
from reading_back import caption, lines, title

from nnvis.figures import NoData, twin
from nnvis.record import Finding
from nnvis.record.run import Recorded, Run

MakeRun = Callable[..., Run]


def ill(run: Run, *symptoms: str, severity: str = "error") -> Run:
    return replace(run, findings=tuple(Finding(symptom, severity, (), 0, 0.0, 0.0, "") for symptom in symptoms))


def test_both_are_drawn_on_shared_axes(make_run: MakeRun) -> None:
    sick, fixed = ill(make_run(12, "vanishing"), "vanishing_gradients", "not_learning"), make_run(12)
    fig = twin(sick, fixed, "model.norm=batch")
    left, right, left_loss, right_loss = fig.axes
    for run, flow, loss in ((sick, left, left_loss), (fixed, right, right_loss)):
        table = run.layers["grad_norm"]
        assert np.array_equal(lines(flow, "step 0")[0].get_ydata(), table.values[0])
        assert np.array_equal(lines(loss, "validation")[0].get_ydata(), run.scalars["loss/val"].values)
        assert np.array_equal(lines(loss, "train")[0].get_ydata(), run.scalars["loss/epoch"].values)
    assert left.get_ylim() == right.get_ylim()
    assert left_loss.get_ylim() == right_loss.get_ylim()
    assert left_loss.get_xlim() == right_loss.get_xlim()
    heads = [ax.get_title(loc="left").splitlines()[0] for ax in fig.axes[:2]]
    assert heads == ["as it was: vanishing_gradients, not_learning", "fixed: nothing found"]
    assert title(fig).startswith("model.norm=batch: validation accuracy from 11% to ")
    assert "from 2×10⁻⁷ to " in title(fig)  # 0.25 eleven times over
    assert "seed 0" in caption(fig)


def test_a_run_that_broke(make_run: MakeRun) -> None:
    sick = make_run(6, "diverged")
    scalars = Recorded(
        {tag: s for tag, s in sick.scalars.items() if tag == "loss/train"}
    )  # before its first epoch ended
    broken = ill(replace(sick, scalars=scalars), "nonfinite_values")
    fig = twin(broken, ill(make_run(6), "bad_initial_loss", severity="warning"))
    assert title(fig).startswith("in place of diverging at step 680, validation accuracy ")
    assert fig.axes[2].get_title(loc="left") == "diverged"
    assert fig.axes[1].get_title(loc="left").startswith("fixed: only a warning, bad_initial_loss")
    assert {ax.get_xlabel() for ax in fig.axes[2:]} == {"step (optimizer updates completed)"}
    assert problems(fig) == []


@pytest.mark.parametrize(
    ("sick", "fixed"),
    [
        ({"layers": 20, "story": "vanishing"}, {"layers": 20, "names": LONG}),
        ({"layers": 3, "steps": [0]}, {"layers": 41, "val": False, "accuracy": False}),
        ({"layers": 8, "story": "dead"}, {"layers": 8, "story": "overfitting", "accuracy": False}),
    ],
)
def test_texts_do_not_overlap(make_run: MakeRun, sick: dict[str, object], fixed: dict[str, object]) -> None:
    change = "model.activation=ReLU model.init=kaiming_uniform"
    assert problems(twin(ill(make_run(**sick), "vanishing_gradients"), make_run(**fixed), change)) == []


def test_without_gradients_there_is_nothing_to_draw(make_run: MakeRun) -> None:
    with pytest.raises(NoData):
        twin(replace(make_run(4), layers=Recorded()), make_run(4))
