"""Ctrl-C and SIGTERM, answered between two steps: training saves and ends, nothing is lost.

with interruptible() as interrupt:
    ...
    if interrupt.requested: ...        # a second Ctrl-C raises KeyboardInterrupt at once
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType


@dataclass
class Interrupt:
    """Whether somebody asked training to end."""

    requested: bool = False


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """SIGINT and SIGTERM set the flag inside. Outside the main thread python allows no handlers: nothing sets it."""
    interrupt = Interrupt()

    def request(signum: int, frame: FrameType | None) -> None:
        if interrupt.requested:
            raise KeyboardInterrupt
        interrupt.requested = True

    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    previous = {signum: signal.signal(signum, request) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for signum, its_handler in previous.items():
            signal.signal(signum, its_handler)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM does inside what Ctrl-C does: it raises KeyboardInterrupt, where `interruptible` does not answer it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def resumable(directory: Path, *, trust: bool = False) -> Iterator[None]:
    """An interruption says how to go on with the run in this directory."""
    try:
        yield
    except KeyboardInterrupt:
        command = f"nnvis train --resume {directory}" + " --trust" * trust
        raise KeyboardInterrupt(f"interrupted; {command} goes on with it") from None
