"""When units are submitted; the tasks are futures that the test ends itself."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from prefect.states import Completed, State

from generators.errors import ConfigError
from infra.errors import RunFailed
from tasks.agenda import Agenda, Unit

CACHED: State[Any] = Completed(name="Cached")


class Task:
    """A submitted task, ended by the test."""

    def __init__(self, state: State[Any]) -> None:
        self._future: Future[Any] = Future()
        self.state = state

    def end(self, value: Any = None) -> None:
        self._future.set_result(value)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._future.add_done_callback(lambda _: callback(self))

    def result(self, raise_on_failure: bool) -> Any:
        assert not raise_on_failure
        return self._future.result()


class Shown:
    """A stage that counts its tasks."""

    def __init__(self) -> None:
        self.at_work, self.closed, self.done = 0, 0, 0

    def current(self) -> Any:
        from contextlib import nullcontext

        return nullcontext()

    def begin(self) -> None:
        self.at_work += 1

    def end(self) -> None:
        self.at_work -= 1

    def advance(self, units: int) -> None:
        self.done += units

    def close(self) -> None:
        self.closed += 1


class World:
    """Submitted tasks by name, in order; ends them at once if `eager`."""

    def __init__(self, eager: bool = True) -> None:
        self.eager, self.tasks, self.values = eager, dict[str, Task](), dict[str, Any]()
        self.stage = Shown()
        self.widest = 0
        self.known: set[str] = set()

    def unit(self, name: str, **fields: Any) -> Unit:
        def submit(reached: Callable[[str], bool]) -> Task:
            task = self.tasks[name] = Task(CACHED if name in self.known else Completed())
            self.widest = max(self.widest, self.stage.at_work)
            if self.eager:
                task.end(self.values.get(name))
            return task

        needs = frozenset(fields.pop("needs", ()))
        return Unit(stage=self.stage, submit=submit, needs=needs, **fields)  # type: ignore[arg-type]

    @property
    def order(self) -> list[str]:
        return list(self.tasks)


def test_units_run_when_their_marks_are_reached_and_later_steps_come_first() -> None:
    world = World()
    agenda = Agenda(1, overlap=True)
    agenda.add(
        [world.unit(f"make {level}{n}", gives=f"made {level}") for level in "ab" for n in (1, 2)]
    )
    agenda.add(world.unit(f"judge {x}", needs=[f"made {x}"], gives=f"judged {x}") for x in "ab")
    agenda.add([world.unit("commit", needs=["judged a", "judged b"])])
    agenda.finish()
    assert world.order == [
        "make a1", "make a2", "make b1", "judge a", "make b2", "judge b", "commit",
    ]  # fmt: skip
    assert (world.stage.at_work, world.stage.closed) == (0, 1)


def test_what_was_known_is_shown_and_what_ran_has_shown_itself() -> None:
    world = World()
    world.known, world.values = {"old", "older"}, {"old": 3, "older": 4, "new": 5}
    agenda = Agenda(1, overlap=False)
    agenda.add(world.unit(name, worth=lambda result: result) for name in ("old", "new", "older"))
    assert world.stage.done == 3 + 4


def test_every_worker_has_a_task_and_the_next_one_is_under_way() -> None:
    world = World(eager=False)
    agenda = Agenda(3, overlap=True)
    agenda.add(world.unit(f"make {n}") for n in range(10))
    assert len(world.order) == 6
    world.eager = True
    for task in list(world.tasks.values()):
        task.end()
    agenda.finish()
    assert (len(world.order), world.widest) == (10, 6)


def test_without_overlap_what_is_added_is_done_before_the_next() -> None:
    world = World()
    agenda = Agenda(2, overlap=False)
    for name in ("a", "b"):
        agenda.add([world.unit(f"{name}{n}", gives=name) for n in range(3)])
        assert agenda.reached(name)
    agenda.add([world.unit("c", needs=["a", "b", "what nobody gives"])])
    assert world.order == ["a0", "a1", "a2", "b0", "b1", "b2", "c"]


def test_patient_units_leave_half_of_the_workers_until_nothing_else_is_left() -> None:
    world = World(eager=False)
    agenda = Agenda(4, overlap=True)
    agenda.add(world.unit(f"train {n}", patient=True) for n in range(9))
    assert len(world.order) == 2
    agenda.add([world.unit(f"make {n}", gives="made") for n in range(2)])
    assert world.order[2:] == ["make 0", "make 1"]
    world.eager = True
    for task in list(world.tasks.values()):
        task.end()
    agenda.reach("made")
    assert world.widest <= 4
    agenda.finish()
    assert len(world.order) == 11


def test_a_unit_may_be_followed_by_another_which_keeps_its_mark_open() -> None:
    world = World()
    agenda = Agenda(1, overlap=True)
    last = world.unit("second half", needs=["level"], gives="trained")
    agenda.add([world.unit("make", gives="level")])
    agenda.add([world.unit("first half", gives="trained", done=lambda _: last)])
    agenda.add([world.unit("test", needs=["trained"])])
    agenda.finish()
    assert world.order[2:] == ["second half", "test"]


@pytest.mark.parametrize("overlap", [True, False])
def test_a_failure_is_raised_when_all_that_can_be_done_is_done(overlap: bool) -> None:
    world = World()
    world.values["a1"] = OSError("disk")
    agenda = Agenda(1, overlap=overlap)

    def work() -> None:
        agenda.add([world.unit(f"a{n}", gives="a") for n in range(3)])
        agenda.add([world.unit("needs a", needs=["a"])])
        agenda.add([world.unit("b", gives="b")])
        agenda.reach("a")

    message = r"1 of \d units failed, the first with: OSError\('disk'\)"
    with pytest.raises(RunFailed, match=message):
        work()
    assert world.order == (["a0", "a1", "a2", "b"] if overlap else ["a0", "a1", "a2"])
    assert world.stage.closed == 1


def test_a_user_s_mistake_is_raised_as_it_is() -> None:
    world = World()
    world.values |= {"x": OSError("disk"), "y": ConfigError("field", 1, "2")}
    agenda = Agenda(1, overlap=True)
    agenda.add([world.unit("x"), world.unit("y"), world.unit("z")])
    with pytest.raises(ConfigError, match="field"):
        agenda.finish()
    assert world.order == ["x", "y", "z"]
