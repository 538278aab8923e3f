"""Finds, before any work, what would stop a run later. Reads listings, no image and no network."""

import torch

from curriculum.plan import check_levels
from curriculum.schedules.base import CurriculumSchedule, timeline
from generators.classifiers import create_classifier
from generators.errors import DataError
from generators.registry import build
from infra.config import RunConfig
from infra.jobs.dataset import select
from infra.jobs.planning import hard_images, needs_logits, wanted_images
from infra.jobs.preview import bytes_per_image, unread_dataset
from infra.storage.runs import RunStore


def check_run(config: RunConfig, store: RunStore) -> None:
    """Checks data, hard set, levels, schedules, classifier and disk space.

    Raises:
        UserError: naming the field, the value and what is allowed.
    """
    check_levels(config.generation.levels, config.generation.num_inference_steps)
    for arm in config.arms().values():
        schedule: CurriculumSchedule = build("schedule", arm.schedule, "schedule")
        timeline(schedule, config.training.epochs)
    side = config.training.image_size or config.data.image_size
    with torch.device("meta"):  # no memory, no initial weights
        create_classifier(config.training.model, 2, config.data.channels, image_size=(side, side))
    dataset = unread_dataset(config, select(config.data))
    if len(dataset.class_names) < 2:
        raise DataError(f"a classifier needs at least 2 classes, found {dataset.class_names}")
    num_images = dataset.rows.num_rows
    if not needs_logits(config):
        hard = hard_images(config, dataset, None)
        wanted = wanted_images(config, dataset, hard)
        num_images += int(wanted.sum()) * len(config.generation.levels)
    store.require_space(num_images * bytes_per_image(config))
