"""What a classifier learns from a generator's training data alone, measured on other data.

It says how much of a gain could be had without any generator: by training on its data directly.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from curriculum.data.decode import decode, resize
from curriculum.data.long_tail import class_counts
from curriculum.evaluate import EvaluateSpec, evaluate
from curriculum.loader import TensorImages
from curriculum.mixture import Rows
from curriculum.sources.base import LabeledImages, SourceSpec
from curriculum.train_spec import TrainSpec
from curriculum.trainer import Training
from generators.errors import ConfigError, DataError, SampleRejected, one_of
from generators.registry import MethodSpec, build
from infra.config.schema import DataConfig
from infra.jobs.dataset import open_dataset, pixel_format
from infra.jobs.images import PixelFormat, StoredImages
from infra.storage.runs import RunStore
from infra.workers.base import Progress, WorkerContext


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferJob:
    """A classifier to train on a store, and the data it is tested on.

    Attributes:
        train: the training, on real images only.
        data: how the images were ingested.
        store: where they are.
        transfer: source of the test images; all its splits are used.
    """

    train: TrainSpec
    data: DataConfig
    store: RunStore
    transfer: MethodSpec


def measure_transfer(
    context: WorkerContext, job: TransferJob
) -> Generator[Progress, None, dict[str, Any]]:
    """Top-1 accuracy in percent, and on what it was measured."""
    dataset = open_dataset(job.data, job.store.real_manifest)
    folders = (job.store.real, job.store.generated)
    form = pixel_format(job.data)
    stored = StoredImages(dataset.split("train"), None, folders, form, frozenset())
    training = Training(replace(job.train, device=context.device), stored.in_memory())
    for report in training.run():
        yield Progress(done=report.epoch, total=report.num_epochs)
    source: SourceSpec = build("source", job.transfer, "transfer")
    images = source.open()
    test = read_all(images, dataset.class_names, form)
    counts = class_counts(test.rows.labels, len(dataset.class_names))
    spec = EvaluateSpec(normalization=job.train.normalization, device=context.device)
    metrics = evaluate(training.result, test, torch.from_numpy(counts), spec)
    return {
        "accuracy": metrics.top1,
        "measured_on": job.transfer.as_json(),
        "images": len(test.rows),
    }


def read_all(
    images: LabeledImages, class_names: tuple[str, ...], form: PixelFormat
) -> TensorImages:
    """A whole source in memory, its labels in terms of other class names.

    What cannot be read is left out.

    Raises:
        ConfigError: a class that is not among them.
        DataError: no image that can be read.
    """
    check_classes(images, class_names)
    pixels, labels = [], []
    for index, label in enumerate(images.labels):
        try:
            pixels.append(resize(decode(images.read(index), form.channels), form.image_size))
        except SampleRejected:
            continue
        labels.append(class_names.index(images.class_names[label]))
    if not pixels:
        raise DataError("transfer: no image can be read")
    tensor = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    return TensorImages(images=tensor, rows=Rows.real(np.array(labels, dtype=np.int64)))


def check_classes(images: LabeledImages, class_names: Sequence[str]) -> None:
    """Checks that a classifier of these classes can be tested on a source.

    Raises:
        ConfigError: a class that is not among them.
    """
    for name in images.class_names:
        if name not in class_names:
            raise ConfigError("transfer", name, one_of(class_names, name))
