"""A persistent Prefect server of its own, asked by HTTP and by commands as any client does."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tenacity import retry, retry_if_exception, stop_after_attempt, wait_fixed

from tests.support.commands import TIMEOUT

ROOT = Path(__file__).parents[2]


class Api:
    """What is asked of a server."""

    def __init__(self, url: str, home: Path) -> None:
        self.url = url
        kept = {name: value for name, value in os.environ.items() if name[:7] != "PREFECT"}
        self.environment = {**kept, "PREFECT_API_URL": url, "PREFECT_HOME": str(home)}

    @retry(
        retry=retry_if_exception(lambda error: getattr(error, "code", None) == 503),
        stop=stop_after_attempt(10),
        wait=wait_fixed(2),
        reraise=True,
    )
    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Asks again where the server is busy, as Prefect's own client does."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}{path}", data, {"Content-Type": "application/json"})
        with urlopen(request, timeout=120) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def call(self, *command: str, code: int = 0, cwd: Path = ROOT) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            env=self.environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def runs_of(self, flow: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask(
            "/flow_runs/filter", {"flows": {"name": {"any_": [flow]}}}
        )
        return [run for run in found if run["state_type"] != "SCHEDULED"]

    def wait_for(self, flow: str, output: Path, since: str = "") -> dict[str, Any]:
        """The first run of a flow on an output that was started after a time and has ended."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            for run in self.runs_of(flow):
                ended = run["state_type"] in {"COMPLETED", "FAILED", "CRASHED"}
                here = run["parameters"].get("output") == str(output)
                if here and ended and (run["start_time"] or "") > since:
                    return run
            time.sleep(0.5)
        raise AssertionError(f"no run of {flow} ended")

    @contextmanager
    def started(self, *command: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
        """A process at work while the block runs; what it has written is in `log.txt` there."""
        with (cwd / "log.txt").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env=self.environment,
                cwd=cwd,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(timeout=60)
                except subprocess.TimeoutExpired:
                    if command[0] != "prefect":  # whose workers once took longer
                        raise
                finally:  # what it has started and left
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
