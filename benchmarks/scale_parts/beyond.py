"""What the model says of sizes that no single machine holds, with the costs that it measured."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.scale_parts.model import Load, Outcome, simulate
from tasks.sizes import seconds_between_words, shards_per_task

SHARDS = 10_000
LEVELS = 5
WORKERS = 1000
SEEDS = range(5)
SPREAD = 0.3
SLOW = 0.01
DEATHS_PER_HOUR = 0.01
LOSSES_PER_HOUR = 0.01
IMAGES_A_WORD = 8
IMAGES_PER_SHARD = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Of Prefect and Ray, in seconds of the driver's processor, and of waiting.

    Attributes:
        task: of the driver, a task.
        shard: of the driver, a shard of a thousand requests; the trials' shards have none.
        word: of the driver, a word about progress.
        latency: beside that, from the end of a task to the next one on the same worker.
    """

    task: float
    shard: float
    word: float
    latency: float

    def as_json(self) -> dict[str, float]:
        """Plain data."""
        return asdict(self)


def costs_of(trials: Sequence[Mapping[str, Any]], shard: float) -> Costs:
    """The costs by two trials that differ in words only, and of a shard's requests."""
    few, many = trials
    words = few["tasks"] * few["shards"] * (many["messages"] - few["messages"])
    word = max(0.0, many["driver_cpu"] - few["driver_cpu"]) / words
    task = few["driver_cpu"] / few["tasks"] - few["messages"] * few["shards"] * word
    rounds = few["tasks"] / few["actors"]
    waited = (few["seconds"] - few["ideal_seconds"]) / rounds
    # At the begin of a round the last worker waits for the driver's work on all of them.
    latency = max(0.0, waited - few["actors"] * task / rounds)
    return Costs(task=task, shard=shard, word=word, latency=latency)


def foreseen(costs: Costs, trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Seconds of trials as measured and as the model says."""
    return {
        "actors": trials[0]["actors"],
        "measured": [trial["seconds"] for trial in trials],
        "modelled": [simulate(_load(costs, trial)).seconds for trial in trials],
    }


def beyond(costs: Costs) -> dict[str, Any]:
    """A thousand workers: by the size of tasks, by how much they talk, and as they die."""
    usual = shards_per_task(SHARDS // LEVELS, SHARDS, WORKERS)
    every_word = IMAGES_PER_SHARD // IMAGES_A_WORD
    found = {}
    for seconds in (10.0, 600.0):
        words = max(1, min(every_word, round(seconds / seconds_between_words(WORKERS))))
        base = Load(
            shards=SHARDS,
            workers=WORKERS,
            group=usual,
            shard_seconds=seconds,
            spread=SPREAD,
            slow_workers=SLOW,
            task_cost=costs.task,
            shard_cost=costs.shard,
            message_cost=costs.word,
            messages=words,
            latency=costs.latency,
        )
        name = f"{seconds:g} s a shard"
        calm = replace(base, spread=0.0, slow_workers=0.0)
        found[f"{name}, all alike"] = _outcome(calm)
        found[f"{name}, stragglers"] = _outcome(base)
        found[f"{name}, stragglers, 1000 tasks"] = _outcome(replace(base, group=10))
        found[f"{name}, stragglers, tasks of one shard"] = _outcome(replace(base, group=1))
        found[f"{name}, stragglers, a word every 8 images"] = _outcome(
            replace(base, messages=every_word)
        )
        dying = replace(base, deaths_per_hour=DEATHS_PER_HOUR, losses_per_hour=LOSSES_PER_HOUR)
        found[f"{name}, stragglers, 1 % an hour die"] = _outcome(dying)
        stormy = replace(base, deaths_per_hour=0.5, losses_per_hour=0.1)
        found[f"{name}, stragglers, half of all die in an hour"] = _outcome(stormy)
    return {"outcomes": found, "overhead_at_10_s": _overhead(costs)}


def _overhead(costs: Costs) -> float:
    """Share of a shard of 10 s that Prefect and Ray add, for a worker: tasks of one shard."""
    return (costs.task + costs.shard + costs.word + costs.latency) / 10.0


def _load(costs: Costs, trial: Mapping[str, Any]) -> Load:
    return Load(
        shards=trial["tasks"] * trial["shards"],
        workers=trial["actors"],
        group=trial["shards"],
        shard_seconds=trial["shard_seconds"],
        task_cost=costs.task,
        message_cost=costs.word,
        messages=trial["messages"],
        latency=costs.latency,
    )


def _outcome(load: Load) -> dict[str, float]:
    """Means over seeds; the worst minute is that of all."""
    played: list[Outcome] = [simulate(load, seed) for seed in SEEDS]
    count = len(played)
    return {
        "tasks": played[0].tasks,
        "seconds": sum(out.seconds for out in played) / count,
        "efficiency": sum(out.efficiency(load) for out in played) / count,
        "tail_seconds": sum(out.tail for out in played) / count,
        "driver_share": sum(out.driver_share() for out in played) / count,
        "retries": sum(len(out.retries) for out in played) / count,
        "retries_in_worst_minute": max(out.worst_minute() for out in played),
        "lost_share": sum(out.lost / (out.work + out.lost) for out in played) / count,
    }
