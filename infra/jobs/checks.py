"""Finds, before any work, what would stop a run later. Reads listings, no image and no network."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from curriculum.plan import check_levels
from curriculum.schedules.base import timeline
from curriculum.sources.base import SourceSpec
from generators.backbones.base import BackboneSpec
from generators.classifiers import create_classifier
from generators.errors import ConfigError, DataError
from generators.registry import build
from infra.config import FitConfig, RunConfig
from infra.config.schema import DataConfig
from infra.config.training import TrainingConfig
from infra.errors import EmptyHardSet
from infra.jobs.dataset import Selection, select
from infra.jobs.planning import (
    hard_images,
    needs_logits,
    num_steps,
    schedule_of,
    used_levels,
    wanted_images,
)
from infra.jobs.preview import bytes_per_image, unread_dataset
from infra.jobs.transfer import check_classes
from infra.storage.runs import RunStore


def check_run(config: RunConfig, store: RunStore, *, growing: bool = False) -> None:
    """Checks data, hard set, levels, schedules, classifier and disk space.

    Args:
        config: of the run.
        store: where it is going to write.
        growing: no hard image is no mistake.

    Raises:
        UserError: naming the field, the value and what is allowed.
    """
    try:
        num_images = check_config(config)
    except EmptyHardSet:
        if not growing:
            raise
        num_images = _num_images(select(config.data))
    store.require_space(num_images * bytes_per_image(config.data, config.shards))


def check_config(config: RunConfig) -> int:
    """Checks all but the disk; returns the images that will be stored, as far as it is known.

    Raises:
        UserError: naming the field, the value and what is allowed.
    """
    if config.generation.backbone is not None:
        backbone: BackboneSpec = build("backbone", config.generation.backbone)
        with _below("generation.backbone"):
            backbone.check()
    check_levels(config.generation.levels, config.generation.num_inference_steps, num_steps(config))
    with _below("training"):
        for arm in config.arms().values():
            timeline(schedule_of(arm), config.training.epochs)
    levels = used_levels(config)
    _check_classifier(config.training, config.data)
    selection = _checked_selection(config.data)
    dataset = unread_dataset(config, selection)
    num_images = _num_images(selection)
    if not needs_logits(config):
        hard = hard_images(config, dataset, None)
        wanted = wanted_images(config, dataset, hard)
        num_images += int(wanted.sum()) * len(levels)
    return num_images


def check_fit(config: FitConfig, store: RunStore) -> None:
    """Checks the data of a generator to be fitted, what it is measured on, and disk space.

    Raises:
        UserError: naming the field, the value and what is allowed.
    """
    selection = _checked_selection(config.data)
    if config.transfer is not None:
        _check_classifier(config.training, config.data)
        spec: SourceSpec = build("source", config.transfer, "transfer")
        check_classes(spec.open(), selection.images.class_names)
    store.require_space(_num_images(selection) * bytes_per_image(config.data, config.shards))


def _checked_selection(data: DataConfig) -> Selection:
    """The images of a data set that has at least two classes."""
    selection = select(data)
    names = selection.images.class_names
    if len(names) < 2:
        raise DataError(f"data.source: a classifier needs at least 2 classes, found {names}")
    return selection


def _num_images(selection: Selection) -> int:
    return sum(len(rows) for rows in selection.split.values())


def _check_classifier(training: TrainingConfig, data: DataConfig) -> None:
    """Builds the classifier without memory and without initial weights."""
    side = training.image_size or data.image_size
    with _below("training"), torch.device("meta"):
        create_classifier(training.model, 2, data.channels, image_size=(side, side))


@contextmanager
def _below(section: str) -> Iterator[None]:
    """Completes the field of an error that comes from where the config is not known."""
    try:
        yield
    except ConfigError as error:
        below = error.field.removeprefix(f"{section}.")  # checkpoints know the whole name
        field = f"{section}.{below}"
        raise ConfigError(field, error.value, error.allowed) from error
