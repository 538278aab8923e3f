"""Stages that overlap share the clock."""

import time

import pytest

from tasks.stages import StageClock


def test_seconds_of_overlapping_stages_add_up_to_the_wall_clock() -> None:
    clock = StageClock()
    started = time.monotonic()
    clock.change("generate", 1)
    time.sleep(0.1)
    clock.change("train", 1)
    clock.change("generate", 1)  # a second task of a stage changes nothing
    time.sleep(0.2)
    clock.change("generate", -2)
    time.sleep(0.1)
    clock.change("train", -1)
    seconds = time.monotonic() - started
    time.sleep(0.1)  # nobody's
    clock.change("train", 1)
    clock.change("train", -1)
    generate, train = clock.take("generate"), clock.take("train")
    assert generate + train == pytest.approx(seconds, abs=0.02)
    assert generate == pytest.approx(0.2, abs=0.05)
    assert train == pytest.approx(0.2, abs=0.05)
    assert clock.take("train") == pytest.approx(0, abs=1e-3)
