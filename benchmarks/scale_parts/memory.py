"""A function in a fresh process: what it returns, how long it took and how much memory."""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any


def measured(function: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """What a module's function returns in a process of its own; `seconds` and `peak_mib` added.

    Its imports are in the memory and not in the time.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(_run, function, args).result()


def _run(function: Callable[..., dict[str, Any]], args: tuple[Any, ...]) -> dict[str, Any]:
    before, started = _peak_mib(), time.perf_counter()
    found = function(*args)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_mib": _peak_mib(), "before_mib": before, **found}


def _peak_mib() -> float:
    """Most memory this process has had; `getrusage` would count what its parent had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 1024
