"""The vocabulary of a run's metrics: every name that is ever exported, and what feeds it.

The driver exports them as `discl_...` (`infra.meter`), Ray actors those that workers count as
`ray_discl_...` (`infra.workers.ray_metrics`): the two never add up to a double count.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

RUN: Final = "run"
"""The label that every metric has: the name of the run's output folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric.

    Attributes:
        name: as exported by the driver.
        kind: a counter only grows while a process lives.
        about: what it counts, with its unit.
        labels: besides `run`.
        by_workers: whether the workers count it themselves as well.
    """

    name: str
    kind: Literal["counter", "gauge"]
    about: str
    labels: tuple[str, ...] = ()
    by_workers: bool = False


class Recorder(Protocol):
    """Keeps counters; may be used from several threads."""

    def add(self, metric: Metric, value: float, **labels: str) -> None:
        """A counter grows by `value` >= 0."""


def _counter(name: str, about: str, *labels: str) -> Metric:
    return Metric(name=f"discl_{name}_total", kind="counter", about=about, labels=labels)


def _worked(name: str, about: str, *labels: str) -> Metric:
    full = f"discl_{name}_total"
    return Metric(name=full, kind="counter", about=about, labels=labels, by_workers=True)


def _gauge(name: str, about: str, *labels: str) -> Metric:
    return Metric(name=f"discl_{name}", kind="gauge", about=about, labels=labels)


IMAGES_MADE: Final = _worked("images_made", "Synthetic images that were made, before any judge")
IMAGES_FAILED: Final = _worked("images_failed", "Images that could not be made", "reason")
IMAGES_COPIED: Final = _worked("images_copied", "Images copied from other shards")
IMAGES_ACCEPTED: Final = _counter("images_accepted", "Images of settled levels that are kept")
IMAGES_REFUSED: Final = _counter(
    "images_refused", "Images of settled levels that a judge refused", "reason"
)
MODEL_EVALUATIONS: Final = _worked("model_evaluations", "Rows that the network evaluated")
BATCHES: Final = _worked("batches", "Batches that the network evaluated")
BATCH_CAPACITY: Final = _worked(
    "batch_capacity", "Rows these batches had room for; evaluations by it are the batch fill"
)
QUEUED_ROWS: Final = _worked(
    "queued_rows", "Rows that waited when a batch was taken; by batches it is the queue"
)
WORKER_SECONDS: Final = _worked("worker_seconds", "Seconds of workers in generating jobs")
WORK_SECONDS: Final = _worked(
    "work_seconds", "Seconds of what a worker does; those of other threads overlap", "work"
)
SHARDS_WRITTEN: Final = _worked("shards_written", "Synthetic shards that were written")
BYTES_WRITTEN: Final = _worked("bytes_written", "Bytes of these shards")
TRAINING_UPDATES: Final = _worked("training_updates", "Optimiser steps of classifiers")
WORKERS: Final = _gauge("workers", "Workers that can be at work at the same time")
WORKER_DEATHS: Final = _counter("worker_deaths", "Jobs whose worker died or gave no sign of life")
RETRIES: Final = _counter("retries", "Units of work that are tried again", "task")
QUARANTINED: Final = _counter("shards_quarantined", "Shards given up: their workers kept dying")
STAGE_DONE: Final = _gauge("stage_done", "Units of a stage that are done", "stage", "unit")
STAGE_PLANNED: Final = _gauge("stage_planned", "Units of a stage in all", "stage", "unit")
STAGE_SECONDS: Final = _counter(
    "stage_seconds", "Wall clock of stages, shared if parallel", "stage"
)
LAST_PROGRESS: Final = _gauge(
    "last_progress_timestamp_seconds", "Unix time of the last unit that was done"
)
TEST_ACCURACY: Final = _gauge(
    "test_accuracy_percent",
    "Top-1 accuracy of a trained classifier on the test images",
    "arm",
    "seed",
)

VOCABULARY: Final = (
    IMAGES_MADE,
    IMAGES_FAILED,
    IMAGES_COPIED,
    IMAGES_ACCEPTED,
    IMAGES_REFUSED,
    MODEL_EVALUATIONS,
    BATCHES,
    BATCH_CAPACITY,
    QUEUED_ROWS,
    WORKER_SECONDS,
    WORK_SECONDS,
    SHARDS_WRITTEN,
    BYTES_WRITTEN,
    TRAINING_UPDATES,
    WORKERS,
    WORKER_DEATHS,
    RETRIES,
    QUARANTINED,
    STAGE_DONE,
    STAGE_PLANNED,
    STAGE_SECONDS,
    LAST_PROGRESS,
    TEST_ACCURACY,
)

_COUNTERS: Final[Mapping[str, Metric]] = {
    "made": IMAGES_MADE,
    "copied": IMAGES_COPIED,
    "evaluations": MODEL_EVALUATIONS,
    "batches": BATCHES,
    "capacity": BATCH_CAPACITY,
    "queued": QUEUED_ROWS,
    "seconds": WORKER_SECONDS,
    "shards": SHARDS_WRITTEN,
    "bytes": BYTES_WRITTEN,
    "updates": TRAINING_UPDATES,
}
"""Counter of a job, as in `Progress.gauge`, to its metric."""
FAILED: Final = "failed_"
"""Begin of a job's counter of failed images; the reason code follows."""


class JobCount:
    """Adds what one job reports of itself, always since its begin, to a recorder."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder, self._before = recorder, dict[str, float]()

    def report(self, counters: Mapping[str, float]) -> None:
        """The job's counters as they stand now (`Progress.gauge`)."""
        for name, metric, labels in _known(counters):
            grown = counters[name] - self._before.get(name, 0.0)
            if grown > 0:
                self._recorder.add(metric, grown, **labels)
        self._before |= counters


def _known(names: Mapping[str, float]) -> Iterator[tuple[str, Metric, Mapping[str, str]]]:
    """The counters that are metrics, with their labels."""
    for name in names:
        if name in _COUNTERS:
            yield name, _COUNTERS[name], {}
        elif name.startswith(FAILED):
            yield name, IMAGES_FAILED, {"reason": name.removeprefix(FAILED)}
        elif name.endswith("_seconds") and name != "bare_seconds":
            yield name, WORK_SECONDS, {"work": name.removesuffix("_seconds")}
