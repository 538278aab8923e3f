"""What one training of a classifier consists of: one arm, one seed, and the images it reads."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curriculum.augment import Augment
from curriculum.feedback import choose_held_out
from curriculum.loader import ImageTable
from curriculum.mixture import Composition
from curriculum.schedules.base import CurriculumSchedule, levels_read
from curriculum.train_spec import TrainSpec
from generators.classifiers import (
    Normalization,
    pretrained_normalization,
)
from generators.places import Place
from generators.registry import build, content_hash, from_params
from infra.config import ArmConfig, RunConfig
from infra.config.schema import DataConfig
from infra.config.training import TrainingConfig
from infra.jobs.dataset import Dataset
from infra.jobs.images import PixelFormat, StoredImages
from infra.storage.atomic import read_table
from infra.storage.runs import RunStore


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
        augmentation=arm.augmentation or training.augmentation,
        rebalancer=arm.rebalancer or training.rebalancer,
        precision=training.precision,
        augment=from_params(Augment, training.augment, "training.augment"),
        loss=arm.loss or training.loss,
        schedule=arm.schedule,
        composition=Composition(
            tail_share=arm.tail_share,
            head_keep=arm.head_keep,
            synthetic_weight=arm.synthetic_weight,
            added_count=arm.added_count,
        ),
        seed=seed,
        num_loader_workers=training.loader_workers,
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
    columns = ["shard", "shard_sha256", "offset", "size", "label", "image_guidance", "status"]
    columns += ["source_key"]
    tables = [read_table(job.levels[level], columns) for level in sorted(levels)]
    generated = pa.concat_tables(tables) if tables else None
    held_out = None
    if generated is not None:
        generated = generated.filter(pc.equal(generated["status"], "ok"))
        held_out = _held_out(job, generated)
    real = dataset.split("train")
    return StoredImages(
        real, generated, folders(job.store), form, job.hard_keys, held_out
    ).in_memory()


def _held_out(job: TrainClassifier, generated: pa.Table) -> NDArray[np.bool_] | None:
    """The images that an adaptive schedule looks at."""
    schedule: CurriculumSchedule = build("schedule", job.train.schedule, "schedule")
    if schedule.feedback is None:
        return None
    levels = generated["image_guidance"].to_numpy().astype(np.int64)
    wanted, sources = job.levels.keys(), generated["source_key"].to_pylist()
    labels = generated["label"].to_numpy() if schedule.feedback.by_class else None
    return choose_held_out(sources, levels, wanted, schedule.feedback.num_sources, labels)
