"""`discl serve` and `discl deploy`: a config as a Prefect deployment, started by hand or schedule.

Nothing is built or uploaded: the flow is named by its module, and whoever runs it has the package
installed.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError
from rich.console import Console

from generators.errors import ConfigError, UserError, one_of
from generators.local_copies import cache_folder
from generators.places import without_credentials
from infra.config import RunConfig
from infra.prefect_server import configured_api, prefect_api
from infra.storage.runs import RunStore, run_store

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

FLOWS: Final = ("run", "study", "generate", "train", "top-up", "audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be run, and when.

    Attributes:
        flow: one of `FLOWS`.
        name: of the deployment; empty: the config's.
        output: folder or URL; None: runs/NAME.
        cron: in UTC; empty: no schedule.
        every_minutes: the same by interval.
        secrets: name of a Secret block.
        parameters: others of the flow.
    """

    flow: str = "run"
    name: str = ""
    output: str | None = None
    cron: str = ""
    every_minutes: int | None = None
    secrets: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Refuses what contradicts itself.

        Raises:
            ConfigError: naming the option.
        """
        if self.flow not in FLOWS:
            raise ConfigError("--flow", self.flow, one_of(FLOWS, self.flow))
        if self.parameters and self.flow != "top-up":
            name, value = next(iter(self.parameters.items()))
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(option, value, "nothing, but for --flow top-up")
        if self.cron and self.every_minutes:
            raise ConfigError("--every", self.every_minutes, "either --cron or --every")
        if self.every_minutes is not None and self.every_minutes < 1:
            raise ConfigError("--every", self.every_minutes, "minutes, at least 1")


def serve(config: RunConfig, wish: Wish) -> None:
    """Registers a deployment and runs it in this process's children, until it is stopped."""
    wish.check()
    console, store = Console(), _store(config, wish)
    with _quiet_api(store) as url:
        from prefect import serve as wait_for_runs

        shown = without_credentials(url)
        deployment = _deployment(config, store, wish)
        name = f"{wish.flow}/{deployment.name}"
        console.print(f"deployment {name} on {shown}", highlight=False)
        console.print(
            f"start it: PREFECT_API_URL={shown} prefect deployment run {name}",
            highlight=False,
            soft_wrap=True,
        )
        wait_for_runs(deployment, limit=1, print_starting_message=False)


def deploy(config: RunConfig, wish: Wish, pool: str) -> None:
    """Registers a deployment for the workers of a pool.

    Raises:
        UserError: no Prefect API is configured, or it has no such pool.
    """
    wish.check()
    if configured_api() is None:
        raise UserError(
            "discl deploy needs a Prefect API that stays: set PREFECT_API_URL (for one on this "
            "machine: `prefect server start`), or use `discl serve`, which needs none"
        )
    console, store = Console(), _store(config, wish)
    with _quiet_api(store):
        _check_pool(pool)
        deployment = _deployment(config, store, wish, pool)
        deployment.apply()
    name = f"{wish.flow}/{deployment.name}"
    console.print(f"deployment {name} in pool {pool}", highlight=False)
    console.print(f"start it: prefect deployment run {name}", highlight=False)


@contextmanager
def _quiet_api(store: RunStore) -> Iterator[str]:
    """The API that is configured, or a private one; gives its address.

    The private one's files are not in the output, which a run expects to find empty.
    """
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO")  # runs are followed here
    home = cache_folder() / "serve" / hashlib.sha256(str(store.root).encode()).hexdigest()[:16]
    with prefect_api(home) as server:
        if server:
            server.wait()
            yield server.url
        else:
            yield configured_api() or ""


def _store(config: RunConfig, wish: Wish) -> RunStore:
    return run_store(wish.output or f"runs/{config.name}")


def _deployment(
    config: RunConfig, store: RunStore, wish: Wish, pool: str | None = None
) -> "RunnerDeployment":
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.types.entrypoint import EntrypointType

    from flows import audit, generate, run, top_up, train

    flows: dict[str, Any] = {
        "run": run.run,
        "generate": generate.generate,
        "train": train.train,
        "top-up": top_up.top_up,
        "audit": audit.audit,
    }
    parameters = {"output": str(store.root), **wish.parameters}
    if wish.flow != "audit":
        parameters["config"] = config.model_dump(mode="json")
    if wish.secrets:
        parameters["secrets"] = wish.secrets
    try:
        deployment: RunnerDeployment = flows[wish.flow].to_deployment(
            name=wish.name or config.name,
            cron=wish.cron or None,
            interval=timedelta(minutes=wish.every_minutes) if wish.every_minutes else None,
            parameters=parameters,
            tags=["discl"],
            # An output has one driver at a time: a run that is due meanwhile waits for it.
            concurrency_limit=ConcurrencyLimitConfig(limit=1),
            work_pool_name=pool,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
    except ValidationError as error:
        if not wish.cron:
            raise
        allowed = "five fields, e.g. '0 2 * * *' for every night at two"
        raise ConfigError("--cron", wish.cron, allowed) from error
    return deployment


def _check_pool(pool: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(pool)
        except ObjectNotFound as error:
            there = [found.name for found in client.read_work_pools()]
            allowed = f"a work pool: `prefect work-pool create {pool} --type process`, or "
            raise ConfigError("--pool", pool, allowed + one_of(there, pool)) from error
