"""A function in a fresh process: what it returns, how long it took and how much memory."""

import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def measured(function: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """What a module's function returns in a process of its own; `seconds` and `peak_mib` added.

    Its imports are in the memory and not in the time.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(_run, function, args).result()


def _run(function: Callable[..., dict[str, Any]], args: tuple[Any, ...]) -> dict[str, Any]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    found = function(*args)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "peak_mib": peak / 1024, "before_mib": before / 1024, **found}
