"""The Prefect API a run uses: the configured one, or a private local server that ends with the run.

The private server lives in its own session (a Ctrl-C in the terminal must not reach it before the
flow has stored its states) under a guardian process that ends it when the run's process is gone,
even by SIGKILL. `python -m infra.prefect_server PARENT PORT` is the guardian.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.errors import RunFailed

START_SECONDS = 180
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_CLI_PROMPT": "false",
}


def configured_api() -> str | None:
    """URL of the Prefect API the user has configured by environment or profile, if any."""
    if os.environ.get("PREFECT_API_URL"):
        return os.environ["PREFECT_API_URL"]
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    if not (home / "profiles.toml").is_file() and not Path("prefect.toml").is_file():
        return None
    from prefect.settings import PREFECT_API_URL

    url: str | None = PREFECT_API_URL.value()
    return url


class PrivateServer:
    """A local server whose files are under `home`. Start it early: it takes 10 to 40 seconds."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._port = _free_port()
        self.url = f"http://127.0.0.1:{self._port}/api"
        environment = {**os.environ, **QUIET, "PREFECT_HOME": str(home.resolve())}
        environment.pop("PREFECT_API_URL", None)
        command = [sys.executable, "-m", "infra.prefect_server", str(os.getpid()), str(self._port)]
        self._log = (home / "server.log").open("ab")
        self._guardian = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def wait(self) -> str:
        """Its URL, once it answers.

        Raises:
            RunFailed: it ended, or does not answer in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._guardian.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:
                    if answer.status == 200:
                        return self.url
            except OSError:
                time.sleep(0.2)
        self.stop()
        raise RunFailed(f"the local Prefect server did not start; see {self._log.name}")

    def stop(self) -> None:
        """Ends the server."""
        if self._guardian.poll() is None:
            self._guardian.terminate()
            try:
                self._guardian.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self._guardian.pid, signal.SIGKILL)
                self._guardian.wait()
        self._log.close()


@contextmanager
def prefect_api(home: Path) -> Iterator[PrivateServer | None]:
    """A private server while the block runs, or None where an API is configured.

    Must be entered before prefect is imported: it sets the environment prefect reads.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if configured_api():
        yield None
        return
    server = PrivateServer(home)
    os.environ["PREFECT_API_URL"] = server.url
    os.environ["PREFECT_HOME"] = str(home.resolve())
    os.environ.setdefault("PREFECT_RESULTS_LOCAL_STORAGE_PATH", str(home.resolve() / "results"))
    try:
        yield server
    finally:
        server.stop()
        os.environ.pop("PREFECT_API_URL", None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _guard(parent: int, port: int) -> int:
    """Runs the server until this process is told to end or the parent is gone."""
    command = [sys.executable, "-m", "prefect", "server", "start", "--no-ui"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command)
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while server.poll() is None and not ended and _alive(parent):
        time.sleep(0.3)
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    # Uvicorn's children, if any, share this session's process group.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(os.getpid(), signal.SIGTERM)
    return 0


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(_guard(int(sys.argv[1]), int(sys.argv[2])))
