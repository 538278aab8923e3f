"""Recursive, shrink, all_shift, random, repeat and adaptive: the order they promise."""

import pytest

from curriculum.schedules.adaptive import Adaptive
from curriculum.schedules.all_shift import AllShift
from curriculum.schedules.base import REAL_ONLY, Progress, timeline
from curriculum.schedules.random import RandomLevel
from curriculum.schedules.recursive import Recursive
from curriculum.schedules.repeat import Repeat
from curriculum.schedules.shrink import Shrink
from generators.errors import ConfigError


def alone(*levels: int) -> list[dict[int, float]]:
    return [{level: 1.0} for level in levels]


def test_recursive_sweeps_up_and_down_and_touches_each_end_once() -> None:
    found = timeline(Recursive(levels=(60, 0, 30), real_percent=20), 10)
    assert list(found) == alone(0, 30, 60, 30, 0, 30, 60, 30, 100, 100)
    assert list(timeline(Recursive(levels=(40,), real_percent=0), 3)) == alone(40, 40, 40)


def test_shrink_drops_the_lowest_level_after_each_stage() -> None:
    found = timeline(Shrink(levels=(0, 40, 80), real_percent=10), 9)
    all_three, two = dict.fromkeys((0, 40, 80), 1 / 3), {40: 0.5, 80: 0.5}
    assert list(found) == [all_three] * 3 + [two] * 3 + [{80: 1.0}] * 2 + [dict(REAL_ONLY)]
    with pytest.raises(ConfigError, match="at least 4"):
        timeline(Shrink(levels=(0, 40, 80)), 3)


def test_all_shift_is_mixed_until_real_data() -> None:
    found = timeline(AllShift(levels=(0, 50), real_percent=50), 4)
    assert list(found) == [{0: 0.5, 50: 0.5}] * 2 + [dict(REAL_ONLY)] * 2


def test_random_is_every_level_once_a_turn_in_another_order() -> None:
    schedule = RandomLevel(levels=(0, 20, 40, 60, 80), real_percent=0)
    found = [next(iter(mixture)) for mixture in timeline(schedule, 50)]
    turns = [tuple(found[start : start + 5]) for start in range(0, 50, 5)]
    assert all(sorted(turn) == [0, 20, 40, 60, 80] for turn in turns)
    assert len(set(turns)) > 5
    other = RandomLevel(levels=(0, 20, 40, 60, 80), real_percent=0, seed=1)
    assert [next(iter(mixture)) for mixture in timeline(other, 50)] != found


def test_repeat_is_real_data() -> None:
    assert list(timeline(Repeat(), 3)) == [REAL_ONLY] * 3


def test_adaptive_takes_the_largest_gain_and_the_lowest_level_of_equal_ones() -> None:
    schedule, now = Adaptive(levels=(0, 40, 80)), Progress(epoch=0, num_epochs=10)
    assert schedule.mixture(now, {0: 0.01, 40: 0.2, 80: 0.1}) == {40: 1.0}
    assert schedule.mixture(now, {0: -0.3, 40: -0.2, 80: -0.2}) == {40: 1.0}
    assert schedule.mixture(now, {80: 0.0, 40: 0.0, 0: 0.0}) == {0: 1.0}
    assert schedule.mixture(now, {}) == dict.fromkeys((0, 40, 80), 1 / 3)
    assert schedule.mixture(Progress(epoch=9, num_epochs=10), {40: 1.0}) == REAL_ONLY
