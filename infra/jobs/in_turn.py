"""A job made of jobs: one item after the other on one worker. Knows nothing of what they do."""

from collections.abc import Generator, Sequence
from typing import Any

from infra.workers.base import Job, Progress, WorkerContext, mapped


def in_turn(
    context: WorkerContext, job: Job[Any], items: Sequence[Any]
) -> Generator[Progress, None, list[Any]]:
    """Runs `job` for every item; returns what each gave.

    Progress adds up; its total is that of the items begun so far. Items that were finished before a
    worker died are run again, so the job must do nothing twice.
    """
    values: list[Any] = []
    before = shown = Progress(done=0, total=0)

    def added(step: Progress) -> Progress:
        nonlocal shown
        done, total = before.done + step.done, before.total + step.total
        shown = Progress(done=done, total=total, gauge=step.gauge)
        return shown

    for item in items:
        before = shown
        values.append((yield from mapped(job(context, item), added)))
    return values
