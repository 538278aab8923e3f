"""Trains and evaluates one classifier: one arm, one seed. Continues from its last checkpoint."""

import time
from collections.abc import Generator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import nn

from curriculum.augment import Augment
from curriculum.evaluate import EvaluateSpec, Metrics, evaluate, predict_logits
from curriculum.loader import ImageTable
from curriculum.mixture import Composition
from curriculum.schedules.base import CurriculumSchedule, levels_read
from curriculum.train_spec import TrainSpec
from curriculum.trainer import Training
from generators.classifiers import (
    ClassifierInfo,
    Normalization,
    load_classifier,
    pretrained_normalization,
    save_classifier,
)
from generators.local_copies import local_copy
from generators.places import Place, file_exists
from generators.registry import build, content_hash, from_params
from infra.config import ArmConfig, RunConfig
from infra.config.schema import DataConfig, TrainingConfig
from infra.jobs.dataset import Dataset, open_dataset
from infra.jobs.images import PixelFormat, StoredImages
from infra.storage.atomic import read_json, read_table, replacing, write_json
from infra.storage.checkpoint import load_checkpoint, save_checkpoint
from infra.storage.files import remove, written_locally
from infra.storage.runs import RunStore
from infra.workers.base import Progress, WorkerContext


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainClassifier:
    """One arm with one seed.

    Attributes:
        arm: its name.
        train: the training.
        config: of the run.
        store: of the run.
        hard_keys: keys of the hard real images.
        data_hash: of what everything it trains on is made from; known before it is made.
        levels: image guidance to the rows of the level, of all levels that the arm reads.
    """

    arm: str
    train: TrainSpec
    config: RunConfig
    store: RunStore
    hard_keys: frozenset[str]
    data_hash: str
    levels: Mapping[int, Place]

    @property
    def name(self) -> str:
        """Folder name: the same training on the same data, the same folder."""
        digest = content_hash([self.train.fingerprint(), self.data_hash], 16)
        return f"{self.arm}-seed{self.train.seed}-{digest}"

    @property
    def folder(self) -> Place:
        """Where checkpoint, weights and result are."""
        return self.store.training / self.name

    @property
    def classifier(self) -> Place:
        """The trained weights."""
        return self.folder / "classifier.safetensors"

    @property
    def checkpoint(self) -> Place:
        """The state after the last finished epoch; gone when there is a result."""
        return self.folder / "checkpoint.pt"

    @property
    def result(self) -> Place:
        """The metrics; written last."""
        return self.folder / "result.json"

    def reads(self) -> tuple[frozenset[int], ...]:
        """The levels that each epoch reads."""
        schedule: CurriculumSchedule = build("schedule", self.train.schedule, "schedule")
        return tuple(
            levels & self.levels.keys() for levels in levels_read(schedule, self.train.epochs)
        )


def train_spec(
    training: TrainingConfig, data: DataConfig, arm: ArmConfig, num_classes: int, seed: int
) -> TrainSpec:
    """The training of an arm."""
    side = training.image_size or data.image_size
    normalization = (
        pretrained_normalization(training.model) if training.pretrained else Normalization()
    )
    return TrainSpec(
        model=training.model,
        pretrained=training.pretrained,
        image_size=(side, side),
        channels=data.channels,
        num_classes=num_classes,
        normalization=normalization,
        epochs=training.epochs,
        updates_per_epoch=training.updates_per_epoch,
        batch_size=training.batch_size,
        optimizer=training.optimizer,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        momentum=training.momentum,
        warmup_percent=training.warmup_percent,
        ema_decay=training.ema_decay,
        mixing=arm.mixing or training.mixing,
        sampling=arm.sampling or training.sampling,
        precision=training.precision,
        augment=from_params(Augment, training.augment, "training.augment"),
        loss=arm.loss or training.loss,
        schedule=arm.schedule,
        composition=Composition(
            tail_share=arm.tail_share,
            head_keep=arm.head_keep,
            synthetic_weight=arm.synthetic_weight,
        ),
        seed=seed,
        num_loader_workers=training.loader_workers,
    )


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
    spec = job.train
    if file_exists(job.result):
        yield Progress(done=spec.epochs, total=spec.epochs)
        stored: dict[str, Any] = read_json(job.result)
        return stored
    saved = load_checkpoint(job.checkpoint) if file_exists(job.checkpoint) else None
    epoch = len(saved["history"]) if saved else 0
    if epoch >= until and until < spec.epochs:
        yield Progress(done=until, total=until)
        return {"epoch": until}
    started = time.perf_counter()
    dataset = open_dataset(job.config.data, job.store.real_manifest)
    form = training_format(job.config)
    levels = frozenset[int]().union(*job.reads()[epoch:until])
    table = training_images(job, dataset, form, levels)
    training = Training(replace(spec, device=context.device), table, job.data_hash)
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
        state = {"training": training.state(), "history": history, "seconds": seconds}
        save_checkpoint(job.checkpoint, state)
        updates = (report.epoch - epoch) * spec.updates_per_epoch
        yield Progress(done=report.epoch, total=until, gauge={"updates": updates})
    if until < spec.epochs:
        return {"epoch": until}
    metrics = save_and_test(context, job, training.result, dataset)
    return store_result(job, history, metrics, before + time.perf_counter() - started)


def save_and_test(
    context: WorkerContext, job: TrainClassifier, network: nn.Module, dataset: Dataset
) -> Metrics:
    """Stores the weights and evaluates them on the test split."""
    spec = job.train
    info = ClassifierInfo(
        model=spec.model,
        class_names=dataset.class_names,
        channels=spec.channels,
        image_size=spec.image_size,
        normalization=spec.normalization,
        head=build("loss", spec.loss, "loss").head,
        details={"arm": job.arm, "seed": spec.seed, "run": job.config.name},
    )
    with written_locally(job.classifier) as path:
        save_classifier(path, network, info)
    counts = torch.from_numpy(dataset.class_counts())
    form = training_format(job.config)
    test = StoredImages(dataset.split("test"), None, folders(job.store), form, frozenset())
    return evaluate(network, test, counts, evaluation(job, context.device))


def store_result(
    job: TrainClassifier, history: list[dict[str, Any]], metrics: Metrics, seconds: float
) -> dict[str, Any]:
    """Writes the result, which marks the end, and removes the state."""
    result = {
        "arm": job.arm,
        "seed": job.train.seed,
        "metrics": metrics.as_json(),
        "epochs": [
            epoch | {name: _text_keys(epoch[name]) for name in ("mixture", "feedback")}
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


def training_format(config: RunConfig) -> PixelFormat:
    """What the classifier sees."""
    side = config.training.image_size or config.data.image_size
    return PixelFormat(channels=config.data.channels, image_size=side)


def folders(store: RunStore) -> tuple[Place, Place]:
    """Folders of the real and the synthetic shards."""
    return store.real, store.generated


def training_images(
    job: TrainClassifier, dataset: Dataset, form: PixelFormat, levels: AbstractSet[int]
) -> ImageTable:
    """All real training images, and the accepted synthetic ones of these levels.

    Rows of a level keep their order whatever other levels there are.
    """
    columns = ("shard", "shard_sha256", "offset", "size", "label", "image_guidance", "status")
    tables = [read_table(job.levels[level], columns) for level in sorted(levels)]
    generated = pa.concat_tables(tables) if tables else None
    if generated is not None:
        generated = generated.filter(pc.equal(generated["status"], "ok"))
    real = dataset.split("train")
    return StoredImages(real, generated, folders(job.store), form, job.hard_keys).in_memory()
