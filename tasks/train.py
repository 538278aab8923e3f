"""Trains classifiers: every arm with every seed is one unit."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from prefect import task

from curriculum.schedules.base import levels_read
from generators.places import Place, file_exists, opened
from generators.registry import content_hash
from infra.config import ArmConfig, RunConfig
from infra.jobs.classifier_job import TrainClassifier, train_spec
from infra.jobs.dataset import Dataset
from infra.jobs.levels import StoredLevel
from infra.jobs.planning import schedule_of
from infra.jobs.train import predict_train, train_classifier
from infra.metrics import TEST_ACCURACY
from infra.storage.atomic import read_json
from infra.storage.shards import file_sha256
from tasks.agenda import Unit
from tasks.gather import gather
from tasks.judge import level_mark
from tasks.runtime import run_job, runtime, stage
from tasks.settings import CACHED, RETRIED, opaque, worker_died
from tasks.stages import OpenStage


def trained_mark(job: TrainClassifier) -> str:
    """Reached when a classifier is trained."""
    return f"trained {job.name}"


@task(
    name="train-classifier",
    cache_key_fn=lambda _, parameters: (
        f"train-{parameters['job'].name}-{parameters['start']}-{parameters['until']}"
    ),
    retry_condition_fn=worker_died,
    **CACHED,
    **RETRIED,
)
def train(job: TrainClassifier, start: int, until: int) -> dict[str, Any]:
    """Trains one classifier up to an epoch; after the last evaluates it and returns its metrics."""
    team = runtime().workers.processes_per_training
    result = run_job(train_classifier, job, until, shown_before=start, workers=team)
    if "metrics" in result:
        accuracy = result["metrics"]["top1"]
        runtime().meter.put(TEST_ACCURACY, accuracy, arm=job.arm, seed=str(job.train.seed))
    return result


def training_job(
    config: RunConfig,
    dataset: Dataset,
    arm: tuple[str, ArmConfig],
    seed: int,
    hard: frozenset[str],
    levels: Sequence[StoredLevel] = (),
) -> TrainClassifier:
    """The training of an arm with a seed.

    Args:
        config: of the run.
        dataset: the real images.
        arm: name and settings.
        seed: of the training.
        hard: keys of the hard real images.
        levels: that are generated; those that the arm reads are part of what identifies it.
    """
    store = runtime().store
    name, settings = arm
    spec = train_spec(config.training, config.data, settings, len(dataset.class_names), seed)
    read = levels_of(config, settings)
    used = sorted(
        (level for level in levels if level.image_guidance in read),
        key=lambda level: level.image_guidance,
    )
    made_from = [file_sha256(store.real_manifest), sorted(hard), [level.name for level in used]]
    return TrainClassifier(
        arm=name,
        train=spec,
        config=config,
        store=store,
        hard_keys=hard,
        data_hash=content_hash(made_from),
        levels={level.image_guidance: level.path(store) for level in used},
    )


def levels_of(config: RunConfig, arm: ArmConfig) -> frozenset[int]:
    """All levels that an arm reads, if they are generated."""
    return frozenset[int]().union(*levels_read(schedule_of(arm), config.training.epochs))


def training_unit(job: TrainClassifier, shown: OpenStage, *, patient: bool, start: int = 0) -> Unit:
    """Trains as far as levels are complete, then gives the worker back and goes on later.

    Args:
        job: the training.
        shown: the stage it belongs to.
        patient: see `Unit`.
        start: epochs that earlier units have trained.
    """
    reads = job.reads()

    def submit(reached: Callable[[str], bool]) -> Any:
        until = start + 1
        while until < len(reads) and all(reached(level_mark(level)) for level in reads[until]):
            until += 1
        return train.with_options(
            retries=runtime().workers.retries,
            refresh_cache=not file_exists(job.result),
            task_run_name=job.name if until == len(reads) else f"{job.name} to epoch {until}",
        ).submit(opaque(job), start, until)

    def following(result: dict[str, Any]) -> Unit | None:
        if "metrics" in result:
            return None
        return training_unit(job, shown, patient=patient, start=result["epoch"])

    levels = {level_mark(level) for level in reads[start]}
    return Unit(
        stage=shown,
        submit=submit,
        # An equal training, for the judge, may be under way: this one reads its result then.
        needs=frozenset(levels if start or not patient else {*levels, trained_mark(job)}),
        gives=f"arm {job.name}" if patient else trained_mark(job),
        patient=patient,
        done=following,
        worth=lambda result: (len(reads) if "metrics" in result else result["epoch"]) - start,
    )


def results(jobs: Sequence[TrainClassifier]) -> list[dict[str, Any]]:
    """What finished trainings have stored."""
    return [read_json(job.result) for job in jobs]


@task(name="predict-train", retry_condition_fn=worker_died, **RETRIED)
def predict(job: TrainClassifier, path: Place) -> str:
    """Stores the logits of the training images."""
    return str(run_job(predict_train, job, path))


def train_logits(job: TrainClassifier) -> torch.Tensor:
    """Logits (N, num_classes) of the training images under a trained classifier."""
    path = job.folder / "train_logits.npy"
    with stage("score real images", 1, "passes"):
        gather([predict.submit(opaque(job), path)])
    with opened(path) as stream:
        return torch.from_numpy(np.load(stream, allow_pickle=False))
