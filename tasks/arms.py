"""The arms of a comparison: every one with every seed, on the same test images."""

from collections.abc import Iterator, Sequence
from typing import Any

from infra.config import RunConfig
from infra.config.schema import BASELINE
from infra.jobs.classifier_job import TrainClassifier
from infra.jobs.dataset import Dataset
from infra.jobs.levels import PlannedLevel
from tasks.agenda import Unit
from tasks.runtime import open_stage
from tasks.train import levels_of, results, training_job, training_unit


class Arms:
    """The trainings of a run. Those that read no synthetic image may be asked for first.

    Made inside a flow.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config, self._jobs = config, dict[tuple[int, str], TrainClassifier]()
        epochs = config.training.epochs * config.training.seeds * len(config.arms())
        self._shown = open_stage("train classifiers", epochs, "epochs")

    def on_real_images(self, dataset: Dataset, hard: frozenset[str]) -> Iterator[Unit]:
        """Trains the arms that read no level."""
        read = {name: levels_of(self._config, arm) for name, arm in self._config.arms().items()}
        yield from self._units(dataset, hard, (), [name for name in read if not read[name]])

    def units(
        self, dataset: Dataset, hard: frozenset[str], levels: Sequence[PlannedLevel]
    ) -> Iterator[Unit]:
        """Trains all arms that have not been asked for."""
        yield from self._units(dataset, hard, levels, list(self._config.arms()))

    def results(self) -> dict[str, list[dict[str, Any]]]:
        """Arm to the results of its seeds, when all are trained."""
        seeds = range(self._config.training.seeds)
        return {
            name: results([self._jobs[seed, name] for seed in seeds])
            for name in self._config.arms()
        }

    def _units(
        self,
        dataset: Dataset,
        hard: frozenset[str],
        levels: Sequence[PlannedLevel],
        names: Sequence[str],
    ) -> Iterator[Unit]:
        arms = self._config.arms()
        for seed in range(self._config.training.seeds):
            for name in names:
                if (seed, name) in self._jobs:
                    continue
                keys = frozenset[str]() if name == BASELINE else hard
                job = training_job(self._config, dataset, (name, arms[name]), seed, keys, levels)
                self._jobs[seed, name] = job
                yield training_unit(job, self._shown, patient=True)
