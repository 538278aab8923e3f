"""Servers that a run starts listen on this machine alone: looked up at the operating system."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from infra.prefect_server import PrivateServer

pytestmark = pytest.mark.slow

LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def listening(root: psutil.Process) -> dict[int, str]:
    """Port to address of all sockets on which a process or what it has started listens."""
    found = {}
    for process in [root, *root.children(recursive=True)]:
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                found[connection.laddr.port] = connection.laddr.ip
    return found


def test_the_private_prefect_server(tmp_path: Path) -> None:
    server = PrivateServer(tmp_path / "prefect")
    try:
        server.wait()
        found = listening(psutil.Process(os.getpid()))
        port = int(server.url.rpartition(":")[2].partition("/")[0])
        assert found[port] in LOOPBACK
    finally:
        server.stop()


def test_the_local_ray() -> None:
    code = (
        "import sys, psutil; from infra.workers import ray_start\n"
        "ray_start.start(None)\n"
        "print('up', flush=True); sys.stdin.readline()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        while (line := process.stdout.readline()) != "up\n":
            assert line, "Ray did not start"
        found = listening(psutil.Process(process.pid))
        assert len(found) >= 3  # control store, raylet, object manager
        assert {address for address in found.values() if address not in LOOPBACK} == set()
    finally:
        process.communicate("\n", timeout=60)
