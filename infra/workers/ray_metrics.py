"""Metrics of a Ray actor: Ray exports them with its own, so a cluster's Prometheus has them."""

from collections.abc import Generator
from typing import TypeVar

from ray.util.metrics import Counter

from infra.metrics import RUN, VOCABULARY, JobCount, Metric, Recorder
from infra.workers.base import Progress, mapped

T = TypeVar("T")


class RayRecorder:
    """What workers count, in this process. Exported as `ray_` and the metric's name.

    Made once in an actor: Ray keeps a value by name and labels as long as the process lives.
    """

    def __init__(self) -> None:
        self.run = ""
        self._counters = {
            metric.name: Counter(metric.name, metric.about, (RUN, *metric.labels))
            for metric in VOCABULARY
            if metric.by_workers
        }

    def add(self, metric: Metric, value: float, **labels: str) -> None:
        """A counter grows by `value` > 0."""
        self._counters[metric.name].inc(value, {RUN: self.run, **labels})


def counted(
    steps: Generator[Progress, None, T], recorder: Recorder
) -> Generator[Progress, None, T]:
    """A job's steps as they are; what they count is recorded on the way."""
    count = JobCount(recorder)

    def noted(progress: Progress) -> Progress:
        count.report(progress.gauge)
        return progress

    return mapped(steps, noted)
