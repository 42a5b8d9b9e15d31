"""The numbers of the longer lessons, from shortened experiments, computed again with numpy in float64."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import log_loss, mean_squared_error
from torch import nn

from nnvis import load_run
from nnvis.data import load_splits
from nnvis.figures.depth import flow_of
from nnvis.lessons.tour import applications, exploding, initialisation, monitoring, open_lesson, overfitting, vanishing
from nnvis.lessons.tour.stage import Stage
from nnvis.lessons.tour.text import FOLDER

Array = NDArray[np.float64]
ROWS = 1438  # of digits with a fifth left out: a batch of all of them


def stage_of(name: str, folder: Path, **changes: str) -> Stage:
    """A lesson's place, its experiment's text changed, word by word."""
    lesson = open_lesson(name)
    text = lesson.sections["The experiment"]
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return Stage(replace(lesson, sections={**lesson.sections, "The experiment": text}), folder, Console(quiet=True))


def parameters_of(model: nn.Module) -> list[tuple[Array, Array]]:
    """(W, b) of each layer of an MLP."""
    values = [p.detach().double().numpy() for p in model.parameters()]
    return list(zip(values[::2], values[1::2], strict=True))


def rows_of(stage: Stage, split: str = "train", *overrides: str) -> tuple[Array, NDArray[np.int64]]:
    part = getattr(load_splits(stage.config(*overrides).data, 0), split)
    return part.inputs.double().numpy().reshape(len(part), -1), part.targets.numpy()


def relu(z: Array) -> Array:
    return np.maximum(z, 0)


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def forward(layers: list[tuple[Array, Array]], x: Array, f: Callable[[Array], Array]) -> tuple[list[Array], Array]:
    """The activations of the hidden layers, and the logits."""
    activations = []
    for w, b in layers[:-1]:
        x = f(x @ w.T + b)
        activations.append(x)
    return activations, x @ layers[-1][0].T + layers[-1][1]


def shares(logits: Array) -> Array:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def cross_entropy(logits: Array, targets: NDArray[np.int64]) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(targets)), targets]))


def per_layer(values: list[float]) -> float:
    return float((values[-1] / values[0]) ** (1 / (len(values) - 1)))


def test_initialisation(tmp_path: Path) -> None:
    changes = {"epochs: 8": "epochs: 2", "batch_size: 64": f"batch_size: {ROWS}"}
    stage = stage_of("initialisation", tmp_path, **changes)
    numbers = initialisation.experiment(stage)
    x, targets = rows_of(stage)
    for start, short in (("He", "he"), ("too small", "small"), ("too large", "large")):
        layers = parameters_of(stage.open(*initialisation.STARTS[start]).model)
        activations, logits = forward(layers, x, relu)
        spreads = [float(a.std()) for a in activations]
        assert numbers[f"factor_{short}"] == pytest.approx(per_layer(spreads), rel=1e-4)
        assert numbers[f"signal_{short}"] == pytest.approx(spreads[-1], rel=1e-3)
        if short == "large":
            assert numbers["loss_large"] == pytest.approx(cross_entropy(logits, targets), rel=1e-4)
    trained = parameters_of(stage.train().load_model())
    apart = max(float(abs(w[:, None] - w[None]).max()) for w, _ in trained[:-1])  # every pair of units
    assert numbers["spread_he"] == pytest.approx(apart)
    assert numbers["spread_constant"] == 0
    assert numbers["guessing"] == pytest.approx(np.log(10))
    alike, _, signal, _ = initialisation.CLAIMS  # the others are of the whole training
    assert alike.holds(numbers)
    assert signal.holds(numbers)


def test_vanishing(tmp_path: Path) -> None:
    stage = stage_of("vanishing", tmp_path, **{"epochs: 12": "epochs: 1"})
    numbers = vanishing.experiment(stage)
    x, targets = rows_of(stage)
    x, targets = x[:1], targets[:1]
    layers = parameters_of(stage.open().model)
    activations, logits = forward(layers, x, sigmoid)
    delta = shares(logits) - np.eye(10)[targets]
    norms, slopes, weights = [np.linalg.norm(delta)], [], []
    for (w, _), a in zip(reversed(layers[1:]), reversed(activations), strict=True):
        arrives = delta @ w
        delta = arrives * a * (1 - a)
        weights.append(np.linalg.norm(arrives) / norms[-1])
        slopes.append(np.linalg.norm(delta) / np.linalg.norm(arrives))
        norms.append(np.linalg.norm(delta))
    assert numbers["ratio"] == pytest.approx(norms[-1] / norms[0], rel=1e-9)
    assert numbers["product"] == pytest.approx(norms[-1] / norms[0], rel=1e-9)
    assert numbers["slopes_product"] == pytest.approx(np.prod(slopes), rel=1e-9)
    assert numbers["weights_product"] == pytest.approx(np.prod(weights), rel=1e-9)
    assert numbers["slope"] == pytest.approx(np.prod(slopes) ** (1 / 20), rel=1e-9)
    assert numbers["textbook"] == 0.25**20
    trained = parameters_of(stage.train().load_model())
    moved = [np.linalg.norm(w - w0) / np.linalg.norm(w0) for (w, _), (w0, _) in zip(trained, layers, strict=True)]
    assert [numbers["moved_first"], numbers["moved_last"]] == pytest.approx([moved[0], moved[-1]])
    assert all(claim.holds(numbers) for claim in vanishing.CLAIMS[:3])  # those of the gradient before training
    assert not vanishing.CLAIMS[1].holds({**numbers, "product": 2 * numbers["ratio"]})
    assert numbers["ratio_relu"] == pytest.approx(
        flow_of(stage.explain(*vanishing.RELU).passes.stages).relative[0], rel=1e-12
    )


def test_exploding(tmp_path: Path) -> None:
    changes = {"epochs: 12": "epochs: 3", "batch_size: 64": f"batch_size: {ROWS}"}
    stage = stage_of("exploding", tmp_path, **changes)
    numbers = exploding.experiment(stage)
    x, targets = rows_of(stage)
    layers = parameters_of(stage.open().model)
    activations, logits = forward(layers, x, relu)
    assert numbers["factor"] == pytest.approx(per_layer([float(a.std()) for a in activations]), rel=1e-4)
    assert numbers["growth"] == pytest.approx(activations[-1].std() / activations[0].std(), rel=1e-2)
    assert numbers["loss_start"] == pytest.approx(cross_entropy(logits, targets), rel=1e-4)
    delta = (shares(logits) - np.eye(10)[targets]) / len(x)
    squares, back = 0.0, []
    for i in range(len(layers) - 1, -1, -1):
        arrived = activations[i - 1] if i else x
        squares += float(((delta.T @ arrived) ** 2).sum() + (delta.sum(axis=0) ** 2).sum())
        if i:
            delta = delta @ layers[i][0]
            back.append(float(np.sqrt((delta**2).mean())))
            delta = delta * (activations[i - 1] > 0)
    assert numbers["factor_back"] == pytest.approx(per_layer(back), rel=1e-3)
    assert numbers["growth_back"] == pytest.approx(back[-1] / back[0], rel=1e-2)
    assert numbers["growth_expected"] == pytest.approx(2**9.5)
    assert numbers["gradient_start"] == pytest.approx(np.sqrt(squares), rel=1e-3)
    assert numbers["clip_first"] == pytest.approx(10 / np.sqrt(squares), rel=1e-3)
    assert numbers["expected"] == pytest.approx(np.sqrt(2))
    assert all(claim.holds(numbers) for claim in exploding.CLAIMS[:2])  # those of the start


def test_overfitting(tmp_path: Path) -> None:
    stage = stage_of("overfitting", tmp_path, **{"epochs: 150": "epochs: 4"})
    numbers = overfitting.experiment(stage)
    layers = parameters_of(stage.train().load_model())
    for split in ("train", "val", "test"):
        x, targets = rows_of(stage, split)
        logits = forward(layers, x, relu)[1]
        assert numbers[f"large_{split}"] == pytest.approx(cross_entropy(logits, targets), rel=1e-4)
        if split == "test":
            share = float(np.mean(logits.argmax(axis=1) == targets))
            assert numbers["test_accuracy"] == numbers["large_accuracy"] == pytest.approx(share)
            assert numbers["test_rows"] == len(x) == 539
            assert numbers["error"] == pytest.approx(1.96 * np.sqrt(share * (1 - share) / 539))
    val = stage.train().scalars["loss/val"].values
    assert numbers["onset"] == 1 + int(val.argmin())
    assert numbers["val_best"] == val.min()
    assert numbers["gap"] == pytest.approx(numbers["large_val"] - numbers["large_train"])
    noisy, clean = (rows_of(stage, "train", *change)[1] for change in ((), ("data.label_noise=0.0",)))
    assert numbers["wrong"] == (noisy != clean).sum() == 60
    assert numbers["rows"] == 1797 - 2 * 539


def test_monitoring(tmp_path: Path) -> None:
    """The loop's end is saved too: its accuracy and its dead units are computed again."""
    changes = {"range(12)": "range(7)"}
    keep = '\n\ntorch.save([model.state_dict(), inputs[val], targets[val], inputs[train]], folder + "/end.pt")\n```'
    stage = stage_of("monitoring", tmp_path, **changes, **{"\n```": keep})
    numbers = monitoring.experiment(stage)
    state, inputs, targets, train = torch.load(tmp_path / "runs" / "slip" / "end.pt")
    values = [p.double().numpy() for p in state.values()]
    layers = list(zip(values[::2], values[1::2], strict=True))
    logits = forward(layers, inputs.double().numpy(), relu)[1]
    assert numbers["accuracy_after"] == pytest.approx(np.mean(logits.argmax(axis=1) == targets.numpy()))
    assert numbers["loss_after"] == pytest.approx(cross_entropy(logits, targets.numpy()), rel=1e-4)
    never = [float((a == 0).all(axis=0).mean()) for a in forward(layers, train.double().numpy(), relu)[0]]
    assert np.mean(never) <= numbers["dead_after"] + 0.02  # dead for all rows, so dead for a batch of them
    assert np.mean(never) > 0.5
    assert numbers["same_steps"] == numbers["slip_step"] + 1  # the loss of that step comes before its update
    assert all(claim.holds(numbers) for claim in monitoring.CLAIMS[:3])  # the diagnosis wants more epochs
    run = load_run(tmp_path / "runs" / "slip")
    dead, ratio = (run.layers[name] for name in ("dead_fraction", "update_ratio"))
    slip = range(115, 138)
    assert numbers["dead_before"] == max(dead.values[i].max() for i, step in enumerate(dead.steps) if step < 115)
    assert numbers["ratio_before"] == max(ratio.values[i].max() for i, step in enumerate(ratio.steps) if step < 115)
    assert numbers["ratio_slip"] == max(ratio.values[i].max() for i, step in enumerate(ratio.steps) if step in slip)


