"""One `discl generate` in a process of its own, watched from outside."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

TIMEOUT = 150
"""Seconds after which a command counts as hanging."""
HANGS = -1000
"""Exit code given to a command that had to be ended."""
PATIENCE_SECONDS = 60
"""Until what a command has started must be gone after it."""
MARK = "DISCL_CHAOS_COMMAND"
"""Variable that every process has which a command started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is started, again and again.

    Attributes:
        config: file.
        output: folder or URL of the run.
        folder: for the texts that commands print; not on the disk that is filled.
        environment: added to this process's.
        options: further arguments.
    """

    config: Path
    output: Path | str
    folder: Path
    environment: Mapping[str, str]
    options: Sequence[str] = ()


class Command:
    """A running command."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self._mark = str(time.monotonic_ns())
        self._log = order.folder / f"{self._mark}.log"
        program = (sys.executable, "-m", "infra.cli", "generate")
        outer = {name: v for name, v in os.environ.items() if not name.startswith("PREFECT_")}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*program, str(order.config), "--output", str(order.output), *order.options],
                env={**outer, "OMP_NUM_THREADS": "1", MARK: self._mark, **order.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_hear_interrupts,
            )
        self.started, self._hung = time.monotonic(), False

    def text(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    @property
    def runs(self) -> bool:
        """Whether it is at work."""
        return self.process.poll() is None

    def wait(self, seconds: float = TIMEOUT) -> int:
        """Its exit code, or `HANGS` if it did not end in time and was ended."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.end()
            self._hung = True
        return HANGS if self._hung else code

    def signal_group(self, number: signal.Signals) -> None:
        """Signals all of its session, as a terminal does."""
        if self.runs:
            os.killpg(self.process.pid, number)

    def end(self) -> None:
        """SIGKILL to the command alone, if it is still there."""
        if self.runs:
            self.process.kill()
            self.process.wait()

    def left_behind(self) -> list[psutil.Process]:
        """Processes it has started that outlive it for long, whoever is their parent now."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (left := self._family()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return left

    def _family(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if self._is_mine(process)]

    def _is_mine(self, process: psutil.Process) -> bool:
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            return alive and bool(process.environ().get(MARK) == self._mark)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False


def _hear_interrupts() -> None:
    """Undoes what a background shell has set: it lets its children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
