"""The vocabulary of a config: one frozen class a section, one class a kind.

    from nnvis.config import load_config

    config = load_config("configs/digits_mlp.yaml", overrides=["optimizer.lr=0.01"])
    config.model.kind          # "mlp"

To add a dataset or a model, write its class here and its builder in `nnvis.data` or
`nnvis.models`; the JSON Schema, `nnvis list` and the error messages follow by themselves.
The rules of the language (strict types, no unknown keys) are stated once, in `Section`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Base of all sections: immutable, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


PositiveInt = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Size = Annotated[list[PositiveInt], Field(min_length=1)]

# ---------------------------------------------------------------- data


class DataSection(Section):
    """What every data kind accepts."""

    val_fraction: Fraction = 0.2
    """Share of the rows held out for validation, in [0, 1)."""
    test_fraction: Fraction = 0.0
    """Share of the rows held out for the final test, in [0, 1); ignored where the set has an official test split."""
    standardize: bool = True
    """Shift and scale inputs to mean 0, std 1, fitted on the training split (a feature; a channel for images)."""
    standardize_targets: bool = False
    """The same for regression targets; metrics are then in units of the target's training std."""
    train_size: PositiveInt | None = None
    """Keep only so many training rows (after the split, stratified): for studies of overfitting."""
    label_noise: Fraction = 0.0
    """Share of the training labels replaced by a different class drawn at random (classification only)."""
    seed: Annotated[int, Field(ge=0)] | None = None
    """Seed of generation and split; the experiment's seed when left out."""


class Moons(DataSection):
    """Two interleaved half circles (2 inputs, 2 classes)."""

    kind: Literal["moons"]
    samples: PositiveInt = 1000
    noise: Annotated[float, Field(ge=0)] = 0.1


class Circles(DataSection):
    """A circle inside a circle (2 inputs, 2 classes)."""

    kind: Literal["circles"]
    samples: PositiveInt = 1000
    noise: Annotated[float, Field(ge=0)] = 0.1
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Radius of the inner circle over the outer one's."""


class Xor(DataSection):
    """Four quadrants, the class is the sign of x·y (2 inputs, 2 classes)."""

    kind: Literal["xor"]
    samples: PositiveInt = 1000
    noise: Annotated[float, Field(ge=0)] = 0.1


class Spirals(DataSection):
    """Interleaved spiral arms, one a class (2 inputs)."""

    kind: Literal["spirals"]
    samples: PositiveInt = 1000
    noise: Annotated[float, Field(ge=0)] = 0.05
    classes: Annotated[int, Field(ge=2)] = 2
    turns: Annotated[float, Field(gt=0)] = 1.5


class Blobs(DataSection):
    """Gaussian clusters, one a class."""

    kind: Literal["blobs"]
    samples: PositiveInt = 1000
    classes: Annotated[int, Field(ge=2)] = 3
    features: PositiveInt = 2
    std: Annotated[float, Field(gt=0)] = 1.0


class Sine(DataSection):
    """Regression: y = sin(x) for x in [-2π, 2π], plus noise (1 input, 1 target)."""

    kind: Literal["sine"]
    samples: PositiveInt = 1000
    noise: Annotated[float, Field(ge=0)] = 0.1


class Plane(DataSection):
    """Regression: the height of a tilted plane over 2 inputs, plus noise (1 target)."""

    kind: Literal["plane"]
    samples: PositiveInt = 1000
    noise: Annotated[float, Field(ge=0)] = 0.1


class NoisyLinear(DataSection):
    """Regression: a random linear map of many inputs, few of them informative, plus noise."""

    kind: Literal["noisy_linear"]
    samples: PositiveInt = 1000
    features: PositiveInt = 20
    informative: PositiveInt = 5
    noise: Annotated[float, Field(ge=0)] = 0.5


class Adding(DataSection):
    """The adding problem: a sequence of (value, mark) pairs, the target is the sum of the two marked values."""

    kind: Literal["adding"]
    samples: PositiveInt = 2000
    length: Annotated[int, Field(ge=2)] = 50
    standardize: bool = False


class Digits(DataSection):
    """scikit-learn's 1,797 handwritten digits, 1 × 8 × 8, 10 classes."""

    kind: Literal["digits"]


class BreastCancer(DataSection):
    """scikit-learn's breast cancer set: 569 rows, 30 inputs, 2 classes."""

    kind: Literal["breast_cancer"]


class Wine(DataSection):
    """scikit-learn's wine set: 178 rows, 13 inputs, 3 classes."""

    kind: Literal["wine"]


