"""TensorBoard's protocol buffers for what nnvis writes. Each `add_…` appends to the event it is given.

`first` says that the tag appears for the first time in its file: only then does it carry its metadata.
"""

from __future__ import annotations

import functools
import json
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nnvis.record import protos
from nnvis.record.protos import FACTS, NETWORK, Message
from nnvis.record.vocabulary import (
    HISTOGRAM_EDGES,
    FloatArray,
    IntArray,
    LayerCounts,
    LayerInfo,
    LayerValues,
    Measurement,
)

SESSION_TAG = "_hparams_/session_start_info"


@dataclass(frozen=True)
class HyperParameter:
    """A column of the HParams dashboard."""

    name: str
    values: Sequence[Any]  # of numbers, texts and booleans
    is_domain: bool = False  # whether these are all that there are; a run with any other value would not be shown
    first: bool = False  # five columns are shown until more are asked for: those that come first, then by name
    title: str = ""  # if it is not called by its name


class Usual:
    """An event whose form comes again and again: to fill in other numbers is quicker than to build it."""

    def __init__(self, event: Message, form: Any) -> None:
        """`form`: what says that another event would be like this one but for its numbers."""
        self.form = form
        self.tags = [value.tag for value in event.summary.value]
        self._event = event
        self._tensors = [value.tensor for value in event.summary.value if value.HasField("tensor")]
        self._scalars = [value for value in event.summary.value if not value.HasField("tensor")]

    def fill(
        self, of: Measurement, contents: Sequence[bytes], buckets: Sequence[FloatArray], scalars: Iterable[float]
    ) -> Message:
        """The event with the numbers of its tensors, of its histograms' buckets, which come last, and its scalars."""
        self._event.step = of.step
        self._event.wall_time = time.time() if of.wall_time is None else of.wall_time
        tensors = iter(self._tensors)
        for content, tensor in zip(contents, tensors, strict=False):
            tensor.tensor_content = content
        for found, tensor in zip(buckets, tensors, strict=True):
            tensor.tensor_content = found.tobytes()
            tensor.tensor_shape.CopyFrom(_shape(found.shape))
        for number, value in zip(scalars, self._scalars, strict=True):
            value.simple_value = number
        return self._event


def new_event(step: int = 0, wall_time: float | None = None, **fields: Any) -> Message:
    """An event, of now if no other time is given."""
    return protos.Event(wall_time=time.time() if wall_time is None else wall_time, step=step, **fields)


def add_scalar(event: Message, tag: str, value: float) -> None:
    """An ordinary scalar, rounded to float32: the fast loader drops all others."""
    event.summary.value.add(tag=tag, simple_value=value)


def add_exact(event: Message, tag: str, of: str, value: float, first: bool) -> None:
    """The float64 value of the scalar `of`, for nnvis's own readers, where float32 makes it 0 or inf."""
    _add_array(event, tag, protos.DOUBLE, struct.pack("<d", value), (), _own_metadata(quantity=of) if first else None)


def add_layers(
    event: Message, tag: str, quantity: str, layers: Sequence[str], data_type: int, content: bytes, first: bool
) -> None:
    """One tensor (L,) with a quantity of every layer; the layers' names are in its metadata."""
    metadata = _own_metadata(quantity=quantity, layers=layers) if first else None
    _add_array(event, tag, data_type, content, (len(layers),), metadata)


def add_counts(event: Message, tag: str, quantity: str, row: LayerCounts, first: bool) -> None:
    """One tensor (L, B + 2) with the histogram of every layer; an open end of the edges is null in the metadata."""
    edges = [edge if np.isfinite(edge) else None for edge in HISTOGRAM_EDGES.tolist()]
    metadata = _own_metadata(quantity=quantity, layers=row.layers, edges=edges) if first else None
    _add_array(event, tag, protos.INT32, counts_content(row), row.counts.shape, metadata)


def counts_content(row: LayerCounts) -> bytes:
    """The histograms of every layer as the bytes of one tensor (L, B + 2) of int32."""
    return row.counts.astype("<i4").tobytes()


