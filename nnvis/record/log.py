"""The log that a run appends to: one TensorBoard event file, one event a measured step.

    with EventLog.create(directory) as log:
        log.network(layers)
        log.write(measurement, {"lr": 0.1})
        log.scalars(step, {"loss/val": 0.3})
        length = log.flush()                      # a checkpoint remembers this

    EventLog.resume(directory, length)            # cuts what came after the checkpoint, and goes on

No tag gets two values at one step: a step that is not after the tag's last one raises ValueError.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

from nnvis.errors import InputError, RunError
from nnvis.record import events
from nnvis.record.encoding import encode_rows, fits_float32
from nnvis.record.events import HyperParameter
from nnvis.record.files import disk_errors, plain
from nnvis.record.framing import frame
from nnvis.record.protos import FACTS, NETWORK, Message
from nnvis.record.reader import EVENT_FILE, ArrayRows, EventData, event_files, read_events
from nnvis.record.series import network_table, newest_facts
from nnvis.record.vocabulary import (
    HISTOGRAM_QUANTITIES,
    Check,
    FloatArray,
    LayerCounts,
    LayerInfo,
    LayerValues,
    Measurement,
)

OWN_TAGS = frozenset(
    {
        NETWORK,
        "layers",
        "histograms",
        "checks",
        "exact",
        "findings",
        "nonfinite",
        "custom_scalars__config__",
        "_hparams_",
    }
    | {f"log10_{quantity}" for quantity in HISTOGRAM_QUANTITIES}
)
"""First parts of tags ("layers" of "layers/grad_norm") that nobody else's scalars can have."""
_VISIBLE_AFTER_S = 1.0  # what is written reaches other readers of the file at the first write after so long


