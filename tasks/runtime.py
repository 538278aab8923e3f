"""What the tasks of a run share: its store, workers and display.

Prefect copies context variables into task threads, so tasks find it without passing it around
(a pool cannot be serialised, and a parameter would be part of every cache key).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from rich.console import Console

from generators.errors import DisclError
from infra.config import WorkersConfig
from infra.errors import WorkerError
from infra.progress import Board, LogBoard
from infra.report.facts import StageTime
from infra.report.saved import add_stage_time
from infra.storage.runs import RunStore
from infra.workers.base import Job, Progress, WorkerPool
from infra.workers.local import LocalPool
from tasks.artifacts import ProgressArtifact

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Everything a running flow works with."""

    store: RunStore
    workers: WorkersConfig
    pool: WorkerPool
    board: Board


RUNTIME: ContextVar[Runtime] = ContextVar("runtime")
BOARD: ContextVar[Board] = ContextVar("board")
STAGE: ContextVar[ProgressArtifact] = ContextVar("stage")


def runtime() -> Runtime:
    """The runtime of the flow this is called in."""
    return RUNTIME.get()


def make_pool(config: WorkersConfig) -> WorkerPool:
    """The workers a config asks for."""
    if config.kind == "local":
        return LocalPool(config.threads, config.device)
    from infra.workers.ray_pool import RayPool, RayPoolSpec  # seconds to import

    return RayPool(
        RayPoolSpec(
            count=config.count,
            threads=config.threads,
            gpus=config.gpus,
            device=config.device,
            address=config.address,
            stall_seconds=config.stall_seconds,
        )
    )


@contextmanager
def open_runtime(workers: WorkersConfig, store: RunStore) -> Iterator[Runtime]:
    """Starts the workers; ends them, and what they are doing, with the block.

    A flow called by another flow gets the caller's runtime.
    """
    outer = RUNTIME.get(None)
    if outer is not None:
        yield outer
        return
    board = BOARD.get(None) or LogBoard(Console(stderr=True))
    board.say(f"starting {workers.kind} workers")
    pool = make_pool(workers)
    opened = Runtime(store=store, workers=workers, pool=pool, board=board)
    token = RUNTIME.set(opened)
    try:
        yield opened
    finally:
        RUNTIME.reset(token)
        pool.close()


@contextmanager
def stage(name: str, total: int, unit: str) -> Iterator[None]:
    """Shows and times a stage; jobs run by tasks submitted in the block advance it."""
    started = time.monotonic()
    with runtime().board.stage(name, total, unit) as shown:
        artifact = ProgressArtifact(shown, name, total)
        token = STAGE.set(artifact)
        try:
            yield
        finally:
            STAGE.reset(token)
            artifact.update()
            seconds = time.monotonic() - started
            add_stage_time(
                runtime().store, StageTime(stage=name, seconds=seconds, units=total, unit=unit)
            )


def run_job(job: Job[T], *args: Any) -> T:
    """Runs a job on a free worker and shows its progress.

    Raises:
        WorkerError: the worker died; the units it had shown are taken back.
    """
    shown, done, identity = STAGE.get(), 0, ""

    def on_progress(progress: Progress) -> None:
        nonlocal done
        if progress.gauge:
            shown.gauge(identity, progress.gauge)
        shown.advance(progress.done - done)
        done = progress.done

    try:
        with runtime().pool.lease() as worker:
            identity = worker.identity
            return worker.run(job, *args, on_progress=on_progress)
    except (WorkerError, DisclError, OSError):
        shown.advance(-done)
        raise
