"""What can be done about a symptom, likeliest first. `overrides` are those of a config of nnvis's own."""

from __future__ import annotations

from nnvis.record.vocabulary import Remedy

_RELU = Remedy(
    "use ReLU with He's initialisation",
    "its slope is 1 or 0, and the weights keep the signal's size through any depth (He et al. 2015)",
    {"model.activation": "relu", "model.init": "kaiming_uniform"},
)
_NORM = Remedy(
    "normalise between the layers",
    "every layer then gets inputs of size 1 (Ioffe & Szegedy 2015)",
    {"model.norm": "batch"},
)
_RESIDUAL = Remedy(
    "add residual connections", "the gradient gets a way around every block (He et al. 2016)", {"model.residual": True}
)
_CLIP = Remedy(
    "clip gradients by their norm",
    "one large step can then do no harm (Pascanu et al. 2013)",
    {"training.clip_grad_norm": 1.0},
)
_SMALLER_INIT = Remedy(
    "start with smaller weights",
    "the signal should keep its size from layer to layer",
    {"model.init": "kaiming_uniform"},
)
_LOWER = Remedy("lower the learning rate tenfold", "steps above 2 / curvature climb instead of descending", {})
_STANDARDIZE = Remedy(
    "standardise the inputs",
    "mean 0 and spread 1 is what initialisations are made for (LeCun et al. 1998)",
    {"data.standardize": True},
)
_TARGETS = Remedy(
    "standardise the targets", "the output layer starts near 0 with a spread near 1", {"data.standardize_targets": True}
)
_LEAKY = Remedy("use LeakyReLU", "its slope is never 0, so that no unit can die", {"model.activation": "leaky_relu"})

TREAT_CAUSES = Remedy("treat the findings named as its causes first", "the network may then learn by itself", {})

_BY_SYMPTOM: dict[str, tuple[Remedy, ...]] = {
    "vanishing_gradients": (_RELU, _NORM, _RESIDUAL),
    "zero_gradients": (Remedy("take away what blocks the gradient", "nothing before it can learn", {}),),
    "exploding_gradients": (_CLIP, _SMALLER_INIT, _NORM, _LOWER),
    "dead_units": (
        _LEAKY,
        _LOWER,
        Remedy("start as He et al. do", "half of the units are then on at first", {"model.init": "kaiming_uniform"}),
    ),
    "saturated_activations": (_SMALLER_INIT, _STANDARDIZE, _NORM),
    "symmetric_units": (
        Remedy(
            "start from random weights", "units that start the same stay the same", {"model.init": "kaiming_uniform"}
        ),
    ),
    "learning_rate_too_high": (_LOWER, _CLIP),
    "overfitting": (
        Remedy(
            "stop early",
            "the best weights were there before",
            {"training.early_stopping": {"metric": "loss", "patience": 10}},
        ),
        Remedy("decay the weights", "less freedom for the same network", {"optimizer.weight_decay": 0.01}),
        Remedy("use dropout", "no unit can rely on another (Srivastava et al. 2014)", {"model.dropout": 0.2}),
        Remedy("get more data, or a smaller network", "fewer weights a row", {}),
    ),
    "underfitting": (
        Remedy("train longer", "the loss may still be falling", {}),
        Remedy("raise the learning rate", "short runs need larger steps", {}),
        Remedy("use a larger network", "it must at least do what a linear map does", {}),
    ),
    "not_learning": (
        Remedy("try to learn 16 rows by heart", "a network that cannot has a bug, not a tuning problem", {}),
    ),
    "nonfinite_values": (_LOWER, _CLIP, Remedy("look for NaN in the data", "one row is enough", {})),
    "bad_initial_loss": (
        Remedy(
            "start the output layer with small weights", "a network that knows nothing should be sure of nothing", {}
        ),
        _STANDARDIZE,
        _TARGETS,
    ),
    "unnormalized_inputs": (_STANDARDIZE, _NORM),
    "unnormalized_targets": (_TARGETS,),
    "output_mismatch": (
        Remedy(
            "give the loss what it takes",
            "logits for cross entropy (no softmax, no sigmoid); numbers without bounds for regression",
            {},
        ),
    ),
    "loss_mismatch": (
        Remedy(
            "use the loss of this task, as a mean over rows of equal shapes",
            "of the right sign: what is better has to lose less; cross_entropy takes logits and class numbers",
            {},
        ),
    ),
    "missing_nonlinearity": (
        Remedy("put an activation between the layers", "without one, two layers are one", {"model.activation": "relu"}),
    ),
    "constant_features": (
        Remedy(
            "leave them out, or look where their values went",
            "a column without a spread tells rows apart by nothing",
            {},
        ),
    ),
    "shared_rows": (
        Remedy(
            "take out of one split what is in the other",
            "a row that was trained on says nothing about new ones; duplicates go into one split together",
            {},
        ),
    ),
    "class_imbalance": (Remedy("weight the classes, or draw rare rows more often", "the loss then feels them", {}),),
    "bad_labels": (
        Remedy(
            "look at a few rows with their labels",
            "nothing can be learned from labels that do not belong to their rows",
            {},
        ),
    ),
}


def remedies(symptom: str) -> tuple[Remedy, ...]:
    """What can be done, likeliest first."""
    return _BY_SYMPTOM.get(symptom, ())
