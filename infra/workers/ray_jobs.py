"""Jobs of a Ray cluster, through the HTTP server of its dashboard."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import requests

from generators.errors import ConfigError
from infra.errors import RunFailed
from infra.workers.ray_start import ray

ADDRESS_VARIABLE: Final = "RAY_API_SERVER_ADDRESS"
PATIENCE_SECONDS = 300.0
"""Without an answer of the cluster, while a job is followed."""
PAUSE_SECONDS = 2.0
STOPPED: Final = "STOPPED"
ENDED: Final = frozenset({"SUCCEEDED", "FAILED", STOPPED})
STOP_SECONDS: Final = 15
"""For a job that is stopped, to end in order: with a Prefect server that stays, Ray's own 3 s are
not enough. A private one is stopped at the same moment, and no time would be."""

TALKERS: Final = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
"""Loggers that say what they are doing."""

UNREACHED = (ConnectionError, requests.RequestException, aiohttp.ClientError, RuntimeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A job to submit.

    Attributes:
        command: of the driver, in the shell of a node.
        folder: uploaded; the command and all workers run in a copy.
        environment: variables of the driver and its workers; secrets.
        facts: shown with the job.
    """

    command: str
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """A job as the cluster knows it.

    Attributes:
        name: by which it is asked for.
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        message: what Ray says of the status.
        command: of the driver.
        facts: that were submitted.
        started: seconds since 1970.
        exit_code: of the driver, if it came to its end.
    """

    name: str
    status: str
    message: str
    command: str
    facts: Mapping[str, str]
    started: float
    exit_code: int | None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.status in ENDED


class JobClient:
    """Submits, follows and stops jobs.

    Args:
        address: of the dashboard.

    Raises:
        ConfigError: no such dashboard, or it does not let us in.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            allowed = "the URL of a cluster's dashboard, e.g. http://head:8265"
            raise ConfigError("--address", address, allowed)
        if parts.username or parts.password:
            raise ConfigError("--address", f"{parts.scheme}://...", "a URL without credentials")
        os.environ[ADDRESS_VARIABLE] = address  # RAY_ADDRESS would win over what is passed
        from ray.job_submission import JobSubmissionClient

        for talker in TALKERS:
            logging.getLogger(talker).setLevel(logging.WARNING)
        self.address = address
        with self._understood():
            self._client = JobSubmissionClient(address)

    def submit(self, spec: JobSpec) -> str:
        """Starts a job; returns its name."""
        environment = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS), **spec.environment}
        runtime: dict[str, Any] = {"env_vars": environment}
        if spec.folder is not None:
            runtime["working_dir"] = str(spec.folder)
        with self._understood():
            name: str = self._client.submit_job(
                entrypoint=spec.command, runtime_env=runtime, metadata=dict(spec.facts)
            )
        return name

    def state(self, name: str) -> JobState:
        """What has become of a job.

        Raises:
            ConfigError: there is no such job.
        """
        with self._understood(name):
            return _state(self._client.get_job_info(name))

    def states(self) -> list[JobState]:
        """All jobs that were submitted, the latest first."""
        with self._understood():
            found = [_state(job) for job in self._client.list_jobs() if job.submission_id]
        return sorted(found, key=lambda job: job.started, reverse=True)

    def stop(self, name: str) -> bool:
        """Asks a job to end; whether it was at work.

        Raises:
            ConfigError: there is no such job.
        """
        with self._understood(name):
            stopped: bool = self._client.stop_job(name)
        return stopped

    def follow(self, name: str, show: Callable[[str], None]) -> JobState:
        """Hands on what a job writes, from its begin to its end. A lost connection is made again.

        Raises:
            ConfigError: there is no such job.
            RunFailed: the cluster gives no answer any more.
        """
        state, shown, heard = self.state(name), 0, time.monotonic()

        def count(text: str) -> None:
            nonlocal shown, heard
            heard = time.monotonic()
            shown += len(text)
            show(text)

        while True:
            try:
                asyncio.run(self._tail(name, shown, count))
                state = _state(self._client.get_job_info(name))
                if state.ended:
                    return state
                heard = time.monotonic()
            except UNREACHED as error:
                if time.monotonic() - heard > PATIENCE_SECONDS:
                    raise RunFailed(
                        f"no answer from {self.address} for {PATIENCE_SECONDS:g} s ({error}); "
                        f"the job may be at work still: discl jobs follow {name}"
                    ) from error
            time.sleep(PAUSE_SECONDS)

    async def _tail(self, name: str, shown: int, show: Callable[[str], None]) -> None:
        """What a job writes after its first characters, which have been shown."""
        async for text in self._client.tail_job_logs(name):
            new, shown = text[shown:], max(0, shown - len(text))
            if new:
                show(new)

    @contextmanager
    def _understood(self, name: str = "") -> Iterator[None]:
        """Ray's errors as mistakes of the user."""
        try:
            yield
        except ray.exceptions.AuthenticationError as error:
            allowed = (
                "a cluster that lets you in: it asks for a token; set RAY_AUTH_MODE=token and "
                "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
            )
            raise ConfigError("--address", self.address, allowed) from error
        except (ConnectionError, requests.RequestException) as error:
            allowed = f"the dashboard of a running Ray cluster ({error})"
            raise ConfigError("--address", self.address, allowed) from error
        except RuntimeError as error:  # all that Ray says of an answer other than 200
            if name and "status code 404" in str(error):
                allowed = f"a job of {self.address}: see discl jobs list"
                raise ConfigError("job", name, allowed) from error
            raise RunFailed(f"{self.address}: {error}") from error


def _state(job: Any) -> JobState:
    return JobState(
        name=job.submission_id,
        status=str(job.status.value),
        message=job.message or "",
        command=job.entrypoint,
        facts=job.metadata or {},
        started=(job.start_time or 0) / 1000,
        exit_code=job.driver_exit_code,
    )
