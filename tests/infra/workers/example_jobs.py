"""Jobs that tests run on workers."""

import os
import time
from collections.abc import Callable, Generator
from pathlib import Path

import psutil
import torch

from infra.workers.base import Progress, WorkerContext

Steps = Generator[Progress, None, int]


def count(context: WorkerContext, total: int, pause: float = 0.0) -> Steps:
    """Adds up 0..total-1, a progress a number."""
    found = 0
    for number in range(total):
        time.sleep(pause)
        found += number
        yield Progress(done=number + 1, total=total)
    return found


def fail(context: WorkerContext, error: Exception) -> Steps:
    yield Progress(done=0, total=1)
    raise error


def wait_for_file(context: WorkerContext, path: Path) -> Steps:
    """Tells its process id, then works until a file is there."""
    yield Progress(done=os.getpid(), total=0)
    while not path.exists():
        time.sleep(0.05)
    yield Progress(done=0, total=0)
    return os.getpid()


def describe(context: WorkerContext) -> Generator[Progress, None, tuple[int, int, str, int]]:
    yield Progress(done=1, total=1)
    return context.threads, torch.get_num_threads(), context.device, os.getpid()


def remember(context: WorkerContext, key: str) -> Generator[Progress, None, tuple[str, list[str]]]:
    """Keeps a "model": the list of the keys it was asked for since it was loaded."""
    model: list[str] = context.keep("model", key, list)
    model.append(key)
    yield Progress(done=1, total=1)
    return key, list(model)


def ignore(progress: Progress) -> None:
    pass


def wait_until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Waits for something to become true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_gone(pid: int) -> None:
    """Waits until a process has ended."""
    wait_until(
        lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    )


def read_variable(context: WorkerContext, name: str) -> Generator[Progress, None, str]:
    yield Progress(done=1, total=1)
    return os.environ[name]


def resolve(context: WorkerContext, path: str) -> Generator[Progress, None, Path]:
    yield Progress(done=1, total=1)
    return Path(path).resolve()
