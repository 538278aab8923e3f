"""The worker pool: leases workers that run jobs. Knows nothing of what a job does.

A *job* is a module-level generator function `job(context, *args)`: it yields `Progress` while it
works and returns a small value. Arguments and result travel between processes; tensors do not.
"""

import os
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is, in its own unit."""

    done: int
    total: int


@dataclass(slots=True, kw_only=True)
class WorkerContext:
    """What a worker keeps between jobs.

    Attributes:
        device: torch device string.
        threads: CPU threads this worker uses.
        models: the last loaded model by name of its kind, with its key.
    """

    device: str
    threads: int
    models: dict[str, tuple[str, Any]] = field(default_factory=dict)

    def keep(self, kind: str, key: str, load: Callable[[], T]) -> T:
        """The model of this kind under `key`; loads it, and drops the previous one, if needed."""
        if kind not in self.models or self.models[kind][0] != key:
            self.models.pop(kind, None)
            self.models[kind] = (key, load())
        model: T = self.models[kind][1]
        return model


Job = Callable[..., Generator[Progress, None, T]]
OnProgress = Callable[[Progress], None]


class Worker(Protocol):
    """Runs one job at a time."""

    def run(self, job: Job[T], *args: Any, on_progress: OnProgress) -> T:
        """Runs a job to its end.

        Raises:
            WorkerError: the worker died or stalled; the job may be run again elsewhere.
        """


class WorkerPool(Protocol):
    """A fixed number of workers."""

    @property
    def size(self) -> int:
        """Workers that can be leased at the same time."""

    def lease(self) -> AbstractContextManager[Worker]:
        """Waits for a free worker. A worker that died comes back as a fresh one."""

    def close(self) -> None:
        """Ends all workers and running jobs at once."""


def pick_device() -> str:
    """The device of this process: CUDA, Apple's, or the CPU."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def available_cpus() -> int:
    """CPUs this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1
