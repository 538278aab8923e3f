"""Trains and evaluates one classifier: one arm, one seed. Continues from its last checkpoint."""

import time
from collections.abc import Generator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch

from curriculum.augment import Augment
from curriculum.evaluate import EvaluateSpec, evaluate, predict_logits
from curriculum.loader import ImageTable
from curriculum.mixture import Composition
from curriculum.train_spec import TrainSpec
from curriculum.trainer import Training
from generators.classifiers import (
    ClassifierInfo,
    Normalization,
    load_classifier,
    pretrained_normalization,
    save_classifier,
)
from generators.registry import content_hash, from_params
from infra.config import ArmConfig, RunConfig
from infra.config.schema import DataConfig, TrainingConfig
from infra.jobs.dataset import Dataset, open_dataset
from infra.jobs.images import PixelFormat, StoredImages
from infra.storage.atomic import read_json, replacing, write_json
from infra.storage.checkpoint import load_checkpoint, save_checkpoint
from infra.storage.manifest import read_manifest
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
        data_hash: of everything it trains on; real data only where the arm uses no other.
        synthetic: whether the arm reads the manifest.
    """

    arm: str
    train: TrainSpec
    config: RunConfig
    store: RunStore
    hard_keys: frozenset[str]
    data_hash: str
    synthetic: bool

    @property
    def name(self) -> str:
        """Folder name: the same training on the same data, the same folder."""
        digest = content_hash([self.train.fingerprint(), self.data_hash], 16)
        return f"{self.arm}-seed{self.train.seed}-{digest}"

    @property
    def folder(self) -> Path:
        """Where checkpoint, weights and result are."""
        return self.store.training / self.name

    @property
    def classifier(self) -> Path:
        """The trained weights."""
        return self.folder / "classifier.safetensors"

    @property
    def result(self) -> Path:
        """The metrics; written last."""
        return self.folder / "result.json"


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
        mixup_alpha=training.mixup_alpha,
        precision=training.precision,
        augment=from_params(Augment, training.augment, "training.augment"),
        loss=arm.loss or training.loss,
        schedule=arm.schedule,
        composition=Composition(tail_share=arm.tail_share, head_keep=arm.head_keep),
        seed=seed,
        num_loader_workers=training.loader_workers,
    )


def train_classifier(
    context: WorkerContext, job: TrainClassifier
) -> Generator[Progress, None, dict[str, Any]]:
    """Trains, evaluates once on the test split, and returns the result that it stored."""
    spec = job.train
    if job.result.is_file():
        yield Progress(done=spec.epochs, total=spec.epochs)
        stored: dict[str, Any] = read_json(job.result)
        return stored
    started = time.perf_counter()
    dataset = open_dataset(job.config.data, job.store.real_manifest)
    form = training_format(job.config)
    table = training_images(job, dataset, form)
    training = Training(replace(spec, device=context.device), table)
    history: list[dict[str, Any]] = restore(training, job.folder / "checkpoint.pt")
    for report in training.run():
        history.append(asdict(report))
        state = {"training": training.state(), "history": history}
        save_checkpoint(job.folder / "checkpoint.pt", state)
        yield Progress(done=report.epoch, total=report.num_epochs)
    info = ClassifierInfo(
        model=spec.model,
        class_names=dataset.class_names,
        channels=spec.channels,
        image_size=spec.image_size,
        normalization=spec.normalization,
        details={"arm": job.arm, "seed": spec.seed, "run": job.config.name},
    )
    save_classifier(job.classifier, training.result, info)
    counts = torch.from_numpy(dataset.class_counts())
    test = StoredImages(dataset.split("test"), None, folders(job.store), form, frozenset())
    metrics = evaluate(training.result, test, counts, evaluation(job, context.device))
    result = {
        "arm": job.arm,
        "seed": spec.seed,
        "metrics": metrics.as_json(),
        "epochs": [
            {**epoch, "mixture": {str(level): w for level, w in epoch["mixture"].items()}}
            for epoch in history
        ],
        "seconds": time.perf_counter() - started,
    }
    write_json(job.result, result)
    (job.folder / "checkpoint.pt").unlink(missing_ok=True)
    return result


def predict_train(
    context: WorkerContext, job: TrainClassifier, path: Path
) -> Generator[Progress, None, Path]:
    """Stores the logits (N, num_classes) of the training images as .npy, in manifest order."""
    if not path.is_file():
        model, _ = load_classifier(job.classifier)
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


def folders(store: RunStore) -> tuple[Path, Path]:
    """Folders of the real and the synthetic shards."""
    return store.real, store.generated


def training_images(job: TrainClassifier, dataset: Dataset, form: PixelFormat) -> ImageTable:
    """The images of an arm: all real training images, and the accepted synthetic ones."""
    generated = None
    if job.synthetic:
        rows = read_manifest(job.store.manifest)
        generated = rows.filter(pc.equal(rows["status"], "ok"))
    real = dataset.split("train")
    return StoredImages(real, generated, folders(job.store), form, job.hard_keys).in_memory()


def restore(training: Training, path: Path) -> list[dict[str, Any]]:
    """Continues a training where its checkpoint was written; returns the reports so far."""
    if not path.is_file():
        return []
    saved = load_checkpoint(path)
    training.restore(saved["training"])
    history: list[dict[str, Any]] = saved["history"]
    return history
