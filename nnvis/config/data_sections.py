"""The data section: one class a kind, each beside the line that says what the set is.

To add a dataset, write its class here, list it in `Data`, and write its builder in `nnvis.data`.
"""

# ruff: noqa: RUF012  (pydantic copies defaults)

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from nnvis.config.base import Fraction, PositiveInt, Section, Seed, Target, refuse
from nnvis.config.problems import shown
from nnvis.config.torch_arguments import Complaint

Task = Literal["classification", "regression"]
Form = Literal["table", "image", "sequence", "text"]
Noise = Annotated[float, Field(ge=0)]
Delimiter = Annotated[str, Field(min_length=1, max_length=1)]


class DataSection(Section):
    """What every data kind accepts."""

    val_fraction: Fraction = 0.2
    """Share of the rows held out for validation, in [0, 1)."""
    test_fraction: Fraction = 0.0
    """Share of the rows held out for the final test, in [0, 1); not for sets with an official test split."""
    standardize: bool = True
    """Shift and scale inputs to mean 0, std 1, fitted on the training split (a feature; a channel for images)."""
    standardize_targets: bool = False
    """The same for regression targets; metrics are then in units of the target's training std."""
    train_size: PositiveInt | None = None
    """Keep only so many training rows (after the split, stratified): for studies of overfitting."""
    label_noise: Fraction = 0.0
    """Share of the training labels replaced by a different class drawn at random (classification only)."""
    seed: Seed | None = None
    """Seed of generation and split; the experiment's seed when left out."""

    form: ClassVar[Form | None] = "table"
    """What a row of inputs is; None where only the data tell."""

    @model_validator(mode="after")
    def _consistent(self) -> DataSection:
        refuse(self._complaints())
        return self

    def _complaints(self) -> Iterator[Complaint]:
        """What does not go together; a kind adds its own."""
        task = getattr(self, "task", None)
        if self.label_noise and task == "regression":
            yield Complaint(("label_noise",), f"is for classification; {self._kind} is regression")
        if self.standardize_targets and task == "classification":
            yield Complaint(("standardize_targets",), f"is for regression; {self._kind} is classification")
        if self.standardize and self.form == "text":
            yield Complaint(("standardize",), f"is for numbers; {self._kind} is text")
        if self.val_fraction + self.test_fraction >= 1:
            yield Complaint(("test_fraction",), "leaves nothing to train on: it and val_fraction reach 1")
        classes = getattr(self, "classes", 1)
        for name in ("samples", "train_size"):
            rows = getattr(self, name, None)
            if rows is not None and rows < classes:
                yield Complaint((name,), f"should be at least {classes}, a row for each class, got {rows}")

    @property
    def _kind(self) -> str:
        return getattr(self, "kind", "this")


class ClassificationData(DataSection):
    """Data whose target is one of several classes."""

    task: ClassVar[Task | None] = "classification"


class RegressionData(DataSection):
    """Data whose target is one or more numbers."""

    task: ClassVar[Task | None] = "regression"


class Moons(ClassificationData):
    """Two interleaved half circles (2 inputs, 2 classes)."""

    classes: ClassVar[int] = 2
    kind: Literal["moons"]
    samples: PositiveInt = 1000
    noise: Noise = 0.1


class Circles(ClassificationData):
    """A circle inside a circle (2 inputs, 2 classes)."""

    classes: ClassVar[int] = 2
    kind: Literal["circles"]
    samples: PositiveInt = 1000
    noise: Noise = 0.1
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Radius of the inner circle over the outer one's."""


class Xor(ClassificationData):
    """Four quadrants, the class is the sign of x·y (2 inputs, 2 classes)."""

    classes: ClassVar[int] = 2
    kind: Literal["xor"]
    samples: PositiveInt = 1000
    noise: Noise = 0.1


class Spirals(ClassificationData):
    """Interleaved spiral arms, one a class (2 inputs)."""

    kind: Literal["spirals"]
    samples: PositiveInt = 1000
    noise: Noise = 0.05
    classes: Annotated[int, Field(ge=2)] = 2
    turns: Annotated[float, Field(gt=0)] = 1.5


class Blobs(ClassificationData):
    """Gaussian clusters, one a class."""

    kind: Literal["blobs"]
    samples: PositiveInt = 1000
    classes: Annotated[int, Field(ge=2)] = 3
    features: PositiveInt = 2
    std: Annotated[float, Field(gt=0)] = 1.0


class Sine(RegressionData):
    """Regression: y = sin(x) for x in [-2π, 2π], plus noise (1 input, 1 target)."""

    kind: Literal["sine"]
    samples: PositiveInt = 1000
    noise: Noise = 0.1


class Plane(RegressionData):
    """Regression: the height of a tilted plane over 2 inputs, plus noise (1 target)."""

    kind: Literal["plane"]
    samples: PositiveInt = 1000
    noise: Noise = 0.1


class NoisyLinear(RegressionData):
    """Regression: a random linear map of many inputs, few of them informative, plus noise."""

    kind: Literal["noisy_linear"]
    samples: PositiveInt = 1000
    features: PositiveInt = 20
    informative: PositiveInt = 5
    noise: Noise = 0.5

    def _complaints(self) -> Iterator[Complaint]:
        yield from super()._complaints()
        if self.informative > self.features:
            yield Complaint(("informative",), f"should be at most features, {self.features}, got {self.informative}")


class Adding(RegressionData):
    """The adding problem: a sequence of (value, mark) pairs, the target is the sum of the two marked values."""

    form: ClassVar[Form | None] = "sequence"
    kind: Literal["adding"]
    samples: PositiveInt = 2000
    length: Annotated[int, Field(ge=2)] = 50
    standardize: bool = False


