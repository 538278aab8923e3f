"""What a user sees while a run works: stages, units done, rate and time left.

The display is chosen by whoever starts the run; a run started by a scheduler writes log lines.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from infra.logs import log_settings
from infra.meter import Meter
from infra.metrics import LAST_PROGRESS, STAGE_DONE, STAGE_PLANNED

EVERY_SECONDS = 5.0
SETTLED_SECONDS = 1.0
LOG = logging.getLogger("discl.run")


class Stage(Protocol):
    """One stage of a run; may be advanced from several threads."""

    def advance(self, units: int) -> None:
        """`units` more are done."""

    def note(self, text: str) -> None:
        """A few words beside the numbers; they stay until others come."""


class Board(Protocol):
    """Shows the stages of a run."""

    def say(self, text: str) -> None:
        """One line that stays."""

    def stage(self, name: str, total: int, unit: str) -> AbstractContextManager[Stage]:
        """Shows a stage while the block runs."""


class _Rate:
    """Units a second over the latter half of the time since the first ones.

    They come with what is there at the begin, as when a run is continued, and after what it takes
    to begin; until they are `SETTLED_SECONDS` old there is nothing better.
    """

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._first = math.inf
        self._points = deque([(self._started, 0)])  # of the latter half, and the last one before

    def at(self, done: int) -> float:
        """The rate, now that so many units are done."""
        now = time.monotonic()
        self._first = min(self._first, now)
        if self._started < self._first <= now - SETTLED_SECONDS:
            self._started = self._first
            self._points = deque(point for point in self._points if point[0] >= self._started)
        elapsed = now - self._started
        while len(self._points) > 1 and self._points[1][0] - self._started <= elapsed / 2:
            self._points.popleft()
        since, before = self._points[0]
        if now - self._points[-1][0] >= elapsed / 100:  # few enough to keep
            self._points.append((now, done))
        return max(0, done - before) / max(1e-6, now - since)


class _Counter:
    """Counts from several threads; `show` is called with the new count, the rate and the note."""

    def __init__(self, show: Callable[[int, float, str], None]) -> None:
        self._show, self._lock = show, threading.Lock()
        self._done, self._rate, self._note = 0, _Rate(), ""

    def advance(self, units: int) -> None:
        """`units` more are done."""
        with self._lock:
            self._done += units
            self._show(self._done, self._rate.at(self._done), self._note)

    def note(self, text: str) -> None:
        """Shown with the next count."""
        with self._lock:
            self._note = text


class LogBoard:
    """Lines instead of moving bars: for pipes and schedulers' logs.

    Args:
        console: where the lines go.
        every: seconds between the lines of a stage.
    """

    def __init__(self, console: Console, every: float = EVERY_SECONDS) -> None:
        self._console, self._every = console, every

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Stage]:
        """A line at the begin, every few seconds, and at the end."""
        started = said = time.monotonic()

        def show(done: int, rate: float, note: str) -> None:
            nonlocal said
            if time.monotonic() - said >= self._every:
                said = time.monotonic()
                left = (total - done) / max(1e-6, rate)
                parts = [f"{done}/{total} {unit}", f"{rate:.1f} {unit}/s", f"eta {left:.0f} s"]
                self.say(f"{name}: {', '.join([*parts, *([note] if note else [])])}")

        self.say(f"{name}: {total} {unit}")
        yield _Counter(show)
        self.say(f"{name}: done in {time.monotonic() - started:.1f} s")


class EventBoard:
    """Records of the log instead of moving bars: where programs read along.

    Args:
        every: seconds between the records of a stage.
    """

    def __init__(self, every: float = EVERY_SECONDS) -> None:
        self._every = every

    def say(self, text: str) -> None:
        """One record."""
        LOG.info(text)

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Stage]:
        """A record at the begin, every few seconds, and at the end."""
        started = said = time.monotonic()
        about = {"stage": name, "total": total, "unit": unit}

        def show(done: int, rate: float, note: str) -> None:
            nonlocal said
            if time.monotonic() - said >= self._every:
                said = time.monotonic()
                numbers = {**about, "done": done, "per_second": round(rate, 3)}
                LOG.info("stage at work", extra={"numbers": numbers})

        LOG.info("stage begins", extra={"numbers": about})
        yield _Counter(show)
        seconds = round(time.monotonic() - started, 3)
        LOG.info("stage done", extra={"numbers": {**about, "seconds": seconds}})


class LiveBoard:
    """Moving bars in a terminal. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>20}"),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(compact=True),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
            refresh_per_second=5,
        )

    def __enter__(self) -> "LiveBoard":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """One line above the bars."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Stage]:
        """A bar while the block runs; its final state stays."""
        row = self._progress.add_task(name, total=total, rate="", note="")

        def show(done: int, rate: float, note: str) -> None:
            self._progress.update(row, completed=done, rate=f"{rate:.1f} {unit}/s", note=note)

        yield _Counter(show)


class MeteredStage:
    """A stage that the metrics know too.

    Args:
        shown: the same stage on the display.
        meter: of the run.
        name: of the stage.
        total: units it will work through.
        unit: what they are, in the plural.
    """

    def __init__(self, shown: Stage, meter: Meter, name: str, total: int, unit: str) -> None:
        self._shown, self._meter, self._lock, self._done = shown, meter, threading.Lock(), 0
        self._labels = {"stage": name, "unit": unit}
        meter.put(STAGE_PLANNED, total, **self._labels)
        meter.put(STAGE_DONE, 0, **self._labels)

    def advance(self, units: int) -> None:
        """`units` more are done; fewer, where a worker died."""
        self._shown.advance(units)
        with self._lock:
            self._done += units
            self._meter.put(STAGE_DONE, self._done, **self._labels)
        if units > 0:
            self._meter.put(LAST_PROGRESS, time.time())

    def note(self, text: str) -> None:
        """Words for the display."""
        self._shown.note(text)


def lines_for(console: Console) -> Board:
    """Lines without bars: JSON records where the environment asks for them."""
    return EventBoard() if log_settings().form == "json" else LogBoard(console)


@contextmanager
def board_for(console: Console) -> Iterator[Board]:
    """Moving bars in a terminal, lines elsewhere."""
    if console.is_terminal and log_settings().form == "text":
        with LiveBoard(console) as board:
            yield board
    else:
        yield lines_for(console)
