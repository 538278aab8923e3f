"""Fits what a guidance method needs, to the generator and the training images of a config."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from generators.backbones.base import Backbone
from generators.cache import ROWS
from generators.errors import ConfigError, DataError, SampleRejected
from generators.guidance_fits.base import GuidanceFit, Materials
from generators.models import Models
from generators.registry import MethodSpec, build
from infra.config import RunConfig
from infra.jobs.dataset import Selection, select
from infra.jobs.finishing import to_unit_range
from infra.jobs.images import decoded, form_of
from infra.jobs.inspect import batch_size_of, walks_of
from infra.jobs.loaded import load_generator
from infra.workers.base import Progress, WorkerContext


@dataclass(frozen=True, slots=True, kw_only=True)
class FitGuidance:
    """One fit.

    Attributes:
        config: of the runs that will use it.
        method: of the family guidance_fit.
        path: of the file that it leaves.
        max_images: training images that are read, in equal shares of all classes as far as they go.
        seed: of what is drawn.
    """

    config: RunConfig
    method: MethodSpec
    path: Path
    max_images: int
    seed: int


def fit_guidance(context: WorkerContext, job: FitGuidance) -> Generator[Progress, None, Path]:
    """Loads the generator, reads images, fits.

    Raises:
        ConfigError: a parameter that does not fit, or a config that trains its generator itself.
        CheckpointError: a generator or a classifier that cannot be loaded.
        DataError: no image can be read.
    """
    method: GuidanceFit = build("guidance_fit", job.method, job.method.name)
    generation = job.config.generation
    if generation.backbone is None:
        allowed = "a generator; one that `discl fit` or a run trained is a folder for pixel_unet"
        raise ConfigError("generation.backbone", None, allowed)
    backbone = load_generator(context, generation.backbone).backbone
    selection = select(job.config.data)
    names = selection.images.class_names
    models = Models(backbone, names, generation.prompt, walks_of(backbone, generation))
    rows = chosen(selection, job.max_images, job.seed)
    samples, labels = read_samples(backbone, selection, rows)
    materials = Materials(
        models=models,
        samples=samples,
        labels=labels,
        num_inference_steps=generation.num_inference_steps,
        batch_size=batch_size_of(backbone, generation, context.threads),
        seed=job.seed,
    )
    method.check(materials)
    for step in method.fit(materials, job.path):
        gauge = {} if step.loss is None else {"loss": step.loss}
        yield Progress(done=step.done, total=step.total, gauge=gauge)
    return job.path


def chosen(selection: Selection, most: int, seed: int) -> list[int]:
    """Rows of the source: training images of all classes, the rare ones first in full."""
    train = selection.split["train"]
    labels = selection.images.labels[train]
    order = np.random.default_rng(seed).permutation(len(train))
    place = np.zeros(len(train), dtype=np.int64)
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        place[mine] = np.arange(len(mine))
    first = np.argsort(place, kind="stable")[:most]
    return [int(row) for row in train[np.sort(first)]]


def read_samples(
    backbone: Backbone, selection: Selection, rows: list[int]
) -> tuple[Tensor, Tensor]:
    """Encoded images (N, C, h, w) on the CPU and labels (N,); what cannot be read is left out."""
    pixels, labels = [], []
    form = form_of(backbone)
    for row in rows:
        try:
            pixels.append(decoded(selection.images.read(row), form))
        except SampleRejected:
            continue
        labels.append(int(selection.images.labels[row]))
    if not pixels:
        raise DataError("data.source: none of the training images can be read")
    encoded = [
        backbone.encode(to_unit_range(torch.stack(pixels[i : i + ROWS]).to(backbone.device)))
        for i in range(0, len(pixels), ROWS)
    ]
    return torch.cat(encoded).float().cpu().clone(), torch.tensor(labels)
