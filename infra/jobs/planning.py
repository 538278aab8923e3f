"""Chooses the hard images and plans what is made of them. Trains and generates nothing."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from curriculum.hard_sets.base import HardSet
from curriculum.plan import (
    GenerationPlan,
    NumSteps,
    RequestTemplate,
    SourceImages,
    make_plan,
)
from curriculum.schedules.base import CurriculumSchedule, levels_in_order_of_use
from curriculum.target import GenerationTarget
from generators.backbones.base import BackboneSpec
from generators.errors import ConfigError
from generators.records import ImageInputs, num_denoising_steps
from generators.registry import build, from_params
from infra.config import ArmConfig, RunConfig
from infra.config.schema import CURRICULUM
from infra.errors import EmptyHardSet
from infra.jobs.dataset import Dataset
from infra.jobs.reuse import StoredForm


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HardImages:
    """The real training images that are multiplied: rows of the real manifest."""

    rows: pa.Table

    def keys(self) -> frozenset[str]:
        """Their source keys."""
        return frozenset(self.rows.column("key").to_pylist())

    def class_names(self) -> list[str]:
        """Their classes, sorted."""
        return sorted(set(self.rows.column("class_name").to_pylist()))


def needs_logits(config: RunConfig) -> bool:
    """Whether a classifier must be trained before the hard set is known."""
    method: HardSet = build("hard_set", config.hard_set, "hard_set")
    return method.needs_logits


def hard_images(config: RunConfig, dataset: Dataset, logits: torch.Tensor | None) -> HardImages:
    """The hard set of a run.

    Args:
        config: names the method.
        dataset: the real images.
        logits: (N, num_classes) of the training images, where the method needs them.

    Raises:
        EmptyHardSet: no image is hard, and something depends on those that are.
    """
    hard_set: HardSet = build("hard_set", config.hard_set, "hard_set")
    train = dataset.split("train")
    labels = torch.from_numpy(train.column("label").to_numpy(zero_copy_only=False).copy())
    counts = torch.from_numpy(dataset.class_counts())
    chosen = hard_set.select(logits, labels, counts)
    if not bool(chosen.any()) and _uses_hard_images(config):
        raise EmptyHardSet(
            f"the hard set is empty: {config.hard_set.as_json()} selects none of "
            f"{len(labels)} training images (smallest class: {int(counts.min())}); "
            "raise its threshold, or choose another method"
        )
    return HardImages(rows=train.filter(pa.array(chosen.numpy())))


def _uses_hard_images(config: RunConfig) -> bool:
    """Whether they are multiplied, or an arm draws them more often."""
    shares = (arm.tail_share for arm in config.arms().values())
    return bool(config.generation.levels) or any(share is not None for share in shares)


def plan_generation(
    config: RunConfig, dataset: Dataset, hard: HardImages, fingerprint: str
) -> GenerationPlan:
    """The plan for a hard set and the network with this fingerprint."""
    generation = config.generation
    sources = SourceImages(
        keys=hard.rows.column("key").to_pylist(),
        sha256=hard.rows.column("sha256").to_pylist(),
        labels=hard.rows.column("label").to_numpy(zero_copy_only=False),
    )
    template = RequestTemplate(
        class_names=dataset.class_names,
        prompt=generation.prompt,
        num_inference_steps=generation.num_inference_steps,
        guidance=generation.guidance,
        sampler=generation.sampler,
        backbone=fingerprint,
        image_inputs=from_params(ImageInputs, generation.image_inputs, "generation.image_inputs"),
        first_seed=generation.seed,
        variants=generation.guidances if generation.guidance_grid else (),
    )
    return make_plan(sources, used_levels(config), wanted_images(config, dataset, hard), template)


def used_levels(config: RunConfig) -> tuple[int, ...]:
    """The levels of `generation.levels` that arms read: as the curriculum needs them, then others.

    Raises:
        ConfigError: there are levels, and no arm reads any.
    """
    first = {CURRICULUM: config.curriculum}
    schedules = [schedule_of(arm) for arm in (first | config.arms()).values()]
    wanted = levels_in_order_of_use(schedules, config.training.epochs)
    used = tuple(level for level in wanted if level in config.generation.levels)
    if config.generation.levels and not used:
        allowed = f"a schedule that reads one of generation.levels {list(config.generation.levels)}"
        raise ConfigError("curriculum.schedule", config.curriculum.schedule.as_json(), allowed)
    return used


def stored_form(config: RunConfig) -> StoredForm:
    """How the run's images are stored."""
    extension = config.shards.extension(config.data.image_size)
    return StoredForm(extension=extension, jpeg_quality=config.shards.jpeg_quality)


def schedule_of(arm: ArmConfig) -> CurriculumSchedule:
    """The schedule of an arm."""
    schedule: CurriculumSchedule = build("schedule", arm.schedule, "schedule")
    return schedule


def num_steps(config: RunConfig) -> NumSteps:
    """How many steps a level runs on the network of this config."""
    if config.generation.backbone is None:
        return num_denoising_steps
    backbone: BackboneSpec = build("backbone", config.generation.backbone, "generation.backbone")
    return backbone.num_steps


def wanted_images(config: RunConfig, dataset: Dataset, hard: HardImages) -> NDArray[np.int64]:
    """Synthetic images per class (num_classes,) at each level."""
    counts = dataset.class_counts()
    if not config.generation.levels:
        return np.zeros_like(counts)
    labels = hard.rows.column("label").to_numpy(zero_copy_only=False)
    target = GenerationTarget(**config.generation.target.model_dump())
    return target.wanted(counts, np.bincount(labels, minlength=len(counts)), dataset.shots())
