"""A Prefect server that can be killed and started again on the same port and database."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from infra.prefect_server import QUIET

START_SECONDS = 180


class PrefectServer:
    """Starts at once; `wait` says when it answers.

    Args:
        home: of its database.
    """

    def __init__(self, home: Path) -> None:
        self._home, self._port = home, _free_port()
        self.url = f"http://127.0.0.1:{self._port}/api"
        self._guardian: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Starts it unless it runs."""
        if self._guardian is not None and self._guardian.poll() is None:
            return
        self._home.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "infra.prefect_server", str(os.getpid()), str(self._port)]
        with (self._home / "server.log").open("ab") as log:
            self._guardian = subprocess.Popen(
                command,
                env={**os.environ, **QUIET, "PREFECT_HOME": str(self._home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Returns when it answers."""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                direct.open(f"{self.url}/health", timeout=2).close()
                return
            except OSError:
                time.sleep(0.2)
        raise TimeoutError(f"the Prefect server did not start; see {self._home}/server.log")

    def kill(self) -> None:
        """SIGKILL to the server and its guardian."""
        if self._guardian is not None:
            os.killpg(self._guardian.pid, signal.SIGKILL)
            self._guardian.wait()

    def stop(self) -> None:
        """Ends it in order."""
        if self._guardian is not None and self._guardian.poll() is None:
            self._guardian.terminate()
            self._guardian.wait(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
