"""Real Prefect tasks on real Ray actors whose jobs only sleep: what the two cost a task."""

import tempfile
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from infra.prefect_server import prefect_api
from infra.workers.base import Progress, WorkerContext

COUNTERS = ("evaluations", "batches", "capacity", "queued", "batch_size", "seconds", "bare_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Tasks that sleep.

    Attributes:
        actors: that sleep.
        tasks: each is one job on an actor.
        shards: in a task.
        shard_seconds: of sleep, each.
        messages: of progress, each.
    """

    actors: int
    tasks: int
    shards: int
    shard_seconds: float
    messages: int

    @property
    def ideal(self) -> float:
        """Seconds on actors that never wait."""
        rounds = -(-self.tasks // self.actors)
        return rounds * self.shards * self.shard_seconds


def sleep_shards(context: WorkerContext, trial: Trial) -> Generator[Progress, None, list[int]]:
    """Sleeps, and says now and then how far it is, as a generating job does."""
    total = trial.shards * trial.messages
    started = time.perf_counter()
    for done in range(1, total + 1):
        wake = started + done * trial.shard_seconds / trial.messages
        time.sleep(max(0.0, wake - time.perf_counter()))
        yield Progress(done=done, total=total, gauge=dict.fromkeys(COUNTERS, float(done)))
    return list(range(trial.shards))


def run_trials(actors: int, trials: list[Trial]) -> dict[str, Any]:
    """Runs trials on the same actors, one after the other."""
    with tempfile.TemporaryDirectory() as folder, prefect_api(Path(folder) / "prefect") as server:
        if server is not None:
            server.wait()
        return _in_a_flow(Path(folder), actors, trials)


def _in_a_flow(folder: Path, actors: int, trials: list[Trial]) -> dict[str, Any]:
    # Prefect reads its settings when it is imported: after `prefect_api` has made them.
    from prefect import flow

    from flows.settings import FLOW
    from infra.config import WorkersConfig
    from infra.storage.runs import RunStore
    from tasks.runtime import open_runtime, runtime

    @flow(name="sleep", **FLOW)
    def sleep() -> dict[str, Any]:
        store = RunStore(folder / "run")
        store.root.mkdir()
        started = time.perf_counter()
        with open_runtime(WorkersConfig(count=actors, threads=1, device="cpu"), store):
            warm = Trial(actors=actors, tasks=actors, shards=1, shard_seconds=1.0, messages=1)
            _trial(warm)  # as many jobs as actors, each a second: all have started then
            ready = time.perf_counter() - started
            memory = _actors_mib(actors)
            assert runtime().pool.size == actors
            found = [_trial(trial) for trial in trials]
        driver = psutil.Process().memory_info().rss / 2**20
        return {
            "start_seconds": ready,
            "mib_an_actor": memory,
            "driver_mib": driver,
            "trials": found,
        }

    result: dict[str, Any] = sleep()
    return result


def _trial(trial: Trial) -> dict[str, Any]:
    from prefect import task

    from tasks.agenda import Unit, open_agenda
    from tasks.runtime import open_stage, run_job
    from tasks.settings import CACHED, RETRIED, opaque, worker_died

    @task(name="sleep-shards", retry_condition_fn=worker_died, **CACHED, **RETRIED)
    def sleep_task(asked: Trial) -> list[int]:
        return run_job(sleep_shards, asked)

    def submit(number: int, reached: Any) -> Any:
        named = sleep_task.with_options(task_run_name=f"sleep {number}", refresh_cache=True)
        return named.submit(opaque(trial))

    def units() -> Iterator[Unit]:
        shown = open_stage("sleep", trial.tasks * trial.shards * trial.messages, "messages")
        for number in range(trial.tasks):
            yield Unit(stage=shown, submit=partial(submit, number))

    wall, cpu = time.perf_counter(), time.process_time()
    with open_agenda(overlap=False) as agenda:
        agenda.add(units())
    seconds, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        **asdict(trial),
        "ideal_seconds": trial.ideal,
        "seconds": seconds,
        "driver_cpu": cpu,
    }


def _actors_mib(actors: int) -> float:
    """Memory of an actor that it shares with no other, on average."""
    own = [
        process.memory_full_info().uss
        for process in psutil.Process().children(recursive=True)
        if "Actor" in " ".join(process.cmdline()[:1])
    ]
    return sum(own) / 2**20 / max(1, len(own))
