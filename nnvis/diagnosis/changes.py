"""What a remedy means for a config: one function a change, Config -> overrides.

    CHANGES["norm"](config)                       # {"model.norm": "batch"}
    with_overrides(config, {"optimizer.lr": 0.01})

`{}`: no config of this kind can say it. `None`: there is nothing to do. (Apart from `remedies`, which imports it when
there is a config: a watched loop has none, and pydantic takes a while to import.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeGuard

from nnvis.config import Config, ConfigError, dump_config, parse_config, torch_table
from nnvis.config.dumping import plain
from nnvis.config.schema import Cnn, Layers, Mlp, PythonModel, Rnn, Schedule, TorchLayer

Overrides = dict[str, Any]  # dotted key -> value
Change = Callable[[Config], Overrides | None]

_SIZED_FOR_TANH = ("Tanh", "Sigmoid", "Softsign", "Hardtanh", "Hardsigmoid", "Identity")
_AFFINE = ("Linear", "Conv1d", "Conv2d", "Conv3d")
_NORMS = {"Linear": "BatchNorm1d", "Conv1d": "BatchNorm1d", "Conv2d": "BatchNorm2d", "Conv3d": "BatchNorm3d"}
_SQUASHES = ("Softmax", "LogSoftmax", "Softmin", "Sigmoid", "LogSigmoid", "Tanh", "ReLU", "ReLU6", "Softplus")
_PASSES_ON = ("Flatten", "Dropout", "Dropout2d", "Identity")  # leaves two affine layers one
_LENGTHS = ("T_max", "total_iters", "epochs", "total_steps")  # of a schedule, in its own steps
_LR_KEYS = ("max_lr", "base_lr")  # of a schedule that sets the learning rate itself
_DECOUPLED = ("AdamW", "NAdamW")  # their decay is multiplied by the learning rate: the same number does far less


def _relu(config: Config) -> Overrides:
    hidden = _activated(config, "ReLU", of=None)
    return hidden and {**hidden, "model.init": "kaiming_uniform"}


def _leaky(config: Config) -> Overrides:
    return _activated(config, "LeakyReLU", of=("ReLU", "ReLU6"))


def _activated(config: Config, kind: str, of: tuple[str, ...] | None) -> Overrides:
    """Another activation in place of those `of` some kinds, None for all hidden ones."""
    model = config.model
    if isinstance(model, Mlp | Cnn):
        fits = of is None or model.activation.kind in of
        return {"model.activation": kind} if fits else {}
    if not isinstance(model, Layers):
        return {}
    kinds = of or tuple(_hidden_activations())

    def swapped(layers: list[TorchLayer]) -> Iterator[TorchLayer]:
        for layer in layers:
            yield _layer(kind) if layer.kind in kinds and layer is not model.layers[-1] else layer

    return _written(config, swapped)


def _norm(config: Config) -> Overrides | None:
    model = config.model
    if isinstance(model, Mlp | Cnn):
        fits = "layer" if config.training.batch_size == 1 else "batch"
        return {"model.norm": fits} if model.norm == "none" else None
    if not isinstance(model, Layers) or any(
        "RNN" in kind or kind in ("LSTM", "GRU", "Embedding") for kind in _kinds(model)
    ):
        return {}
    if any("Norm" in kind for kind in _kinds(model)):
        return None

    def normed(layers: list[TorchLayer]) -> Iterator[TorchLayer]:
        for layer, after in zip(layers, [*layers[1:], None], strict=True):
            yield layer
            hidden = after is not None and after is not model.layers[-1] and after.kind in _hidden_activations()
            if layer.kind in _NORMS and hidden:
                yield _layer(_NORMS[layer.kind])

    return _written(config, normed)


def _residual(config: Config) -> Overrides | None:
    model = config.model
    if isinstance(model, Mlp | Cnn):
        return {"model.residual": True}
    if not isinstance(model, Layers):
        return {}
    if any(layer.kind == "residual" for layer in model.layers):
        return None
    blocks = [*_with_shortcuts(model.layers)]
    return {"model.layers": _as_written(blocks)} if len(blocks) < len(model.layers) else {}


def _with_shortcuts(layers: list[TorchLayer]) -> Iterator[TorchLayer]:
    """Each hidden linear layer that keeps the width becomes a block with what follows it, up to its activation."""
    width, place = None, 0
    while place < len(layers):
        layer, end = layers[place], place + 1
        while end < len(layers) and (layers[end].kind in _PASSES_ON[1:] or "Norm" in layers[end].kind):
            end += 1
        activated = end < len(layers) - 1 and layers[end].kind in _hidden_activations()
        if layer.kind == "Linear" and activated and layer.arguments.get("out_features") == width:
            yield TorchLayer.model_validate({"kind": "residual", "children": layers[place : end + 1]})
            place = end + 1
        else:
            yield layer
            place += 1
        width = layer.arguments.get("out_features", width)


def _gated(config: Config) -> Overrides | None:
    return {"model.cell": "LSTM"} if isinstance(config.model, Rnn) and config.model.cell == "RNN" else None


def _keeps_size(config: Config) -> Overrides:
    """The initialisation that was made for the model's activation."""
    model = config.model
    if isinstance(model, PythonModel):
        return {}
    if isinstance(model, Mlp | Cnn):
        activation = model.activation.kind
    else:
        known = [kind for kind in _kinds(model) if kind in _hidden_activations()] if isinstance(model, Layers) else []
        activation = known[0] if known else "Tanh" if isinstance(model, Rnn) else "ReLU"
    return {"model.init": "xavier_uniform" if activation in _SIZED_FOR_TANH else "kaiming_uniform"}


