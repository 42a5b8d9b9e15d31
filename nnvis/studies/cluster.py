"""Runs on a Ray cluster: the same events as from `nnvis.studies.local`, from any number of machines.

    with run_on_ray("ray://head:10001", plan.tasks) as events:
        for event in events: ...

Every machine needs nnvis and has to see the study's directory. A run whose worker is lost is begun again on another,
from its last checkpoint.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from nnvis.errors import InputError, RunError
from nnvis.studies.events import Ended, Event
from nnvis.studies.plan import Task

RETRIES = 3
"""How often a run is begun again whose worker was lost."""
_LOOKED_EVERY_S = 0.25
_SAVED_WITHIN_S = 60.0


@contextmanager
def run_on_ray(address: str | None, tasks: Sequence[Task], jobs: int | None = None) -> Iterator[Iterator[Event]]:
    """Trains the tasks on the cluster at an address; without one on the cluster of this machine, or on one made for it.

    `jobs`: at most so many at a time; left out, as many as the cluster has room for. Raises InputError without Ray,
    RunError where the cluster does not answer.
    """
    try:
        import ray
        from ray.util.queue import Queue
    except ImportError:
        raise InputError('on: ray is not installed; pip install "nnvis-trainer[cluster]"') from None
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            first_line = str(error).strip().partition("\n")[0]
            raise RunError(f"on: no Ray cluster answers at {address or 'this machine'}: {first_line}") from error
    running: dict[Any, Task] = {}
    try:
        events = Queue(actor_options={"num_cpus": 0})
        yield _run(ray, events, deque(tasks), jobs or len(tasks), running)
    finally:
        for reference in running:
            ray.cancel(reference)  # as Ctrl-C: the run saves and ends
        if running:
            ray.wait([*running], num_returns=len(running), timeout=_SAVED_WITHIN_S)
        if ours:
            ray.shutdown()


def _run(ray: Any, events: Any, waiting: deque[Task], most: int, running: dict[Any, Task]) -> Iterator[Event]:
    """Hands tasks out as there is room for them, and tells what comes back."""
    gpu = int(ray.cluster_resources().get("GPU", 0) > 0)
    while waiting or running:
        while waiting and len(running) < most:
            task = waiting.popleft()
            cpus, training = task.config.training.threads, task.config.training
            needed = {"num_cpus": cpus, "num_gpus": gpu if training.device != "cpu" else 0}
            train = ray.remote(**needed, max_retries=RETRIES)(_perform)
            running[train.remote(replace(task, study=task.study.absolute()), events)] = task
        ended, _ = ray.wait([*running], timeout=_LOOKED_EVERY_S)
        yield from events.get_nowait_batch(events.qsize())
        for reference in ended:
            task = running.pop(reference)
            try:
                event: Ended = ray.get(reference)
            except ray.exceptions.RayError as error:
                reason = f"its worker was lost {RETRIES + 1} times: {' '.join(str(error).split())}"
                yield Ended(*task.key, "failed", None, reason)
            else:
                yield replace(event, run=event.run and task.study / event.run.relative_to(task.study.absolute()))


def _perform(task: Task, events: Any) -> Ended:
    """On a worker of the cluster."""
    from nnvis.studies.worker import perform

    return perform(task, events.put)
