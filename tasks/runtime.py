"""What the tasks of a run share: its store, workers and display.

Prefect copies context variables into task threads, so tasks find it without passing it around
(a pool cannot be serialised, and a parameter would be part of every cache key).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

from prefect.runtime import deployment, task_run
from rich.console import Console

from generators.errors import DisclError
from infra.config import WorkersConfig
from infra.config.workers import WorkerGroup
from infra.errors import WorkerError
from infra.logs import concerning
from infra.meter import Meter
from infra.metrics import WORKER_DEATHS, WORKERS, JobCount
from infra.progress import Board, lines_for
from infra.storage.runs import RunStore, lending_stores
from infra.traces import describe, span
from infra.watching import watched
from infra.workers.base import Job, Progress, WorkerPool
from infra.workers.environment import store_variables
from infra.workers.layout import GroupSpec
from infra.workers.local import LocalPool
from tasks.pool_limit import occupied
from tasks.stages import STAGE, OpenStage, StageClock, StageWatch

T = TypeVar("T")
NO_SECRETS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Everything a running flow works with.

    Attributes:
        store: of the run.
        workers: as configured.
        pool: of the workers.
        board: shows the run.
        meter: keeps its metrics.
        lenders: other runs, whose images may be copied.
        clock: times its stages.
    """

    store: RunStore
    workers: WorkersConfig
    pool: WorkerPool
    board: Board
    meter: Meter
    lenders: tuple[RunStore, ...] = ()
    clock: StageClock = field(default_factory=StageClock)


RUNTIME: ContextVar[Runtime] = ContextVar("runtime")
BOARD: ContextVar[Board] = ContextVar("board")
COMMAND: ContextVar[str] = ContextVar("command")
"""What the user typed, where a command runs the flow."""


def runtime() -> Runtime:
    """The runtime of the flow this is called in."""
    return RUNTIME.get()


def command() -> str:
    """How the flow was started, for its report."""
    typed = COMMAND.get("")
    return typed or f"Prefect deployment {deployment.name or 'without a name'}"


def make_pool(config: WorkersConfig, environment: Mapping[str, str] = NO_SECRETS) -> WorkerPool:
    """The workers a config asks for."""
    if config.kind == "local":
        return LocalPool(config.threads, config.device)
    from infra.workers.ray_pool import RayPool  # seconds to import
    from infra.workers.ray_spec import RayPoolSpec

    return RayPool(
        RayPoolSpec(
            groups=worker_groups(config),
            address=config.address,
            stall_seconds=config.stall_seconds,
            wait_seconds=config.wait_seconds,
            autoscale=config.autoscale,
            team=config.processes_per_training,
            environment={**store_variables(), **environment},
        )
    )


def worker_groups(config: WorkersConfig) -> list[GroupSpec]:
    """The groups of a config; one, where it names none."""
    groups: list[WorkerGroup] = list(config.groups) or [config]
    return [
        GroupSpec(
            count=group.count,
            threads=group.threads,
            gpus=group.gpus,
            resources=group.resources,
            device=config.device,
            place=f"workers.groups.{index}" if config.groups else "workers",
        )
        for index, group in enumerate(groups)
    ]


@contextmanager
def open_runtime(
    workers: WorkersConfig,
    store: RunStore,
    reuse: Sequence[str] = (),
    environment: Mapping[str, str] = NO_SECRETS,
) -> Iterator[Runtime]:
    """Starts the workers; ends them, and what they are doing, with the block.

    A flow called by another flow gets the caller's runtime.

    Args:
        workers: as configured.
        store: of the run.
        reuse: folders of runs whose images may be copied.
        environment: variables the workers get beside their own; secrets.

    Raises:
        OutputError: such a folder is not one of a run.
    """
    outer = RUNTIME.get(None)
    if outer is not None:
        yield outer
        return
    lenders = tuple(lending_stores(reuse))
    with watched(store.root.name) as meter:
        board = BOARD.get(None) or lines_for(Console(stderr=True))
        board.say(f"starting {workers.kind} workers")
        pool = make_pool(workers, environment)
        meter.put(WORKERS, pool.size)
        opened = Runtime(
            store=store, workers=workers, pool=pool, board=board, meter=meter, lenders=lenders
        )
        token = RUNTIME.set(opened)
        try:
            with occupied(workers.pool_limit, pool.size):
                yield opened
        finally:
            RUNTIME.reset(token)
            pool.close()


def open_stage(name: str, total: int, unit: str) -> OpenStage:
    """A stage of the running flow; appears with its first task."""
    opened = runtime()
    watch = StageWatch(board=opened.board, meter=opened.meter, clock=opened.clock)
    return OpenStage(name, total, unit, opened.store, watch)


@contextmanager
def stage(name: str, total: int, unit: str) -> Iterator[None]:
    """A stage that lasts as long as the block; jobs run by tasks submitted in it advance it."""
    opened = open_stage(name, total, unit)
    opened.begin()
    try:
        with opened.current():
            yield
    finally:
        opened.end()
        opened.close()


def run_job(job: Job[T], *args: Any, shown_before: int = 0, workers: int = 1) -> T:
    """Runs a job on a free worker, or on several as one, and shows its progress.

    Args:
        job: to run.
        args: of the job.
        shown_before: units of it that the stage has counted, where it continues another job.
        workers: that run it together.

    Raises:
        WorkerError: the worker died; the units it had shown are taken back.
    """
    shown, done, identity, this = STAGE.get(), shown_before, "", object()
    opened, count, name = runtime(), JobCount(runtime().meter), task_run.name or job.__name__

    def on_progress(progress: Progress) -> None:
        nonlocal done
        if progress.gauge:
            shown.gauge(identity, this, progress.gauge)
            count.report(progress.gauge)
            describe(traced, progress.gauge)
        shown.advance(progress.done - done)
        done = progress.done

    try:
        with (
            opened.pool.lease_team(workers) as worker,
            concerning(group=name),
            span(name) as traced,
        ):
            identity = worker.identity
            return worker.run(job, *args, on_progress=on_progress)
    except (DisclError, OSError) as error:
        shown.advance(shown_before - done)
        if isinstance(error, WorkerError):
            opened.meter.add(WORKER_DEATHS, 1)
        raise