def _he(config: Config) -> Overrides:
    return {"model.init": "kaiming_uniform"} if not isinstance(config.model, PythonModel) else {}


def _clip(config: Config) -> Overrides:
    other = {"training.clip_grad_value": None} if config.training.clip_grad_value else {}
    return {"training.clip_grad_norm": min(1.0, 0.1 * (config.training.clip_grad_norm or 10.0)), **other}


def scaled_rate(factor: float) -> Change:
    """The learning rate times a factor; also that of a schedule which sets it."""

    def changed(config: Config) -> Overrides:
        optimizer, schedule = config.optimizer, config.schedule
        default = torch_table().optimizers[optimizer.kind].get("lr")
        rate: Any = optimizer.arguments.get("lr", default and default.default)
        if not _is_number(rate):
            return {}
        told: Overrides = {"optimizer.lr": _times(rate, factor)}
        for key in _LR_KEYS:
            if _is_number(told_rate := schedule.arguments.get(key)):
                told[f"schedule.{key}"] = _times(told_rate, factor)
        return told

    return changed


def sets_rate(schedule: Schedule) -> bool:
    """Whether it goes by learning rates of its own, and not by the optimizer's."""
    return any(key in schedule.arguments for key in _LR_KEYS)


def _adam(config: Config) -> Overrides | None:
    if config.optimizer.kind not in ("SGD", "ASGD", "Rprop"):
        return None
    if sets_rate(config.schedule):
        return {}  # the schedule's rates are made for the optimizer that there is
    decay = config.optimizer.arguments.get("weight_decay")
    return {"optimizer": {"kind": "Adam", "lr": 0.001, **({"weight_decay": decay} if decay else {})}}


def _longer(config: Config) -> Overrides:
    unit = "steps" if config.training.steps else "epochs"
    told: Overrides = {f"training.{unit}": 3 * (config.training.steps or config.training.epochs or 0)}
    for key in _LENGTHS:
        if isinstance(length := config.schedule.arguments.get(key), int):
            told[f"schedule.{key}"] = 3 * length
    return told


def _sized(factor: float) -> Change:
    """Hidden layers of so many times the width."""

    def changed(config: Config) -> Overrides:
        model = config.model
        scaled = lambda width: max(1, round(factor * width))  # noqa: E731
        if isinstance(model, Mlp) and model.width is not None:
            return {"model.width": scaled(model.width)}
        if isinstance(model, Mlp | Cnn):
            channels = {"model.channels": [scaled(width) for width in model.channels]} if isinstance(model, Cnn) else {}
            return {**channels, "model.hidden": [scaled(width) for width in model.hidden or ()]}
        if isinstance(model, Layers):
            return {"model.layers": widened} if (widened := _as_written(_with_widths(model.layers, scaled))) else {}
        return {"model.hidden_size": scaled(model.hidden_size)} if isinstance(model, Rnn) else {}

    return changed


def _with_widths(layers: list[TorchLayer], scaled: Callable[[int], int]) -> list[TorchLayer]:
    """Other widths of all mapping layers but the last; [] where sizes that follow from them are written out."""
    places = [place for place, layer in enumerate(layers) if _width_key(layer)]
    sized = {"num_features", "in_features", "in_channels", "num_channels", "num_groups", "normalized_shape", "groups"}
    if len(places) < 2 or any(layer.children or sized & set(layer.arguments) for layer in layers):
        return []

    def widened(layer: TorchLayer) -> TorchLayer:
        key = _width_key(layer)
        return _layer(layer.kind, **{**layer.arguments, key: scaled(layer.arguments[key])})

    return [widened(layer) if place in places[:-1] else layer for place, layer in enumerate(layers)]


def _width_key(layer: TorchLayer) -> str:
    """What says how wide a mapping layer is; "" for other layers."""
    return next((key for key in ("out_features", "out_channels") if key in layer.arguments), "")


def _all_rows(config: Config) -> Overrides:
    return {"data.train_size": None} if config.data.train_size else {}


def _stop_early(config: Config) -> Overrides | None:
    if config.training.early_stopping:
        return None
    return {"training.early_stopping": {"metric": "loss", "patience": 10}} if config.data.val_fraction else {}


def _decayed(times: float) -> Change:
    """So many times a decay that tells, or ten times that of the config."""

    def changed(config: Config) -> Overrides:
        optimizer = config.optimizer
        default = torch_table().optimizers[optimizer.kind].get("weight_decay")
        if default is None:
            return {}
        now: Any = optimizer.arguments.get("weight_decay", default.default)
        least = 1.0 if optimizer.kind in _DECOUPLED or optimizer.arguments.get("decoupled_weight_decay") else 0.01
        return {"optimizer.weight_decay": _times(max(least, 10 * now), times)} if _is_number(now) else {}

    return changed


