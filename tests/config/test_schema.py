"""What the sections make of what is written: shorthands, defaults, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from nnvis.config import ConfigError, dump_config, flatten, parse_config
from nnvis.config.schema import Config, Init, Loss, Optimizer, Schedule, TorchLayer
from nnvis.config.yaml_text import write_yaml

STOPPING = {"early_stopping": {"metric": "accuracy"}}
RNN = {"model": {"kind": "rnn"}}
CSV = {"kind": "csv", "path": "a", "target": "b"}
BASE: dict[str, Any] = {"name": "a", "data": {"kind": "digits"}, "model": {"kind": "mlp", "hidden": [8]}}


def config(**sections: Any) -> Config:
    return parse_config(write_yaml({**BASE, **sections}))


def complaints(**sections: Any) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        config(**sections)
    return [(problem.path, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("written", "kind", "arguments"),
    [
        ("ReLU", "ReLU", {}),
        ({"Linear": 64}, "Linear", {"out_features": 64}),
        ({"Conv2d": [16, 3]}, "Conv2d", {"out_channels": 16, "kernel_size": 3}),
        (
            {"Conv2d": {"kernel_size": [3, 5], "out_channels": 16}},
            "Conv2d",
            {"out_channels": 16, "kernel_size": [3, 5]},
        ),
        ({"Linear": {"in_features": 4, "out_features": 2}}, "Linear", {"in_features": 4, "out_features": 2}),
        ({"Embedding": 32}, "Embedding", {"embedding_dim": 32}),
        ({"GroupNorm": 4}, "GroupNorm", {"num_groups": 4}),
        ({"MultiheadAttention": 4}, "MultiheadAttention", {"num_heads": 4}),
        ({"TransformerEncoderLayer": [4, 128]}, "TransformerEncoderLayer", {"nhead": 4, "dim_feedforward": 128}),
        ({"Unflatten": [1, [2, 4]]}, "Unflatten", {"dim": 1, "unflattened_size": [2, 4]}),
        ({"Dropout": None}, "Dropout", {}),
        ("LayerNorm", "LayerNorm", {}),
        ({"BatchNorm1d": {"momentum": 1}}, "BatchNorm1d", {"momentum": 1.0}),
    ],
)
def test_a_layer_has_its_arguments_by_name(written: Any, kind: str, arguments: dict[str, Any]) -> None:
    model = config(model={"kind": "layers", "layers": [written]}).model
    assert model.layers == [TorchLayer(kind=kind, arguments=arguments)]  # pyright: ignore


def test_blocks_nest() -> None:
    entries = [{"residual": [{"Linear": 8}, {"sequential": ["ReLU", {"residual": ["Tanh"]}]}]}]
    (block,) = config(model={"kind": "layers", "layers": entries}).model.layers  # pyright: ignore
    assert block.kind == "residual"
    assert [child.kind for child in block.children] == ["Linear", "sequential"]
    assert block.children[1].children[1].children == [TorchLayer(kind="Tanh")]
    assert block.model_dump() == {
        "residual": [{"Linear": {"out_features": 8}}, {"sequential": ["ReLU", {"residual": ["Tanh"]}]}]
    }


@pytest.mark.parametrize(
    ("written", "kind", "arguments"),
    [
        ("relu", "ReLU", {}),
        ("ReLU", "ReLU", {}),
        ("leaky_relu", "LeakyReLU", {}),
        ({"LeakyReLU": 0.2}, "LeakyReLU", {"negative_slope": 0.2}),
        ({"elu": {"alpha": 2}}, "ELU", {"alpha": 2.0}),
        ("identity", "Identity", {}),
        ({"Threshold": [0.1, 20]}, "Threshold", {"threshold": 0.1, "value": 20.0}),
    ],
)
def test_an_activation_by_its_class_or_its_function(written: Any, kind: str, arguments: dict[str, Any]) -> None:
    model = config(model={"kind": "mlp", "hidden": [8], "activation": written}).model
    assert model.activation == TorchLayer(kind=kind, arguments=arguments)  # pyright: ignore


@pytest.mark.parametrize(
    "sections",
    [
        {"model": {"kind": "layers", "layers": [{"kind": "ReLU", "slope": 1}]}},
        {"model": {"kind": "layers", "layers": [{"kind": "ReLU", "children": ["Tanh"]}]}},
        {"model": {"kind": "layers", "layers": [{"kind": "residual", "arguments": {"p": 1}, "children": ["Tanh"]}]}},
        {"optimizer": {"kind": "SGD", "arguments": {"lr": 0.1}, "momentum": 0.9}},
        {"optimizer": {"kind": "SGD", "arguments": 0.1}},
        {"optimizer": {"kind": "SGD", "arguments": {"lr": -1}}},
    ],
)
def test_fields_of_python_are_checked_as_strictly(sections: dict[str, Any]) -> None:
    assert len(complaints(**sections)) == 1


@pytest.mark.parametrize("wrong", ["Linear", "MultiheadAttention", "residual", "re_lu", 5, {"ReLU": {"slope": 1}}])
def test_other_layers_are_no_activations(wrong: Any) -> None:
    ((path, _),) = complaints(model={"kind": "mlp", "hidden": [8], "activation": wrong})
    assert path.startswith("model.activation")


def test_sections_by_their_kind_alone() -> None:
    result = config(
        model={**BASE["model"], "init": "orthogonal"}, loss="cross_entropy", optimizer="Adam", schedule="constant"
    )
    assert result.model.init == Init(kind="orthogonal")  # pyright: ignore
    assert result.loss == Loss(kind="cross_entropy")
    assert result.optimizer == Optimizer(kind="Adam")
    assert result.schedule == Schedule()


def test_arguments_of_torch_stand_beside_the_kind() -> None:
    result = config(
        optimizer={"kind": "Adam", "lr": 1, "betas": [0.5, 0.9]},
        schedule={"kind": "StepLR", "step_size": 3, "interval": "step"},
    )
    assert result.optimizer.arguments == {"lr": 1.0, "betas": [0.5, 0.9]}
    assert (result.schedule.interval, result.schedule.arguments) == ("step", {"step_size": 3})


def test_an_optimizer_without_a_kind_is_sgd_with_lr() -> None:
    with_momentum = config(optimizer={"momentum": 0.9}).optimizer
    assert (with_momentum.kind, with_momentum.arguments) == ("SGD", {"lr": 0.1, "momentum": 0.9})
    assert (config().optimizer.kind, config().optimizer.arguments) == ("SGD", {"lr": 0.1})


@pytest.mark.parametrize(
    ("training", "length"), [({}, (30, None)), ({"steps": 7}, (None, 7)), ({"epochs": 3}, (3, None))]
)
def test_the_length_is_epochs_or_steps(training: dict[str, int], length: tuple[int | None, int | None]) -> None:
    result = config(training=training).training
    assert (result.epochs, result.steps) == length


@pytest.mark.parametrize(
    ("sections", "path", "words"),
    [
        ({"model": {"kind": "mlp"}}, "model", "hidden"),
        ({"model": {"kind": "mlp", "hidden": [3], "depth": 2, "width": 3}}, "model.hidden", "either"),
        ({"model": {"kind": "mlp", "width": 3}}, "model.width", "needs depth"),
        ({"optimizer": {"kind": "Adam", "arguments": {"lr": 1}}}, "optimizer.arguments", "Adam takes no such argument"),
        ({"training": {"epochs": 3, "steps": 3}}, "training.steps", "not both"),
        ({"training": {"threads": 100_000}}, "training.threads", "at most 1024"),
        ({"training": {"clip_grad_norm": 1.0, "clip_grad_value": 1.0}}, "training.clip_grad_value", "not both"),
        ({"model": {**BASE["model"], "init": {"std": 0.01}}}, "model.init.std", "is for normal, not for default"),
        ({"loss": {"kind": "cross_entropy", "delta": 1.0}}, "loss.delta", "is for huber, not for cross_entropy"),
        ({"data": {"kind": "language_names", "standardize": True}, **RNN}, "data.standardize", "is for numbers"),
        ({"data": {"kind": "adding"}, "model": {"kind": "rnn", "embedding": 32}}, "model.embedding", "is for text"),
        ({"data": {"kind": "fashion_mnist", "test_fraction": 0.1}}, "data.test_fraction", "official test split"),
        ({"data": {**CSV, "features": ["a", "c", "a"]}}, "data.features.2", '"a" is given twice'),
        ({"data": {"kind": "noisy_linear", "informative": 21}}, "data.informative", "at most features, 20"),
        ({"data": {"kind": "sunspots", "window": 300, "horizon": 10}}, "data.window", "309"),
        ({"data": {"kind": "blobs", "samples": 4, "classes": 5}}, "data.samples", "at least 5"),
        ({"data": {"kind": "digits", "train_size": 9}}, "data.train_size", "at least 10"),
        ({"schedule": {"kind": "OneCycleLR", "max_lr": 1, "epochs": 3}}, "schedule", "go together"),
        ({"loss": "mean_squared_error"}, "loss", "digits is classification; choices: cross_entropy"),
        ({"loss": "binary_cross_entropy"}, "loss", "digits has 10"),
        ({"data": {"kind": "sine", "label_noise": 0.1}}, "data.label_noise", "classification"),
        ({"data": {**CSV, "task": "regression", "label_noise": 0.1}}, "data.label_noise", "class"),
        ({"data": {"kind": "digits", "standardize_targets": True}}, "data.standardize_targets", "regression"),
        ({"data": {"kind": "digits", "val_fraction": 0.5, "test_fraction": 0.5}}, "data.test_fraction", "nothing"),
        ({"model": {"kind": "cnn"}, "data": {"kind": "adding"}}, "model.kind", "takes images"),
        ({"model": {"kind": "rnn"}}, "model.kind", "sequences of numbers or text"),
        ({"model": {"kind": "mlp", "hidden": []}, "data": {"kind": "language_names"}}, "model.kind", "has text"),
        ({"data": {"kind": "xor", "val_fraction": 0}, "training": STOPPING}, "training.early_stopping", "val_fraction"),
        ({"data": {"kind": "sine"}, "training": STOPPING}, "training.early_stopping.metric", "loss"),
        ({"model": {**BASE["model"], "norm": "batch"}, "training": {"batch_size": 1}}, "model.norm", "batch_size"),
        ({"model": {"kind": "transformer", "width": 30, "heads": 4}, "data": {"kind": "adding"}}, "model.heads", "30"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(sections: dict[str, Any], path: str, words: str) -> None:
    ((where, message),) = complaints(**sections)
    assert where == path
    assert words in message


@pytest.mark.parametrize(
    "sections",
    [
        {"data": {"kind": "breast_cancer"}, "loss": "binary_cross_entropy"},
        {"data": {"kind": "spirals", "classes": 2}, "loss": "binary_cross_entropy"},
        {"data": {**CSV, "label_noise": 0.1}, "loss": "huber"},
        {"data": {"kind": "npz", "path": "a"}, "model": {"kind": "cnn"}},
        {"data": {"kind": "series_csv", "path": "a", "column": "b"}, "model": {"kind": "transformer"}},
        {"data": {"kind": "adding"}},
        {"data": {"kind": "language_names"}, "model": {"kind": "rnn", "embedding": 32}},
        {"data": {"kind": "sunspots", "window": 300, "horizon": 9}},
        {"data": {"kind": "digits", "train_size": 10}},
        {"schedule": {"kind": "OneCycleLR", "max_lr": 1, "epochs": 3, "steps_per_epoch": 7}},
        {"training": {**STOPPING, "steps": 5}},
    ],
)
def test_what_does_go_together(sections: dict[str, Any]) -> None:
    config(**sections)


def test_a_problem_in_one_section_hides_none_between_others() -> None:
    found = complaints(data={"kind": "sine"}, loss="cross_entropy", training={"epochs": "3"}, seed=-1)
    assert [path for path, _ in found] == ["loss", "training.epochs", "seed"]


def test_dumped_configs_are_complete_and_as_written() -> None:
    text = dump_config(
        config(
            model={
                "kind": "mlp",
                "hidden": [8],
                "activation": {"leaky_relu": 0.2},
                "init": {"kind": "normal", "std": 1e-5},
            }
        )
    )
    for line in (
        "  kind: mlp",
        "  hidden: [8]",
        "    LeakyReLU:",
        "      negative_slope: 0.2",
        "    std: 1.0e-05",
        "  clip_grad_norm: null",
    ):
        assert f"{line}\n" in text
    assert "gain" not in text


def test_flat_pairs_for_tables() -> None:
    flat = flatten(config(optimizer={"kind": "Adam", "lr": 0.01, "betas": [0.5, 0.9]}))
    assert flat["optimizer.lr"] == 0.01
    assert flat["optimizer.betas"] == "[0.5, 0.9]"
    assert flat["model.activation"] == "ReLU"
    assert "training.steps" not in flat


def test_sections_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        config().training.epochs = 5  # pyright: ignore[reportAttributeAccessIssue]
