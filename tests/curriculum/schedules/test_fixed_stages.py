from collections import Counter

import pytest

from curriculum.schedules.base import timeline
from curriculum.schedules.fixed_stages import FixedStages
from generators.errors import ConfigError
from generators.registry import MethodSpec, build


def plan(schedule: FixedStages, num_epochs: int) -> list[int]:
    mixtures = timeline(schedule, num_epochs)
    assert all(list(mixture.values()) == [1.0] for mixture in mixtures)
    return [next(iter(mixture)) for mixture in mixtures]


def test_equal_epochs_with_the_remainder_to_the_early_levels() -> None:
    # 20 epochs, 10 % real: 18 for 5 levels = 3 each and one more for the first three.
    assert (
        plan(FixedStages(), 20) == [0] * 4 + [20] * 4 + [40] * 4 + [60] * 3 + [80] * 3 + [100] * 2
    )


def test_the_papers_plan() -> None:
    # ImageNet-LT: 65 epochs, E_CL 60, levels {0, .1, .3, .5}.
    found = plan(FixedStages(levels=(0, 10, 30, 50), real_percent=8), 65)
    assert Counter(found) == {0: 15, 10: 15, 30: 15, 50: 15, 100: 5}
    assert found == sorted(found)


def test_levels_are_sorted_and_can_descend() -> None:
    schedule = FixedStages(levels=(60, 0, 20), order="descending", real_percent=0)
    assert schedule.levels == (0, 20, 60)
    assert plan(schedule, 7) == [60, 60, 60, 20, 20, 0, 0]


def test_at_least_one_real_epoch_unless_none_is_wanted() -> None:
    assert plan(FixedStages(levels=(0, 50), real_percent=1), 5) == [0, 0, 50, 50, 100]
    assert plan(FixedStages(levels=(0, 100), real_percent=0), 4) == [0, 0, 100, 100]


def test_too_few_epochs_for_the_levels() -> None:
    assert plan(FixedStages(), 6) == [0, 20, 40, 60, 80, 100]
    with pytest.raises(ConfigError, match=r"epochs: 5 .* at least 6 \(5 levels, 1 on real data\)"):
        timeline(FixedStages(), 5)


@pytest.mark.parametrize(
    "params",
    [
        {"levels": []},
        {"levels": [0, 0]},
        {"levels": [0, 101]},
        {"levels": [0.5]},
        {"order": "up"},
        {"real_percent": 100},
        {"real_share": 0.1},
    ],
)
def test_bad_parameters_are_named(params: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(params))):
        build("schedule", MethodSpec(name="fixed_stages", params=params))
