"""The Prefect API a run uses: the configured one, or a private local server that ends with the run.

The private server lives in its own session (a Ctrl-C in the terminal must not reach it before the
flow has stored its states) under a guardian process that ends it when the run's process is gone,
even by SIGKILL. `python -m infra.prefect_server PARENT PORT` is the guardian.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from generators.errors import UserError
from generators.places import without_credentials
from infra.errors import RunFailed
from infra.prefect_database import give_database

START_SECONDS = 180
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",  # failures are reported once, by what the flow raises
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_CLI_PROMPT": "false",
}

PLAIN_RESULTS: Final[dict[str, Any]] = {
    "type": "json",
    "jsonlib": "json",
    "object_encoder": None,
    "object_decoder": None,
    "dumps_kwargs": {},
    "loads_kwargs": {},
}
"""How tasks store their results: without classes, which Prefect would import by their names."""


def configured_api() -> str | None:
    """URL of the Prefect API the user has configured by environment, file or profile, if any.

    Reads the files itself: importing prefect would settle its settings before ours are made.
    """
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    profiles = _toml(Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml")))
    profile = os.environ.get("PREFECT_PROFILE") or profiles.get("active", "")
    found = (
        os.environ.get("PREFECT_API_URL"),
        _dotenv(Path(".env")).get("PREFECT_API_URL"),
        _at(_toml(Path("prefect.toml")), "api", "url"),
        _at(_toml(Path("pyproject.toml")), "tool", "prefect", "api", "url"),
        _at(profiles, "profiles", profile, "PREFECT_API_URL"),
    )
    return next((url for url in found if url), None)


def check_answers(url: str) -> None:
    """Refuses a configured API that is not there.

    Raises:
        UserError: nobody listens at the address, or there is no such host.
    """
    try:
        urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=10).close()
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionRefusedError | socket.gaierror):
            raise UserError(
                "the Prefect API that is configured does not answer: "
                f"{without_credentials(url)} ({error.reason}); "
                "start it, or unset PREFECT_API_URL to use a private one"
            ) from error
    except OSError:
        return  # slow, or particular about its clients: Prefect's own client knows better


class PrivateServer:
    """A local server whose files are under `home`. Start it early: it takes 5 to 40 seconds."""

    def __init__(self, home: Path) -> None:
        disarm(home)
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
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while time.monotonic() < deadline:
            if self._guardian.poll() is not None:
                break
            try:
                with direct.open(f"{self.url}/health", timeout=2) as answer:
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

    Raises:
        UserError: the configured API does not answer.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    configured = configured_api()
    if configured:
        check_answers(configured)
        yield None
        return
    server = PrivateServer(home)
    for name in ("NO_PROXY", "no_proxy"):  # a proxy does not reach this machine's loopback
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1")))
    os.environ["PREFECT_API_URL"] = server.url
    os.environ["PREFECT_HOME"] = str(home.resolve())
    os.environ.setdefault("PREFECT_RESULTS_LOCAL_STORAGE_PATH", str(home.resolve() / "results"))
    try:
        yield server
    except BaseException:
        # Prefect hands in its last events when the interpreter ends; without a server it would
        # try for minutes.
        atexit.register(server.stop)
        raise
    server.stop()
    os.environ.pop("PREFECT_API_URL", None)


def disarm(home: Path) -> None:
    """Makes a folder for Prefect, and removes what it would run for whoever has filled it before.

    It is below an output, which may be somebody else's: `logging.yml` names functions to call, a
    profile such files, and a stored result says itself how it is read, be it by unpickling. Kept
    are the history and results that are read as plain JSON.
    """
    for folder in (home, home / "results"):
        if folder.is_symlink():
            folder.unlink()
    home.mkdir(parents=True, exist_ok=True)
    for name in ("logging.yml", "profiles.toml"):
        (home / name).unlink(missing_ok=True)
    for path in (home / "results").glob("*"):
        if path.is_symlink() or (not path.is_dir() and not _is_plain(path)):
            path.unlink()


def _is_plain(path: Path) -> bool:
    """Whether a stored result is what tasks here store, and nothing else."""
    try:
        record = json.loads(path.read_bytes(), object_pairs_hook=_unique) if path.is_file() else {}
        plain: bool = record["metadata"]["serializer"] == PLAIN_RESULTS
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return plain and record.keys() == {"metadata", "result"}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object without a key that is there twice, of which another parser may take the other."""
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key twice")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _guard(parent: int, port: int) -> int:
    """Runs the server until this process is told to end or the parent is gone."""
    command = [sys.executable, "-m", "prefect", "server", "start", "--no-ui"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)  # before there is a server to leave behind
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    give_database(Path(os.environ["PREFECT_HOME"]))
    server = subprocess.Popen(command)
    # A dead parent may be a zombie for long, and its number may be another's: but it is not ours.
    while server.poll() is None and not ended and os.getppid() == parent:
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


def _toml(path: Path) -> dict[str, Any]:
    """A TOML file; empty where it is missing or damaged, which is Prefect's to complain of."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _dotenv(path: Path) -> dict[str, str]:
    """Assignments of a `.env` file."""
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    parts = (line.removeprefix("export ").partition("=") for line in lines)
    return {name.strip(): value.strip().strip("'\"") for name, _, value in parts}


def _at(data: Any, *keys: str) -> str | None:
    """The text at a path of keys, if there is one."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, str) else None


if __name__ == "__main__":
    sys.exit(_guard(int(sys.argv[1]), int(sys.argv[2])))
