"""How a network is trained and measured: loss, optimizer, schedule, the loop, the capture."""

# ruff: noqa: RUF012  (pydantic copies defaults)

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_serializer,
    model_validator,
)

from nnvis.config.base import Device, Fraction, KindSection, PositiveInt, Section, refusal, refuse
from nnvis.config.problems import among, shown
from nnvis.config.torch_arguments import OPTIMIZER_RANGES, SCHEDULER_RANGES, Complaint, check_arguments
from nnvis.config.torch_signatures import Signature, torch_table

LOSSES = {
    "cross_entropy": "classification",
    "binary_cross_entropy": "classification",
    "mean_squared_error": "regression",
    "mean_absolute_error": "regression",
    "huber": "regression",
}
"""Losses and the task that each is for."""


class Loss(KindSection):
    """What is minimised. Written as a name, or `{kind: huber, delta: 0.5}`."""

    kind: Literal["cross_entropy", "binary_cross_entropy", "mean_squared_error", "mean_absolute_error", "huber"]
    label_smoothing: Fraction = 0.0
    """cross_entropy only."""
    delta: Annotated[float, Field(gt=0)] = 1.0
    """huber only: where the square turns into a line."""

    only_for: ClassVar[dict[str, tuple[str, ...]]] = {"label_smoothing": ("cross_entropy",), "delta": ("huber",)}

    @property
    def task(self) -> str:
        """What the data have to be for: classification or regression."""
        return LOSSES[self.kind]


class TorchSection(Section):
    """A class of torch by its name, with its own arguments beside `kind`; its name alone for torch's defaults."""

    kind: str
    arguments: dict[str, Any] = {}

    ranges: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def choices(cls) -> Mapping[str, Signature]:
        """The classes that can be named, and their arguments."""
        raise NotImplementedError

    @model_validator(mode="before")
    @classmethod
    def _from_written(cls, raw: Any) -> Any:
        if isinstance(raw, str):
            raw = {"kind": raw}
        if not isinstance(raw, dict):
            return raw
        fields = cls.model_fields
        own = {key: value for key, value in raw.items() if key in fields and key != "arguments"}
        given = {key: value for key, value in raw.items() if key not in own}
        if "kind" not in own:
            own["kind"] = fields["kind"].default
            given = {**fields["arguments"].default, **given}
        return {**own, "arguments": cls._checked(own["kind"], given)}

    @classmethod
    def _checked(cls, kind: Any, given: dict[str, Any]) -> dict[str, Any]:
        choices = cls.choices()
        if not isinstance(kind, str) or kind not in choices:
            reason = torch_table().unusable.get(str(kind))
            unknown = f"{shown(kind)} is unknown{among(kind, choices)}"
            raise refusal(Complaint(("kind",), f"{kind} {reason}" if reason else unknown))
        arguments, complaints = check_arguments(kind, given, choices[kind], cls.ranges)
        refuse(complaints)
        return arguments

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in type(self).model_fields if name != "arguments"}
        return {**own, **self.arguments}


class Optimizer(TorchSection):
    """An optimizer of `torch.optim` by its class name, with its own arguments beside `kind`.

    Without a kind it is SGD, with lr 0.1 unless another is given.
    """

    kind: str = "SGD"
    arguments: dict[str, Any] = {"lr": 0.1}

    ranges: ClassVar[Mapping[str, str]] = OPTIMIZER_RANGES

    @classmethod
    def choices(cls) -> Mapping[str, Signature]:
        """torch's optimizers."""
        return torch_table().optimizers


class Schedule(TorchSection):
    """`constant`, or a scheduler of `torch.optim.lr_scheduler` by its class name, with its own arguments."""

    kind: str = "constant"
    interval: Literal["epoch", "step"] = "epoch"
    """When the scheduler moves: after each epoch or after each step."""

    ranges: ClassVar[Mapping[str, str]] = SCHEDULER_RANGES

    @classmethod
    def choices(cls) -> Mapping[str, Signature]:
        """`constant`, and torch's schedulers."""
        return {"constant": {}, **torch_table().schedulers}

    @model_validator(mode="after")
    def _has_its_metric(self) -> Schedule:
        if self.kind == "ReduceLROnPlateau" and self.interval == "step":
            raise refusal(Complaint(("interval",), "ReduceLROnPlateau looks at the validation loss, once an epoch"))
        return self


