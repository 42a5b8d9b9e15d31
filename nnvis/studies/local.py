"""Runs on this machine: so many processes, each of which trains one run after the other.

    with run_locally(plan.tasks, jobs=2) as events:
        for event in events: ...        # Progress, Said, Ended

Leaving it early asks the runs in progress to save and end, and waits for them. A process that dies costs its run alone.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import SimpleQueue

from nnvis.studies.events import Ended, Event
from nnvis.studies.plan import Task

_WORK = "from nnvis.studies.worker import main; main({})"


@contextmanager
def run_locally(tasks: Sequence[Task], jobs: int | None = None) -> Iterator[Iterator[Event]]:
    """Trains the tasks in `jobs` processes (1), and gives what happens; each task has one Ended."""
    waiting, events = deque(tasks), SimpleQueue[Event]()
    workers = [_Worker(number, waiting, events.put) for number in range(min(jobs or 1, len(tasks)))]
    for worker in workers:
        worker.start()
    try:
        yield until_all_ended(len(tasks), events.get)
    finally:
        waiting.clear()
        try:
            for worker in workers:
                worker.stop()
            for worker in workers:
                worker.join()
        except KeyboardInterrupt:  # asked again: what is not saved yet is lost
            for worker in workers:
                worker.kill()
            raise


def until_all_ended(count: int, get: Callable[[], Event]) -> Iterator[Event]:
    """The events that `get` waits for, until so many runs have ended."""
    while count:
        event = get()
        count -= isinstance(event, Ended)
        yield event


class _Worker(threading.Thread):
    """A process, and the thread that talks to it."""

    def __init__(self, number: int, waiting: deque[Task], tell: Callable[[Event], None]) -> None:
        super().__init__(daemon=True)
        self._number, self._waiting, self._tell = number, waiting, tell
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def run(self) -> None:
        with suppress(IndexError):
            while True:
                self._perform(self._waiting.popleft())
        if self._process:
            self._process.communicate()  # nothing more comes: it ends

    def stop(self) -> None:
        """The run in progress, if any, saves and ends."""
        self._stopping = True
        if self._process:
            self._process.terminate()

    def kill(self) -> None:
        if self._process:
            self._process.kill()

    def _perform(self, task: Task) -> None:
        try:
            process = self._process = self._process or _start(self._number)
            if self._stopping:
                process.terminate()
            assert process.stdin
            assert process.stdout
            pickle.dump(task, process.stdin)
            process.stdin.flush()
            while not isinstance(event := pickle.load(process.stdout), Ended):
                self._tell(event)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            event = Ended(*task.key, "failed", None, self._death())
        except Exception as error:  # nothing of this run may keep the others from going on
            event = Ended(*task.key, "failed", None, f"{type(error).__name__}: {error}")
        self._tell(event)

    def _death(self) -> str:
        """What became of the process; the next task gets a new one."""
        process, self._process = self._process, None
        assert process
        with process:
            process.kill()
        code = process.returncode
        if code >= 0:
            return f"its process ended with exit code {code}; what it said is above"
        with suppress(ValueError):
            name = signal.Signals(-code).name
            return f"its process was killed ({name})" + "; was there enough memory?" * (name == "SIGKILL")
        return f"its process was killed (signal {-code})"


def _start(number: int) -> subprocess.Popen[bytes]:
    environment = {
        "OMP_NUM_THREADS": "1",  # what computes beside torch; torch is told by each config
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
    }
    return subprocess.Popen(
        [sys.executable, "-c", _WORK.format(number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,  # Ctrl-C comes to us alone, and we pass it on once
    )