class EventLog:
    """Appends to one event file. Every method that writes raises RunError where the disk is full."""

    def __init__(self, file: BinaryIO, path: Path, written: EventData | None = None) -> None:
        """`file` is open for writing at its end; `written` is what it holds already."""
        self.path = path
        self._file = file
        self._failed = False
        self._shown = time.monotonic()
        self._last: dict[str, int] = {}  # by tag: the step of its newest value
        self._network: tuple[LayerInfo, ...] = ()
        self._facts = ""
        self._check_facts: Any = None  # of which that was made
        self._tags: dict[tuple[str, str, tuple[str, ...]], str] = {}  # by kind, quantity and layers: a generation's tag
        self._generations: dict[tuple[str, str], int] = {}  # by kind and quantity
        self._usual: dict[bool, events.Usual] = {}  # with and without histograms
        if written is None:
            self._append(events.new_event(file_version="brain.Event:2"))
        else:
            self._recall(written)

    @classmethod
    def create(cls, directory: str | Path) -> EventLog:
        """A new log in `directory`, which is made. Raises InputError where it cannot be or holds a run already."""
        directory = Path(directory)
        with disk_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
            if event_files(directory):
                raise InputError(f"{directory}: holds a run already; choose another folder, or resume that run")
            path = directory / f"{EVENT_FILE}{int(time.time())}.nnvis"
            return cls(path.open("xb"), path)

    @classmethod
    def resume(cls, directory: str | Path, length: int | None = None) -> EventLog:
        """The log in `directory`, cut at `length` bytes (what `flush` returned), or after its last whole record.

        Raises InputError where that fails.
        """
        directory = Path(directory)
        found = event_files(directory)
        if len(found) != 1:
            raise InputError(f"{directory}: cannot be resumed: {len(found)} event files, and there must be one")
        path = found[0]
        with disk_errors(path):
            kept = path.read_bytes()[:length]
            written = read_events(kept)
            if length is None:
                length = written.end
            if written.end != length:
                problem = written.damage or f"it is cut off at byte {len(kept)}"
                raise InputError(f"{path}: cannot be resumed at byte {length}: {problem}; start a new run")
            file = path.open("r+b")
            file.truncate(length)
            file.seek(length)
            return cls(file, path, written)

    @property
    def last_step(self) -> int:
        """The newest step that anything was written for; -1 in a new log."""
        return max(self._last.values(), default=-1)

    def network(self, layers: Sequence[LayerInfo], step: int = 0) -> None:
        """The table of layers; written only where it differs from the last one."""
        if tuple(layers) != self._network:
            self._network = tuple(layers)
            event = events.new_event(step)
            events.add_network(event, layers, self._claim(NETWORK, step))
            self._append(event)

    def write(self, measurement: Measurement, scalars: Mapping[str, float] = {}) -> None:
        """One measured step: per-layer tensors, scalars beside them, histograms, the band of the gradients."""
        rows, counts = measurement.layers, measurement.histograms
        types, contents = zip(*encode_rows([*rows.values()]), strict=True) if rows else ((), ())
        buckets = [(q, *found) for q, row in counts.items() for found in events.magnitude_buckets(row.counts)]
        band = dict(events.gradient_band(rows["grad_norm"])) if "grad_norm" in rows else {}
        scalars = {**band, **measurement.scalars, **scalars}
        columns = [(quantity, row.layers) for quantity, row in (*rows.items(), *counts.items())]
        form = columns, types, [bucket[:2] for bucket in buckets], [*scalars]
        usual = self._usual.get(bool(counts))
        if usual and usual.form == form and all(map(fits_float32, scalars.values())):
            for tag in usual.tags:
                self._claim(tag, measurement.step)
            tables = [events.counts_content(row) for row in counts.values()]
            event = usual.fill(measurement, [*contents, *tables], [found for *_, found in buckets], scalars.values())
        else:
            known = len(self._last)
            event = events.new_event(measurement.step, measurement.wall_time)
            self._add_layers(event, rows, types, contents)
            self._add_counts(event, counts, buckets)
            self._add_scalars(event, scalars)
            if len(self._last) == known and all(map(fits_float32, scalars.values())):
                self._usual[bool(counts)] = events.Usual(event, form)
        self._append(event)

    def check(self, check: Check) -> None:
        """What a check measured; its facts only where they differ from the last ones."""
        event = events.new_event(check.step)
        for quantity, values in check.values.items():
            events.add_check(event, quantity, values, self._claim(f"checks/{quantity}", check.step))
        if check.facts is not self._check_facts:  # the same object at each check of a process
            self._check_facts, facts = check.facts, json.dumps(plain(check.facts), allow_nan=False)
            if facts != self._facts:
                self._facts = facts
                events.add_facts(event, facts, self._claim(FACTS, check.step))
        self._append(event)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars of a step, in one event; NaN and Inf are kept."""
        event = events.new_event(step)
        self._add_scalars(event, values)
        self._append(event)

    def text(self, step: int, tag: str, markdown: str) -> None:
        """Markdown, for the Text dashboard."""
        event = events.new_event(step)
        events.add_text(event, tag, markdown, self._claim(tag, step))
        self._append(event)

    def image(self, step: int, tag: str, png: bytes) -> None:
        """A PNG file, for the Images dashboard."""
        event = events.new_event(step)
        events.add_image(event, tag, png, self._claim(tag, step))
        self._append(event)

    def graph(self, graph_def: bytes) -> None:
        """The model's graph (a serialized GraphDef), for the Graphs dashboard."""
        self._append(events.new_event(graph_def=graph_def))

    def hparams(self, values: Mapping[str, Any], metrics: Sequence[str] = (), group: str = "") -> None:
        """The run's hyperparameters by dotted name. `group`: runs of one group (a variant's seeds) share a row.

        Left to itself the dashboard shows what differs between runs first, with filters, and every scalar as a column;
        `metrics` names the scalar tags to show instead, but then one run's parameters are the columns for all runs.
        """
        event = events.new_event()
        if metrics:
            events.add_experiment(event, [HyperParameter(name, [value]) for name, value in values.items()], metrics)
        events.add_session_start(event, values, group or "/".join(self.path.parent.parts[-2:]))
        self._append(event)

    def experiment(self, columns: Sequence[HyperParameter], metrics: Sequence[str], about: str) -> None:
        """The columns of the HParams dashboard, for runs in the folders below; those name no metrics themselves."""
        event = events.new_event()
        events.add_experiment(event, columns, metrics, about)
        self._append(event)

    def hparams_end(self, succeeded: bool) -> None:
        """How the run ended, for the HParams dashboard."""
        event = events.new_event()
        events.add_session_end(event, succeeded)
        self._append(event)

    def layout(self) -> None:
        """The charts of the Custom Scalars dashboard: the band of the layers' gradients, and the losses."""
        event = events.new_event()
        events.add_layout(event)
        self._append(event)

    def flush(self) -> int:
        """Makes what is written durable. Returns the file's length in bytes."""
        with self._guarded():
            self._file.flush()
            os.fsync(self._file.fileno())
            return self._file.tell()

    def close(self) -> None:
        """Ends the log; once is enough."""
        if self._failed:
            with contextlib.suppress(OSError):
                self._file.close()
        else:
            with self._guarded():
                self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _add_scalars(self, event: Message, values: Mapping[str, float]) -> None:
        for tag, value in values.items():
            self._claim(tag, event.step)
            events.add_scalar(event, tag, value)
            if not fits_float32(value):
                events.add_exact(event, f"exact/{tag}", tag, value, self._claim(f"exact/{tag}", event.step))

    def _add_layers(
        self, event: Message, rows: Mapping[str, LayerValues], types: Sequence[int], contents: Sequence[bytes]
    ) -> None:
        for (quantity, row), data_type, content in zip(rows.items(), types, contents, strict=True):
            tag = self._generation("layers", quantity, row.layers)
            events.add_layers(event, tag, quantity, row.layers, data_type, content, self._claim(tag, event.step))

    def _add_counts(
        self, event: Message, counts: Mapping[str, LayerCounts], buckets: Sequence[tuple[str, int, FloatArray]]
    ) -> None:
        for quantity, row in counts.items():
            tag = self._generation("histograms", quantity, row.layers)
            events.add_counts(event, tag, quantity, row, self._claim(tag, event.step))
        for quantity, position, found in buckets:
            tag = f"log10_{quantity}/{position:03d}.{counts[quantity].layers[position]}"
            events.add_histogram(event, tag, found, self._claim(tag, event.step))

    def _generation(self, kind: str, quantity: str, layers: tuple[str, ...]) -> str:
        """The tag for such a set of layers: a tag of its own for each, since names in metadata cannot change."""
        key = kind, quantity, layers
        if key not in self._tags:
            number = self._generations[kind, quantity] = self._generations.get((kind, quantity), 0) + 1
            self._tags[key] = f"{kind}/{quantity}" if number == 1 else f"{kind}/{quantity}/g{number}"
        return self._tags[key]

    def _claim(self, tag: str, step: int) -> bool:
        """Notes that the tag gets a value at this step. Returns whether it is its first one."""
        last = self._last.get(tag)
        if last is not None and step <= last:
            raise ValueError(f"{tag}: a value for step {step} after one for step {last}; steps of a tag must increase")
        self._last[tag] = step
        return last is None

    def _recall(self, written: EventData) -> None:
        for tag, rows in written.series.items():
            self._last[tag] = rows.steps[-1]
            if isinstance(rows, ArrayRows):
                self._generation(rows.kind, rows.quantity, rows.layers)
        self._network = network_table(written)
        self._facts = newest_facts(written)

    def _append(self, event: Message) -> None:
        with self._guarded():
            self._file.write(frame(event.SerializeToString()))
            now = time.monotonic()
            if now - self._shown >= _VISIBLE_AFTER_S:
                self._file.flush()
                self._shown = now

    @contextlib.contextmanager
    def _guarded(self) -> Any:
        try:
            with disk_errors(self.path):
                yield
        except (InputError, RunError):
            self._failed = True
            raise
