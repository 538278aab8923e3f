import pytest

from curriculum.schedules.base import timeline
from curriculum.schedules.single import Single
from generators.errors import ConfigError
from generators.registry import MethodSpec, build


def test_one_level_then_real_data() -> None:
    schedule = Single(level=30, real_percent=25)
    assert schedule.levels == (30,)
    assert timeline(schedule, 8) == ({30: 1.0},) * 6 + ({100: 1.0},) * 2
    with pytest.raises(ConfigError, match="level"):
        build("schedule", MethodSpec(name="single", params={"level": 101}))
