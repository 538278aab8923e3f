"""What holds for every schedule, by name: a new file is under these at once."""

import pytest

from curriculum.schedules.base import timeline
from generators.registry import MethodSpec, build, names


@pytest.mark.parametrize("num_epochs", [6, 7, 20, 65])
@pytest.mark.parametrize("name", names("schedule"))
def test_weights_are_shares_of_known_levels(name: str, num_epochs: int) -> None:
    schedule = build("schedule", MethodSpec(name=name))
    assert list(schedule.levels) == sorted(set(schedule.levels))
    for mixture in timeline(schedule, num_epochs):
        assert sum(mixture.values()) == pytest.approx(1)
        assert min(mixture.values()) >= 0
        assert set(mixture) <= {*schedule.levels, 100}
    seen = {level for mixture in timeline(schedule, num_epochs) for level in mixture}
    assert set(schedule.levels) <= seen
