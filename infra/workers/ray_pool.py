"""Workers as Ray actors; the only module that imports ray.

An actor keeps its models loaded. Jobs stream their progress back; a job whose actor dies, or stays
silent for too long, raises WorkerError, and a fresh actor takes its place.
"""

import os
import queue
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_SCHEDULER_EVENTS", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")  # SIGTERM is no crash
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # a late call must not start another Ray

import ray
from ray.exceptions import RayError, RayTaskError

from generators.errors import ConfigError, DisclError
from infra.errors import Interrupted, WorkerError
from infra.logs import LogOrigin, concerning, origin, start_logging
from infra.workers.base import (
    Job,
    OnProgress,
    Progress,
    Worker,
    WorkerContext,
    available_cpus,
    pick_device,
)
from infra.workers.layout import lay_out
from infra.workers.ray_metrics import RayRecorder, counted

T = TypeVar("T")
CLOSE_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RayPoolSpec:
    """How many actors, and what each one gets.

    Attributes:
        count: actors; None: one a GPU, else one a CPU.
        threads: CPU threads each; None: an even share.
        gpus: GPUs each, may be a fraction; None: 1 where the cluster has any.
        device: where networks run; `auto` is the GPU, where an actor has one.
        address: of a running cluster; None: start Ray on this machine.
        stall_seconds: a job silent for longer counts as dead.
    """

    count: int | None = None
    threads: int | None = None
    gpus: float | None = None
    device: str = "auto"
    address: str | None = None
    stall_seconds: int = 1800


@dataclass(frozen=True, slots=True)
class _Done:
    """The last item of a job's stream."""

    value: Any


class _Actor:
    """Lives in a Ray worker process."""

    def __init__(self, threads: int, device: str) -> None:
        import torch

        torch.set_num_threads(threads)
        self._context = WorkerContext(device=pick_device(device), threads=threads)
        self._recorder = RayRecorder()

    def stream(
        self, job: Job[Any], args: tuple[Any, ...], about: LogOrigin
    ) -> Iterator[Progress | _Done]:
        """A job's progress, then its value. Logs and counts as the driver is told to."""
        start_logging(about.settings)
        self._recorder.run = about.run
        with concerning(**about.fields):
            value = yield from counted(job(self._context, *args), self._recorder)
        yield _Done(value)

    def pid(self) -> int:
        """Process id, for logs and for tests that kill it."""
        return os.getpid()


class RayWorker:
    """One leased actor."""

    def __init__(self, actor: Any, stall_seconds: int) -> None:
        self.actor, self._stall_seconds = actor, stall_seconds
        self.identity = str(actor)
        self.dead = False

    def run(self, job: Job[T], *args: Any, on_progress: OnProgress) -> T:
        """Runs a job on the actor; the job's own errors are raised as they are."""
        self.dead = True  # unless the job is known to have ended: the actor may be at work still
        try:
            value: T = self._follow(job, args, on_progress)
        except RayTaskError as error:
            self.dead = False
            cause = error.cause
            raise (cause if isinstance(cause, DisclError | OSError) else error) from None
        except RayError as error:
            lines = str(error).strip().splitlines()
            raise WorkerError(
                f"the worker died: {lines[0]} {lines[-1] * (len(lines) > 1)}"
            ) from None
        except SystemExit:  # what Ray raises in threads that wait while it is shut down
            raise WorkerError("the worker was stopped") from None
        self.dead = False
        return value

    def _follow(self, job: Job[T], args: tuple[Any, ...], on_progress: OnProgress) -> T:
        stream = self.actor.stream.options(num_returns="streaming").remote(job, args, origin())
        while True:
            ready, _ = ray.wait([stream], timeout=self._stall_seconds, fetch_local=False)
            if not ready:
                raise WorkerError(f"the worker gave no sign of life for {self._stall_seconds} s")
            item = ray.get(next(stream))
            if isinstance(item, _Done):
                value: T = item.value
                return value
            on_progress(item)


