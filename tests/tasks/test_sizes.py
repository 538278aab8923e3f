"""How many tasks a run has."""

from collections.abc import Generator

import pytest

from infra.jobs.in_turn import in_turn
from infra.workers.base import Progress, WorkerContext
from tasks.sizes import (
    MAX_GENERATING,
    MAX_GROUP,
    MAX_INGESTING,
    MAX_JUDGING,
    in_groups,
    named,
    parts_per_task,
    shards_per_task,
)


def groups_of(num_shards: int, num_levels: int, num_workers: int) -> list[int]:
    """Groups of each level, as a generation makes them."""
    in_level = num_shards // num_levels
    size = shards_per_task(in_level, num_shards, num_workers)
    return [len(in_groups(range(in_level), size))] * num_levels


@pytest.mark.parametrize("num_workers", [1, 8, 100, 250])
@pytest.mark.parametrize("num_shards", [10, 100, 10_000, 1_000_000])
def test_a_run_has_a_thousand_tasks_at_most(num_shards: int, num_workers: int) -> None:
    groups = groups_of(num_shards, 5, num_workers)
    in_all = sum(groups)
    assert in_all <= MAX_GENERATING + len(groups)
    together = parts_per_task(in_all, MAX_JUDGING)
    judging = sum(-(-count // together) for count in groups)
    ingesting = -(-num_shards // parts_per_task(num_shards, MAX_INGESTING))
    settled, committed = len(groups), 1
    assert ingesting <= MAX_INGESTING
    assert in_all + judging + ingesting + settled + committed <= 1000 + 3 * len(groups)


def test_small_runs_have_small_tasks() -> None:
    assert shards_per_task(10, 50, 2) == 2
    assert shards_per_task(3, 15, 2) == 1
    assert shards_per_task(700, 3500, 2) == MAX_GROUP
    assert parts_per_task(15, MAX_JUDGING) == 1
    assert shards_per_task(0, 0, 4) == 1


def test_many_workers_have_two_tasks_each() -> None:
    assert sum(groups_of(10_000, 5, 1000)) == 2000
    assert sum(groups_of(1_000_000, 5, 1000)) == 2000
    assert sum(groups_of(20_000, 5, 200)) == 400  # not 500: some would have three


def test_groups_are_named_by_their_first_part() -> None:
    assert in_groups("abcde", 2) == [("a", "b"), ("c", "d"), ("e",)]
    assert [named("a", 1), named("a", 3)] == ["a", "a +2"]


def count_to(context: WorkerContext, item: int) -> Generator[Progress, None, str]:
    for done in range(1, item + 1):
        yield Progress(done=done, total=item)
    return f"{item} on {context.device}"


def test_progress_of_jobs_in_turn_adds_up() -> None:
    values: list[str] = []

    def watched() -> Generator[Progress, None, None]:
        context = WorkerContext(device="cpu", threads=1)
        values.extend((yield from in_turn(context, count_to, (2, 0, 3))))

    shown = [(progress.done, progress.total) for progress in watched()]
    assert shown == [(1, 2), (2, 2), (3, 5), (4, 5), (5, 5)]
    assert values == ["2 on cpu", "0 on cpu", "3 on cpu"]
