"""Shares workers between runs: a run occupies as many slots of a Prefect limit as it has workers.

The slots are held by a lease, which the driver renews while it lives: those of a driver that was
killed are free again when its lease has ended.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

from generators.errors import ConfigError

LEASE_SECONDS = 60.0
"""Prefect's shortest. A killed driver's slots are free after that and a few seconds."""


@contextmanager
def occupied(limit: str | None, slots: int) -> Iterator[None]:
    """Holds slots of a global concurrency limit; waits for them as long as it takes.

    Raises:
        ConfigError: there is no such limit, or it has fewer slots than are asked for.
    """
    if limit is None:
        yield
        return
    check_limit(limit, slots)
    with concurrency(limit, occupy=slots, lease_duration=LEASE_SECONDS, strict=True):
        yield


def check_limit(limit: str, slots: int) -> None:
    """Refuses a limit that would never let the run begin.

    Raises:
        ConfigError: there is no such limit, or it has fewer slots than are asked for.
    """
    with get_client(sync_client=True) as client:
        try:
            found = client.read_global_concurrency_limit_by_name(limit)
        except ObjectNotFound as error:
            allowed = f"a limit that exists: `prefect gcl create {limit} --limit {slots}`"
            raise ConfigError("workers.pool_limit", limit, allowed) from error
    if found.limit < slots:
        allowed = f"a limit of at least the {slots} workers of this run; it has {found.limit}"
        raise ConfigError("workers.pool_limit", limit, allowed)