class RayPool:
    """A fixed number of actors on a local Ray or a cluster.

    Raises:
        ConfigError: more GPUs asked for than the cluster has, or no cluster at the address.
    """

    def __init__(self, spec: RayPoolSpec) -> None:
        self._started = not ray.is_initialized()
        if self._started:
            _start(spec.address)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        try:
            self.layout = lay_out(nodes, spec.count, spec.threads, spec.gpus)
        except ConfigError:
            if self._started:
                ray.shutdown()
            raise
        self.size, self._stall_seconds = self.layout.size, spec.stall_seconds
        self._device = spec.device
        self._closed, self._lock = False, threading.Lock()
        self._free: queue.Queue[Any] = queue.Queue()
        self._actors: set[Any] = set()
        for _ in range(self.size):
            self._free.put(self._new_actor())

    def _new_actor(self) -> Any:
        options = {"num_cpus": self.layout.num_cpus, "num_gpus": self.layout.num_gpus}
        actor = ray.remote(_Actor).options(**options).remote(self.layout.threads, self._device)
        with self._lock:
            self._actors.add(actor)
        return actor

    @contextmanager
    def lease(self) -> Iterator[Worker]:
        """A free actor; a dead one is replaced when its lease ends.

        Raises:
            Interrupted: the pool was closed.
        """
        actor = self._free.get()
        if self._closed:
            self._free.put(actor)  # wakes the next one that waits
            raise Interrupted("the workers have been stopped")
        worker = RayWorker(actor, self._stall_seconds)
        try:
            yield worker
        finally:
            if worker.dead and not self._closed:
                actor = self._replace(actor)
            self._free.put(actor)

    def _replace(self, actor: Any) -> Any:
        """A fresh actor for a dead one. Holds no lock while it asks Ray: Ray may not answer."""
        ray.kill(actor)
        fresh = self._new_actor()
        with self._lock:
            self._actors.discard(actor)
        return fresh

    def pids(self) -> list[int]:
        """Process ids of the actors that are free now."""
        found: list[int] = ray.get([actor.pid.remote() for actor in list(self._free.queue)])
        return found

    def close(self) -> None:
        """Ends the actors at once, and Ray if it was started here."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            actors = list(self._actors)
        # A signal to the whole process group has ended Ray's own processes as well: whoever asks
        # them then may wait for ever.
        killer = threading.Thread(target=_kill, args=(actors,), daemon=True)
        killer.start()
        killer.join(CLOSE_SECONDS)
        self._free.put(None)
        if self._started:
            ray.shutdown()


def _kill(actors: list[Any]) -> None:
    for actor in actors:
        ray.kill(actor)


def _start(address: str | None) -> None:
    """Joins the cluster, or starts Ray; the caller's reaction to SIGTERM stays as it was."""
    previous = signal.getsignal(signal.SIGTERM)
    try:
        _init(address)
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, previous)  # Ray's own would skip the flow's ending


def _init(address: str | None) -> None:
    heard = os.environ.get("DISCL_WORKER_LOGS", "") not in ("", "0")
    quiet = {"logging_level": "ERROR", "log_to_driver": heard}
    asked = address or os.environ.get("RAY_ADDRESS")
    if asked:
        check_address(asked)
        try:
            ray.init(address=asked, **quiet)
        except (ConnectionError, ValueError) as error:
            raise ConfigError("workers.address", asked, "a running Ray cluster") from error
        return
    ray.init(
        address="local",  # or it would join, and fail on, a cluster that runs on this machine
        include_dashboard=False,
        num_cpus=available_cpus(),
        _node_ip_address="127.0.0.1",
        **quiet,
    )


def check_address(address: str) -> None:
    """Refuses what Ray would try to reach for minutes.

    Raises:
        ConfigError: a client address, or one where nobody listens.
    """
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        allowed = "'auto' or host:port of a cluster this machine is part of"
        raise ConfigError("workers.address", address, allowed)
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        allowed = f"the address of a running Ray cluster ({error})"
        raise ConfigError("workers.address", address, allowed) from error
