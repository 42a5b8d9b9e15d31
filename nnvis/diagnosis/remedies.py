"""What can be done about a symptom, likeliest first, and what that means for the config of a run.

    remedies("vanishing_gradients")          # advice: titles and reasons
    fitted(finding, run.config)              # the same with overrides that fit this config

A remedy whose change is in the config already is left out. One that no config of this kind can express keeps its title
and its reason, without overrides. To add a remedy: a line in `_BY_SYMPTOM`, and its change in `changes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nnvis.record.vocabulary import Finding, Remedy

if TYPE_CHECKING:
    from nnvis.config import Config


@dataclass(frozen=True)
class _Known:
    """A remedy before it meets a config."""

    title: str
    why: str
    change: str = ""  # in `nnvis.diagnosis.changes`; "" for what no config says


_RELU = _Known(
    "use ReLU with He's initialisation",
    "its slope is 1 or 0, and the weights keep the signal's size through any depth (He et al. 2015)",
    "relu",
)
_NORM = _Known("normalise between the layers", "every layer then gets inputs of size 1 (Ioffe & Szegedy 2015)", "norm")
_RESIDUAL = _Known(
    "add residual connections", "the gradient gets a way around every block (He et al. 2016)", "residual"
)
_GATED = _Known("use gated cells", "their state is passed on, not multiplied (Hochreiter & Schmidhuber 1997)", "gated")
_CLIP = _Known("clip gradients by their norm", "one large step can then do no harm (Pascanu et al. 2013)", "clip")
_KEEPS_SIZE = _Known(
    "start with weights that keep the signal's size",
    "it should neither grow nor shrink from layer to layer (Glorot & Bengio 2010, He et al. 2015)",
    "keeps_size",
)
_LOWER = _Known("lower the learning rate tenfold", "steps above 2 / curvature climb instead of descending", "lower")
_RAISE = _Known("raise the learning rate tenfold", "steps this small do not come far", "raise")
_RAISE_3 = _Known("raise the learning rate threefold", "short runs need larger steps", "raise_3")
_ADAM = _Known(
    "let Adam choose the size of each weight's step", "it depends on no gradient's size (Kingma & Ba 2015)", "adam"
)
_STANDARDIZE = _Known(
    "standardise the inputs",
    "mean 0 and spread 1 is what initialisations are made for (LeCun et al. 1998)",
    "standardize",
)
_TARGETS = _Known(
    "standardise the targets", "the output layer starts near 0 with a spread near 1", "standardize_targets"
)
_LEAKY = _Known("use LeakyReLU", "its slope is never 0, so that no unit can die", "leaky")
_LOGITS = _Known(
    "give the loss what it takes",
    "logits for cross entropy (no softmax, no sigmoid); numbers without bounds for regression",
    "plain_output",
)
_LARGER = _Known("use a larger network", "it must at least do what a linear map does", "larger")

_BY_SYMPTOM: dict[str, tuple[_Known, ...]] = {
    "vanishing_gradients": (_RELU, _NORM, _RESIDUAL, _KEEPS_SIZE, _GATED),
    "zero_gradients": (
        _Known("take away what blocks the gradient", "nothing before it can learn", "plain_output"),
        _LEAKY,
        _KEEPS_SIZE,
    ),
    "exploding_gradients": (_KEEPS_SIZE, _CLIP, _NORM, _LOWER),
    "dead_units": (
        _LEAKY,
        _LOWER,
        _Known("start as He et al. do", "half of the units are then on at first", "he"),
        _NORM,
    ),
    "saturated_activations": (_KEEPS_SIZE, _STANDARDIZE, _NORM, _RELU),
    "symmetric_units": (_Known("start from random weights", "units that start the same stay the same", "keeps_size"),),
    "learning_rate_too_high": (_LOWER, _CLIP),
    "learning_rate_too_low": (_RAISE, _RAISE_3, _ADAM),
    "overfitting": (
        _Known("stop early", "the best weights were there before", "stop_early"),
        _Known("decay the weights", "less freedom for the same network", "decay"),
        _Known("decay the weights tenfold", "how much is enough differs from data to data", "decay_more"),
        _Known("use dropout", "no unit can rely on another (Srivastava et al. 2014)", "dropout"),
        _Known("use a smaller network", "fewer weights a row", "smaller"),
        _Known("get more data", "what a network cannot learn by heart it has to understand", "all_rows"),
    ),
    "underfitting": (
        _Known("train longer", "the loss may still be falling", "longer"),
        _RAISE_3,
        _LARGER,
        _ADAM,
    ),
    "not_learning": (
        _Known("try to learn 16 rows by heart", "a network that cannot has a bug, not a tuning problem"),
        _RAISE,
        _LOWER,
        _ADAM,
        _KEEPS_SIZE,
    ),
    "nonfinite_values": (_LOWER, _CLIP, _KEEPS_SIZE, _Known("look for NaN in the data", "one row is enough")),
    "bad_initial_loss": (
        _Known(
            "start the output layer with small weights",
            "a network that knows nothing should be sure of nothing",
            "keeps_size",
        ),
        _STANDARDIZE,
        _TARGETS,
    ),
    "unnormalized_inputs": (_STANDARDIZE, _NORM),
    "unnormalized_targets": (_TARGETS,),
    "output_mismatch": (_LOGITS,),
    "loss_mismatch": (
        _Known(
            "use the loss of this task, as a mean over rows of equal shapes",
            "of the right sign: what is better has to lose less; cross_entropy takes logits and class numbers",
        ),
    ),
    "missing_nonlinearity": (
        _Known("put an activation between the layers", "without one, two layers are one", "nonlinear"),
    ),
    "constant_features": (
        _Known(
            "leave them out, or look where their values went",
            "a column without a spread tells rows apart by nothing",
        ),
    ),
    "shared_rows": (
        _Known(
            "take out of one split what is in the other",
            "a row that was trained on says nothing about new ones; duplicates go into one split together",
        ),
    ),
    "class_imbalance": (_Known("weight the classes, or draw rare rows more often", "the loss then feels them"),),
    "bad_labels": (
        _Known(
            "look at a few rows with their labels",
            "nothing can be learned from labels that do not belong to their rows",
        ),
    ),
}

_CHANGES = {known.title: known.change for each in _BY_SYMPTOM.values() for known in each}

BEST_TRIED = "take the best learning rate tried"

TREAT_CAUSES = Remedy("treat the findings named as its causes first", "the network may then learn by itself", {})


def remedies(symptom: str) -> tuple[Remedy, ...]:
    """What can be done, likeliest first, as advice: `fitted` says what it means for a config."""
    return tuple(Remedy(known.title, known.why, {}) for known in _BY_SYMPTOM.get(symptom, ()))


def fitted(finding: Finding, config: Mapping[str, Any]) -> tuple[Remedy, ...]:
    """A finding's remedies with the overrides that they are in this config (`run.config`, {} for a watched run).

    All overrides that it gives make a valid config, another one than this. What the config does already is left out;
    what no config of this kind can say, or is not valid with the rest of it, is advice, without overrides.
    """
    base = _read(config)
    if base is None:
        return tuple(replace(remedy, overrides={}) for remedy in finding.remedies)
    found = [(remedy, _overrides(remedy, base)) for remedy in finding.remedies]
    return tuple(replace(remedy, overrides=told) for remedy, told in found if told is not None)


def together(parts: Sequence[Remedy], config: Config, why: str) -> Remedy | None:
    """Several fitted remedies as one, each fitted anew to what those before it leave; None without two that go on.

    Of two that change the same key the first is taken, but for a list of layers, which both can change; one that has
    nothing left to do is left out.
    """
    from nnvis.diagnosis.changes import effective, with_overrides

    told: dict[str, Any] = {}
    titles = []
    for remedy in parts:
        own = _overrides(remedy, with_overrides(config, told)) or {}
        if own and not any(_same_part(key, other) for key in own for other in told):
            told |= own
            titles.append(remedy.title)
    whole = effective(config, told) if len(titles) > 1 else None
    return Remedy(" and ".join(titles), why, whole) if whole else None


def at_rate(remedy: Remedy, factor: float, config: Config) -> Remedy | None:
    """A fitted remedy at so many times the learning rate that it leaves.

    None where no config can say that, or it is the config itself: a tenth of the learning rate, ten times.
    """
    from nnvis.diagnosis.changes import effective, scaled_rate, with_overrides

    changed = with_overrides(config, remedy.overrides)
    rate = scaled_rate(factor)(changed) or {}
    whole = effective(config, remedy.overrides | rate) if rate else None
    title = f"{remedy.title} at {factor:.2g} times the learning rate"
    return Remedy(title, "what a remedy changes may want other steps", whole) if whole else None


def _overrides(remedy: Remedy, config: Config) -> dict[str, Any] | None:
    """What a remedy changes in a config; None where that is nothing, {} where no config can say it."""
    from nnvis.diagnosis.changes import CHANGES, effective, sets_rate

    if remedy.title == BEST_TRIED and sets_rate(config.schedule):
        return {}
    change = CHANGES.get(_CHANGES.get(remedy.title, ""))
    overrides = change(config) if change else remedy.overrides
    return effective(config, overrides) if overrides else overrides


def _same_part(key: str, other: str) -> bool:
    """Whether two keys change the same part of a config, as `optimizer` and `optimizer.lr` do."""
    return key != "model.layers" and (f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}."))


def _read(config: Mapping[str, Any]) -> Config | None:
    """The config of a run; None for a run without one, or with one that this version does not read."""
    if not config:
        return None
    from nnvis.config import ConfigError, parse_config
    from nnvis.config.yaml_text import write_yaml

    try:
        return parse_config(write_yaml(dict(config)), trust=True)
    except ConfigError:
        return None
