"""The signal of adaptive schedules on planted numbers."""

import numpy as np
import pytest

from curriculum.feedback import (
    cell_progress,
    choose_held_out,
    learning_progress,
    mean_gains,
    without_outliers,
)


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


def test_gains_of_classes_and_their_mean_over_epochs() -> None:
    labels, levels = np.array([1, 0, 1, 1]), np.array([0, 0, 50, 50])
    before, after = np.array([0.1, 0.5, 0.0, 0.0]), np.array([0.4, 0.4, 0.2, 0.4])
    found = cell_progress(labels, levels, before, after)
    assert [cell[:2] for cell in found] == [(0, 0), (1, 0), (1, 50)]
    assert [cell[2] for cell in found] == pytest.approx([-0.1, 0.3, 0.3])
    assert mean_gains([]) == []
    mean = mean_gains([found, [(1, 0, 0.1)], ()])
    assert [cell[:2] for cell in mean] == [(0, 0), (1, 0), (1, 50)]
    assert [cell[2] for cell in mean] == pytest.approx([-0.1, 0.2, 0.3])


def test_held_out_sources_are_of_every_class_in_turn_and_at_most_half_of_them() -> None:
    sources = [name for name in "abcdef" for _ in range(2)]
    levels = np.array([0, 40] * 6)
    labels = np.array([0] * 8 + [1] * 4)  # a, b, c, d of class 0; e, f of class 1
    chosen = choose_held_out(sources, levels, (0, 40), 9, labels)
    assert {sources[row] for row in np.flatnonzero(chosen)} == {"a", "b", "e"}
    assert chosen.sum() == 6
    two = choose_held_out(sources, levels, (0, 40), 2, labels)
    assert {sources[row] for row in np.flatnonzero(two)} == {"a", "e"}
