"""How much goes into one task: enough that a run of any size has about a thousand tasks at most.

A task costs the driver and the Prefect server the same whether it is of one shard or of twenty, and
it keeps one worker busy: so workers, where there are many, get two tasks each all the same.
"""

from collections.abc import Sequence
from typing import Any

MAX_GROUP = 8
"""Most shards in one generating task of a run of usual size: they keep batches full."""
MAX_GENERATING = 500
MAX_JUDGING = 400
MAX_INGESTING = 100
"""Most tasks of a kind, beside a last one of each level or split that is not full."""

WORDS_PER_SECOND = 100
"""About progress, most, of all generating workers together."""


def shards_per_task(in_level: int, in_run: int, num_workers: int) -> int:
    """Shards of a level that one task makes.

    Args:
        in_level: shards of the level.
        in_run: of all levels.
        num_workers: at work on them.
    """
    # Two tasks a worker at least, so that the last ones do not leave others idle.
    usual = min(MAX_GROUP, max(1, in_level // (2 * num_workers)))
    # As many for each worker: with two for some and three for others, the run takes three.
    most = num_workers * max(2, MAX_GENERATING // num_workers)
    return max(usual, -(-in_run // most))


def seconds_between_words(num_workers: int) -> float:
    """How long a worker is silent between two words about its progress.

    A word takes about a millisecond of the one driver that all workers talk to.
    """
    return num_workers / WORDS_PER_SECOND


def parts_per_task(num_parts: int, most_tasks: int) -> int:
    """Parts of equal weight that go into one task."""
    return max(1, -(-num_parts // most_tasks))


def in_groups(items: Sequence[Any], size: int) -> list[tuple[Any, ...]]:
    """Consecutive items, `size` together; the last ones may be fewer."""
    return [tuple(items[start : start + size]) for start in range(0, len(items), size)]


def named(first: str, count: int) -> str:
    """The name of a task by the first of its parts."""
    return first if count == 1 else f"{first} +{count - 1}"
