"""What TensorBoard is told of a study: the columns of its HParams dashboard, the figures, the verdict.

log_run(log, directory, flatten(config), metrics)       # each run: its own values
write_study_log(study, comparison.sentences, files)     # the study: which of them vary

TensorBoard takes the columns from one summary that it happens to find, so the runs of a study write none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnvis.record import protos
from nnvis.record.events import SESSION_TAG, HyperParameter
from nnvis.record.files import disk_errors
from nnvis.record.framing import unframe
from nnvis.record.log import EventLog
from nnvis.record.reader import event_files
from nnvis.record.run import Run
from nnvis.record.study import Study, is_study, varied_keys, varied_values

METRICS = (
    "accuracy/val",
    "loss/val",
    "accuracy/test",
    "loss/test",
    "accuracy/epoch",
    "loss/epoch",
)
_HEAD_BYTES = 2**20  # of a run's log: its hyperparameters come before anything large


def log_run(log: EventLog, directory: Path, values: Mapping[str, Any], metrics: Sequence[str]) -> None:
    """Writes a run's hyperparameters (by dotted name, what is null left out), and names `metrics` where it is alone.

    In a study every run has a value for each key that any variant sets: as text, "null" too, where one of them is not
    a number, since a column of the dashboard has one type.
    """
    place = directory.resolve()
    study = place.parents[1]
    if not is_study(study):
        log.hparams(values, metrics)
        return
    values = dict(values)
    for key, varied in varied_values(study).items():
        if not all(_is_number(value) for value in varied) and (key in values or not _below(key, values)):
            value = values.get(key)
            values[key] = value if isinstance(value, str) else json.dumps(value)
    log.hparams(values, group="/".join(place.parts[-3:]))


def write_study_log(study: Study, sentences: Iterable[str], pictures: Iterable[Path]) -> Path:
    """Replaces the event file in the study's own directory; its path. Raises RunError (full disk) or InputError."""
    for old in event_files(study.path):
        with disk_errors(old):
            old.unlink()
    with EventLog.create(study.path) as log:
        recorded = {tag for _, _, run in study.each_run() for tag in run.scalars}
        log.experiment(hyperparameters(study), [tag for tag in METRICS if tag in recorded], study.question)
        log.text(0, "verdict", "\n".join([f"**{study.question}**\n", *(f"- {each}" for each in sentences)]))
        for picture in pictures:
            log.image(0, f"figures/{picture.stem}", picture.read_bytes())
    return log.path


def hyperparameters(study: Study) -> list[HyperParameter]:
    """The varied axes, with the values that the runs have: of named variants their name and what differs; the seed.

    A key that some run lacks (the momentum of SGD, beside Adam) is no column: TensorBoard draws no line then.
    """
    sessions = [_session(run) for _, _, run in study.each_run()]
    keys = varied_keys([study.axes] if study.axes else study.overrides.values())
    names = dict.fromkeys(name for key in keys for session in sessions for name in _below(key, session))
    values = {
        name: _ordered(dict.fromkeys(session[name] for session in sessions))
        for name in (*names, "seed")
        if all(name in session for session in sessions)
    }
    columns = [
        HyperParameter(name, values[name], is_domain=True, first=bool(study.axes))
        for name in names
        if name in values and (study.axes or len(values[name]) > 1)
    ]
    variant = HyperParameter("name", [*study.variants], is_domain=True, first=True, title="variant")
    seed = HyperParameter("seed", values["seed"], is_domain=True)
    return [*columns, seed] if study.axes else [variant, *columns, seed]


def _below(key: str, values: Iterable[str]) -> list[str]:
    """The names that are `key` or lead on from it."""
    return [name for name in values if name == key or name.startswith(f"{key}.")]


def _session(run: Run) -> dict[str, Any]:
    """The hyperparameters that the run's log holds, as TensorBoard will read them."""
    for path in event_files(run.path):
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        for _, payload in unframe(head):
            for value in protos.Event.FromString(payload).summary.value:
                if value.tag == SESSION_TAG:
                    start = protos.HParams.FromString(value.metadata.plugin_data.content).session_start_info
                    return {name: getattr(each, each.WhichOneof("kind")) for name, each in start.hparams.items()}
    return {}


def _ordered(values: Iterable[Any]) -> list[Any]:
    """Numbers by size, anything else as it comes."""
    values = list(values)
    return sorted(values) if all(map(_is_number, values)) else values


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
