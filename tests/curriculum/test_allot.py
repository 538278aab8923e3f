"""What a budget buys, on planted gains."""

from itertools import product

import numpy as np
import pytest

from curriculum.allot import allot
from curriculum.schedules.base import GenerationSchedule, timeline
from curriculum.schedules.budgeted_adaptive import BudgetedAdaptive
from generators.errors import ConfigError
from generators.registry import MethodSpec, build, names

NOTHING = np.full((2, 3), np.nan)
PLENTY = np.full((2, 3), 1000)
ONE = np.ones(3)


def test_without_gains_every_cell_gets_the_same_evaluations() -> None:
    found = allot(BudgetedAdaptive(), NOTHING, PLENTY, np.array([10.0, 5.0, 2.0]), 600)
    assert found.tolist() == [[10, 20, 50]] * 2


def test_what_explores_is_even_and_the_rest_follows_gains() -> None:
    gains = np.array([[0.3, 0.1, 0.0], [-0.4, np.nan, 0.2]])
    # a cell without a measurement counts as the mean, (0.3 + 0.1 + 0 - 0.4 + 0.2) / 5 = 0.04
    found = BudgetedAdaptive(explore_percent=40).shares(gains, np.ones((2, 3), bool))
    worth = np.array([[0.3, 0.1, 0.0], [0.0, 0.04, 0.2]]) / 0.64
    np.testing.assert_allclose(found, 0.4 / 6 + 0.6 * worth)
    none_pays = BudgetedAdaptive().shares(-np.ones((2, 3)), np.ones((2, 3), bool))
    np.testing.assert_allclose(none_pays, 1 / 6)


def test_what_a_full_cell_leaves_over_goes_to_the_others() -> None:
    gains = np.array([[8.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    missing = np.array([[2, 9, 9], [9, 9, 9]])
    found = allot(BudgetedAdaptive(explore_percent=0), gains, missing, ONE, 12)
    assert found.tolist() == [[2, 5, 5], [0, 0, 0]]
    everything = allot(BudgetedAdaptive(), gains, missing, ONE, 1000)
    assert everything.tolist() == missing.tolist()


def test_parts_of_an_image_go_to_the_largest_parts() -> None:
    gains = np.array([[0.5, 0.3, 0.2], [0.0, 0.0, 0.0]])
    found = allot(BudgetedAdaptive(explore_percent=0), gains, PLENTY, ONE, 2)
    assert found.tolist() == [[1, 1, 0], [0, 0, 0]]  # 1, 0.6 and 0.4 images
    assert allot(BudgetedAdaptive(), NOTHING, PLENTY, ONE, 2).tolist() == [[1, 1, 0], [0, 0, 0]]
    assert allot(BudgetedAdaptive(), NOTHING, PLENTY, 3 * ONE, 2).sum() == 0


@pytest.mark.parametrize(("seed", "budget"), product(range(4), (1, 37, 400)))
def test_a_budget_is_kept_and_spent(seed: int, budget: int) -> None:
    rng = np.random.default_rng(seed)
    gains, costs = rng.normal(size=(5, 4)), rng.integers(1, 9, 4).astype(float)
    gains[rng.random(gains.shape) < 0.3] = np.nan
    missing = rng.integers(0, 12, gains.shape)
    found = allot(BudgetedAdaptive(), gains, missing, costs, budget)
    assert (found >= 0).all()
    assert (found <= missing).all()
    left = budget - (found * costs).sum()
    assert left >= 0
    assert not ((found < missing) & (costs <= left)).any()  # nothing more can be bought


@pytest.mark.parametrize("name", names("schedule"))
def test_shares_of_every_schedule_that_directs(name: str) -> None:
    schedule = build("schedule", MethodSpec(name=name))
    if not isinstance(schedule, GenerationSchedule):
        assert name != "budgeted_adaptive"
        return
    rng = np.random.default_rng(0)
    for _ in range(20):
        is_open = rng.random((3, 4)) < 0.5
        gains = np.where(rng.random((3, 4)) < 0.3, np.nan, rng.normal(size=(3, 4)))
        found = schedule.shares(gains, is_open)
        assert (found >= 0).all()
        assert (found[~is_open] == 0).all()
        assert found.sum() == pytest.approx(1.0 if is_open.any() else 0.0)


def test_it_trains_as_adaptive() -> None:
    ours = timeline(BudgetedAdaptive(levels=(80, 0)), 10)
    assert ours == timeline(
        build("schedule", MethodSpec(name="adaptive", params={"levels": [0, 80]})), 10
    )
    with pytest.raises(ConfigError, match=r"budgeted_adaptive\.levels"):
        BudgetedAdaptive(levels=(0, 0))