def add_histogram(event: Message, tag: str, buckets: FloatArray, first: bool) -> None:
    """(K, 3) float32 left edge, right edge and count of each bucket, for TensorBoard's own dashboards."""
    metadata = _metadata("histograms", protos.TENSOR_CLASS) if first else None
    _add_array(event, tag, protos.FLOAT, buckets.tobytes(), buckets.shape, metadata)


def add_network(event: Message, layers: Sequence[LayerInfo], first: bool) -> None:
    """The table of layers, as JSON."""
    table = json.dumps([asdict(layer) for layer in layers]).encode()
    _add_strings(event, NETWORK, [table], (), _own_metadata() if first else None)


def add_check(event: Message, quantity: str, values: FloatArray, first: bool) -> None:
    """One tensor of any shape with a quantity of a check, in float64."""
    metadata = _own_metadata(quantity=quantity) if first else None
    _add_array(event, f"checks/{quantity}", protos.DOUBLE, values.astype("<f8").tobytes(), values.shape, metadata)


def add_facts(event: Message, facts: str, first: bool) -> None:
    """What a check found about structure and data, as JSON."""
    _add_strings(event, FACTS, [facts.encode()], (), _own_metadata() if first else None)


def add_text(event: Message, tag: str, markdown: str, first: bool) -> None:
    """Markdown for the Text dashboard."""
    _add_strings(event, tag, [markdown.encode()], (), _metadata("text", protos.TENSOR_CLASS) if first else None)


