"""Keras's conventions in PyTorch: initialisers, layers, losses and optimizers of the fault cases.

model = build_model(case, inputs)             # an nn.Sequential: dense1, relu1, dense2, ...
loss_fn = build_loss(case)                    # loss_fn(outputs, targets) -> 0-d tensor
optimizer, schedule = build_optimizer(case, model)

Keras computes the cross-entropy of a final softmax, or sigmoid, from the logits; so does torch's loss, to which the
model then gives logits. After any other output Keras clips what should be probabilities: those losses are functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from fault_facts import Case
from torch import Tensor, nn

EPSILON = 1e-7  # Keras's: probabilities are clipped to [EPSILON, 1 - EPSILON], and optimizers divide by at least this
TRUNCATED_STD = 0.8796256610342398  # of a standard normal variable that is cut off at two standard deviations

Loss = Callable[[Tensor, Tensor], Tensor]


def initialise(weight: Tensor, scheme: str) -> None:
    """Fill `weight` in place by a Keras initialiser's name; the number in `uniform_0.05` is its argument."""
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(weight) if weight.dim() > 1 else (weight.numel(),) * 2
    name, _, argument = scheme.rpartition("_")
    match scheme:
        case "he_uniform":
            nn.init.uniform_(weight, -math.sqrt(6 / fan_in), math.sqrt(6 / fan_in))
        case "glorot_uniform":
            nn.init.uniform_(weight, -math.sqrt(6 / (fan_in + fan_out)), math.sqrt(6 / (fan_in + fan_out)))
        case "lecun_uniform":
            nn.init.uniform_(weight, -math.sqrt(3 / fan_in), math.sqrt(3 / fan_in))
        case "he_normal":
            _truncated_normal(weight, math.sqrt(2 / fan_in) / TRUNCATED_STD)
        case "glorot_normal":
            _truncated_normal(weight, math.sqrt(2 / (fan_in + fan_out)) / TRUNCATED_STD)
        case "lecun_normal":
            _truncated_normal(weight, math.sqrt(1 / fan_in) / TRUNCATED_STD)
        case "zeros":
            nn.init.zeros_(weight)
        case _ if name == "uniform":
            nn.init.uniform_(weight, -float(argument), float(argument))
        case _ if name == "normal":
            nn.init.normal_(weight, 0, float(argument))
        case _ if name == "truncnormal":
            _truncated_normal(weight, float(argument))
        case _ if name == "normal_gain":
            nn.init.normal_(weight, 0, float(argument) / math.sqrt(fan_in))
        case _ if name == "const":
            nn.init.constant_(weight, float(argument))
        case _:
            raise ValueError(f"no initialiser is named {scheme!r}")


def _truncated_normal(weight: Tensor, std: float) -> None:
    nn.init.trunc_normal_(weight, 0, std, -2 * std, 2 * std)


class Exponential(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.exp()


class Unrolled(nn.Module):
    """An LSTM's output at every time step, (N, T, units), with Keras's start: forget gates open, no other bias."""

    def __init__(self, inputs: int, units: int, scheme: str) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, units, batch_first=True)
        parameters = dict(self.lstm.named_parameters())
        initialise(parameters["weight_ih_l0"].data, scheme)
        nn.init.orthogonal_(parameters["weight_hh_l0"])
        for name in ("bias_ih_l0", "bias_hh_l0"):
            nn.init.zeros_(parameters[name])
        nn.init.ones_(parameters["bias_ih_l0"].data[units : 2 * units])  # torch's order: input, forget, cell, output

    def forward(self, inputs: Tensor) -> Tensor:
        return self.lstm(inputs)[0]


ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], ...]] = {
    "linear": (),
    "relu": (nn.ReLU,),
    "selu": (nn.SELU,),
    "tanh": (nn.Tanh,),
    "sigmoid": (nn.Sigmoid,),
    "exponential": (Exponential,),
    "softmax": (lambda: nn.Softmax(-1),),
    "relu_then_softmax": (nn.ReLU, lambda: nn.Softmax(-1)),
    "softmax_twice": (lambda: nn.Softmax(-1), lambda: nn.Softmax(-1)),
}
KINDS = ("dense", "conv2d", "lstm", "batchnorm", "maxpool2d", "dropout", "flatten")


def build_model(case: Case, inputs: Tensor) -> nn.Sequential:
    """The network for `inputs` (N, ...); modules are named for their kind, activations numbered like their layer."""
    model, sample, number = nn.Sequential(), inputs[:1], 0
    for entry in case.layers:
        row: dict[str, Any] = {entry: None} if isinstance(entry, str) else entry
        kind = next(iter(row))
        for _ in range(row.get("count", 1)):
            number += 1
            model.add_module(f"{kind}{number}", _layer(kind, row, sample))
            fused = entry is case.layers[-1] and gives_logits(case)
            for position, activation in enumerate(() if fused else ACTIVATIONS[row.get("act", "linear")]):
                model.add_module(f"{row['act']}{number}" + "b" * position, activation())
            with torch.no_grad():  # sizes are inferred from one row; in eval mode nothing is learned from it
                sample = model.eval()(inputs[:1])
    return model.train()