class Iris(DataSection):
    """scikit-learn's iris set: 150 rows, 4 inputs, 3 classes."""

    kind: Literal["iris"]


class Diabetes(DataSection):
    """scikit-learn's diabetes set: 442 rows, 10 inputs, regression."""

    kind: Literal["diabetes"]
    standardize_targets: bool = True


class FashionMnist(DataSection):
    """Fashion-MNIST: 60,000 + 10,000 official test images of clothes, 1 × 28 × 28, 10 classes."""

    kind: Literal["fashion_mnist"]
    root: str | None = None
    """Folder of the four IDX files (`.gz` or not); without it they come through scikit-learn's OpenML fetcher."""


class Sunspots(DataSection):
    """Yearly mean sunspot numbers since 1700: forecast the next `horizon` years from `window` years."""

    kind: Literal["sunspots"]
    window: PositiveInt = 24
    horizon: PositiveInt = 1
    standardize_targets: bool = True


class LanguageNames(DataSection):
    """Names of languages and territories as written in several languages; the class is the language they are in.

    The corpus is the CLDR tables that the Babel package carries (extra `[text]`).
    """

    kind: Literal["language_names"]
    locales: Annotated[list[str], Field(min_length=2)] = ["de", "en", "es", "fi", "fr", "hu", "it", "nl", "pl", "tr"]
    max_length: PositiveInt = 24
    """Characters kept of a name; shorter ones are padded."""
    standardize: bool = False


class Csv(DataSection):
    """A table with a header row: numbers as inputs (text columns one-hot), one column as target."""

    kind: Literal["csv"]
    path: str
    target: str
    """Name of the target's column."""
    task: Literal["classification", "regression"] | None = None
    """Left out: regression for a target of numbers with fractions or many distinct values, classification otherwise."""
    features: list[str] | None = None
    """Names of the input columns; all but the target when left out."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","


class TextCsv(DataSection):
    """A table with a column of text and a column of labels."""

    kind: Literal["text_csv"]
    path: str
    text: str = "text"
    target: str = "label"
    tokens: Literal["characters", "words"] = "characters"
    max_length: PositiveInt = 64
    """Tokens kept of a text; shorter ones are padded."""
    max_vocabulary: Annotated[int, Field(ge=3)] = 5000
    """Tokens kept, the training split's most frequent, padding and "unknown" among them; the rest become "unknown"."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    standardize: bool = False


class SeriesCsv(DataSection):
    """A column of numbers in time order: forecast the next `horizon` values from `window` values."""

    kind: Literal["series_csv"]
    path: str
    column: str
    window: PositiveInt = 24
    horizon: PositiveInt = 1
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    standardize_targets: bool = True


class Npz(DataSection):
    """Arrays from a numpy `.npz` file."""

    kind: Literal["npz"]
    path: str
    inputs: str = "x"
    targets: str = "y"
    task: Literal["classification", "regression"] | None = None
    """Left out: classification for integer targets, regression for floats."""


class ImageFolder(DataSection):
    """One folder a class, images in it."""

    kind: Literal["image_folder"]
    root: str
    size: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] = [32, 32]
    """Height and width that images are resized to."""
    grayscale: bool = False


class PythonData(DataSection):
    """The user's own: a callable that returns (inputs, targets) arrays. Needs `--trust`."""

    kind: Literal["python"]
    target: str
    """`package.module:name`."""
    arguments: dict[str, Any] = {}
    task: Literal["classification", "regression"] | None = None


Data = Annotated[
    Moons
    | Circles
    | Xor
    | Spirals
    | Blobs
    | Sine
    | Plane
    | NoisyLinear
    | Adding
    | Digits
    | BreastCancer
    | Wine
    | Iris
    | Diabetes
    | FashionMnist
    | Sunspots
    | LanguageNames
    | Csv
    | TextCsv
    | SeriesCsv
    | Npz
    | ImageFolder
    | PythonData,
    Field(discriminator="kind"),
]

# ---------------------------------------------------------------- model


class TorchLayer(Section):
    """One entry of a list of layers: a `torch.nn` class with arguments by name, or a block of further entries.

    Written `ReLU`, `Linear: 64`, `Conv2d: {out_channels: 8, kernel_size: 3}`, `Conv2d: [8, 3]`,
    `residual: [...]` or `sequential: [...]`. Sizes that follow from the input are left out.
    """

    kind: str
    arguments: dict[str, Any] = {}
    children: list[TorchLayer] = []


class Init(Section):
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


