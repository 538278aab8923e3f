"""The order of a run's work: a task is submitted as soon as what it needs is there.

It knows marks ("level 20 is settled"), not what is behind them. Nothing waits on a worker: what is
not ready has no task yet, so any number of workers, also one, comes to the end.
"""

import queue
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from tasks.gather import raise_failures
from tasks.runtime import runtime
from tasks.stages import OpenStage

KNOWN: Final = "Cached"
"""State of a task that did not run, because its result was stored."""


def _nothing_follows(result: Any) -> None:
    return None


def _nothing_shown(result: Any) -> int:
    return 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unit:
    """Work that becomes one task.

    Attributes:
        stage: that shows and times it.
        submit: makes the task; is told which marks are reached.
        needs: marks that must be reached before. A mark that no added unit gives is reached.
        gives: a mark, reached when all added units that give it are done.
        patient: whether it leaves half of the workers to units that others wait for.
        done: takes the task's result; may return what follows it.
        worth: units of the stage that a result stands for. A task that runs shows them itself;
            where the result was known the agenda does.
    """

    stage: OpenStage
    submit: Callable[[Callable[[str], bool]], Any]
    needs: frozenset[str] = frozenset()
    gives: str = ""
    patient: bool = False
    done: Callable[[Any], "Unit | None"] = field(default=_nothing_follows)
    worth: Callable[[Any], int] = field(default=_nothing_shown)


@contextmanager
def open_agenda(*, overlap: bool) -> Iterator["Agenda"]:
    """The agenda of a flow; what it shows ends with the block."""
    agenda = Agenda(runtime().pool.size, overlap=overlap)
    try:
        yield agenda
    finally:
        agenda.close()


class Agenda:
    """Submits units and waits for them, in the thread of the flow.

    Args:
        num_workers: twice as many tasks are under way, so that no worker waits for the next one.
        overlap: whether `add` returns at once, so that what is added later overlaps with it.
    """

    def __init__(self, num_workers: int, *, overlap: bool) -> None:
        self.overlap, self._num_workers, self._finishing = overlap, num_workers, False
        self._ready: dict[bool, deque[Unit]] = {True: deque(), False: deque()}  # by patience
        self._blocked: dict[str, list[Unit]] = defaultdict(list)  # by one mark that is missing
        self._running: dict[Any, Unit] = {}
        self._to_give: Counter[str] = Counter()
        self._in_stage: Counter[OpenStage] = Counter()
        self._impatient = self._submitted = 0  # not done yet; ever submitted
        self._failures: list[BaseException] = []
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def add(self, units: Iterable[Unit]) -> None:
        """Takes units on; those that give a mark before those that need it.

        Without overlap, returns when they are done.

        Raises:
            UserError: without overlap, see `finish`.
            RunFailed: without overlap, see `finish`.
        """
        for unit in units:
            self._to_give[unit.gives] += 1
            self._in_stage[unit.stage] += 1
            self._impatient += not unit.patient
            self._place(unit)
        if self.overlap:
            self._fill()
        else:
            self.finish()

    def reach(self, mark: str) -> None:
        """Works until a mark is reached.

        Raises:
            UserError: it cannot be reached any more, see `finish`.
            RunFailed: it cannot be reached any more, see `finish`.
        """
        self._fill()
        while not self.reached(mark) and self._running:
            self._step()
        if not self.reached(mark):
            self.finish()

    def finish(self) -> None:
        """Works until everything is done that can be done.

        Raises:
            UserError: the first one a task ended with.
            RunFailed: tasks failed otherwise; what the others made is kept.
        """
        self._finishing = True
        self._fill()
        while self._running:
            self._step()
        self._finishing = False
        if self._failures:
            self.close()
            raise_failures(self._failures, self._submitted)
        assert not any(self._blocked.values()), "units need marks that nobody can give"

    def close(self) -> None:
        """Ends the display of stages that are open still, and keeps their times."""
        for stage in self._in_stage:
            stage.close()
        self._in_stage.clear()

    def reached(self, mark: str) -> bool:
        """Whether nothing that gives a mark is left."""
        return self._to_give[mark] == 0

    def _place(self, unit: Unit) -> None:
        missing = next((mark for mark in unit.needs if not self.reached(mark)), None)
        if missing is None:
            self._ready[unit.patient].append(unit)
        else:
            self._blocked[missing].append(unit)

    def _fill(self) -> None:
        """Submits what may run now."""
        while self._room(patient=True) and self._ready[True]:
            self._submit(self._ready[True].popleft())
        while self._room(patient=False) and self._ready[False]:
            self._submit(self._ready[False].popleft())

    def _room(self, *, patient: bool) -> bool:
        limit = 2 * self._num_workers
        if patient and (self._impatient or not self._finishing):
            limit = max(1, self._num_workers // 2)
            return sum(unit.patient for unit in self._running.values()) < limit
        return len(self._running) < limit

    def _submit(self, unit: Unit) -> None:
        self._submitted += 1
        unit.stage.begin()
        with unit.stage.current():
            task = unit.submit(self.reached)
        self._running[task] = unit

        def ended(future: Any) -> None:
            unit.stage.end()
            self._ended.put(future)

        task.add_done_callback(ended)

    def _step(self) -> None:
        """Waits for one task, and submits what it was waited for."""
        task = self._ended.get()
        unit = self._running.pop(task)
        result = task.result(raise_on_failure=False)
        if isinstance(result, BaseException):
            self._failures.append(result)  # its mark is never reached
        else:
            if task.state.name == KNOWN:
                unit.stage.advance(unit.worth(result))
            self._complete(unit, unit.done(result))
        self._impatient -= not unit.patient
        self._in_stage[unit.stage] -= 1
        if not self._in_stage[unit.stage]:
            del self._in_stage[unit.stage]
            unit.stage.close()
        self._fill()

    def _complete(self, unit: Unit, following: Unit | None) -> None:
        if following is not None:
            self._to_give[following.gives] += 1
            self._in_stage[following.stage] += 1
            self._impatient += not following.patient
            self._place(following)
        self._to_give[unit.gives] -= 1
        if self.reached(unit.gives):
            # In front of what was there before: it is nearer to the end.
            for freed in reversed(self._blocked.pop(unit.gives, [])):
                missing = next((mark for mark in freed.needs if not self.reached(mark)), None)
                if missing is None:
                    self._ready[freed.patient].appendleft(freed)
                else:
                    self._blocked[missing].append(freed)
