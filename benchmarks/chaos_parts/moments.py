"""When to strike."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.chaos_parts.command import Command

BY_PROGRESS = 0.7
"""Part of the moments that wait for shards; the others fall anywhere, also into start and end."""
LATEST = 0.95
"""No moment is drawn later than this part of an undisturbed run: it would often miss the end."""
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """So many seconds after the start of a command, and with so many shards complete."""

    seconds: float = 0.0
    shards: int = 0

    def wait(self, command: Command, complete: Callable[[], int]) -> None:
        """Returns when it has come, or when the command has ended before.

        Args:
            command: whose start counts.
            complete: how many shards are.
        """
        while command.runs and (
            time.monotonic() - command.started < self.seconds
            or (self.shards and complete() < self.shards)
        ):
            time.sleep(POLL_SECONDS)

    def by_clock(self, seconds: float, shards: int) -> "Moment":
        """About the same in a run that takes so many seconds and makes so many shards."""
        return Moment(seconds=self.seconds or seconds * self.shards / shards)

    def __str__(self) -> str:
        return f"{self.shards} shards" if self.shards else f"{self.seconds:.1f} s"


def draw_moment(chance: random.Random, seconds: float, shards: int) -> Moment:
    """A moment of a run that takes so many seconds and makes so many shards."""
    if chance.random() < BY_PROGRESS:
        return Moment(shards=chance.randrange(1, max(2, int(shards * LATEST))))
    return Moment(seconds=chance.uniform(0, LATEST * seconds))