class EarlyStopping(Section):
    """Stop when the validation metric no longer improves; the best weights are put back."""

    metric: Literal["loss", "accuracy"] = "loss"
    patience: PositiveInt = 10
    """Evaluations without improvement that are waited for."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0


def _rows_or_full(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(value)
    except ValidationError:
        message = f"should be a whole number of at least 1, or full, got {shown(value)}"
        raise refusal(Complaint((), message)) from None


class Training(Section):
    """The loop."""

    epochs: PositiveInt | None = None
    """Passes over the training split; 30 when neither epochs nor steps are given."""
    steps: PositiveInt | None = None
    """Optimizer steps, instead of epochs."""
    batch_size: Annotated[PositiveInt | Literal["full"], WrapValidator(_rows_or_full)] = 64
    clip_grad_norm: Annotated[float, Field(gt=0)] | None = None
    clip_grad_value: Annotated[float, Field(gt=0)] | None = None
    precision: Literal["float32", "float64", "bf16", "fp16"] = "float32"
    """bf16 and fp16 are autocast; fp16 adds a GradScaler."""
    accumulate: PositiveInt = 1
    """Batches whose gradients are added up before one step."""
    compile: bool = False
    early_stopping: EarlyStopping | None = None
    checkpoint_every: PositiveInt = 1
    """Epochs between checkpoints; more where saving them would take over 1% of the time."""
    device: Device = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads; resolved when the run starts, since the bits of the result depend on it."""

    @model_validator(mode="before")
    @classmethod
    def _some_length(cls, raw: Any) -> Any:
        unset = isinstance(raw, dict) and raw.get("epochs") is None and raw.get("steps") is None
        return {**raw, "epochs": 30} if unset else raw

    @model_validator(mode="after")
    def _one_of_two(self) -> Training:
        for first, second in (("epochs", "steps"), ("clip_grad_norm", "clip_grad_value")):
            if getattr(self, first) is not None and getattr(self, second) is not None:
                raise refusal(Complaint((second,), f"give {first} or {second}, not both"))
        return self


Symptom = Literal[
    "nonfinite_values",
    "not_learning",
    "vanishing_gradients",
    "zero_gradients",
    "exploding_gradients",
    "dead_units",
    "saturated_activations",
    "symmetric_units",
    "learning_rate_too_high",
    "learning_rate_too_low",
    "overfitting",
    "underfitting",
    "bad_initial_loss",
    "constant_features",
    "unnormalized_inputs",
    "unnormalized_targets",
    "output_mismatch",
    "loss_mismatch",
    "bad_labels",
    "class_imbalance",
    "shared_rows",
    "missing_nonlinearity",
]
"""What a diagnosis can find."""


class Diagnosis(Section):
    """Fixed rows are checked now and then while training runs; findings are told when they become certain."""

    every: PositiveInt | Literal["auto"] | None = "auto"
    """Steps between checks; auto: five to eleven over the run, as its length affords; null: none."""
    stop_on: list[Symptom] = []
    """Findings of severity error that end the run."""
    branches: bool = False
    """Try other learning rates, from where training stands at its start and after 5% and 20% of it, and go back."""


class Snapshots(Section):
    """Copies of the weights on the way, for `nnvis animate` and for the path on the loss landscape."""

    count: Annotated[int, Field(ge=2)] | None = None
    """How many, log-spaced over the steps, the first and the last one included; null: none."""


class Capture(Section):
    """What is measured while training runs, and how often."""

    every: PositiveInt | None = 20
    """Steps between measured steps; null turns capture off (the loss is then written every 100 steps)."""
    layers: Annotated[list[str], Field(min_length=1)] = ["*"]
    """Which layers, as globs over their names."""
    histograms: bool = True
    histogram_every: PositiveInt = 100
    """Steps between histograms (rounded up to a measured step)."""
    graph: bool = False
    """Write the model's graph for TensorBoard (over a second)."""
