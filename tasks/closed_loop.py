"""What trainings on a version of the manifest measure decides what the next one gets."""

from collections.abc import Sequence
from typing import Any

from prefect import task
from prefect.artifacts import create_table_artifact

from curriculum.schedules.base import Cells
from generators.places import Place, file_exists
from infra.config import RunConfig
from infra.config.schema import CURRICULUM
from infra.jobs.closed_loop import (
    CommittedLevel,
    gains_path,
    load_gains,
    split_manifest,
    store_gains,
)
from infra.jobs.dataset import Dataset
from infra.jobs.planning import HardImages
from infra.storage.atomic import read_json
from infra.storage.manifest import read_manifest
from infra.storage.runs import RunStore
from infra.storage.versions import keep_version
from tasks.agenda import Agenda
from tasks.gather import gather
from tasks.runtime import open_stage, runtime
from tasks.settings import opaque
from tasks.train import results, training_job, training_unit


def measured_gains(
    config: RunConfig, dataset: Dataset, hard: HardImages, levels: Sequence[int], agenda: Agenda
) -> Cells | None:
    """Gains of the newest version of the manifest, measured first where they are not known.

    Args:
        config: of the run.
        dataset: the real images.
        hard: those that are multiplied.
        levels: columns of the result.
        agenda: of the flow.

    Returns:
        (num_classes, num_levels), NaN where no image was held out; None without a manifest.
    """
    store = runtime().store
    version = keep_version(store)
    if not version:
        return None
    path = gains_path(store, version)
    if not file_exists(path):
        _measure(config, dataset, hard, path, agenda)
    return load_gains(path, dataset.class_names, levels)


def _measure(
    config: RunConfig, dataset: Dataset, hard: HardImages, path: Place, agenda: Agenda
) -> None:
    store, arm, seeds = runtime().store, (CURRICULUM, config.curriculum), config.training.seeds
    (committed,) = gather([split.submit(opaque(store))])
    jobs = [
        training_job(config, dataset, arm, seed, hard.keys(), committed) for seed in range(seeds)
    ]
    shown = open_stage("measure gains", config.training.epochs * seeds, "epochs")
    agenda.add([training_unit(job, shown, patient=False) for job in jobs])
    store_gains(path, read_manifest(store.manifest), dataset.class_names, results(jobs))
    table: list[dict[str, Any]] = read_json(path)["cells"]
    create_table_artifact(
        key="gains", table=table, description=f"Version {path.stem}: accepted images, and gains."
    )


@task(name="split-manifest")
def split(store: RunStore) -> list[CommittedLevel]:
    """Writes the rows of every level of the manifest for trainings."""
    return split_manifest(store)
