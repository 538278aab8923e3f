"""Workers as Ray actors; the only module that imports ray.

An actor keeps its models loaded. Jobs stream their progress back; a job whose actor dies, or stays
silent for too long, raises WorkerError, and the next lease of that place starts a fresh actor.
"""

import os
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_SCHEDULER_EVENTS", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from generators.errors import ConfigError, DisclError
from infra.errors import WorkerError
from infra.workers.base import (
    Job,
    OnProgress,
    Progress,
    Worker,
    WorkerContext,
    available_cpus,
    pick_device,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RayPoolSpec:
    """How many actors, and what each one gets.

    Attributes:
        count: actors; None: one a GPU, else one a CPU.
        threads: CPU threads each; None: an even share.
        gpus: GPUs each, may be a fraction; None: 1 where the cluster has any.
        address: of a running cluster; None: start Ray on this machine.
        stall_seconds: a job silent for longer counts as dead.
    """

    count: int | None = None
    threads: int | None = None
    gpus: float | None = None
    address: str | None = None
    stall_seconds: int = 1800


@dataclass(frozen=True, slots=True)
class _Done:
    """The last item of a job's stream."""

    value: Any


class _Actor:
    """Lives in a Ray worker process."""

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._context = WorkerContext(device=pick_device(), threads=threads)

    def stream(self, job: Job[Any], args: tuple[Any, ...]) -> Iterator[Progress | _Done]:
        """A job's progress, then its value."""
        value = yield from job(self._context, *args)
        yield _Done(value)

    def pid(self) -> int:
        """Process id, for logs and for tests that kill it."""
        return os.getpid()


class RayWorker:
    """One leased actor."""

    def __init__(self, actor: Any, stall_seconds: int) -> None:
        self.actor, self._stall_seconds = actor, stall_seconds
        self.dead = False

    def run(self, job: Job[T], *args: Any, on_progress: OnProgress) -> T:
        """Runs a job on the actor; the job's own errors are raised as they are."""
        stream = self.actor.stream.options(num_returns="streaming").remote(job, args)
        try:
            while True:
                ready, _ = ray.wait([stream], timeout=self._stall_seconds, fetch_local=False)
                if not ready:
                    raise WorkerError(f"no sign of life for {self._stall_seconds} s")
                item = ray.get(next(stream))
                if isinstance(item, _Done):
                    value: T = item.value
                    return value
                on_progress(item)
        except RayTaskError as error:
            cause = error.cause
            raise (cause if isinstance(cause, DisclError | OSError) else error) from None
        except (RayActorError, RayError) as error:
            self.dead = True
            raise WorkerError(f"the worker died: {str(error).splitlines()[0]}") from None
        except WorkerError:
            self.dead = True
            raise


class RayPool:
    """A fixed number of actors on a local Ray or a cluster.

    Raises:
        ConfigError: more GPUs asked for than the cluster has.
    """

    def __init__(self, spec: RayPoolSpec) -> None:
        self._started = not ray.is_initialized()
        if self._started:
            _start(spec.address)
        resources = ray.cluster_resources()
        cluster_gpus = resources.get("GPU", 0.0)
        gpus = spec.gpus if spec.gpus is not None else min(1.0, cluster_gpus)
        if gpus > cluster_gpus:
            raise ConfigError("workers.gpus", gpus, f"at most the cluster's {cluster_gpus:g}")
        cpus = max(1, int(resources.get("CPU", 1)))
        self.size = spec.count or (int(cluster_gpus // gpus) if gpus else cpus)
        self._threads = spec.threads or max(1, cpus // self.size)
        self._options = {"num_cpus": min(self._threads, cpus / self.size), "num_gpus": gpus}
        self._stall_seconds = spec.stall_seconds
        self._free: queue.Queue[Any] = queue.Queue()
        self._actors: set[Any] = set()
        for _ in range(self.size):
            self._free.put(self._new_actor())

    def _new_actor(self) -> Any:
        actor = ray.remote(_Actor).options(**self._options).remote(self._threads)
        self._actors.add(actor)
        return actor

    @contextmanager
    def lease(self) -> Iterator[Worker]:
        """A free actor; a dead one is replaced when its lease ends."""
        worker = RayWorker(self._free.get(), self._stall_seconds)
        try:
            yield worker
        finally:
            actor = worker.actor
            if worker.dead:
                self._actors.discard(actor)
                ray.kill(actor)
                actor = self._new_actor()
            self._free.put(actor)

    def pids(self) -> list[int]:
        """Process ids of the actors that are free now."""
        return [ray.get(actor.pid.remote()) for actor in list(self._free.queue)]

    def close(self) -> None:
        """Ends the actors, and Ray if it was started here."""
        for actor in self._actors:
            ray.kill(actor)
        if self._started:
            ray.shutdown()


def _start(address: str | None) -> None:
    """Joins the cluster, or starts Ray on loopback with this machine's CPUs."""
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    if address or os.environ.get("RAY_ADDRESS"):
        ray.init(address=address or "auto", **quiet)
        return
    ray.init(
        include_dashboard=False,
        num_cpus=available_cpus(),
        _node_ip_address="127.0.0.1",
        **quiet,
    )
