"""A Ray cluster of several nodes on this machine, whose parts can be killed and replaced."""

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from infra.workers import ray_pool  # noqa: F401  # Ray's environment, before ray is imported

NODES = 2
CPUS_PER_NODE = 2
PATIENCE_SECONDS = 30


class RayCluster:
    """A head without CPUs, where drivers live, and nodes with them."""

    def __init__(self) -> None:
        self._port = _free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="ray-")  # short: it holds sockets
        self._cluster: Any = None
        self._nodes: list[Any] = []
        self.repair()

    @property
    def address(self) -> str:
        """Stays the same, whatever is replaced."""
        found: str = self._cluster.address
        return found

    def repair(self) -> None:
        """Replaces nodes whose raylet is gone; all of the cluster, if it is the head's."""
        if self._cluster is not None and _raylet(self._cluster.head_node) is None:
            self._stop()
        with self._apart():
            if self._cluster is None:
                self._cluster = self._start()
            for node in [node for node in self._nodes if _raylet(node) is None]:
                self._cluster.remove_node(node, allow_graceful=False)
                self._nodes.remove(node)
            while len(self._nodes) < NODES:
                self._nodes.append(self._cluster.add_node(num_cpus=CPUS_PER_NODE))
            self._cluster.wait_for_nodes()

    def raylets(self) -> list[psutil.Process]:
        """Of the nodes, not of the head."""
        found = [_raylet(node) for node in self._nodes]
        return [raylet for raylet in found if raylet is not None]

    def head(self) -> list[psutil.Process]:
        """The raylet of the head."""
        raylet = _raylet(self._cluster.head_node)
        return [] if raylet is None else [raylet]

    def actors_by_node(self) -> list[list[psutil.Process]]:
        """Processes of living actors."""
        return [_actors_below(raylet) for raylet in self.raylets()]

    def actors(self) -> list[psutil.Process]:
        """Processes of living actors of all nodes."""
        return [actor for node in self.actors_by_node() for actor in node]

    def wait_until_idle(self) -> list[psutil.Process]:
        """Actors that outlive their run's end for long; none is good."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (left := self.actors()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def close(self) -> None:
        """Ends all of it."""
        self._stop()
        self._folder.cleanup()

    def _start(self) -> Any:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, "gcs_server_port": self._port}
        return Cluster(initialize_head=True, head_node_args=head)

    def _stop(self) -> None:
        if self._cluster is not None:
            with self._apart():
                self._cluster.shutdown()
            self._cluster, self._nodes = None, []

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Ray's notes of running clusters stay away from those of others on this machine."""
        before = os.environ.get("RAY_TMPDIR")
        os.environ["RAY_TMPDIR"] = str(Path(self._folder.name))
        try:
            yield
        finally:
            if before is None:
                del os.environ["RAY_TMPDIR"]
            else:
                os.environ["RAY_TMPDIR"] = before


def _raylet(node: Any) -> psutil.Process | None:
    """Of a node, if it lives."""
    try:
        process = psutil.Process(node.all_processes["raylet"][0].process.pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except (psutil.NoSuchProcess, KeyError):
        return None


def _actors_below(raylet: psutil.Process) -> list[psutil.Process]:
    try:
        return [child for child in raylet.children(recursive=True) if "ray::Actor" in _title(child)]
    except psutil.NoSuchProcess:
        return []


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
