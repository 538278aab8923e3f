"""Interleaved repetitions, their summary, and a file of results that survives interruptions."""

import gc
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.storage.atomic import write_json

Measurement = dict[str, Any]
"""Plain data; `ratio` is what is compared with the target."""

Clock = Callable[[], float]
"""Seconds: `time.perf_counter`, or `time.process_time` where other processes disturb."""

Side = Callable[[int], float]
"""Does one repetition, by number; returns how many units of work it did."""


def interleaved(
    sides: Mapping[str, Side], repetitions: int, clock: Clock
) -> dict[str, list[float]]:
    """Seconds a unit of each side and repetition, in the order A B A B.

    Whatever drifts (clock, temperature, other processes) then meets all sides alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repetition in range(repetitions):
        for name, side in sides.items():
            gc.collect()
            started = clock()
            units = side(repetition)
            seconds[name].append((clock() - started) / units)
    return seconds


def ratios(numerator: Sequence[float], denominator: Sequence[float]) -> list[float]:
    """Of values measured side by side."""
    return [a / b for a, b in zip(numerator, denominator, strict=True)]


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Median, spread, and the values themselves."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "values": list(values),
    }


def compared(values: Sequence[float], contains: str, **details: Any) -> Measurement:
    """A measurement of ratios, one a repetition.

    Args:
        values: the ratios.
        contains: what is in them, in words.
        details: everything else worth knowing.
    """
    return {
        "ratio": statistics.median(values),
        "ratios": summary(values),
        "contains": contains,
        **details,
    }


def fastest(
    candidates: Sequence[int], side: Callable[[int], float], clock: Clock
) -> tuple[int, dict[int, float]]:
    """The batch size with the least seconds a unit, and the seconds of all, best of two runs.

    Args:
        candidates: batch sizes; a single one is taken without measuring.
        side: does some work with a batch size; returns how many units.
        clock: that is read.
    """
    if len(candidates) == 1:
        return candidates[0], {}

    def at(size: int) -> Side:
        return lambda _: side(size)

    runs = interleaved({str(size): at(size) for size in candidates}, 2, clock)
    seconds = {size: min(runs[str(size)]) for size in candidates}
    return min(seconds, key=lambda size: seconds[size]), seconds


class Results:
    """Measurements by name, written to a file as soon as they are made.

    Args:
        path: of the file; None keeps them in memory.
        facts: what the measurements depend on; a file with other facts is not resumed.
        resume: whether to go on with the measurements of the file.
    """

    def __init__(self, path: Path | None, facts: Mapping[str, Any], *, resume: bool) -> None:
        self._path = path
        self.data: dict[str, Any] = {"facts": dict(facts), "cases": {}, "measurements": {}}
        if resume and path is not None and path.is_file():
            found = json.loads(path.read_text())
            if found["facts"] == json.loads(json.dumps(dict(facts))):
                self.data = found

    @property
    def measurements(self) -> dict[str, Measurement]:
        """By name."""
        found: dict[str, Measurement] = self.data["measurements"]
        return found

    def case(self, name: str, measure: Callable[[], Mapping[str, Measurement]]) -> None:
        """Makes the measurements of a case, unless they are there."""
        if name in self.data["cases"]:
            return
        started, cpu = time.perf_counter(), time.process_time()
        self.data["measurements"].update(measure())
        self.data["cases"][name] = {
            "seconds": time.perf_counter() - started,
            "cpu_seconds": time.process_time() - cpu,
        }
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, self.data)
