"""The benchmark of scale: its model keeps what must be kept, and its parts run."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scale_parts.beyond import Costs, costs_of, foreseen
from benchmarks.scale_parts.model import Load, simulate
from benchmarks.scale_parts.planning import plan_a_run
from tests.support.benchmark import quick_run

PLAIN = Load(shards=120, workers=4, group=3, shard_seconds=10.0)


def test_alike_shards_take_their_rounds() -> None:
    out = simulate(PLAIN)
    assert (out.tasks, out.done, out.seconds) == (40, 120, 300.0)
    assert out.efficiency(PLAIN) == 1
    assert (out.work, out.lost, out.tail, out.driver, out.retries) == (1200, 0, 0, 0, [])
    uneven = replace(PLAIN, workers=7, group=1)
    assert simulate(uneven).seconds == 10.0 * -(-120 // 7)


def test_one_worker_waits_for_the_driver_at_every_task() -> None:
    load = replace(
        PLAIN,
        workers=1,
        task_cost=0.2,
        shard_cost=0.1,
        messages=10,
        message_cost=0.01,
        latency=0.25,
    )
    out = simulate(load)
    # The words of the last task are heard when all is over.
    assert out.seconds == pytest.approx(1200 + 40 * (0.5 + 0.25) + 39 * 3 * 10 * 0.01)
    assert out.driver == pytest.approx(40 * 0.5 + 39 * 0.3)


def test_a_busy_driver_is_what_a_run_waits_for() -> None:
    load = replace(PLAIN, workers=40, group=1, shard_seconds=1.0, task_cost=0.1)
    out = simulate(load)
    assert 12.0 <= out.seconds <= 13.1  # 120 tasks, one after the other, and the last shard
    assert out.driver_share() > 0.9


def test_a_run_whose_workers_die_before_the_driver_gets_to_them_is_given_up() -> None:
    load = replace(PLAIN, workers=400, group=1, task_cost=60.0, deaths_per_hour=0.9999)
    out = simulate(load)
    assert out.done < 120
    assert out.seconds > 3600


@pytest.mark.parametrize("seed", range(5))
def test_no_shard_is_lost_and_no_second_counted_twice(seed: int) -> None:
    load = replace(
        PLAIN, shards=2000, workers=64, spread=0.5, slow_workers=0.1, deaths_per_hour=0.95
    )
    load = replace(load, losses_per_hour=0.9, task_cost=0.01)
    out = simulate(load, seed)
    assert out.done == 2000
    assert out.lost > 0
    assert out.retries
    assert out.work + out.lost <= out.seconds * load.workers
    assert 0 < out.efficiency(load) < 1
    assert 0 <= out.tail <= out.seconds
    assert 1 <= out.worst_minute() <= len(out.retries)
    assert simulate(load, seed).seconds == out.seconds


def test_deaths_are_as_many_as_asked_for() -> None:
    """Half of the workers die in an hour: 0.69 deaths an hour and worker."""
    load = replace(PLAIN, shards=20_000, workers=200, group=1, deaths_per_hour=0.5, restart=0.0)
    out = simulate(load)
    expected = 0.693 * 200 * out.seconds / 3600
    assert len(out.retries) == pytest.approx(expected, rel=0.3)
    # At random places of shards of ten seconds: half a shard each.
    assert out.lost == pytest.approx(5 * len(out.retries), rel=0.3)


def test_slow_workers_and_large_tasks_make_a_tail() -> None:
    load = replace(PLAIN, shards=1000, workers=100, group=1, slow_workers=0.02)
    small, large = simulate(load), simulate(replace(load, group=10))
    assert large.seconds == 200
    assert small.seconds < 125
    assert small.work + 0.1 > 1000 * 10


def trial(words: int, seconds: float, cpu: float) -> dict[str, Any]:
    sizes = {"actors": 4, "tasks": 16, "shards": 1, "shard_seconds": 2.0, "messages": words}
    return {**sizes, "ideal_seconds": 8.0, "seconds": seconds, "driver_cpu": cpu}


def test_costs_are_those_of_trials_that_differ_in_words() -> None:
    trials = [trial(1, 8.32, 0.176), trial(21, 8.4, 0.496)]
    costs = costs_of(trials, 0.009)
    assert costs.word == pytest.approx(0.001)
    assert costs.task == pytest.approx(0.010)
    assert costs.shard == 0.009
    assert costs.latency == pytest.approx(0.07)
    said = foreseen(costs, trials)
    assert said["modelled"] == pytest.approx([8.32, 8.4], rel=0.01)
    assert isinstance(costs, Costs)


def test_a_plan_says_how_many_tasks_it_has() -> None:
    found = plan_a_run(100_000, 4)
    assert (found["requests"], found["shards"]) == (100_000, 100)
    assert found["generating_tasks"] == 50  # two shards each: four workers, five levels of 20
    assert found["judging_tasks"] == 50
    assert found["tasks"] == 50 + 50 + 100 + 5 + 1


@pytest.mark.slow
def test_the_quick_run_measures_everything(tmp_path: Path) -> None:
    output = tmp_path / "scale.json"
    printed = quick_run("benchmarks.scale", output)
    found = json.loads(output.read_text())["measurements"]
    assert found["planning for 1000 workers"]["requests"] == 200_000
    assert found["manifest of 100000 rows"]["rows"] == 100_000
    for measured in found["2 actors"]["median_trials"]:
        assert measured["ideal_seconds"] <= measured["seconds"]
    assert found["model"]["costs"]["task"] > 0
    assert "overhead at 10 s a shard" in printed
