"""`discl` in a process of its own, to be signalled."""

import os
import signal
import subprocess
import sys
from typing import IO, Final

TIMEOUT: Final = 480
"""Seconds for what takes one minute: a machine that others use as well may stall for several."""


def start_discl(*words: str, stdout: int | IO[str]) -> subprocess.Popen[str]:
    """Starts a command in a session of its own, without the Prefect settings of these tests.

    What it writes, errors included, goes to `stdout`.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "infra.cli", *words],
        env={k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")},
        stdout=stdout,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=_hear_interrupts,
    )


def _hear_interrupts() -> None:
    """Undoes what a background shell has set: it lets its children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
