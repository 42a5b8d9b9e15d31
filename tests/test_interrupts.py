"""Ctrl-C between two steps."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from nnvis.interrupts import interruptible, resumable


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_ends(first: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with interruptible() as interrupt:
        assert not interrupt.requested
        os.kill(os.getpid(), first)
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_other_threads_go_without() -> None:
    seen = []

    def run() -> None:
        with interruptible() as interrupt:
            seen.append(interrupt.requested)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [False]


def test_an_interruption_says_how_to_go_on() -> None:
    sentence = r"^interrupted; nnvis train --resume runs/x/1-seed0 goes on with it$"
    with pytest.raises(KeyboardInterrupt, match=sentence), resumable(Path("runs/x/1-seed0")):
        raise KeyboardInterrupt
