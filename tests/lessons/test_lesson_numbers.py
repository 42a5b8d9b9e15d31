"""The numbers of the longer lessons, from shortened experiments, computed again with numpy in float64."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.console import Console
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import log_loss, mean_squared_error
from torch import nn

from nnvis.data import Split, load_splits
from nnvis.lessons.subject import open_subject
from nnvis.lessons.tour import (
    activations,
    applications,
    batches,
    exploding,
    initialisation,
    monitoring,
    open_lesson,
    overfitting,
    vanishing,
)
from nnvis.lessons.tour.stage import Stage
from nnvis.lessons.tour.text import FOLDER
from nnvis.record import load_run

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
    hidden = []
    for w, b in layers[:-1]:
        x = f(x @ w.T + b)
        hidden.append(x)
    return hidden, x @ layers[-1][0].T + layers[-1][1]


def shares(logits: Array) -> Array:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def cross_entropy(logits: Array, targets: NDArray[np.int64]) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(targets)), targets]))


def per_layer(values: list[float]) -> float:
    return float((values[-1] / values[0]) ** (1 / (len(values) - 1)))


def test_activations(tmp_path: Path) -> None:
    stage = stage_of("activations", tmp_path, **{"epochs: 60": "epochs: 8"})
    numbers = activations.experiment(stage)
    functions = {"identity": np.asarray, "tanh": np.tanh, "relu": relu}
    right: dict[str, list[float]] = {kind: [] for kind in functions}
    for kind, function in functions.items():
        for seed in range(3):
            layers = parameters_of(stage.train(f"name={kind}", f"model.activation={kind}", seed=seed).load_model())
            train = load_splits(stage.config().data, seed).train
            logits = forward(layers, train.inputs.double().numpy(), function)[1]
            right[kind].append(float(np.mean(logits.argmax(axis=1) == train.targets.numpy())))
        assert len(set(right[kind])) > 1
    assert numbers["identity"] == pytest.approx(max(right["identity"]))
    assert [numbers["tanh"], numbers["relu"]] == pytest.approx([min(right["tanh"]), min(right["relu"])])
    assert numbers["weights"] == 2 * 8 + 8 + 8 * 8 + 8 + 8 * 2 + 2


def test_initialisation(tmp_path: Path) -> None:
    changes = {"epochs: 8": "epochs: 2", "batch_size: 64": f"batch_size: {ROWS}"}
    stage = stage_of("initialisation", tmp_path, **changes)
    numbers = initialisation.experiment(stage)
    x, targets = rows_of(stage)
    for start, short in (("He", "he"), ("too small", "small"), ("too large", "large")):
        layers = parameters_of(stage.open(*initialisation.STARTS[start]).model)
        hidden, logits = forward(layers, x, relu)
        spreads = [float(a.std()) for a in hidden]
        assert numbers[f"factor_{short}"] == pytest.approx(per_layer(spreads), rel=1e-4)
        assert numbers[f"signal_{short}"] == pytest.approx(spreads[-1], rel=1e-3)
        if short == "large":
            assert numbers["loss_large"] == pytest.approx(cross_entropy(logits, targets), rel=1e-4)
    trained = parameters_of(stage.train().load_model())
    apart = max(float(abs(w[:, None] - w[None]).max()) for w, _ in trained[:-1])  # every pair of units
    assert numbers["spread_he"] == pytest.approx(apart)
    assert numbers["spread_constant"] == 0
    for start, short in (("He", "he"), ("constant", "constant"), ("too small", "small")):
        assert numbers[f"accuracy_{short}"] == pytest.approx(accuracy_of(stage, *initialisation.STARTS[start]))
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
    hidden, logits = forward(layers, x, sigmoid)
    delta = shares(logits) - np.eye(10)[targets]
    norms, slopes, weights = [np.linalg.norm(delta)], [], []
    for (w, _), a in zip(reversed(layers[1:]), reversed(hidden), strict=True):
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
    layers = parameters_of(stage.open(*vanishing.RELU).model)
    hidden, logits = forward(layers, x, relu)
    delta = last = shares(logits) - np.eye(10)[targets]
    for (w, _), a in zip(reversed(layers[1:]), reversed(hidden), strict=True):
        delta = delta @ w * (a > 0)
    assert numbers["ratio_relu"] == pytest.approx(np.linalg.norm(delta) / np.linalg.norm(last), rel=1e-9)
    assert numbers["accuracy_sigmoid"] == pytest.approx(accuracy_of(stage))
    assert numbers["accuracy_relu"] == pytest.approx(accuracy_of(stage, *vanishing.RELU))


def test_exploding(tmp_path: Path) -> None:
    changes = {"epochs: 12": "epochs: 3", "batch_size: 64": f"batch_size: {ROWS}"}
    stage = stage_of("exploding", tmp_path, **changes)
    numbers = exploding.experiment(stage)
    x, targets = rows_of(stage)
    layers = parameters_of(stage.open().model)
    hidden, logits = forward(layers, x, relu)
    assert numbers["factor"] == pytest.approx(per_layer([float(a.std()) for a in hidden]), rel=1e-4)
    assert numbers["growth"] == pytest.approx(hidden[-1].std() / hidden[0].std(), rel=1e-2)
    assert numbers["loss_start"] == pytest.approx(cross_entropy(logits, targets), rel=1e-4)
    delta = (shares(logits) - np.eye(10)[targets]) / len(x)
    squares, back = 0.0, []
    for i in range(len(layers) - 1, -1, -1):
        arrived = hidden[i - 1] if i else x
        squares += float(((delta.T @ arrived) ** 2).sum() + (delta.sum(axis=0) ** 2).sum())
        if i:
            delta = delta @ layers[i][0]
            back.append(float(np.sqrt((delta**2).mean())))
            delta = delta * (hidden[i - 1] > 0)
    assert numbers["factor_back"] == pytest.approx(per_layer(back), rel=1e-3)
    assert numbers["growth_back"] == pytest.approx(back[-1] / back[0], rel=1e-2)
    assert numbers["growth_expected"] == pytest.approx(2**9.5)
    assert numbers["gradient_start"] == pytest.approx(np.sqrt(squares), rel=1e-3)
    assert numbers["clip_first"] == pytest.approx(10 / np.sqrt(squares), rel=1e-3)
    assert numbers["expected"] == pytest.approx(np.sqrt(2))
    for name, short in (("clipping", "clipping"), ("He", "he"), ("layer norm", "norm")):
        assert numbers[f"accuracy_{short}"] == pytest.approx(accuracy_of(stage, *exploding.VARIANTS[name]))
    assert all(claim.holds(numbers) for claim in exploding.CLAIMS[:2])  # those of the start


def test_overfitting(tmp_path: Path) -> None:
    stage = stage_of("overfitting", tmp_path, **{"epochs: 150": "epochs: 4"})
    numbers = overfitting.experiment(stage)
    for variant, short in overfitting.SHORT.items():
        changes, told = overfitting.VARIANTS[variant], {}
        layers = parameters_of(stage.train(*changes).load_model())
        for split in ("train", "val", "test"):
            x, targets = rows_of(stage, split, *changes)
            logits = forward(layers, x, relu)[1]
            assert numbers[f"{short}_{split}"] == pytest.approx(cross_entropy(logits, targets), rel=1e-4)
            told[split] = len(x), float(np.mean(logits.argmax(axis=1) == targets))
        rows, share = told["test"]
        assert numbers[f"{short}_accuracy"] == pytest.approx(share)
        if short == "large":
            assert numbers["test_accuracy"] == pytest.approx(share)
            assert numbers["train_accuracy"] == pytest.approx(told["train"][1])
            assert numbers["test_rows"] == rows == 539
            assert numbers["error"] == pytest.approx(1.96 * np.sqrt(share * (1 - share) / 539))
    val = stage.train().scalars["loss/val"].values
    assert numbers["onset"] == 1 + int(val.argmin())
    assert numbers["val_best"] == val.min()
    assert numbers["gap"] == pytest.approx(numbers["large_val"] - numbers["large_train"])
    noisy, clean = (rows_of(stage, "train", *change)[1] for change in ((), ("data.label_noise=0.0",)))
    assert numbers["wrong"] == (noisy != clean).sum() == 60
    assert numbers["rows"] == 1797 - 2 * 539


def test_monitoring(tmp_path: Path) -> None:
    """The loop saves its weights and batches too: what its layers did is computed again from them."""
    step = "            optimizer.step()\n"
    saved = "            trail.append([rows, *(p.detach().clone() for p in model.parameters())])\n"
    end = "torch.save([trail, list(model.parameters()), inputs, targets, val], folder + '/trail.pt')"
    changes = {"range(12)": "range(7)", "criterion = nn": "trail = []\ncriterion = nn", step: saved + step}
    stage = stage_of("monitoring", tmp_path, **changes, **{"\n```": f"\n\n{end}\n```"})
    numbers = monitoring.experiment(stage)
    run = tmp_path / "runs" / "slip"
    trail, last, inputs, targets, val = torch.load(run / "trail.pt")
    x, targets = inputs.double().numpy(), targets.numpy()
    weights = [[p.detach().double().numpy() for p in each] for each in (*(ps for _, *ps in trail), last)]
    layers = [list(zip(each[::2], each[1::2], strict=True)) for each in weights]
    logits = forward(layers[-1], x[val], relu)[1]
    assert numbers["accuracy_after"] == pytest.approx(np.mean(logits.argmax(axis=1) == targets[val]))
    assert numbers["loss_after"] == pytest.approx(cross_entropy(logits, targets[val]), rel=1e-4)
    before = forward(layers[monitoring.FIRST], x[val], relu)[1]
    assert numbers["accuracy_before"] == pytest.approx(np.mean(before.argmax(axis=1) == targets[val]))

    seen = load_run(run).layers["dead_fraction"].steps.tolist()
    parts = [x[rows] for rows, *_ in trail]
    dead = {k: [float((a == 0).all(axis=0).mean()) for a in forward(layers[k], parts[k], relu)[0]] for k in seen}
    assert numbers["dead_before"] == pytest.approx(max(max(dead[k]) for k in seen if k < monitoring.FIRST))
    assert numbers["dead_after"] == pytest.approx(np.mean(dead[seen[-1]]))
    assert numbers["dead_step"] == next(k for k in seen if min(dead[k]) > 0.5)
    assert numbers["dead_after"] > 0.5 > numbers["dead_before"]

    stepped = [k for k in seen if k < monitoring.FIRST + monitoring.EPOCH]
    ratios = {k: [relative_step(*both) for both in zip(layers[k], layers[k + 1], strict=True)] for k in stepped}
    slow, fast = ([max(ratios[k]) for k in stepped if (k >= monitoring.FIRST) == slip] for slip in (False, True))
    assert numbers["ratio_before"] == pytest.approx(max(slow), rel=1e-3)
    assert numbers["ratio_slip"] == pytest.approx(max(fast), rel=1e-3)
    assert numbers["same_steps"] == numbers["slip_step"] + 1  # the loss of that step comes before its update
    assert all(claim.holds(numbers) for claim in monitoring.CLAIMS[:3])  # the diagnosis wants more epochs


def relative_step(before: Sequence[Array], after: Sequence[Array]) -> float:
    """How far a layer's parameters have moved, over how long they were."""
    moved = sum(float(((b - a) ** 2).sum()) for a, b in zip(before, after, strict=True))
    return float(np.sqrt(moved / sum(float((a**2).sum()) for a in before)))