def _dropout(config: Config) -> Overrides | None:
    model = config.model
    if isinstance(model, PythonModel):
        return {}
    if not isinstance(model, Layers):
        return {"model.dropout": 0.5} if model.dropout < 0.5 else None
    if any(kind.startswith("Dropout") for kind in _kinds(model)):
        return {}

    def dropping(layers: list[TorchLayer]) -> Iterator[TorchLayer]:
        for layer in layers:
            yield layer
            if layer.kind in _hidden_activations() and layer is not model.layers[-1]:
                yield _layer("Dropout", p=0.5)

    return _written(config, dropping)


def _standardized(config: Config) -> Overrides | None:
    return {"data.standardize": True} if config.data.form != "text" else None


def _standardized_targets(config: Config) -> Overrides | None:
    task = config.loss.task if config.loss else config.data.task
    return {"data.standardize_targets": True} if task == "regression" else None


def _plain_output(config: Config) -> Overrides:
    """The list of layers without what squashes its output."""
    if not isinstance(config.model, Layers):
        return {}
    kept = [*config.model.layers]
    while len(kept) > 1 and kept[-1].kind in _SQUASHES:
        kept.pop()
    return {"model.layers": _as_written(kept)} if len(kept) < len(config.model.layers) else {}


def _nonlinear(config: Config) -> Overrides:
    if isinstance(config.model, Mlp | Cnn):
        return {"model.activation": "ReLU"} if config.model.activation.kind == "Identity" else {}

    def activated(layers: list[TorchLayer]) -> Iterator[TorchLayer]:
        for place, layer in enumerate(layers):
            yield layer
            meets = next((other.kind for other in layers[place + 1 :] if other.kind not in _PASSES_ON), "")
            if layer.kind in _AFFINE and meets in _AFFINE:
                yield _layer("ReLU")

    return _written(config, activated)


# ---------------------------------------------------------------- parts of a config


def _hidden_activations() -> set[str]:
    return {kind for kind in torch_table().activations.values() if kind not in ("Softmax", "LogSoftmax", "Softmin")}


def _kinds(model: Any) -> list[str]:
    """All layers of a list, those in blocks too."""
    return [each.kind for layer in model.layers for each in _each(layer)]


def _each(layer: TorchLayer) -> Iterator[TorchLayer]:
    yield layer
    for child in layer.children:
        yield from _each(child)


def _written(config: Config, change: Callable[[list[TorchLayer]], Iterator[TorchLayer]]) -> Overrides:
    """The list of layers after a change that is made in each block."""
    if not isinstance(config.model, Layers):
        return {}

    def changed(layers: list[TorchLayer]) -> list[TorchLayer]:
        return [
            layer.model_copy(update={"children": changed(layer.children)}) if layer.children else layer
            for layer in change(layers)
        ]

    return {"model.layers": _as_written(changed(config.model.layers))}


def _as_written(layers: list[TorchLayer]) -> list[Any]:
    return [layer.model_dump() for layer in layers]


def _layer(kind: str, **arguments: Any) -> TorchLayer:
    return TorchLayer.model_validate({"kind": kind, "arguments": arguments})


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _times(value: float, factor: float) -> float:
    """Rounded to what people write: 0.3 / 10 is 0.03."""
    return float(f"{value * factor:.4g}")


def with_overrides(config: Config, overrides: Mapping[str, Any]) -> Config:
    """The config with `dotted.key: value` applied. Raises ConfigError where that is none."""
    told = [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
    return parse_config(dump_config(config), overrides=told, trust=True)


def effective(base: Config, overrides: Overrides) -> Overrides | None:
    """The overrides that change something; None where none does, {} where the config would not be valid."""
    try:
        changed = plain(with_overrides(base, overrides))
    except ConfigError:
        return {}
    before = plain(base)
    return {key: value for key, value in overrides.items() if _at(before, key) != _at(changed, key)} or None


def _at(section: Any, key: str) -> Any:
    """The value at a dotted key; None where nothing is."""
    for part in key.split("."):
        section = section.get(part) if isinstance(section, Mapping) else None
    return section


CHANGES: dict[str, Change] = {
    "relu": _relu,
    "leaky": _leaky,
    "norm": _norm,
    "residual": _residual,
    "gated": _gated,
    "keeps_size": _keeps_size,
    "he": _he,
    "clip": _clip,
    "lower": scaled_rate(0.1),
    "raise": scaled_rate(10),
    "raise_3": scaled_rate(3),
    "adam": _adam,
    "longer": _longer,
    "larger": _sized(4),
    "smaller": _sized(0.25),
    "all_rows": _all_rows,
    "stop_early": _stop_early,
    "decay": _decayed(1),
    "decay_more": _decayed(10),
    "dropout": _dropout,
    "standardize": _standardized,
    "standardize_targets": _standardized_targets,
    "plain_output": _plain_output,
    "nonlinear": _nonlinear,
}
