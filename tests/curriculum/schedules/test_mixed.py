import pytest

from curriculum.schedules.base import timeline
from curriculum.schedules.mixed import Mixed


def test_uniform_weights_then_real_data() -> None:
    mixtures = timeline(Mixed(levels=(80, 0, 40), real_percent=20), 5)
    assert mixtures[:4] == ({0: 1 / 3, 40: 1 / 3, 80: 1 / 3},) * 4
    assert mixtures[4] == {100: 1.0}


def test_by_default_never_real_data_only() -> None:
    assert all(
        mixture == pytest.approx(dict.fromkeys((0, 20, 40, 60, 80), 0.2))
        for mixture in timeline(Mixed(), 3)
    )
