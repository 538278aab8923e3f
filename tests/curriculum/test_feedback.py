"""The signal of adaptive schedules on planted numbers."""

import numpy as np
import pytest

from curriculum.feedback import choose_held_out, learning_progress, without_outliers


def test_progress_is_the_mean_gain_of_each_level() -> None:
    levels = np.array([0, 0, 40, 40, 40])
    before, after = np.array([0.1, 0.3, 0.5, 0.5, 0.5]), np.array([0.2, 0.2, 0.7, 0.6, 0.5])
    assert learning_progress(levels, before, after) == {0: pytest.approx(0), 40: pytest.approx(0.1)}


def test_outliers_are_left_out_by_quartiles() -> None:
    values = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 9.0, -9.0])
    assert without_outliers(values).tolist() == [0.0, 0.1, 0.2, 0.3, 0.4]
    same = np.array([0.5, 0.5, 0.5, 0.5, 7.0])
    assert without_outliers(same).tolist() == [0.5] * 4
    assert without_outliers(np.array([3.0])).tolist() == [3.0]


def test_one_image_a_level_of_sources_that_have_all_levels_is_held_out() -> None:
    sources = ["b", "a", "b", "a", "c", "b", "c", "a"]
    levels = np.array([0, 0, 40, 40, 0, 0, 0, 40])
    chosen = choose_held_out(sources, levels, (0, 40), 5)
    # c has no image at 40; a second image of a level is trained on
    assert np.flatnonzero(chosen).tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(choose_held_out(sources, levels, (0, 40), 1)).tolist() == [1, 3]
    assert not choose_held_out(sources, levels, (0, 40, 80), 5).any()
