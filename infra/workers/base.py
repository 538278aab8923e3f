"""The worker pool: leases workers that run jobs. Knows nothing of what a job does.

A *job* is a module-level generator function `job(context, *args)`: it yields `Progress` while it
works and returns a small value. Arguments and result travel between processes; tensors do not.
"""

import math
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from curriculum.team import ALONE, Team
from generators.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is, in its own unit.

    Attributes:
        done: units.
        total: units.
        gauge: what else the job says of itself in numbers, e.g. how fast it goes.
    """

    done: int
    total: int
    gauge: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class WorkerContext:
    """What a worker keeps between jobs.

    Attributes:
        device: torch device string.
        threads: CPU threads this worker uses.
        team: the workers that run the same job together, and which one this is.
        models: the last loaded model by name of its kind, with its key.
    """

    device: str
    threads: int
    team: Team = ALONE
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


def mapped(
    steps: Generator[Progress, None, T], change: Callable[[Progress], Progress]
) -> Generator[Progress, None, T]:
    """A job's steps, each as `change` gives it, and the job's value. Ends the job when it ends."""
    with closing(steps):
        while True:
            try:
                progress = next(steps)
            except StopIteration as stop:
                value: T = stop.value
                return value
            yield change(progress)


class Worker(Protocol):
    """Runs one job at a time."""

    @property
    def identity(self) -> str:
        """The same for all leases of one worker."""

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

    def lease_team(self, size: int) -> AbstractContextManager[Worker]:
        """Waits for so many free workers, which run each job together, as one.

        The job is told of its team, and runs in all of them; what it yields and returns is the
        first one's.
        """

    def close(self) -> None:
        """Ends all workers and running jobs at once."""


def pick_device(wanted: str = "auto") -> str:
    """The device of this process: the wanted one, or CUDA, Apple's, the CPU.

    Raises:
        ConfigError: this process has no such device.
    """
    import torch

    if wanted != "auto":
        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not there.get(wanted, True):
            raise ConfigError("workers.device", wanted, "a device that the workers have, or auto")
        return wanted

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def available_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs this process may use: by affinity, and by the quota of its container."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        cpus = os.cpu_count() or 1
    quota, period = cpu_quota(cgroup)
    return cpus if quota == math.inf else max(1, min(cpus, math.ceil(quota / period)))


def cpu_quota(cgroup: Path) -> tuple[float, float]:
    """Microseconds of CPU time in a period of microseconds; infinite where nothing limits it."""
    try:
        if (cgroup / "cpu.max").is_file():  # version 2: `max 100000` or `150000 100000`
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            names = ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")
            quota, period = ((cgroup / name).read_text().strip() for name in names)
    except (OSError, ValueError):
        return math.inf, 1.0
    unlimited = quota in ("max", "-1")
    return (math.inf, 1.0) if unlimited else (float(quota), float(period))
