"""Event files back to numbers: every tag's steps and values, as far as the file is whole.

data = read_events(path.read_bytes())
data.series["loss/train"].steps
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from nnvis.errors import InputError
from nnvis.record import protos
from nnvis.record.encoding import decode
from nnvis.record.framing import DamageError, unframe
from nnvis.record.protos import FACTS, NETWORK, Message
from nnvis.record.vocabulary import FloatArray, IntArray

EVENT_FILE = "events.out.tfevents."
_NUMBERS = {  # data type -> dtype of tensor_content, field that holds the values where that is empty
    protos.FLOAT: ("<f4", "float_val"),
    protos.DOUBLE: ("<f8", "double_val"),
    protos.INT32: ("<i4", "int_val"),
    protos.INT64: ("<i8", "int64_val"),
}


@dataclass
class Rows:
    """One tag's values in the order in which they were written. This base keeps the steps alone."""

    steps: list[int] = field(default_factory=list)

    def add(self, step: int, value: Message) -> None:
        self.steps.append(step)


@dataclass
class ScalarRows(Rows):
    """Ordinary scalars, nnvis's and other writers'."""

    values: list[float] = field(default_factory=list)

    def add(self, step: int, value: Message) -> None:
        self.steps.append(step)
        self.values.append(_scalar(value.tensor) if value.HasField("tensor") else value.simple_value)


@dataclass
class TextRows(Rows):
    """The table of layers: JSON texts, of which the newest counts."""

    text: bytes = b""

    def add(self, step: int, value: Message) -> None:
        self.steps.append(step)
        self.text = value.tensor.string_val[0]


@dataclass
class FactRows(Rows):
    """JSON texts, each of which counts from its step on."""

    texts: list[bytes] = field(default_factory=list)

    def add(self, step: int, value: Message) -> None:
        self.steps.append(step)
        self.texts.append(value.tensor.string_val[0])


@dataclass
class CheckRows(Rows):
    """A quantity of the checks: arrays of any shape."""

    quantity: str = ""
    arrays: list[FloatArray] = field(default_factory=list)

    def add(self, step: int, value: Message) -> None:
        self.steps.append(step)
        shape = [dim.size for dim in value.tensor.tensor_shape.dim]
        self.arrays.append(np.frombuffer(value.tensor.tensor_content, "<f8").reshape(shape))


@dataclass
class ArrayRows(Rows):
    """Arrays that nnvis wrote: `layers/grad_norm`, `histograms/grad`, with `/g2` for a later generation of layers."""

    kind: str = ""
    quantity: str = ""
    layers: tuple[str, ...] = ()
    edges: FloatArray = field(default_factory=lambda: np.zeros(0))
    contents: list[bytes] = field(default_factory=list)

    def add(self, step: int, value: Message) -> None:
        self.steps.append(step)
        self.contents.append(value.tensor.tensor_content)

    def layer_values(self) -> tuple[FloatArray, IntArray]:
        """(T, L) values and reason codes."""
        shape = len(self.steps), len(self.layers)
        lengths = np.array([len(content) for content in self.contents])
        if np.all(lengths == lengths[0]):
            values, codes = decode(b"".join(self.contents), len(lengths) * shape[1])
            return values.reshape(shape), codes.reshape(shape)
        values, codes = np.empty(shape), np.empty(shape, np.uint8)
        for row, content in enumerate(self.contents):  # some steps in float32, some in float64
            values[row], codes[row] = decode(content, shape[1])
        return values, codes

    def numbers(self) -> FloatArray:
        """(T,) exact scalars."""
        return np.frombuffer(b"".join(self.contents), "<f8")

    def counts(self) -> IntArray:
        """(T, L, B + 2)."""
        flat = np.frombuffer(b"".join(self.contents), "<i4")
        return flat.reshape(len(self.steps), len(self.layers), len(self.edges) + 1)


@dataclass
class EventData:
    """What event files hold."""

    series: dict[str, Rows]  # by tag
    end: int  # bytes up to the end of the last complete record
    damage: str  # what is wrong after that; "" where nothing is, or the tail is just cut off

    def arrays(self, kind: str) -> list[ArrayRows]:
        """nnvis's own tags of a kind, in the order in which they first appeared."""
        return [rows for rows in self.series.values() if isinstance(rows, ArrayRows) and rows.kind == kind]


def event_files(directory: Path) -> list[Path]:
    """The event files that lie in a directory, oldest first."""
    return sorted(path for path in directory.glob(f"{EVENT_FILE}*") if path.is_file())


def read_events(data: bytes, series: dict[str, Rows] | None = None) -> EventData:
    """Reads one file's bytes, into `series` where that is given. What follows a damaged byte is left out."""
    series = {} if series is None else series
    end, records, damage = 0, 0, ""
    try:
        for following, payload in unframe(data):
            event = protos.Event.FromString(payload)
            step = event.step
            for value in event.summary.value:
                rows = series.get(value.tag)
                if rows is None:
                    rows = series[value.tag] = _rows_for(value)
                rows.add(step, value)
            end, records = following, records + 1
    except (DamageError, DecodeError) as error:
        problem = error if isinstance(error, DamageError) else f"byte {end}: a record is no TensorBoard event"
        damage = f"{problem}; {records} records before it were read, {len(data) - end} bytes after it were not"
    return EventData(series, end, damage)


def _rows_for(value: Message) -> Rows:
    if value.HasField("simple_value"):
        return ScalarRows()
    plugin = value.metadata.plugin_data
    if plugin.plugin_name == protos.PLUGIN:
        content = json.loads(plugin.content)
        if content["version"] > protos.VERSION:
            raise InputError(f"{value.tag}: written by a newer nnvis; update this one: pip install -U nnvis-trainer")
        if value.tag == NETWORK:
            return TextRows()
        if value.tag == FACTS:
            return FactRows()
        if value.tag.startswith("checks/"):
            return CheckRows(quantity=content["quantity"])
        edges = content.get("edges", ())
        return ArrayRows(
            kind=value.tag.partition("/")[0],
            quantity=content.get("quantity", ""),
            layers=tuple(content.get("layers", ())),
            edges=np.array([-np.inf, *edges[1:-1], np.inf]),  # an open end is null in JSON
        )
    is_number = value.tensor.dtype in _NUMBERS and not value.tensor.tensor_shape.dim
    return ScalarRows() if is_number else Rows()


def _scalar(tensor: Message) -> float:
    number_type, name = _NUMBERS[tensor.dtype]
    if tensor.tensor_content:
        return float(np.frombuffer(tensor.tensor_content, number_type)[0])
    values = getattr(tensor, name)
    return float(values[0]) if values else 0.0
