"""The small files of a run directory: JSON, written whole or not at all. NaN and Inf become null.

write_json(directory / "summary.json", {"status": "completed", "metrics": {"val": {"loss": 0.1}}})
with claimed(directory, "training this run"): ...      # nobody else does meanwhile
"""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nnvis.errors import InputError, RunError
from nnvis.record.vocabulary import Finding, Remedy

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOENT}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what the operating system refuses about `path` into one line: InputError for a bad place, else RunError."""
    try:
        yield
    except OSError as error:
        problem = f"{path}: cannot be written: {error.strerror or error}"
        if error.errno in _NOT_OURS:
            raise InputError(f"{problem}; choose a folder that can be written to") from None
        advice = "; free some space, then resume the run" if error.errno in _NO_SPACE else ""
        raise RunError(problem + advice) from None


@contextmanager
def claimed(directory: Path, doing: str) -> Iterator[None]:
    """Nobody else is `doing` this in the directory meanwhile; a claim ends with its process, however that ends.

    Raises InputError where somebody is.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{directory}: another process is {doing} right now") from None
        yield
    finally:
        os.close(handle)


def write_json(path: str | Path, data: Any) -> None:
    """Replaces `path` atomically; NaN and Inf become null, numpy's numbers and arrays become plain ones.

    Raises RunError (full disk) or InputError (read-only folder).
    """
    path = Path(path)
    text = json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path):
        try:
            with unfinished.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def read_json(path: str | Path) -> Any:
    """The content of a JSON file. Raises InputError where it is missing or no JSON."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not JSON: not text in UTF-8") from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file that nnvis wrote. Raises InputError where it is missing or something else."""
    import yaml

    path = Path(path)
    try:
        content = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2026-13-45, or no UTF-8
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a config: keys and values are expected")
    return content


def write_findings(directory: str | Path, findings: Sequence[Finding], not_judged: Mapping[str, str] = {}) -> Path:
    """Writes `findings.json`: the findings, and for each symptom that could not be judged the reason."""
    path = Path(directory) / "findings.json"
    write_json(path, {"findings": [asdict(finding) for finding in findings], "not_judged": dict(not_judged)})
    return path


def read_findings(path: str | Path) -> tuple[Finding, ...]:
    """The findings of a `findings.json`; a number that was not finite is NaN. Raises InputError."""
    try:
        return tuple(_finding(entry) for entry in read_json(path)["findings"])
    except (TypeError, KeyError) as error:
        raise InputError(f"{path}: not a list of findings: {error}") from None


def _finding(entry: dict[str, Any]) -> Finding:
    lists = {key: tuple(entry.get(key, ())) for key in ("layers", "causes")}
    numbers = {key: math.nan if entry[key] is None else entry[key] for key in ("value", "threshold")}
    remedies = tuple(Remedy(**remedy) for remedy in entry.get("remedies", ()))
    return Finding(**{**entry, **lists, **numbers, "remedies": remedies})


def plain(data: Any) -> Any:
    """What JSON can hold: numpy's numbers and arrays as plain ones, NaN and Inf as null."""
    if isinstance(data, Mapping):
        return {str(key): plain(value) for key, value in data.items()}
    if isinstance(data, np.ndarray | np.generic):
        return plain(data.tolist())
    if isinstance(data, list | tuple | set | frozenset):
        return [plain(value) for value in data]
    if isinstance(data, Path):
        return str(data)
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data
