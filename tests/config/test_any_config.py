"""Properties: a valid config survives being written and read; no text whatever raises anything but ConfigError."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnvis.config import ConfigError, dump_config, flatten, parse_config, shipped_configs, torch_table
from nnvis.config.schema import Init
from nnvis.config.yaml_text import read_yaml, write_yaml

QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=40)
SHIPPED = [path.read_text(encoding="utf-8") for path in shipped_configs().values()]
TEXTS = SHIPPED + [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("golden/*.yaml")]

fractions = st.floats(0, 0.45)
positive = st.floats(0, 1e30, exclude_min=True)
counts = st.integers(1, 10**6)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["1e-3", "no", "null", "0x1", "<<"]
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


def section(
    kinds: list[str], needed: dict[str, Any] | None = None, **optional: Any
) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"kind": st.sampled_from(kinds), **(needed or {})}, optional=optional)


splits: dict[str, Any] = {
    "val_fraction": fractions,
    "seed": st.integers(0, 99),
    "train_size": st.none() | st.integers(10, 10**6),
}
classified = section(["moons", "xor", "digits", "iris"], label_noise=fractions, standardize=st.booleans(), **splits)
regressed = section(["sine", "plane", "diabetes"], standardize_targets=st.booleans(), **splits)
tables = section(["csv"], {"path": words, "target": words}, task=st.sampled_from([None, "regression"]), **splits)
users = section(["python"], {"target": st.just("a.b:c")}, arguments=st.dictionaries(words, plain, max_size=3))
sequences = section(["adding", "sunspots"], **splits) | section(["text_csv"], {"path": words}, max_length=counts)

layer = st.one_of(
    st.sampled_from(sorted({*torch_table().activations.values()} - {"Threshold"})),
    st.builds(lambda kind, size: {kind: size}, st.sampled_from(["Linear", "LSTM", "Embedding", "MaxPool2d"]), counts),
    st.builds(lambda *sizes: {"Conv2d": list(sizes)}, counts, counts),
    st.builds(lambda p: {"Dropout": {"p": p}}, st.floats(0, 1)),
    st.sampled_from([{"LayerNorm": {"eps": 1}}, {"AdaptiveAvgPool2d": {"output_size": [1, None]}}, {"Flatten": None}]),
)
layers = st.recursive(
    layer,
    lambda inner: st.builds(
        lambda block, entries: {block: entries},
        st.sampled_from(["residual", "sequential"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=5,
)
inits = st.sampled_from(
    [
        *get_args(Init.model_fields["kind"].annotation),
        {"kind": "normal", "std": 1e-30},
        {"kind": "orthogonal", "gain": 2},
    ]
)
activations = st.sampled_from([*torch_table().activations, {"LeakyReLU": 0.2}, {"ELU": {"alpha": 2}}])
activations = activations.filter(lambda name: name != "threshold")
built: dict[str, Any] = {"activation": activations, "init": inits, "dropout": fractions, "residual": st.booleans()}
anything = section(["layers"], {"layers": st.lists(layers, min_size=1, max_size=4)}, init=inits)
dense = section(["mlp"], {"hidden": st.lists(counts, max_size=3)}, **built) | section(
    ["mlp"], {"depth": counts, "width": counts}, **built
)
recurrent = section(["rnn"], cell=st.sampled_from(["RNN", "GRU"]), hidden_size=counts, init=inits)
recurrent |= section(["transformer"], norm_first=st.booleans())

optimizers = st.one_of(
    st.sampled_from(sorted(torch_table().optimizers)),
    section(["Adam", "AdamW"], lr=positive, betas=st.lists(fractions, min_size=2, max_size=2), fused=st.none()),
    section(["SGD"], lr=st.integers(0, 3), momentum=fractions, maximize=st.booleans()),
)
schedules = st.just("constant") | section(["StepLR"], {"step_size": counts}, interval=st.just("step"), gamma=positive)
losses = st.sampled_from([None, "huber", {"kind": "mean_absolute_error"}, {"kind": "huber", "delta": 3}])
training = st.fixed_dictionaries(
    {},
    optional={
        "epochs": counts,
        "batch_size": counts | st.just("full"),
        "clip_grad_norm": st.none() | positive,
        "device": st.sampled_from(["auto", "cuda:1"]),
    },
)
capture = st.fixed_dictionaries({}, optional={"every": st.none() | counts, "layers": st.lists(words, min_size=1)})


def experiments(data: Any, model: Any, loss: Any) -> st.SearchStrategy[dict[str, Any]]:
    rest = {"seed": counts, "loss": loss, "optimizer": optimizers, "schedule": schedules, "training": training}
    names = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,9}\Z")
    return st.fixed_dictionaries({"name": names, "data": data, "model": model}, optional={**rest, "capture": capture})


configs = st.one_of(
    experiments(classified | users, dense | anything, st.none()),
    experiments(regressed | tables, dense | anything, losses),
    experiments(sequences, recurrent | anything, st.none()),
)


@QUICK
@given(configs)
def test_a_valid_config_is_the_same_after_being_written_and_read(raw: dict[str, Any]) -> None:
    config = parse_config(write_yaml(raw), trust=True)
    again = parse_config(dump_config(config), trust=True)
    assert again == config
    assert dump_config(again) == dump_config(config)
    assert type(config).model_validate(config.model_dump()) == config
    assert all(isinstance(value, str | int | float | bool) for value in flatten(config).values())


@QUICK
@given(plain)
def test_any_plain_data_is_the_same_after_being_written_and_read(raw: Any) -> None:
    document = read_yaml(write_yaml(raw), "a.yaml")
    assert document.data == raw
    assert not document.problems


def problems_of(text: str, overrides: tuple[str, ...] = ()) -> str:
    """What is wrong with a text, "" if nothing is."""
    try:
        parse_config(text, "a.yaml", overrides)
    except ConfigError as error:
        return str(error)
    return ""


def survives(text: str, overrides: tuple[str, ...] = ()) -> None:
    lines = problems_of(text, overrides).splitlines()
    assert all(": " in line and line.isprintable() and len(line) < 2000 for line in lines)


@QUICK
@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_random_text(text: str) -> None:
    survives(text)


@QUICK
@given(st.sampled_from(TEXTS), st.integers(0, 2000), st.integers(0, 20), st.text(max_size=5))
def test_a_config_with_a_piece_replaced(text: str, start: int, length: int, piece: str) -> None:
    survives(text[:start] + piece + text[start + length :])
    survives(text[:start])


@QUICK
@given(st.sampled_from(SHIPPED), st.data())
def test_a_config_with_a_value_of_the_wrong_type(text: str, data: st.DataObject) -> None:
    raw = read_yaml(text, "a.yaml").data
    here: Any = raw
    while True:
        key = data.draw(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here))))
        if not isinstance(here[key], dict | list) or not here[key] or data.draw(st.booleans()):
            break
        here = here[key]
    here[key] = data.draw(plain)
    survives(write_yaml(raw))


@QUICK
@given(
    st.sampled_from(TEXTS),
    st.lists(st.sampled_from(["data", "model", "layers", "kind", "0", "7", "optimizer", "lr", ""])),
    words,
)
def test_any_override(text: str, parts: list[str], value: str) -> None:
    survives(text, (f"{'.'.join(parts)}={value}", value))


BOMB = "a: &a0 [x]\n" + "".join(f"b{i}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(12))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "more than 100,000 values"),
        ("a: &a [*a]", "contains itself"),
        ("a: &a {b: *a}", "contains itself"),
        ("a: &a\n  <<: *a", "contains itself"),
        ("[" * 3000, "more than 50 levels"),
        ("a: " + "[" * 60 + "]" * 60, "more than 50 levels"),
        ("{a: " * 100_000, "more than 50 levels"),
        ("x" * 1_000_001, "too long"),
        ('name: "\\Uffffffff"', "not valid YAML"),
        (f"seed: {'9' * 5000}", "cannot be read"),
        (f"seed: 0x{'f' * 5000}", "cannot be read"),
        ("name: a\0b", "not text"),
    ],
)
def test_hostile_texts_are_refused_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        parse_config(text)
    assert len(str(caught.value)) < 4000
