"""Dead workers and retries are counted, and what a dead worker had shown is taken back."""

from collections.abc import Generator, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from infra.config.workers import WorkersConfig
from infra.errors import WorkerError
from infra.meter import Meter
from infra.metrics import MODEL_EVALUATIONS, RETRIES, WORKER_DEATHS, Metric
from infra.progress import LogBoard
from infra.report.counts import Fates
from infra.storage.runs import RunStore
from infra.workers.base import Progress, WorkerContext
from infra.workers.local import LocalPool
from tasks.judge import count_settled
from tasks.runtime import RUNTIME, Runtime, run_job
from tasks.settings import worker_died
from tasks.stages import STAGE


class Shown:
    """A stage that only counts."""

    def __init__(self) -> None:
        self.done = 0

    def advance(self, units: int) -> None:
        self.done += units

    def gauge(self, *_: object) -> None:
        pass


def dies(context: WorkerContext, after: int) -> Generator[Progress, None, None]:
    yield Progress(done=after, total=8, gauge={"evaluations": 10 * after})
    raise WorkerError("gone")


@pytest.fixture
def meter(tmp_path: Path) -> Iterator[Meter]:
    found = Meter("animals")
    opened = Runtime(
        store=RunStore(tmp_path),
        workers=WorkersConfig(kind="local"),
        pool=LocalPool(threads=1),
        board=LogBoard(Console(quiet=True)),
        meter=found,
    )
    token = RUNTIME.set(opened)
    yield found
    RUNTIME.reset(token)


def value(meter: Meter, metric: Metric, **labels: str) -> float | None:
    found: float | None = meter.registry.get_sample_value(metric.name, {"run": "animals", **labels})
    return found


def test_a_dead_worker_is_counted_and_its_units_are_taken_back(meter: Meter) -> None:
    shown = Shown()
    token = STAGE.set(shown)  # type: ignore[arg-type]
    with pytest.raises(WorkerError):
        run_job(dies, 3)
    STAGE.reset(token)
    assert shown.done == 0
    assert value(meter, WORKER_DEATHS) == 1
    assert value(meter, MODEL_EVALUATIONS) == 30  # they were made, for nothing


def test_only_units_whose_worker_died_are_counted_as_retries(meter: Meter) -> None:
    task = SimpleNamespace(name="generate-shards")
    assert worker_died(task, None, SimpleNamespace(data=WorkerError("gone")))
    assert not worker_died(task, None, SimpleNamespace(data=KeyError("a bug")))
    assert value(meter, RETRIES, task="generate-shards") == 1


def test_a_settled_level_adds_accepted_and_refused_by_reason() -> None:
    meter = Meter("animals")
    fates = Fates(requested=9, accepted=4, rejected={"unlike": 3, "unsafe": 1}, failed={"x": 1})
    for _ in range(2):
        count_settled(fates, meter)
    found = meter.registry.get_sample_value
    assert found("discl_images_accepted_total", {"run": "animals"}) == 8
    assert found("discl_images_refused_total", {"run": "animals", "reason": "unlike"}) == 6
    assert found("discl_images_refused_total", {"run": "animals", "reason": "unsafe"}) == 2