def add_image(event: Message, tag: str, png: bytes, first: bool) -> None:
    """A PNG file for the Images dashboard. Raises ValueError for other bytes."""
    if png[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError(f"{tag}: not a PNG image")
    width, height = struct.unpack(">II", png[16:24])
    blobs = [str(width).encode(), str(height).encode(), png]
    _add_strings(event, tag, blobs, (3,), _metadata("images", protos.BLOB_CLASS) if first else None)


def add_layout(event: Message) -> None:
    """Charts for the Custom Scalars dashboard: the losses, and the band that the layers' gradients lie in."""
    series = protos.charts.MarginChartContent.Series(
        value="gradient_band/median", lower="gradient_band/min", upper="gradient_band/max"
    )
    charts = [
        protos.charts.Chart(
            title="log10 gradient norm of the layers: min, median, max",
            margin=protos.charts.MarginChartContent(series=[series]),
        ),
        protos.charts.Chart(title="loss", multiline=protos.charts.MultilineChartContent(tag=["loss/.*"])),
    ]
    layout = protos.charts.Layout(category=[protos.charts.Category(title="training", chart=charts)])
    _add_strings(
        event,
        "custom_scalars__config__",
        [layout.SerializeToString()],
        (),
        _metadata("custom_scalars", protos.TENSOR_CLASS),
    )


def add_experiment(event: Message, columns: Sequence[HyperParameter], metrics: Sequence[str], about: str = "") -> None:
    """The columns of the HParams dashboard, the scalars beside them, and what it is about."""
    infos = [_hparam_info(column) for column in columns]
    tags = [protos.hparams.MetricInfo(name=protos.hparams.MetricName(tag=tag)) for tag in metrics]
    experiment = protos.hparams.Experiment(
        hparam_infos=infos, metric_infos=tags, time_created_secs=event.wall_time, description=about
    )
    _add_hparams(event, "_hparams_/experiment", protos.HParams(experiment=experiment))


def add_session_start(event: Message, values: Mapping[str, Any], group: str) -> None:
    """The hyperparameters of this run."""
    start = protos.SessionStart(group_name=group, start_time_secs=event.wall_time)
    for name, value in values.items():
        if isinstance(value, bool):
            start.hparams[name].bool_value = value
        elif isinstance(value, int | float):
            start.hparams[name].number_value = value
        else:
            start.hparams[name].string_value = "null" if value is None else str(value)
    _add_hparams(event, SESSION_TAG, protos.HParams(session_start_info=start))


def add_session_end(event: Message, succeeded: bool) -> None:
    """How this run ended."""
    status = protos.hparams.STATUS_SUCCESS if succeeded else protos.hparams.STATUS_FAILURE
    end = protos.SessionEnd(status=status, end_time_secs=event.wall_time)
    _add_hparams(event, "_hparams_/session_end_info", protos.HParams(session_end_info=end))


def magnitude_buckets(counts: IntArray) -> Iterator[tuple[int, FloatArray]]:
    """From (L, B + 2) counts, for each layer its position and (K, 3) buckets over log10 magnitude, both signs together.

    Only the range that is occupied. Zeros, NaN and Inf have no place on that axis: a layer of nothing else is left out.
    """
    half = (len(HISTOGRAM_EDGES) - 1) // 2
    both_signs = counts[:, half - 1 :: -1] + counts[:, half : 2 * half]  # (L, B / 2) from the smallest magnitude up
    inner = np.log10(HISTOGRAM_EDGES[half + 1 : -1]).round(2)
    edges = np.concatenate([[inner[0] - 2], inner, [inner[-1] + 2]])  # the open ends drawn two decades wide
    buckets = np.empty((*both_signs.shape, 3), np.float32)
    buckets[..., 0], buckets[..., 1], buckets[..., 2] = edges[:-1], edges[1:], both_signs
    occupied = both_signs > 0
    first = occupied.argmax(axis=1)
    stop = half - occupied[:, ::-1].argmax(axis=1)
    for layer in np.flatnonzero(occupied.any(axis=1)).tolist():
        yield layer, buckets[layer, first[layer] : stop[layer]]


def gradient_band(row: LayerValues) -> Iterator[tuple[str, float]]:
    """Tags and values of the band of the layers' gradient norms, log10; nothing where no norm is finite and above 0."""
    logs = np.sort(np.log10(row.values[(row.values > 0) & (row.values < np.inf)])).tolist()
    if logs:
        middle = len(logs) // 2
        yield "gradient_band/min", logs[0]
        yield "gradient_band/median", (logs[middle] + logs[-1 - middle]) / 2
        yield "gradient_band/max", logs[-1]


def _metadata(plugin: str, data_class: int, content: bytes = b"") -> Message:
    plugin_data = protos.Metadata.PluginData(plugin_name=plugin, content=content)
    return protos.Metadata(plugin_data=plugin_data, data_class=data_class)


def _own_metadata(**content: Any) -> Message:
    return _metadata(protos.PLUGIN, protos.TENSOR_CLASS, json.dumps({"version": protos.VERSION, **content}).encode())


@functools.lru_cache(maxsize=1000)
def _shape(sizes: tuple[int, ...]) -> Message:
    return protos.Shape(dim=[protos.Shape.Dim(size=size) for size in sizes])


def _add_array(
    event: Message, tag: str, data_type: int, content: bytes, sizes: tuple[int, ...], metadata: Message
) -> None:
    tensor = protos.Tensor(dtype=data_type, tensor_shape=_shape(sizes), tensor_content=content)
    event.summary.value.add(tag=tag, tensor=tensor, metadata=metadata)


def _add_strings(event: Message, tag: str, texts: Sequence[bytes], sizes: tuple[int, ...], metadata: Message) -> None:
    tensor = protos.Tensor(dtype=protos.STRING, tensor_shape=_shape(sizes), string_val=texts)
    event.summary.value.add(tag=tag, tensor=tensor, metadata=metadata)


def _add_hparams(event: Message, tag: str, data: Message) -> None:
    metadata = _metadata("hparams", protos.TENSOR_CLASS, data.SerializeToString())
    _add_array(event, tag, protos.FLOAT, b"", (0,), metadata)


def _hparam_info(column: HyperParameter) -> Message:
    """Without a domain where the values have several types: a domain has one, and filters every other value away."""
    types = {_hparam_type(value) for value in column.values}
    data_type = types.pop() if len(types) == 1 else protos.hparams.DATA_TYPE_STRING
    info = protos.hparams.HParamInfo(name=column.name, display_name=column.title, type=data_type, differs=column.first)
    if column.is_domain and not types:
        info.domain_discrete.extend(column.values)
    return info


def _hparam_type(value: Any) -> int:
    if isinstance(value, bool):
        return protos.hparams.DATA_TYPE_BOOL
    return protos.hparams.DATA_TYPE_FLOAT64 if isinstance(value, int | float) else protos.hparams.DATA_TYPE_STRING
