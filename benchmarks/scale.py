"""How far a run scales: planning, tasks, workers and the manifest; measured, and beyond by a model.

`python -m benchmarks.scale` measures everything in about ten minutes and 16 GiB of memory and
writes `benchmarks/results/scale.json`; `--resume` goes on with an interrupted run. `--quick` takes
half a minute and only shows that everything works.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.engine_parts.measure import Measurement, Results
from benchmarks.scale_parts.actors import Trial, run_trials
from benchmarks.scale_parts.beyond import beyond, costs_of, foreseen
from benchmarks.scale_parts.committing import commit_rows
from benchmarks.scale_parts.memory import measured
from benchmarks.scale_parts.planning import plan_a_run
from benchmarks.scale_parts.table import results_table
from infra.machine import describe_machine, describe_versions

OUTPUT = Path(__file__).parent / "results" / "scale.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured.

    Attributes:
        requests: of the plan.
        actors: that sleep, one number a case.
        rounds: tasks an actor.
        shard_seconds: of sleep.
        words: of progress a shard in the second trial; the first has one.
        rows: of the manifest, one number a case.
        repetitions: of planning and of trials.
    """

    requests: int
    actors: tuple[int, ...]
    rounds: int
    shard_seconds: float
    words: int
    rows: tuple[int, ...]
    repetitions: int


FULL = Effort(
    requests=10_000_000,
    actors=(8, 32),
    rounds=4,
    shard_seconds=2.0,
    words=20,
    rows=(1_000_000, 10_000_000),
    repetitions=3,
)
QUICK = Effort(
    requests=200_000,
    actors=(2,),
    rounds=3,
    shard_seconds=0.5,
    words=20,
    rows=(100_000,),
    repetitions=1,
)


def planning(effort: Effort, workers: int) -> dict[str, Measurement]:
    """Planning; the run with the median time."""
    runs = [measured(plan_a_run, effort.requests, workers) for _ in range(effort.repetitions)]
    runs.sort(key=lambda run: run["seconds"])
    median: Measurement = runs[len(runs) // 2]
    return {f"planning for {workers} workers": median}


def sleeping(effort: Effort, actors: int) -> dict[str, Measurement]:
    """Trials with few and with many words, each repeated, on the same actors."""
    trials = [
        Trial(
            actors=actors,
            tasks=effort.rounds * actors,
            shards=1,
            shard_seconds=effort.shard_seconds,
            messages=words,
        )
        for words in (1, effort.words)
    ]
    found = measured(run_trials, actors, trials * effort.repetitions)
    middle = [_median(found["trials"][index :: len(trials)]) for index in range(len(trials))]
    return {f"{actors} actors": {**found, "median_trials": middle}}


def modelled(results: Results, effort: Effort) -> dict[str, Measurement]:
    """The model against the trials, then a thousand workers."""
    cases = [results.measurements[f"{actors} actors"] for actors in effort.actors]
    shard = results.measurements["planning for 1000 workers"]["hand_over_seconds"]
    costs = costs_of(cases[0]["median_trials"], shard)
    compared = [foreseen(costs, case["median_trials"]) for case in cases]
    return {"model": {"costs": costs.as_json(), "against_trials": compared, **beyond(costs)}}


def main(arguments: Sequence[str]) -> int:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.scale")
    parser.add_argument("--quick", action="store_true", help="half a minute; nothing but a test")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument("--output", type=Path, help=f"default: {OUTPUT}; none with --quick")
    given = parser.parse_args(arguments)
    effort = QUICK if given.quick else FULL
    facts = {"quick": given.quick, "machine": describe_machine(), "versions": describe_versions()}
    output = given.output or (None if given.quick else OUTPUT)
    results = Results(output, facts, resume=given.resume)
    for workers in (100, 1000):
        results.case(f"planning {workers}", partial(planning, effort, workers))
    for actors in effort.actors:
        results.case(f"actors {actors}", partial(sleeping, effort, actors))
    results.case("model", partial(modelled, results, effort))
    for rows in effort.rows:
        case = partial(_committed, rows)
        results.case(f"manifest {rows}", case)
    Console(width=120).print(results_table(results.measurements))
    return 0


def _committed(rows: int) -> dict[str, Measurement]:
    return {f"manifest of {rows} rows": measured(commit_rows, rows)}


def _median(trials: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A trial with the median time and the median work of the driver."""
    medians = {
        name: statistics.median(trial[name] for trial in trials)
        for name in ("seconds", "driver_cpu")
    }
    return {**trials[0], **medians}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
