"""Trains and evaluates one classifier: one arm, one seed. Continues from its last checkpoint.

Of workers that train it together, the first one writes and tests.
"""

import time
from collections.abc import Generator, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from curriculum.evaluate import EvaluateSpec, Metrics, evaluate, predict_features, predict_logits
from curriculum.feedback import mean_gains
from curriculum.loader import ImageTable
from curriculum.rebalance import rebalance
from curriculum.team import Team
from curriculum.trainer import Training
from generators.class_statistics import statistics_of
from generators.classifier_file import ClassifierInfo, load_classifier, save_classifier
from generators.errors import OutputError
from generators.heads import head_of
from generators.local_copies import local_copy
from generators.places import Place, file_exists
from infra.jobs.classifier_job import (
    TrainClassifier,
    folders,
    training_format,
    training_images,
)
from infra.jobs.dataset import Dataset, open_dataset
from infra.jobs.images import StoredImages
from infra.storage.atomic import read_json, replacing, write_json
from infra.storage.checkpoint import load_checkpoint, save_checkpoint
from infra.storage.files import remove, written_locally
from infra.workers.base import Progress, WorkerContext


def train_classifier(
    context: WorkerContext, job: TrainClassifier, until: int
) -> Generator[Progress, None, dict[str, Any]]:
    """Trains up to an epoch and stores the state; at the end evaluates once on the test split.

    Stopped and continued, it gives the same weights, bit for bit: the images of an epoch depend on
    the real ones and on the levels in its mixture alone, not on what else is there already.

    Args:
        context: of the worker.
        job: the training.
        until: epochs to finish; the levels that they read are complete.

    Returns:
        The stored result; before the last epoch only `epoch`, how far the training is.
    """
    spec, team = job.train, context.team
    saved = load_checkpoint(job.checkpoint) if file_exists(job.checkpoint) else None
    epoch = len(saved["history"]) if saved else 0
    is_done = file_exists(job.result)
    _check_together(job, team, spec.epochs + 1 if is_done else epoch)
    if is_done:
        yield Progress(done=spec.epochs, total=spec.epochs)
        stored: dict[str, Any] = read_json(job.result)
        return stored
    if epoch >= until and until < spec.epochs:
        yield Progress(done=until, total=until)
        return {"epoch": until}
    started = time.perf_counter()
    dataset = open_dataset(job.config.data, job.store.real_manifest)
    form = training_format(job.config)
    levels = frozenset[int]().union(*job.reads()[epoch:until])
    table = training_images(job, dataset, form, levels)
    training = Training(replace(spec, device=context.device), table, job.data_hash, team)
    history: list[dict[str, Any]] = []
    before = 0.0
    if saved:
        training.restore(saved["training"])
        history, before = saved["history"], saved["seconds"]
    reports = training.run()
    while training.epoch < until:
        report = next(reports)
        history.append(asdict(report))
        seconds = before + time.perf_counter() - started
        if team.leads:
            state = {"training": training.state(), "history": history, "seconds": seconds}
            save_checkpoint(job.checkpoint, state)
        updates = (report.epoch - epoch) * spec.updates_per_epoch
        yield Progress(done=report.epoch, total=until, gauge={"updates": updates})
    if until < spec.epochs or not team.leads:
        return {"epoch": until}
    network = rebalance(training.result, table, training.spec)
    found = save_and_test(context, job, network, dataset, table)
    return store_result(job, history, found, before + time.perf_counter() - started)


def _check_together(job: TrainClassifier, team: Team, epoch: int) -> None:
    """Each process of a team must find what the leader finds, or they would wait for each other.

    Raises:
        OutputError: this one does not: it sees another folder.
    """
    if int(team.same(torch.tensor(epoch))) != epoch:
        raise OutputError(
            f"{job.folder}: the workers that train together do not find the same state there; "
            "the output must be on storage that all machines share"
        )


def save_and_test(
    context: WorkerContext,
    job: TrainClassifier,
    network: nn.Module,
    dataset: Dataset,
    table: ImageTable,
) -> dict[str, Metrics]:
    """Stores the weights and evaluates them, once, on the test split and on `val` if there is one.

    Beside the weights, what they make of the real training images, for judges.

    Returns:
        `metrics` and `val`.
    """
    spec = job.train
    info = ClassifierInfo(
        model=spec.model,
        class_names=dataset.class_names,
        channels=spec.channels,
        image_size=spec.image_size,
        normalization=spec.normalization,
        head=head_of(network),
        details={
            "arm": job.arm,
            "seed": spec.seed,
            "run": job.config.name,
            "stored_size": job.config.data.image_size,
        },
    )
    real = np.flatnonzero(table.rows.is_real)
    seen = predict_features(network, table, evaluation(job, context.device), real)
    statistics = statistics_of(*seen, torch.from_numpy(table.rows.labels[real]))
    with written_locally(job.classifier) as path:
        save_classifier(path, network, info, statistics)
    counts = torch.from_numpy(dataset.class_counts())
    form = training_format(job.config)
    found = {}
    for name, split in (("metrics", "test"), ("val", "val")):
        rows = dataset.split(split)
        if rows.num_rows:
            images = StoredImages(rows, None, folders(job.store), form, frozenset())
            found[name] = evaluate(network, images, counts, evaluation(job, context.device))
    return found


def store_result(
    job: TrainClassifier,
    history: list[dict[str, Any]],
    found: Mapping[str, Metrics],
    seconds: float,
) -> dict[str, Any]:
    """Writes the result, which marks the end, and removes the state."""
    result = {
        "arm": job.arm,
        "seed": job.train.seed,
        **{name: metrics.as_json() for name, metrics in found.items()},
        "gains": mean_gains([epoch.get("gains", ()) for epoch in history]),
        "epochs": [
            {name: value for name, value in epoch.items() if name != "gains"}
            | {name: _text_keys(epoch[name]) for name in ("mixture", "feedback")}
            | {"strengths": list(epoch["strengths"])}
            for epoch in history
        ],
        "seconds": seconds,
    }
    write_json(job.result, result)
    remove(job.checkpoint)
    return result


def _text_keys(levels: Mapping[int, float]) -> dict[str, float]:
    return {str(level): value for level, value in levels.items()}


def predict_train(
    context: WorkerContext, job: TrainClassifier, path: Place
) -> Generator[Progress, None, Place]:
    """Stores the logits (N, num_classes) of the training images as .npy, in manifest order."""
    if not file_exists(path):
        model, _ = load_classifier(local_copy(job.classifier))
        dataset = open_dataset(job.config.data, job.store.real_manifest)
        form = training_format(job.config)
        train = dataset.split("train")
        images = StoredImages(train, None, folders(job.store), form, frozenset())
        logits = predict_logits(model, images, evaluation(job, context.device))
        with replacing(path) as stream:
            np.save(stream, logits.cpu().numpy(), allow_pickle=False)
    yield Progress(done=1, total=1)
    return path


def evaluation(job: TrainClassifier, device: str) -> EvaluateSpec:
    """How the trained classifier is tested."""
    return EvaluateSpec(
        normalization=job.train.normalization,
        device=device,
        few_below=job.config.data.few_below,
        many_above=job.config.data.many_above,
    )
