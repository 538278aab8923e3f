"""A job made of jobs: one item after the other on one worker. Knows nothing of what they do."""

from collections.abc import Generator, Sequence
from typing import Any

from infra.workers.base import Job, Progress, WorkerContext


def in_turn(
    context: WorkerContext, job: Job[Any], items: Sequence[Any]
) -> Generator[Progress, None, list[Any]]:
    """Runs `job` for every item; returns what each gave.

    Progress adds up; its total is that of the items begun so far. Items that were finished before a
    worker died are run again, so the job must do nothing twice.
    """
    values, done, total = [], 0, 0
    for item in items:
        running, last = job(context, item), Progress(done=0, total=0)
        while True:
            try:
                last = next(running)
            except StopIteration as ended:
                values.append(ended.value)
                break
            yield Progress(done=done + last.done, total=total + last.total, gauge=last.gauge)
        done, total = done + last.done, total + last.total
    return values
