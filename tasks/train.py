"""Trains classifiers: every arm with every seed is one unit."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from prefect import task

from generators.registry import content_hash
from infra.config import ArmConfig, RunConfig
from infra.jobs.dataset import Dataset
from infra.jobs.train import TrainClassifier, predict_train, train_classifier, train_spec
from infra.storage.shards import file_sha256
from tasks.gather import gather
from tasks.runtime import run_job, runtime, stage
from tasks.settings import CACHED, RETRIED, opaque, worker_died


@task(
    name="train-classifier",
    cache_key_fn=lambda _, parameters: f"train-{parameters['job'].name}",
    retry_condition_fn=worker_died,
    **CACHED,
    **RETRIED,
)
def train(job: TrainClassifier) -> dict[str, Any]:
    """Trains and evaluates one classifier; returns its metrics and its epochs."""
    return run_job(train_classifier, job)


def training_job(
    config: RunConfig, dataset: Dataset, arm: tuple[str, ArmConfig], seed: int, hard: frozenset[str]
) -> TrainClassifier:
    """The training of an arm with a seed on what the store holds now."""
    store = runtime().store
    name, settings = arm
    num_classes = len(dataset.class_names)
    spec = train_spec(config.training, config.data, settings, num_classes, seed)
    synthetic = settings.schedule.name != "none"
    data = [file_sha256(store.real_manifest), sorted(hard)]
    if synthetic:
        data.append(file_sha256(store.manifest))
    return TrainClassifier(
        arm=name,
        train=spec,
        config=config,
        store=store,
        hard_keys=hard,
        data_hash=content_hash(data),
        synthetic=synthetic,
    )


def train_all(jobs: list[TrainClassifier], title: str) -> list[dict[str, Any]]:
    """Trains what has not been trained; results in order of the jobs."""
    with stage(title, sum(job.train.epochs for job in jobs), "epochs"):
        return gather(
            train.with_options(
                retries=runtime().workers.retries,
                refresh_cache=not job.result.is_file(),
                task_run_name=job.name,
            ).submit(opaque(job))
            for job in jobs
        )


@task(name="predict-train", retry_condition_fn=worker_died, **RETRIED)
def predict(job: TrainClassifier, path: Path) -> str:
    """Stores the logits of the training images."""
    return str(run_job(predict_train, job, path))


def train_logits(job: TrainClassifier) -> torch.Tensor:
    """Logits (N, num_classes) of the training images under a trained classifier."""
    path = job.folder / "train_logits.npy"
    with stage("score real images", 1, "passes"):
        gather([predict.submit(opaque(job), path)])
    return torch.from_numpy(np.load(path, allow_pickle=False))
