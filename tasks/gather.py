"""What tasks made, without losing one: all finish before a failure is raised."""

from collections.abc import Iterable, Sequence
from typing import Any

from prefect.futures import as_completed

from generators.errors import UserError
from generators.places import Place
from infra.errors import RunFailed
from infra.storage.shards import ShardRef, read_refs


def gather(futures: Iterable[Any]) -> list[Any]:
    """Results in order of submission.

    Raises:
        UserError: the first one a task ended with.
        RunFailed: tasks failed otherwise; what the others made is kept.
    """
    ordered = list(futures)
    for _ in as_completed(ordered):
        pass
    results = [future.result(raise_on_failure=False) for future in ordered]
    failures = [result for result in results if isinstance(result, BaseException)]
    if failures:
        raise_failures(failures, len(ordered))
    return results


def raise_failures(failures: Sequence[BaseException], num_units: int) -> None:
    """Raises for what tasks ended with.

    Raises:
        UserError: the first one among the failures.
        RunFailed: there is none.
    """
    for failure in failures:
        if isinstance(failure, UserError):
            raise failure
    raise RunFailed(
        f"{len(failures)} of {num_units} units failed, the first with: {failures[0]!r}. "
        "What the others made is kept; the same command tries the rest again."
    ) from failures[0]


def present(folder: Place, names: Sequence[str]) -> list[ShardRef]:
    """The finished shards of these names.

    Raises:
        RunFailed: one is not there, or not whole: something else changed the folder meanwhile.
    """
    found = read_refs(folder, names)
    lost = [name for name in names if name not in found]
    if lost:
        raise RunFailed(f"{folder}: shard {lost[0]} disappeared while the run was at work")
    return [found[name] for name in dict.fromkeys(names)]