def test_applications(tmp_path: Path) -> None:
    """One step on all rows: the gradient by autograd in float64, the step from the weights before and after it."""
    sizes = {"epochs: 5, batch_size: 64": "image", "epochs: 6, batch_size: 32": "text"}
    sizes |= {"epochs: 25, batch_size: 16": "series", "epochs: 20, batch_size: 32": "table"}
    changes = dict.fromkeys(sizes, "epochs: 1, batch_size: full")
    stage = stage_of("applications", tmp_path, **changes, **{"dropout: 0.2": "dropout: 0.0"})
    numbers = applications.experiment(stage)
    for kind in applications.KINDS:
        run, splits = stage.train(of=kind), load_splits(stage.config(of=kind).data, 0)
        train, val = splits.train, splits.val
        assert val is not None
        told = {name: answers_of(run.load_model(), split) for name, split in (("train", train), ("val", val))}
        loss, accuracy = told["val"]
        assert numbers[f"{kind}_val"] == pytest.approx(loss, rel=1e-4)
        assert numbers[f"{kind}_gap"] == pytest.approx(loss - told["train"][0], rel=1e-3, abs=1e-6)
        assert numbers[f"{kind}_left"] == pytest.approx(loss / numbers[f"{kind}_guess"], rel=1e-4)
        if kind != "series":
            assert numbers[f"{kind}_accuracy"] == pytest.approx(accuracy)
        start = open_subject(stage.config("seed=0", of=kind)).model.double().train()
        outputs = start(train.inputs if kind == "text" else train.inputs.double())
        function = F.mse_loss if kind == "series" else F.cross_entropy
        function(outputs, train.targets.double() if kind == "series" else train.targets).backward()
        owners = [m for m in start.modules() if list(m.parameters(recurse=False))]
        norms = [np.sqrt(sum(float((p.grad**2).sum()) for p in m.parameters(recurse=False))) for m in owners]  # type: ignore
        assert numbers[f"{kind}_ratio"] == pytest.approx(norms[0] / norms[-1], rel=1e-3)
        steps = steps_of(start, run.load_model())
        assert numbers[f"{kind}_pace"] == pytest.approx(np.median(steps), rel=1e-4)
        later = stage.train("training.epochs=2", "capture.every=1", of=kind)
        steps += steps_of(run.load_model(), later.load_model())
        two = applications.answers(later, splits)
        assert two["pace"] == pytest.approx(np.median(steps), rel=1e-4)
        assert two["ratio"] == pytest.approx(numbers[f"{kind}_ratio"])  # of the first step
    assert numbers["series_rows"] == len(load_splits(stage.config(of="series").data, 0).train)


