"""The model section: the built-in networks, and lists of torch's own layers.

To add a network, write its class here, list it in `Model`, and write its builder in `nnvis.models`.
"""

# ruff: noqa: RUF012  (pydantic copies defaults)

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_serializer, model_validator

from nnvis.config.base import Fraction, KindSection, PositiveInt, Section, Size, Target, refusal, refuse
from nnvis.config.problems import among, shown
from nnvis.config.torch_arguments import LAYER_RANGES, Complaint, check_arguments
from nnvis.config.torch_signatures import torch_table

BLOCKS = ("residual", "sequential")


class TorchLayer(Section):
    """One entry of a list of layers: a `torch.nn` class with arguments by name, or a block of further entries.

    Written `ReLU`, `Linear: 64`, `Conv2d: {out_channels: 8, kernel_size: 3}`, `Conv2d: [8, 3]`,
    `residual: [...]` or `sequential: [...]`. Sizes that follow from the input are left out.
    """

    kind: str
    arguments: dict[str, Any] = {}
    children: list[TorchLayer] = []

    @model_validator(mode="before")
    @classmethod
    def _from_entry(cls, raw: Any) -> Any:
        if isinstance(raw, TorchLayer):
            return raw
        return _entry(_from_fields(raw), {name: name for name in (*torch_table().layers, *BLOCKS)})

    @model_serializer
    def _as_written(self) -> Any:
        content = self.children if self.kind in BLOCKS else self.arguments
        return {self.kind: content} if content else self.kind


