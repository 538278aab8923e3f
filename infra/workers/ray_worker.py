"""One Ray actor, from both sides: what lives in its process, and what follows its jobs.

An actor keeps its models loaded. Jobs stream their progress back.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from ray.exceptions import ActorDiedError, RayError, RayTaskError

from generators.errors import DisclError
from infra.errors import WorkerError, WorkerLost
from infra.logs import LogOrigin, concerning, origin, start_logging
from infra.workers.base import Job, OnProgress, Progress, WorkerContext, pick_device
from infra.workers.environment import adopt
from infra.workers.ray_metrics import RayRecorder, counted
from infra.workers.ray_start import ray

T = TypeVar("T")

SLICE_SECONDS = 1.0
FIRST_SECONDS = 1800
"""To a job's first word, at least: it may have to load its network, from far away, before it."""


@dataclass(frozen=True, slots=True)
class Done:
    """The last item of a job's stream."""

    value: Any


@dataclass(frozen=True, slots=True)
class Begun:
    """The first item of a team's stream: all of it have found their places."""


class Actor:
    """Lives in a Ray worker process.

    Args:
        threads: of torch.
        device: where networks run.
        environment: variables for this process; secrets, so that they come this way and no other.
        folder: the driver's, so that relative paths of a config mean the same on every machine that
            has it; another keeps its own, which in a Ray job is its copy of the working directory.
    """

    def __init__(
        self, threads: int, device: str, environment: Mapping[str, str], folder: str
    ) -> None:
        adopt(environment)
        with suppress(OSError):
            os.chdir(folder)
        self._threads, self._device = threads, device

    def ready(self) -> str:
        """Sets up the process; returns the id of its machine.

        Raises:
            ConfigError: the device is not there.
        """
        import torch

        torch.set_num_threads(self._threads)
        self._context = WorkerContext(device=pick_device(self._device), threads=self._threads)
        self._recorder = RayRecorder()
        node: str = ray.get_runtime_context().get_node_id()
        return node

    def stream(
        self, job: Job[Any], args: tuple[Any, ...], about: LogOrigin
    ) -> Iterator[Progress | Done]:
        """A job's progress, then its value. Logs and counts as the driver is told to."""
        start_logging(about.settings)
        self._recorder.run = about.run
        with concerning(**about.fields):
            value = yield from counted(job(self._context, *args), self._recorder)
        yield Done(value)

    def pid(self) -> int:
        """Process id, for logs and for tests that kill it."""
        return os.getpid()


class RayWorker:
    """One leased actor, or the conductor of a team.

    Args:
        actor: Ray's handle.
        node: id of its machine.
        is_leaving: whether a machine is gone or about to go.
        is_closed: whether the pool has ended.
        stall_seconds: a job silent for longer counts as dead, once it has said something.
        begun: called when a team has found its places.
    """

    def __init__(
        self,
        actor: Any,
        node: str,
        is_leaving: Callable[[str], bool],
        is_closed: Callable[[], bool],
        stall_seconds: int,
        begun: Callable[[], None] = lambda: None,
    ) -> None:
        self._actor, self.node, self._stall_seconds = actor, node, stall_seconds
        self._is_leaving, self._is_closed, self._begun = is_leaving, is_closed, begun
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
            raise self._death(error) from None
        except SystemExit:  # what Ray raises in threads that wait while it is shut down
            raise WorkerError("the worker was stopped") from None
        self.dead = False
        return value

    def _follow(self, job: Job[T], args: tuple[Any, ...], on_progress: OnProgress) -> T:
        stream = self._actor.stream.options(num_returns="streaming").remote(job, args, origin())
        patience, heard = max(self._stall_seconds, FIRST_SECONDS), time.monotonic()
        while True:
            # In slices: a Ray that a signal has ended answers nobody, not even that it is gone.
            ready, _ = ray.wait([stream], timeout=SLICE_SECONDS, fetch_local=False)
            if self._is_closed():
                raise WorkerError("the worker was stopped")
            if not ready:
                if time.monotonic() - heard >= patience:
                    raise WorkerError(f"the worker gave no sign of life for {patience} s")
                continue
            heard = time.monotonic()
            item = ray.get(next(stream))
            if isinstance(item, Begun):
                self._begun()
                continue
            patience = self._stall_seconds
            if isinstance(item, Done):
                value: T = item.value
                return value
            on_progress(item)

    def _death(self, error: RayError) -> WorkerError:
        """What became of the worker: with its machine it dies through no fault of the job."""
        lines = str(error).strip().splitlines()
        text = f"{lines[0]} {lines[-1] * (len(lines) > 1)}"
        preempted = isinstance(error, ActorDiedError) and error.preempted
        if preempted or self._is_leaving(self.node):
            return WorkerLost(f"the worker was lost with its machine: {text}")
        return WorkerError(f"the worker died: {text}")
