"""Remedies meet configs: every override that is offered makes another, valid config; the rest is advice."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from nnvis.config import Config, dump_config, flatten, load_config, parse_config, shipped_configs
from nnvis.config.dumping import plain
from nnvis.diagnosis.changes import CHANGES, with_overrides
from nnvis.diagnosis.remedies import _BY_SYMPTOM, at_rate, fitted, remedies, together
from nnvis.diagnosis.telling import in_words
from nnvis.models import build_model
from nnvis.record import Finding
from nnvis.record.vocabulary import Remedy

LAYERS = """
model:
  kind: layers
  layers:
    - Flatten
    - Linear: 32
    - Sigmoid
    - residual: [{Linear: 32}, Tanh]
    - Linear: 16
    - Dropout: 0.1
    - Linear: 10
    - Softmax
"""
RAISE, LOWER = "raise the learning rate tenfold", "lower the learning rate tenfold"
MADE_UP = {
    "layers": "data: {kind: digits}" + LAYERS,
    "layers_without_val": "data: {kind: digits, val_fraction: 0}" + LAYERS,
    "rnn": "data: {kind: adding}\nmodel: {kind: rnn, cell: RNN}\noptimizer: {kind: Rprop}",
    "transformer": "data: {kind: text_csv, path: /a.csv}\nmodel: {kind: transformer}\noptimizer: AdamW",
    "python": 'data: {kind: python, target: "a:b"}\nmodel: {kind: python, target: "a:C"}\noptimizer: {kind: LBFGS}',
    "one_row": "data: {kind: moons}\nmodel: {kind: mlp, hidden: [8], activation: sigmoid}\ntraining: {batch_size: 1}",
    "linear": "data: {kind: sine}\nmodel: {kind: mlp, depth: 2, width: 8, activation: Identity}",
    "cnn": "data: {kind: digits, standardize: false}\nmodel: {kind: cnn, channels: [4], hidden: [],"
    " init: {kind: normal, std: 1.0}}\ntraining: {clip_grad_value: 1.0, steps: 50}",
    "one_cycle": "data: {kind: moons, train_size: 50}\nmodel: {kind: mlp, hidden: [8], dropout: 0.2}\n"
    "schedule: {kind: OneCycleLR, interval: step, max_lr: 0.3, total_steps: 750}\noptimizer: {kind: Adadelta}",
    "cured": "data: {kind: digits}\nmodel: {kind: mlp, depth: 4, width: 32, init: kaiming_uniform, norm: batch,"
    " residual: true, dropout: 0.5}\noptimizer: {kind: Adam}\ntraining: {early_stopping: {}, clip_grad_norm: 0.1}",
}
CONFIGS = {name: load_config(name) for name in shipped_configs()} | {
    name: parse_config(f"name: {name}\n{text}", trust=True) for name, text in MADE_UP.items()
}


def finding(symptom: str, *own: Remedy) -> Finding:
    return Finding(symptom, "error", (), 0, 0.0, 0.0, "", remedies=own or remedies(symptom))


def offered(symptom: str, config: Config) -> dict[str, dict[str, Any]]:
    """Title -> overrides."""
    return {remedy.title: remedy.overrides for remedy in fitted(finding(symptom), plain(config))}


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_offered_makes_another_valid_config(name: str, tmp_path: Path) -> None:
    config, file = CONFIGS[name], tmp_path / "config.yaml"
    file.write_text(dump_config(config), encoding="utf-8")
    each = [overrides for symptom in _BY_SYMPTOM for overrides in offered(symptom, config).values() if overrides]
    different = [overrides for place, overrides in enumerate(each) if overrides not in each[:place]]
    assert len(different) >= (3 if name == "python" else 8)
    for overrides in different:
        changed = with_overrides(config, overrides)
        assert changed != config
        assert load_config(file, shlex.split(in_words(overrides)), trust=True) == changed  # as people would write it
        before, after = flatten(config), flatten(changed)
        for key in overrides:  # no part of it for nothing
            assert [v for k, v in before.items() if k.startswith(key)] != [
                v for k, v in after.items() if k.startswith(key)
            ]


def test_the_learning_rate_is_the_runs_own() -> None:
    assert offered("learning_rate_too_high", CONFIGS["digits_mlp"]) == {
        "lower the learning rate tenfold": {"optimizer.lr": 0.005},
        "clip gradients by their norm": {"training.clip_grad_norm": 1.0},
    }
    lower = "lower the learning rate tenfold"
    assert offered("dead_units", CONFIGS["transformer"])[lower] == {"optimizer.lr": 0.0001}  # torch's own is 0.001
    told = offered("dead_units", CONFIGS["one_cycle"])[lower]
    assert told == {"optimizer.lr": 0.1, "schedule.max_lr": 0.03}


def test_a_change_in_place_already_is_left_out() -> None:
    cured = CONFIGS["cured"]
    assert offered("vanishing_gradients", cured) == {}
    assert list(offered("overfitting", cured)) == [
        "decay the weights",
        "decay the weights tenfold",
        "use a smaller network",
        "get more data",
    ]
    half_done = offered("vanishing_gradients", CONFIGS["spirals_mlp"])["use ReLU with He's initialisation"]
    assert half_done == {"model.activation": "ReLU"}  # its weights start as He's already


def test_initialisation_is_the_activations_own() -> None:
    title = "start with weights that keep the signal's size"
    sizes = {name: offered("exploding_gradients", CONFIGS[name])[title] for name in ("exploding_relu", "one_row")}
    assert sizes["exploding_relu"] == {"model.init": "kaiming_uniform"}
    assert sizes["one_row"] == {"model.init": "xavier_uniform"}


def test_a_list_of_layers_is_changed_in_its_blocks_and_not_at_its_output() -> None:
    relu = offered("vanishing_gradients", CONFIGS["layers"])["use ReLU with He's initialisation"]
    body = [
        "Flatten",
        {"Linear": {"out_features": 32}},
        "ReLU",
        {"residual": [{"Linear": {"out_features": 32}}, "ReLU"]},
    ]
    tail = [{"Linear": {"out_features": 16}}, {"Dropout": {"p": 0.1}}, {"Linear": {"out_features": 10}}, "Softmax"]
    assert relu == {"model.layers": [*body, *tail], "model.init": "kaiming_uniform"}
    (plain_output,) = offered("output_mismatch", CONFIGS["layers"]).values()
    assert plain_output["model.layers"][-1] == {"Linear": {"out_features": 10}}
    (nonlinear,) = offered("missing_nonlinearity", CONFIGS["layers"]).values()
    between = nonlinear["model.layers"][4:7]
    assert between == [{"Linear": {"out_features": 16}}, "ReLU", {"Dropout": {"p": 0.1}}]
    norm = offered("vanishing_gradients", CONFIGS["layers"])["normalise between the layers"]["model.layers"]
    assert norm[1:4] == [{"Linear": {"out_features": 32}}, "BatchNorm1d", "Sigmoid"]
    assert norm[4] == {"residual": [{"Linear": {"out_features": 32}}, "BatchNorm1d", "Tanh"]}


DEEP = parse_config("""
name: deep
data: {kind: digits}
model:
  kind: layers
  layers:
    - Flatten
    - Linear: 8
    - Sigmoid
    - Linear: 8
    - BatchNorm1d
    - Sigmoid
    - Linear: 8
    - Sigmoid
    - Linear: 10
    - Sigmoid
