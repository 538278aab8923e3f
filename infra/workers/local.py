"""Workers in this process: for debugging, tests and machines without Ray."""

import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from generators.errors import ConfigError
from infra.errors import Interrupted
from infra.workers.base import Job, OnProgress, Worker, WorkerContext, available_cpus, pick_device

T = TypeVar("T")


class LocalWorker:
    """Runs jobs in the calling thread.

    Args:
        context: given to every job.
        closed: set when no job may go on.
    """

    identity = "local"

    def __init__(self, context: WorkerContext, closed: threading.Event | None = None) -> None:
        self._context, self._closed = context, closed or threading.Event()

    def run(self, job: Job[T], *args: Any, on_progress: OnProgress) -> T:
        """Runs a job to its end; its errors are raised as they are.

        Raises:
            Interrupted: the pool was closed; a running job ends where it next tells its progress.
        """
        with closing(job(self._context, *args)) as steps:
            while True:
                if self._closed.is_set():
                    raise Interrupted("the workers have been stopped")
                try:
                    progress = next(steps)
                except StopIteration as stop:
                    value: T = stop.value
                    return value
                on_progress(progress)


class LocalPool:
    """One worker in this process, one job at a time.

    Args:
        threads: torch's CPU threads until it is closed; default: `OMP_NUM_THREADS`, or all.
        device: where networks run.
    """

    size = 1

    def __init__(self, threads: int | None = None, device: str = "auto") -> None:
        import torch

        self._threads_before = torch.get_num_threads()
        if threads or not os.environ.get("OMP_NUM_THREADS"):
            torch.set_num_threads(threads or available_cpus())
        context = WorkerContext(device=pick_device(device), threads=torch.get_num_threads())
        self._closed = threading.Event()
        self._worker = LocalWorker(context, self._closed)
        self._lock = threading.Lock()

    @contextmanager
    def lease(self) -> Iterator[Worker]:
        """The worker, when no other thread has it."""
        with self._lock:
            yield self._worker

    @contextmanager
    def lease_team(self, size: int) -> Iterator[Worker]:
        """The worker.

        Raises:
            ConfigError: a team of several.
        """
        if size > self.size:
            raise ConfigError("workers.processes_per_training", size, "1 with local workers")
        with self.lease() as worker:
            yield worker

    def close(self) -> None:
        """Ends the running job, in its thread, and those that wait for the worker."""
        import torch

        self._closed.set()
        torch.set_num_threads(self._threads_before)