def test_guessing() -> None:
    """The best constant answer, as scikit-learn's dummies give it."""
    lesson = open_lesson("applications")
    for kind in applications.KINDS:
        splits = load_splits(lesson.config(of=kind).data, 0)
        assert splits.val is not None
        (train, val), x = (part.targets.numpy() for part in (splits.train, splits.val)), np.zeros
        if splits.classes:
            dummy = DummyClassifier(strategy="prior").fit(x((len(train), 1)), train)
            expected = log_loss(val, dummy.predict_proba(x((len(val), 1))), labels=dummy.classes_)
        else:
            dummy = DummyRegressor().fit(x((len(train), 1)), train)
            expected = mean_squared_error(val, np.reshape(np.asarray(dummy.predict(x((len(val), 1)))), val.shape))
        assert applications.guessing(splits) == pytest.approx(expected, rel=1e-6)


def test_the_sentences_mean_what_they_are_labelled() -> None:
    """What counts is the main clause, and "not" turns it round."""
    good, bad = {"good", "great", "lovely", "clever", "moving"}, {"bad", "dull", "weak", "silly", "flat"}
    with (FOLDER / "applications.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["text"] for row in rows}) == len(rows) == 1000
    for row in rows:
        text = row["text"]
        if " but " in text or text.startswith("although"):
            main = text.replace(", ", " but ").split(" but ")[1]
        else:
            main = text.split(" although ")[0]
        *_, verb, word = main.split()
        assert word in good | bad
        assert row["label"] == ("positive" if (word in good) != (verb == "not") else "negative")


def test_the_loop_that_fails_is_told(tmp_path: Path) -> None:
    from nnvis.errors import RunError

    stage = stage_of("monitoring", tmp_path, **{"import torch\n": "import no_such_module\n"})
    with pytest.raises(RunError, match=r"loop\.py: ModuleNotFoundError: No module named 'no_such_module'"):
        monitoring.experiment(stage)