def _entry(raw: Any, names: Mapping[str, str], also: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The fields of a layer from the forms it is written in.

    `names`: as written -> torch's class or block; `also`: more of them, which an error does not list.
    """
    if isinstance(raw, dict) and len(raw) == 1:
        ((written, content),) = raw.items()
        path: tuple[str, ...] = (written,)
    else:
        written, content, path = raw, None, ()
    if not isinstance(written, str):
        raise refusal(Complaint((), _no_layer(written)))
    kind = names.get(written) or (also or {}).get(written)
    table = torch_table()
    if kind is None:
        reason = table.unusable.get(written)
        unknown = f"{shown(written)} is unknown{among(written, names, more='nnvis list layers', hidden=also or ())}"
        raise refusal(Complaint(path, f"{written} {reason}" if reason else unknown, at_key=True))
    if kind in BLOCKS:
        if not isinstance(content, list) or not content:
            raise refusal(Complaint(path, f"should be a list of layers, got {shown(content)}"))
        return {"kind": kind, "children": content}
    given = {} if content is None else content
    arguments, complaints = check_arguments(kind, given, table.layers[kind], LAYER_RANGES, table.inferred.get(kind))
    refuse(complaint._replace(path=(*path, *complaint.path)) for complaint in complaints)
    return {"kind": kind, "arguments": arguments}


def _no_layer(written: Any) -> str:
    message = f"should be a layer, `Name` or `Name: arguments`, got {shown(written)}"
    if not isinstance(written, dict):
        return message
    kind = written.get("kind")
    hint = f"write `{kind}: {{...}}`" if isinstance(kind, str) else "each layer begins with its own `-`"
    return f"{message} of {len(written)} keys; {hint}"


def _from_fields(raw: Any) -> Any:
    """The fields by their names, as Python code gives them, in the form that files have."""
    fields = TorchLayer.model_fields
    if not isinstance(raw, dict) or not isinstance(raw.get("kind"), str) or not raw.keys() <= fields.keys():
        return raw
    contents = [raw[name] for name in ("arguments", "children") if raw.get(name)]
    return {raw["kind"]: contents[0] if contents else None} if len(contents) < 2 else raw


def _activation(raw: Any) -> TorchLayer:
    """An activation by torch's class name or the name of its function, `LeakyReLU` or `leaky_relu`."""
    raw = raw.model_dump() if isinstance(raw, TorchLayer) else _from_fields(raw)
    activations = torch_table().activations
    return TorchLayer(**_entry(raw, activations, also={kind: kind for kind in activations.values()}))


Activation = Annotated[TorchLayer, BeforeValidator(_activation)]


class Init(KindSection):
    """How weights start. Written as a name, or `{kind: normal, std: 0.01}`. Biases start at 0 (`default`: torch's)."""

    kind: Literal[
        "default",
        "xavier_uniform",
        "xavier_normal",
        "kaiming_uniform",
        "kaiming_normal",
        "orthogonal",
        "normal",
        "constant",
    ] = "default"
    gain: Annotated[float, Field(gt=0)] | None = None
    """xavier, orthogonal: factor on the standard deviation (1 when left out)."""
    mode: Literal["fan_in", "fan_out"] = "fan_in"
    """kaiming only."""
    std: Annotated[float, Field(ge=0)] = 0.01
    """normal only."""
    value: float = 0.0
    """constant only. All units of a layer stay alike: it breaks no symmetry."""

    only_for: ClassVar[dict[str, tuple[str, ...]]] = {
        "gain": ("xavier_uniform", "xavier_normal", "orthogonal"),
        "mode": ("kaiming_uniform", "kaiming_normal"),
        "std": ("normal",),
        "value": ("constant",),
    }


class ModelSection(Section):
    """What the built-in networks share."""

    activation: Activation = Field(default_factory=lambda: TorchLayer(kind="ReLU"))
    """A torch activation: `relu`, `LeakyReLU`, `{LeakyReLU: 0.2}`."""
    norm: Literal["none", "batch", "layer"] = "none"
    residual: bool = False
    """Add each block's input to its output (through a linear map where the sizes differ)."""
    dropout: Fraction = 0.0
    init: Init = Field(default_factory=Init)


class Mlp(ModelSection):
    """Fully connected layers. `hidden: [128, 64]`, or `depth` hidden layers of `width` units."""

    kind: Literal["mlp"]
    hidden: list[PositiveInt] | None = None
    depth: Annotated[int, Field(ge=0)] | None = None
    """Number of hidden layers."""
    width: PositiveInt | None = None
    """Units of each hidden layer."""
    bias: bool = True

    @model_validator(mode="after")
    def _one_form(self) -> Mlp:
        if (self.depth is None) != (self.width is None):
            given, other = ("depth", "width") if self.width is None else ("width", "depth")
            raise refusal(Complaint((given,), f"needs {other} beside it"))
        if (self.hidden is None) == (self.depth is None):
            path = () if self.hidden is None else ("hidden",)
            raise refusal(Complaint(path, "give either hidden (`hidden: [128, 64]`) or both depth and width"))
        return self


class Cnn(ModelSection):
    """Convolution blocks (each halves the image), then fully connected layers."""

    kind: Literal["cnn"]
    channels: Size = [16, 32]
    """Output channels, one block each."""
    kernel_size: PositiveInt = 3
    pool: Literal["max", "average", "none"] = "max"
    hidden: list[PositiveInt] = [64]


class Rnn(Section):
    """A recurrent network over a sequence; the last step's state is mapped to the output."""

    kind: Literal["rnn"]
    cell: Literal["RNN", "LSTM", "GRU"] = "LSTM"
    hidden_size: PositiveInt = 64
    layers: PositiveInt = 1
    bidirectional: bool = False
    embedding: PositiveInt | None = None
    """Width of the token embedding, for text only; 32 when left out."""
    dropout: Fraction = 0.0
    init: Init = Field(default_factory=Init)


class Transformer(Section):
    """A small encoder over a sequence; the mean over the sequence is mapped to the output."""

    kind: Literal["transformer"]
    depth: PositiveInt = 2
    width: PositiveInt = 64
    heads: PositiveInt = 4
    feedforward: PositiveInt = 128
    norm_first: bool = True
    activation: Literal["relu", "gelu"] = "gelu"
    dropout: Fraction = 0.0
    init: Init = Field(default_factory=Init)

    @model_validator(mode="after")
    def _heads_share_width(self) -> Transformer:
        if self.width % self.heads:
            raise refusal(Complaint(("heads",), f"should divide width: {self.width} is no multiple of {self.heads}"))
        return self


class Layers(Section):
    """Any list of torch.nn layers; input sizes are inferred, the output layer is yours to write."""

    kind: Literal["layers"]
    layers: Annotated[list[TorchLayer], Field(min_length=1)]
    init: Init = Field(default_factory=Init)


class PythonModel(Section):
    """The user's own `torch.nn.Module`. Needs `--trust`."""

    kind: Literal["python"]
    target: Target
    """`package.module:Class`."""
    arguments: dict[str, Any] = {}


Model = Annotated[Mlp | Cnn | Rnn | Transformer | Layers | PythonModel, Field(discriminator="kind")]
