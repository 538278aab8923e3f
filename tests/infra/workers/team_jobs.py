"""Jobs that tests run on teams of workers."""

import os
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import distributed

from infra.workers.base import Progress, WorkerContext


@dataclass(frozen=True)
class Told:
    """What a team says of itself."""

    sum: int
    size: int
    threads: tuple[int, int]
    pids: list[int]
    folder: str
    secret: str | None


def add_up(context: WorkerContext, values: list[int]) -> Generator[Progress, None, Told]:
    """The sum of what each worker has, and where the first one works."""
    team = context.team
    found = torch.tensor([values[team.rank]])
    for done in range(3):
        time.sleep(0.2)
        yield Progress(done=done + 1, total=3)
    distributed.all_reduce(found)
    pids = [torch.zeros(1, dtype=torch.int64) for _ in range(team.size)]
    distributed.all_gather(pids, torch.tensor([os.getpid()]))
    return Told(
        sum=int(found),
        size=team.size,
        threads=(context.threads, torch.get_num_threads()),
        pids=[int(pid) for pid in pids],
        folder=os.getcwd(),
        secret=os.environ.get("TEAM_SECRET"),
    )


def fail_in(context: WorkerContext, rank: int, error: Exception) -> Generator[Progress, None, int]:
    """One of the workers fails; the others wait for it."""
    yield Progress(done=0, total=1)
    if context.team.rank == rank:
        raise error
    distributed.barrier()
    return 1


def work_on(context: WorkerContext, folder: Path) -> Generator[Progress, None, int]:
    """Writes each worker's process id, then works until it is killed."""
    (folder / str(context.team.rank)).write_text(str(os.getpid()))
    distributed.barrier()
    yield Progress(done=1, total=2)
    while True:
        time.sleep(0.1)
        distributed.barrier()
