"""The facts of a finished run on disk, so that its report can be written again at any time."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from curriculum.plan import shard_level
from generators.errors import DataError
from generators.places import file_exists
from generators.registry import JsonValue
from infra.config.load import validate
from infra.config.schema import RunConfig
from infra.jobs.dataset import Dataset, open_dataset
from infra.machine import describe_machine, describe_versions
from infra.report.costs import summed
from infra.report.facts import GenerationCost, RunFacts, SeedResult, Spending, StageTime
from infra.report.html import write_report
from infra.report.study import write_study
from infra.storage.atomic import read_json, write_json
from infra.storage.runs import RunStore

STAGES = ("sources", "network", "decode", "encode", "write")
"""What a generating worker does, in the order an image goes through."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunOutcome:
    """What a flow knows at its end that is not in the store's manifests.

    Attributes:
        command: as typed.
        arms: arm to the stored results of its trainings.
        shards: name, size and cost of every synthetic shard.
        card: of the generator.
        price_per_hour: of one worker, in any currency.
    """

    command: str
    arms: Mapping[str, Sequence[Mapping[str, JsonValue]]]
    shards: Sequence[Mapping[str, Any]]
    card: Mapping[str, JsonValue]
    price_per_hour: float | None = None


def save_facts(store: RunStore, outcome: RunOutcome) -> None:
    """Writes everything `load_facts` needs beside config and manifests."""
    facts: dict[str, JsonValue] = {
        "command": outcome.command,
        "machine": describe_machine(),
        "versions": describe_versions(),
        "generator_card": dict(outcome.card),
        "arms": {name: [dict(result) for result in seeds] for name, seeds in outcome.arms.items()},
        "cost": _cost(outcome.shards, outcome.price_per_hour),
    }
    write_json(store.facts, facts)


def load_facts(store: RunStore) -> RunFacts:
    """The facts of a run from its folder.

    Raises:
        DataError: the folder holds no run that came to its end.
    """
    if not file_exists(store.facts) or not file_exists(store.config):
        raise DataError(f"{store.root} holds no finished run: {store.facts.name} is missing")
    config = validate(RunConfig, store.stored_config())
    saved: dict[str, Any] = read_json(store.facts)
    dataset: Dataset = open_dataset(config.data, store.real_manifest)
    return RunFacts(
        config=config,
        command=saved["command"],
        machine=saved["machine"],
        versions=saved["versions"],
        generator_card=saved["generator_card"],
        class_names=dataset.class_names,
        class_counts=[int(count) for count in dataset.class_counts()],
        shots=[str(shot) for shot in dataset.shots()],
        arms={
            name: [SeedResult.from_json(result) for result in saved["arms"][name]]
            for name in config.arms()  # in the config's order; JSON files are sorted
        },
        stages=read_stages(store),
        cost=_read_cost(saved["cost"]) if saved["cost"] else None,
    )


def publish(store: RunStore) -> dict[str, Any]:
    """Writes report, study and result; the result in the run's root is last and marks the end."""
    facts = load_facts(store)
    write_report(store, facts)
    if facts.config.study:
        write_study(store, facts)
    result: dict[str, Any] = read_json(store.report / "result.json")
    write_json(store.result, result)
    return result


def add_stage_time(store: RunStore, stage: StageTime) -> None:
    """Adds to what a stage has taken, across restarts; stages at work together share the clock."""
    before = {item.stage: item for item in read_stages(store)}
    known = before.get(stage.stage)
    seconds = stage.seconds + (known.seconds if known else 0.0)
    before[stage.stage] = StageTime(
        stage=stage.stage, seconds=seconds, units=stage.units, unit=stage.unit
    )
    rows = [[item.stage, item.seconds, item.units, item.unit] for item in before.values()]
    write_json(store.stages, rows)


def read_stages(store: RunStore) -> list[StageTime]:
    """Stages in the order they first ran."""
    if not file_exists(store.stages):
        return []
    rows: list[Any] = read_json(store.stages)
    return [StageTime(stage=s, seconds=t, units=n, unit=u) for s, t, n, u in rows]


def _read_cost(saved: Mapping[str, Any]) -> GenerationCost:
    stages = {name: saved["stages"][name] for name in STAGES}  # JSON files are sorted
    levels = {int(level): Spending(**spent) for level, spent in saved.get("levels", {}).items()}
    return GenerationCost(**{**saved, "stages": stages, "levels": levels})


def _cost(
    shards: Sequence[Mapping[str, Any]], price_per_hour: float | None
) -> dict[str, JsonValue] | None:
    if not shards:
        return None
    costs = [shard["cost"] for shard in shards]
    levels = defaultdict[int, list[Spending]](list)
    for shard in shards:
        spent = Spending(
            seconds=shard["cost"]["seconds"], model_calls=shard["cost"]["num_model_calls"]
        )
        levels[shard_level(shard["ref"]["name"])].append(spent)
    calls = sum(cost["num_model_calls"] for cost in costs)
    return {
        "images": sum(shard["ref"]["num_rows"] for shard in shards),
        "model_calls": calls,
        "seconds": sum(cost["seconds"] for cost in costs),
        "bare_seconds": sum(cost["bare_seconds"] for cost in costs),
        "batch_fill": calls / max(1, sum(cost["capacity"] for cost in costs)),
        "batch_size": max(cost["batch_size"] for cost in costs),
        "queue": sum(cost["queued"] for cost in costs)
        / max(1, sum(cost["num_batches"] for cost in costs)),
        "stages": {
            stage: sum(cost["stages"].get(stage, 0.0) for cost in costs) for stage in STAGES
        },
        "levels": {str(level): asdict(summed(spent)) for level, spent in levels.items()},
        "price_per_hour": price_per_hour,
    }
