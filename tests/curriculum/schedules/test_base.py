"""Which levels are read, and in which order they are needed."""

from collections.abc import Mapping

from curriculum.schedules.base import (
    REAL_ONLY,
    CurriculumSchedule,
    FeedbackSpec,
    Progress,
    levels_in_order_of_use,
    levels_read,
)
from curriculum.schedules.fixed_stages import FixedStages
from curriculum.schedules.mixed import Mixed
from curriculum.schedules.none import RealOnly


class Adaptive:
    """Starts with its middle level; the others are seen only after feedback."""

    levels = (0, 40, 80)
    feedback = FeedbackSpec(num_sources=1, probe_percent=10)

    def mixture(self, progress: Progress, feedback: Mapping[int, float]) -> Mapping[int, float]:
        return {max(feedback, key=lambda level: feedback[level]) if feedback else 40: 1.0}


def test_levels_come_as_the_first_schedule_needs_them_then_those_of_the_others() -> None:
    down = FixedStages(levels=(0, 30, 60), order="descending")
    schedules: list[CurriculumSchedule] = [RealOnly(), down, Mixed(levels=(90, 30, 10))]
    assert levels_in_order_of_use(schedules, 8) == (60, 30, 0, 10, 90)
    assert levels_in_order_of_use(reversed(schedules), 8) == (10, 30, 90, 60, 0)


def test_real_data_is_no_level_unless_a_schedule_names_it() -> None:
    assert levels_in_order_of_use([FixedStages(levels=(0,))], 4) == (0,)
    assert levels_in_order_of_use([FixedStages(levels=(0, 100))], 4) == (0, 100)


def test_levels_that_are_never_reached_are_not_used() -> None:
    assert levels_in_order_of_use([Mixed(levels=(0, 50), real_percent=99)], 1) == ()


def test_an_adaptive_schedule_needs_all_its_levels_those_it_starts_with_first() -> None:
    assert levels_in_order_of_use([Adaptive()], 3) == (40, 0, 80)
    assert levels_read(Adaptive(), 2) == (frozenset((0, 40, 80)),) * 2


def test_levels_read_in_each_epoch() -> None:
    stages = FixedStages(levels=(0, 50, 100), real_percent=20)
    assert levels_read(stages, 5) == ({0}, {0}, {50}, set(), set())
    assert levels_read(Mixed(levels=(0, 100)), 2) == ({0, 100},) * 2
    assert levels_read(RealOnly(), 2) == (set(), set())
    assert REAL_ONLY == {100: 1.0}
