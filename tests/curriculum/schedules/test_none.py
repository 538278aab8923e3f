from curriculum.schedules.base import timeline
from curriculum.schedules.none import RealOnly


def test_real_data_in_every_epoch() -> None:
    assert RealOnly().levels == ()
    assert timeline(RealOnly(), 3) == ({100: 1.0},) * 3