class ModelSection(Section):
    """What the built-in networks share."""

    activation: TorchLayer = TorchLayer(kind="ReLU")
    """A torch activation: `relu`, `LeakyReLU`, `{LeakyReLU: 0.2}`."""
    norm: Literal["none", "batch", "layer"] = "none"
    residual: bool = False
    """Add each block's input to its output (through a linear map where the sizes differ)."""
    dropout: Fraction = 0.0
    init: Init = Init()


class Mlp(ModelSection):
    """Fully connected layers. `hidden: [128, 64]`, or `depth` hidden layers of `width` units."""

    kind: Literal["mlp"]
    hidden: list[PositiveInt] | None = None
    depth: Annotated[int, Field(ge=0)] | None = None
    """Number of hidden layers."""
    width: PositiveInt | None = None
    """Units of each hidden layer."""
    bias: bool = True


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
    embedding: PositiveInt = 32
    """Width of the token embedding (text only)."""
    dropout: Fraction = 0.0
    init: Init = Init()


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
    init: Init = Init()


class Layers(Section):
    """Any list of torch.nn layers; input sizes are inferred, the output layer is yours to write."""

    kind: Literal["layers"]
    layers: Annotated[list[TorchLayer], Field(min_length=1)]
    init: Init = Init()


class PythonModel(Section):
    """The user's own `torch.nn.Module`. Needs `--trust`."""

    kind: Literal["python"]
    target: str
    """`package.module:Class`."""
    arguments: dict[str, Any] = {}


Model = Annotated[Mlp | Cnn | Rnn | Transformer | Layers | PythonModel, Field(discriminator="kind")]

# ---------------------------------------------------------------- training


class Loss(Section):
    """What is minimised. Written as a name, or `{kind: huber, delta: 0.5}`."""

    kind: Literal["cross_entropy", "binary_cross_entropy", "mean_squared_error", "mean_absolute_error", "huber"]
    label_smoothing: Fraction = 0.0
    """cross_entropy only."""
    delta: Annotated[float, Field(gt=0)] = 1.0
    """huber only: where the square turns into a line."""


class Optimizer(Section):
    """An optimizer of `torch.optim` by its class name, with its own arguments beside `kind`."""

    kind: str = "SGD"
    arguments: dict[str, Any] = {"lr": 0.1}


class Schedule(Section):
    """`constant`, or a scheduler of `torch.optim.lr_scheduler` by its class name, with its own arguments."""

    kind: str = "constant"
    interval: Literal["epoch", "step"] = "epoch"
    """When the scheduler moves: after each epoch or after each step."""
    arguments: dict[str, Any] = {}


class EarlyStopping(Section):
    """Stop when the validation metric no longer improves; the best weights are put back."""

    metric: Literal["loss", "accuracy"] = "loss"
    patience: PositiveInt = 10
    """Evaluations without improvement that are waited for."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0


class Training(Section):
    """The loop."""

    epochs: PositiveInt | None = None
    """Passes over the training split; 30 when neither epochs nor steps are given."""
    steps: PositiveInt | None = None
    """Optimizer steps, instead of epochs."""
    batch_size: PositiveInt | Literal["full"] = 64
    clip_grad_norm: Annotated[float, Field(gt=0)] | None = None
    clip_grad_value: Annotated[float, Field(gt=0)] | None = None
    precision: Literal["float32", "float64", "bf16", "fp16"] = "float32"
    """bf16 and fp16 are autocast; fp16 adds a GradScaler."""
    accumulate: PositiveInt = 1
    """Batches whose gradients are added up before one step."""
    compile: bool = False
    early_stopping: EarlyStopping | None = None
    checkpoint_every: PositiveInt = 1
    """Epochs between checkpoints."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    threads: PositiveInt | None = None
    """CPU threads; resolved when the run starts, since the bits of the result depend on it."""


class Capture(Section):
    """What is measured while training runs, and how often."""

    every: PositiveInt | None = 10
    """Steps between measured steps; null turns capture off."""
    layers: list[str] = ["*"]
    """Which layers, as globs over their names."""
    histograms: bool = True
    histogram_every: PositiveInt = 100
    """Steps between histograms (rounded up to a measured step)."""
    graph: bool = False
    """Write the model's graph for TensorBoard (over a second)."""


class Config(Section):
    """One experiment."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Names the run's folder: letters, digits, `.`, `_` and `-`."""
    seed: Annotated[int, Field(ge=0)] = 0
    data: Data
    model: Model
    loss: Loss | None = None
    """Left out: cross entropy for classification, mean squared error for regression."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    training: Training = Training()
    capture: Capture = Capture()
