"""The record of a run: TensorBoard's event log, appended while training runs and read back. No torch.

with EventLog.create(directory) as log:
    log.write(measurement)               # what the probe hands over, one event a measured step
    log.scalars(step, {"loss/val": 0.3})

run = load_run(directory)
run.layers["grad_norm"].values           # (T, L)
"""

from nnvis.record.files import read_findings, read_json, write_findings, write_json
from nnvis.record.log import EventLog
from nnvis.record.run import Run, find_runs, load_run
from nnvis.record.size import FIGURES_BYTES, checks_bytes, expected_bytes
from nnvis.record.study import Study, is_study, load_study
from nnvis.record.vocabulary import (
    ABSENCE_REASONS,
    DIAGNOSIS_QUANTITIES,
    HISTOGRAM_EDGES,
    HISTOGRAM_QUANTITIES,
    LAYER_QUANTITIES,
    Check,
    Finding,
    HistogramSeries,
    LayerCounts,
    LayerInfo,
    LayerSeries,
    LayerValues,
    Measurement,
    Remedy,
    Series,
)

__all__ = [
    "ABSENCE_REASONS",
    "DIAGNOSIS_QUANTITIES",
    "FIGURES_BYTES",
    "HISTOGRAM_EDGES",
    "HISTOGRAM_QUANTITIES",
    "LAYER_QUANTITIES",
    "Check",
    "EventLog",
    "Finding",
    "HistogramSeries",
    "LayerCounts",
    "LayerInfo",
    "LayerSeries",
    "LayerValues",
    "Measurement",
    "Remedy",
    "Run",
    "Series",
    "Study",
    "checks_bytes",
    "expected_bytes",
    "find_runs",
    "is_study",
    "load_run",
    "load_study",
    "read_findings",
    "read_json",
    "write_findings",
    "write_json",
]