class Digits(ClassificationData):
    """scikit-learn's 1,797 handwritten digits, 1 × 8 × 8, 10 classes."""

    classes: ClassVar[int] = 10
    form: ClassVar[Form | None] = "image"
    kind: Literal["digits"]


class BreastCancer(ClassificationData):
    """scikit-learn's breast cancer set: 569 rows, 30 inputs, 2 classes."""

    classes: ClassVar[int] = 2
    kind: Literal["breast_cancer"]


class Wine(ClassificationData):
    """scikit-learn's wine set: 178 rows, 13 inputs, 3 classes."""

    classes: ClassVar[int] = 3
    kind: Literal["wine"]


class Iris(ClassificationData):
    """scikit-learn's iris set: 150 rows, 4 inputs, 3 classes."""

    classes: ClassVar[int] = 3
    kind: Literal["iris"]


class Diabetes(RegressionData):
    """scikit-learn's diabetes set: 442 rows, 10 inputs, regression."""

    kind: Literal["diabetes"]
    standardize_targets: bool = True


class FashionMnist(ClassificationData):
    """Fashion-MNIST: 60,000 + 10,000 official test images of clothes, 1 × 28 × 28, 10 classes."""

    classes: ClassVar[int] = 10
    form: ClassVar[Form | None] = "image"
    kind: Literal["fashion_mnist"]
    root: str | None = None
    """Folder of the four IDX files (`.gz` or not); without it they come through scikit-learn's OpenML fetcher."""

    def _complaints(self) -> Iterator[Complaint]:
        yield from super()._complaints()
        if self.test_fraction:
            yield Complaint(("test_fraction",), "fashion_mnist has an official test split; leave it out")


class Sunspots(RegressionData):
    """Yearly mean sunspot numbers since 1700: forecast the next `horizon` years from `window` years."""

    form: ClassVar[Form | None] = "sequence"
    years: ClassVar[int] = 309
    kind: Literal["sunspots"]
    window: PositiveInt = 24
    horizon: PositiveInt = 1
    standardize_targets: bool = True

    def _complaints(self) -> Iterator[Complaint]:
        yield from super()._complaints()
        if self.window + self.horizon > self.years:
            yield Complaint(("window",), f"reaches beyond the {self.years} years, with horizon {self.horizon}")


class LanguageNames(ClassificationData):
    """Names of languages and territories as written in several languages; the class is the language they are in.

    The corpus is the CLDR tables that the Babel package carries (extra `[text]`).
    """

    form: ClassVar[Form | None] = "text"
    kind: Literal["language_names"]
    locales: Annotated[list[str], Field(min_length=2)] = ["de", "en", "es", "fi", "fr", "hu", "it", "nl", "pl", "tr"]
    max_length: PositiveInt = 24
    """Characters kept of a name; shorter ones are padded."""
    standardize: bool = False

    @property
    def classes(self) -> int:
        """How many languages are told apart."""
        return len(self.locales)


class Csv(DataSection):
    """A table with a header row: numbers as inputs (text columns one-hot), one column as target."""

    kind: Literal["csv"]
    path: str
    target: str
    """Name of the target's column."""
    task: Task | None = None
    """Left out: regression for a target of numbers with fractions or many distinct values, classification otherwise."""
    features: list[str] | None = None
    """Names of the input columns; all but the target when left out."""
    delimiter: Delimiter = ","

    def _complaints(self) -> Iterator[Complaint]:
        yield from super()._complaints()
        names = self.features or []
        for index, name in enumerate(names):
            if name in names[:index]:
                yield Complaint(("features", index), f"{shown(name)} is given twice")


class TextCsv(ClassificationData):
    """A table with a column of text and a column of labels."""

    form: ClassVar[Form | None] = "text"
    kind: Literal["text_csv"]
    path: str
    text: str = "text"
    target: str = "label"
    tokens: Literal["characters", "words"] = "characters"
    max_length: PositiveInt = 64
    """Tokens kept of a text; shorter ones are padded."""
    max_vocabulary: Annotated[int, Field(ge=3)] = 5000
    """Tokens kept, the training split's most frequent, padding and "unknown" among them; the rest become "unknown"."""
    delimiter: Delimiter = ","
    standardize: bool = False


class SeriesCsv(RegressionData):
    """A column of numbers in time order: forecast the next `horizon` values from `window` values."""

    form: ClassVar[Form | None] = "sequence"
    kind: Literal["series_csv"]
    path: str
    column: str
    window: PositiveInt = 24
    horizon: PositiveInt = 1
    delimiter: Delimiter = ","
    standardize_targets: bool = True


class Npz(DataSection):
    """Arrays from a numpy `.npz` file."""

    form: ClassVar[Form | None] = None
    kind: Literal["npz"]
    path: str
    inputs: str = "x"
    targets: str = "y"
    task: Task | None = None
    """Left out: classification for integer targets, regression for floats."""


class ImageFolder(ClassificationData):
    """One folder a class, images in it."""

    form: ClassVar[Form | None] = "image"
    kind: Literal["image_folder"]
    root: str
    size: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] = [32, 32]
    """Height and width that images are resized to."""
    grayscale: bool = False


class PythonData(DataSection):
    """The user's own: a callable that returns (inputs, targets) arrays. Needs `--trust`."""

    form: ClassVar[Form | None] = None
    kind: Literal["python"]
    target: Target
    """`package.module:name`."""
    arguments: dict[str, Any] = {}
    task: Task | None = None


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