def _layer(kind: str, row: dict[str, Any], sample: Tensor) -> nn.Module:
    size, channels = row[kind], sample.shape[1]
    if kind == "batchnorm":
        batchnorm = nn.BatchNorm2d if sample.dim() == 4 else nn.BatchNorm1d
        return batchnorm(channels, eps=1e-3, momentum=0.01)  # Keras keeps 0.99 of the old average
    if kind == "maxpool2d":
        return nn.MaxPool2d(size)
    if kind == "dropout":
        return nn.Dropout(size)
    if kind == "flatten":
        return nn.Flatten()
    if kind == "lstm":
        return Unrolled(sample.shape[-1], size, row["init"])
    bias = row.get("use_bias", True)
    layer = (
        nn.Conv2d(channels, size, row["kernel"], padding="same", bias=bias)
        if kind == "conv2d"
        else nn.Linear(sample.shape[-1], size, bias=bias)
    )
    initialise(layer.weight.data, row["init"])
    if layer.bias is not None:
        initialise(layer.bias.data, row.get("bias_init", "zeros"))
    return layer


def binary_crossentropy(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Mean of -t log p - (1 - t) log(1 - p), p clipped; the two broadcast, as in Keras."""
    clipped = probabilities.clamp(EPSILON, 1 - EPSILON)
    return -(targets * clipped.log() + (1 - targets) * (1 - clipped).log()).mean()


def categorical_crossentropy(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Mean of -log p[target], of (N, K) probabilities that are divided by their sum and clipped, and (N,) classes."""
    normalised = probabilities / probabilities.sum(-1, keepdim=True)
    return -_of_target(normalised.clamp(EPSILON, 1 - EPSILON), targets).log().mean()


def cross_entropy_on_clipped_raw_outputs(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean of -log z[target], of (N, K) outputs z that are clipped but no probabilities, and (N,) classes."""
    return -_of_target(outputs.clamp(EPSILON, 1 - EPSILON), targets).log().mean()


def _of_target(values: Tensor, targets: Tensor) -> Tensor:
    return values.gather(-1, targets[:, None])[:, 0]


def sum_cross_entropy_unstable(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Sum of -t log p over rows and (N, K) classes, nothing clipped: p = 0 gives Inf, or NaN where t = 0."""
    return -(nn.functional.one_hot(targets, probabilities.shape[-1]) * probabilities.log()).sum()


def half_mse(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean() / 2


def sse(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum()


LOSSES: dict[str, Loss] = {
    "mse": nn.MSELoss(),
    "mae": nn.L1Loss(),
    "half_mse": half_mse,
    "sse": sse,
    "binary_crossentropy": binary_crossentropy,
    "categorical_crossentropy": categorical_crossentropy,
    "cross_entropy_on_clipped_raw_outputs": cross_entropy_on_clipped_raw_outputs,
    "sum_cross_entropy_unstable": sum_cross_entropy_unstable,
}
SUMMED = ("sse", "sum_cross_entropy_unstable")  # over the rows of a batch; the others are means
OF_CLASSES = ("categorical_crossentropy", "cross_entropy_on_clipped_raw_outputs", "sum_cross_entropy_unstable")


FUSED: dict[tuple[str, str], Loss] = {
    ("softmax", "categorical_crossentropy"): nn.CrossEntropyLoss(),
    ("sigmoid", "binary_crossentropy"): nn.BCEWithLogitsLoss(),
}


def gives_logits(case: Case) -> bool:
    """Whether the last activation is left to the loss."""
    return (_last_activation(case), case.loss) in FUSED


def build_loss(case: Case) -> Loss:
    """The loss: (outputs, targets) -> 0-d tensor."""
    return FUSED.get((_last_activation(case), case.loss)) or LOSSES[case.loss]


def _last_activation(case: Case) -> str:
    last = case.layers[-1]
    return "" if isinstance(last, str) else last.get("act", "")


def build_optimizer(case: Case, model: nn.Module) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """The optimizer with Keras's defaults, and Keras's `decay` as a schedule: lr / (1 + decay · step)."""
    settings = dict(case.optimizer)
    kind, decay = settings.pop("kind"), settings.pop("decay", 0.0)
    defaults = {
        "SGD": {},
        "Adam": {"eps": EPSILON},
        "Adagrad": {"eps": EPSILON},
        "RMSprop": {"eps": EPSILON, "alpha": 0.9},
    }
    optimizer = getattr(torch.optim, kind)(model.parameters(), **{**defaults[kind], **settings})
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + decay * step))