""")


def layers(overrides: dict[str, Any]) -> list[Any]:
    return overrides["model.layers"]


def test_a_list_of_layers_gets_shortcuts_where_the_width_stays() -> None:
    wide, narrow = {"Linear": {"out_features": 8}}, {"Linear": {"out_features": 10}}
    block = {"residual": [wide, "BatchNorm1d", "Sigmoid"]}
    body = ["Flatten", wide, "Sigmoid", block, {"residual": [wide, "Sigmoid"]}, narrow, "Sigmoid"]
    residual = offered("vanishing_gradients", DEEP)["add residual connections"]
    assert layers(residual) == body
    assert build_model(with_overrides(DEEP, residual).model, (1, 8, 8), 10)
    assert "add residual connections" not in offered("vanishing_gradients", with_overrides(DEEP, residual))
    assert offered("vanishing_gradients", CONFIGS["layers"]).get("add residual connections") is None  # it has one
    alone = with_overrides(DEEP, {"model.layers": ["Flatten", wide, "Sigmoid", narrow]})
    assert offered("vanishing_gradients", alone)["add residual connections"] == {}


def test_a_list_of_layers_gets_other_widths_but_for_its_output() -> None:
    smaller = offered("overfitting", DEEP)["use a smaller network"]
    widths = [layer["Linear"]["out_features"] for layer in layers(smaller) if isinstance(layer, dict)]
    assert widths == [2, 2, 2, 10]
    assert build_model(with_overrides(DEEP, smaller).model, (1, 8, 8), 10)
    assert offered("overfitting", CONFIGS["layers"])["use a smaller network"] == {}  # its block has to keep the width


def test_nothing_is_normalised_behind_the_output() -> None:
    plain_list = with_overrides(
        DEEP, {"model.layers": ["Flatten", {"Linear": 8}, "Sigmoid", {"Linear": 10}, "Sigmoid"]}
    )
    normed = layers(offered("vanishing_gradients", plain_list)["normalise between the layers"])
    assert normed.count("BatchNorm1d") == 1
    assert normed[-2:] == [{"Linear": {"out_features": 10}}, "Sigmoid"]


def test_remedies_together_are_fitted_to_what_those_before_them_leave() -> None:
    def remedy(symptom: str, title: str) -> Remedy:
        return next(each for each in fitted(finding(symptom), plain(DEEP)) if each.title == title)

    relu = remedy("vanishing_gradients", "use ReLU with He's initialisation")
    logits, rate = remedy("output_mismatch", "give the loss what it takes"), remedy("not_learning", RAISE)
    both = together([logits, relu, logits, rate, remedy("dead_units", LOWER)], DEEP, "why")
    assert both
    assert both.title == f"give the loss what it takes and use ReLU with He's initialisation and {RAISE}"
    assert [kind for kind in layers(both.overrides) if isinstance(kind, str)] == ["Flatten", "ReLU", "BatchNorm1d"] + [
        "ReLU"
    ] * 2
    assert both.overrides["model.init"] == "kaiming_uniform"
    assert both.overrides["optimizer.lr"] == rate.overrides["optimizer.lr"]  # raised, and not lowered as well
    assert together([logits, logits], DEEP, "why") is None
    assert together([rate, remedy("dead_units", LOWER)], DEEP, "why") is None


def test_a_remedy_at_another_learning_rate() -> None:
    lower = Remedy("lower", "why", {"optimizer.lr": 0.03})
    adam = Remedy("Adam", "why", {"optimizer": {"kind": "Adam", "lr": 0.001}})
    raised = at_rate(lower, 10.0, DEEP)
    assert raised
    assert (raised.title, raised.overrides) == ("lower at 10 times the learning rate", {"optimizer.lr": 0.3})
    now = DEEP.optimizer.arguments["lr"]
    assert at_rate(Remedy("lower", "why", {"optimizer.lr": 0.1 * now}), 10.0, DEEP) is None  # the config itself
    third = at_rate(adam, 1 / 3, CONFIGS["digits_mlp"])
    assert third
    assert third.title == "Adam at 0.33 times the learning rate"
    assert with_overrides(CONFIGS["digits_mlp"], third.overrides).optimizer.arguments["lr"] == 0.0003333


def test_what_no_config_of_a_kind_says_is_advice() -> None:
    assert set(map(bool, offered("output_mismatch", CONFIGS["digits_mlp"]).values())) == {False}
    assert offered("overfitting", CONFIGS["layers_without_val"])["stop early"] == {}
    assert offered("vanishing_gradients", CONFIGS["python"])["add residual connections"] == {}
    assert "standardise the targets" not in offered("bad_initial_loss", CONFIGS["digits_mlp"])  # they are classes
    assert offered("vanishing_gradients", CONFIGS["rnn"])["use gated cells"] == {"model.cell": "LSTM"}


def test_overrides_of_a_findings_own_are_kept_where_they_are_valid() -> None:
    own = [
        Remedy("the rate that the branches found", "it was tried", {"optimizer.lr": 0.02}),
        Remedy("the one it has", "", {"optimizer.lr": 0.05}),
        Remedy("nonsense", "", {"optimizer.lr": -1.0}),
    ]
    found = fitted(finding("learning_rate_too_low", *own), plain(CONFIGS["digits_mlp"]))
    assert [(remedy.title, remedy.overrides) for remedy in found] == [
        ("the rate that the branches found", {"optimizer.lr": 0.02}),
        ("nonsense", {}),
    ]


def test_adam_keeps_the_decay_and_leaves_a_schedule_with_rates_of_its_own_alone() -> None:
    title = "let Adam choose the size of each weight's step"
    plainly = offered(
        "underfitting", load_config("digits_mlp", ["optimizer.weight_decay=0.01", "schedule={kind: constant}"])
    )
    assert plainly[title] == {"optimizer": {"kind": "Adam", "lr": 0.001, "weight_decay": 0.01}}
    rates = ["schedule={kind: OneCycleLR, max_lr: 5.0, interval: step}"]
    assert offered("underfitting", load_config("digits_mlp", rates))[title] == {}


@pytest.mark.parametrize("config", [{}, {"training": {}}])
def test_without_a_config_all_is_advice(config: dict[str, Any]) -> None:
    for symptom in _BY_SYMPTOM:
        assert fitted(finding(symptom), config) == remedies(symptom)


def test_every_change_is_some_remedys() -> None:
    assert {known.change for each in _BY_SYMPTOM.values() for known in each} == {"", *CHANGES}
