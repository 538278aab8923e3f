"""The stages of a run: shown while they work, and timed. Several may work at the same time."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from opentelemetry import trace

from infra.meter import Meter
from infra.metrics import STAGE_SECONDS
from infra.progress import Board, MeteredStage
from infra.report.facts import StageTime
from infra.report.saved import add_stage_time
from infra.storage.runs import RunStore
from infra.traces import open_span
from tasks.artifacts import ProgressArtifact, tell_prefect

STAGE: ContextVar[ProgressArtifact] = ContextVar("stage")


class StageClock:
    """Divides the wall clock evenly among the stages at work: their seconds add up to the run's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since = time.monotonic()
        self._busy: dict[str, int] = {}
        self._seconds: dict[str, float] = {}

    def change(self, stage: str, tasks: int) -> None:
        """So many more tasks of a stage are at work, or fewer."""
        with self._lock:
            now = time.monotonic()
            for name in self._busy:
                share = (now - self._since) / len(self._busy)
                self._seconds[name] = self._seconds.get(name, 0.0) + share
            self._since = now
            self._busy[stage] = self._busy.get(stage, 0) + tasks
            if not self._busy[stage]:
                del self._busy[stage]

    def take(self, stage: str) -> float:
        """Seconds of a stage since this was last asked for."""
        self.change(stage, 0)
        with self._lock:
            return self._seconds.pop(stage, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageWatch:
    """What all stages of a run are watched with.

    Attributes:
        board: shows them.
        meter: counts what they do.
        clock: times them.
    """

    board: Board
    meter: Meter
    clock: StageClock


class OpenStage:
    """One stage: shown from its first task on, timed while a task of it is at work.

    Args:
        name: of the stage.
        total: units it will work through.
        unit: what they are, in the plural.
        store: where its time is kept.
        watch: shared by all stages of a run.
    """

    def __init__(
        self, name: str, total: int, unit: str, store: RunStore, watch: StageWatch
    ) -> None:
        self.name, self._total, self._unit = name, total, unit
        self._store, self._watch = store, watch
        self._traced: trace.Span = trace.INVALID_SPAN
        self._shown = ExitStack()
        self._artifact: ProgressArtifact | None = None

    @contextmanager
    def current(self) -> Iterator[None]:
        """Jobs run by tasks submitted in the block advance this stage."""
        if self._artifact is None:
            about = (self.name, self._total, self._unit)
            shown = self._shown.enter_context(self._watch.board.stage(*about))
            metered = MeteredStage(shown, self._watch.meter, *about)
            self._artifact = ProgressArtifact(metered, self.name, self._total)
            self._traced = open_span(self.name, units=self._total, unit=self._unit)
            tell_prefect(f"{self.name}: {self._total} {self._unit}")
        token = STAGE.set(self._artifact)
        try:
            with trace.use_span(self._traced):
                yield
        finally:
            STAGE.reset(token)

    def begin(self) -> None:
        """A task is at work."""
        self._watch.clock.change(self.name, 1)

    def advance(self, units: int) -> None:
        """So many were done before; its jobs advance it by what they do."""
        if self._artifact is not None:
            self._artifact.advance(units)

    def end(self) -> None:
        """A task has ended; may be called from any thread."""
        self._watch.clock.change(self.name, -1)

    def close(self) -> None:
        """Nothing more will come. Keeps the time."""
        if self._artifact is None:
            return
        self._artifact.update()
        self._artifact = None
        self._shown.close()
        self._traced.end()
        seconds = self._watch.clock.take(self.name)
        self._watch.meter.add(STAGE_SECONDS, seconds, stage=self.name)
        tell_prefect(f"{self.name}: done, {seconds:.1f} s of the clock")
        taken = StageTime(stage=self.name, seconds=seconds, units=self._total, unit=self._unit)
        add_stage_time(self._store, taken)
