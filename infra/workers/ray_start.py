"""Ray itself: joined or started here, quietly, and without calling home."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import TypeVar

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_SCHEDULER_EVENTS", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")  # SIGTERM is no crash
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # a late call must not start another Ray

import ray

from generators.errors import ConfigError
from generators.places import without_credentials
from infra.errors import Interrupted
from infra.workers.base import available_cpus
from infra.workers.layout import Node

__all__ = ["LOOK_SECONDS", "ask", "check_address", "leaving_nodes", "living_nodes", "ray", "start"]

T = TypeVar("T")

LOOK_SECONDS = 0.05
"""Between two looks at what may have changed."""


def start(address: str | None) -> None:
    """Joins the cluster, or starts Ray; the caller's reaction to SIGTERM stays as it was.

    Raises:
        ConfigError: no cluster at the address.
    """
    previous = signal.getsignal(signal.SIGTERM)
    try:
        _init(address)
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, previous)  # Ray's own would skip the flow's ending


def ask(request: Callable[[], T], given_up: Callable[[], bool]) -> T:
    """What Ray answers, asked in a thread that nobody has to wait for.

    A signal to the whole process group ends Ray's own processes as well. Whoever asks them then
    waits for a minute, after which Ray ends this process.

    Raises:
        Interrupted: nobody needs the answer any more.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(request())
        except BaseException as error:
            answer.set_exception(error)

    if not given_up():
        threading.Thread(target=run, daemon=True).start()
    while not given_up():
        if wait([answer], LOOK_SECONDS).done:
            return answer.result()
    raise Interrupted("the workers have been stopped")


def living_nodes() -> list[Node]:
    """Resources of the machines that are there."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def leaving_nodes() -> frozenset[str]:
    """Ids of machines that are dead, or about to go: drained, or told that they are preempted."""
    dead = (node["NodeID"] for node in ray.nodes() if not node["Alive"])
    return frozenset([*dead, *ray._private.state.state.get_draining_nodes()])


def check_address(address: str) -> None:
    """Refuses what Ray would try to reach for minutes.

    Raises:
        ConfigError: a client address, or one where nobody listens.
    """
    if address in ("auto", "local"):
        return
    if "@" in address:
        raise ConfigError("workers.address", without_credentials(address), "no user or password")
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        allowed = "'auto' or host:port of a cluster this machine is part of"
        raise ConfigError("workers.address", address, allowed)
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        allowed = f"the address of a running Ray cluster ({error})"
        raise ConfigError("workers.address", address, allowed) from error


def _init(address: str | None) -> None:
    heard = os.environ.get("DISCL_WORKER_LOGS", "") not in ("", "0")
    quiet = {"logging_level": "ERROR", "log_to_driver": heard}
    asked = address or os.environ.get("RAY_ADDRESS")
    if asked:
        check_address(asked)
        try:
            ray.init(address=asked, **quiet)
        except (ConnectionError, ValueError) as error:
            raise ConfigError("workers.address", asked, "a running Ray cluster") from error
        return
    # Reached from this machine alone; or a token would be written to the user's folder. A cluster
    # that is joined has a mode of its own.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    with _on_loopback():
        ray.init(
            address="local",  # or it would join, and fail on, a cluster that runs on this machine
            include_dashboard=False,
            num_cpus=available_cpus(),
            **quiet,
        )


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Lets Ray and what it starts listen on the loopback address alone.

    An address of 127.0.0.1 it replaces by one that others reach. What makes it stay at home is the
    switch that it has for systems whose firewall would ask; it decides nothing else.
    """
    name, constants = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", ray._private.ray_constants
    before, switch = os.environ.get(name), constants.ENABLE_RAY_CLUSTER
    os.environ[name], constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = switch
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before