def steps_of(before: nn.Module, after: nn.Module) -> list[float]:
    """The relative step of each layer that has parameters of its own."""
    pairs = zip(before.modules(), after.modules(), strict=True)
    own = [[[p.detach().double().numpy() for p in m.parameters(recurse=False)] for m in pair] for pair in pairs]
    return [relative_step(*both) for both in own if both[0]]


def accuracy_of(stage: Stage, *overrides: str) -> float:
    """On the validation rows, of the weights that are kept."""
    val = load_splits(stage.config(*overrides).data, 0).val
    assert val is not None
    return answers_of(stage.train(*overrides).load_model(), val)[1]


def answers_of(model: nn.Module, split: Split) -> tuple[float, float]:
    """The loss of a split, and the share that is right (of numbers NaN), from the outputs in float64."""
    inputs = split.inputs.double() if split.inputs.is_floating_point() else split.inputs
    with torch.no_grad():
        outputs = model.double().eval()(inputs).numpy()
    targets = split.targets.numpy()
    if targets.dtype != np.int64:
        return float(((outputs - targets) ** 2).mean()), float("nan")
    return cross_entropy(outputs, targets), float(np.mean(outputs.argmax(axis=1) == targets))


def test_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paths and the losses, with gradients and losses by hand."""
    monkeypatch.setattr(batches, "POINTS", 5)
    rates: list[float] = []
    descend = batches.descend
    monkeypatch.setattr(batches, "descend", lambda s, p, rate, **how: rates.append(rate) or descend(s, p, rate, **how))
    stage = stage_of("batches", tmp_path, **{"epochs: 5": "epochs: 2"})
    numbers = batches.experiment(stage)
    x, targets = rows_of(stage)
    losses: dict[str, list[float]] = {name: [] for name in batches.BATCHES}
    for name, size in batches.BATCHES.items():
        for seed in range(3):
            run = stage.train(f"name=batches-{size or 'full'}", f"training.batch_size={size or 'full'}", seed=seed)
            train = load_splits(stage.config().data, seed).train
            logits = forward(parameters_of(run.load_model()), train.inputs.double().numpy(), np.tanh)[1]
            losses[name].append(cross_entropy(logits, train.targets.numpy()))
        assert numbers[f"loss_{name}"] == pytest.approx(losses[name][0], rel=1e-4)
        assert numbers[f"steps_{name}"] == 2 * len(x) // (size or len(x))
        assert numbers[f"rows_{name}"] == 60 * (size or len(x))
    for name in ("few", "one"):
        leads = [full / each for full, each in zip(losses["full"], losses[name], strict=True)]
        assert numbers[f"lead_{name}"] == pytest.approx(min(leads), rel=1e-4)

    start = np.concatenate([p.ravel() for each in parameters_of(stage.open().model) for p in each])
    shapes = [p.shape for each in parameters_of(stage.open().model) for p in each]
    gradient = lambda w, rows: tanh_gradient(w, shapes, x[rows], targets[rows])  # noqa: E731
    every = np.arange(len(x))
    along = -gradient(start, every)
    along /= np.linalg.norm(along)
    across = gradient(start - 1e-5 * along, every) - gradient(start + 1e-5 * along, every)
    across -= along * (along @ across)
    across /= np.linalg.norm(across)
    plane = np.stack([along, across])
    for name, size in batches.BATCHES.items():
        random, left, path = np.random.default_rng(0), np.zeros(0, dtype=int), [np.zeros(2)]
        for _ in range(60):
            if size and len(left) < size:
                left = random.permutation(len(x))
            rows, left = (left[:size], left[size:]) if size else (every, left)
            path.append(path[-1] - rates[0] * plane @ gradient(start + path[-1] @ plane, rows))
        walked = sum(float(np.linalg.norm(b - a)) for a, b in pairwise(path))
        assert numbers[f"length_{name}"] == pytest.approx(walked / np.linalg.norm(path[-1]), rel=1e-3)
    assert len(set(rates)) == 1


def tanh_gradient(weights: Array, shapes: list[tuple[int, ...]], x: Array, targets: NDArray[np.int64]) -> Array:
    """Of the mean cross entropy of an MLP of tanh, with respect to all of its weights and biases in one vector."""
    parts = np.split(weights, np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1])
    values = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
    layers = list(zip(values[::2], values[1::2], strict=True))
    hidden, logits = forward(layers, x, np.tanh)
    delta = (shares(logits) - np.eye(logits.shape[1])[targets]) / len(x)
    found: list[Array] = []
    for i in range(len(layers) - 1, -1, -1):
        arrived = hidden[i - 1] if i else x
        found = [(delta.T @ arrived).ravel(), delta.sum(axis=0), *found]
        delta = delta @ layers[i][0] * (1 - arrived**2)
    return np.concatenate(found)


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
