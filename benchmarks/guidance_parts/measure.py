"""Makes the images of one case and measures them."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.guidance_parts.beds import Bed, few_shot
from benchmarks.guidance_parts.distances import (
    coverage,
    diversity,
    frechet,
    kernel_distance,
    similarity,
)
from benchmarks.guidance_parts.training import Images, accuracy, look, train
from generators.engine import Engine
from generators.program import Program
from generators.records import GenerationRequest
from generators.registry import MethodSpec
from generators.render import Job

LEVELS = (0, 40, 70)
"""Percent of image guidance; every source is made once at each."""
BATCH = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is done.

    Attributes:
        steps: of a full run.
        per_class: real images of a class.
        seeds: images of each source and level.
        replicates: sources, noises and trainings that are new.
        updates: of a few-shot training.
    """

    steps: int
    per_class: int
    seeds: int
    replicates: int
    updates: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Made:
    """The images of one replicate.

    Attributes:
        images: those that were not rejected.
        sources: (N,) which real image each is of.
        levels: (N,).
        evaluations: of the network, all images.
        readings: of classifiers.
        asked: images, rejected ones included.
        seconds: that it took.
    """

    images: Images
    sources: Tensor
    levels: Tensor
    evaluations: int
    readings: int
    asked: int
    seconds: float


def make(bed: Bed, spec: MethodSpec, real: Images, effort: Effort, replicate: int) -> Made:
    """Every source at every level, by DDIM."""
    jobs = [
        (source, level, seed)
        for source in range(len(real.labels))
        for level in LEVELS
        for seed in range(effort.seeds)
    ]
    names = bed.renderer.models.class_names
    conds = [bed.renderer.models.condition(names[label]) for label in range(bed.num_classes)]

    def programs() -> Iterator[tuple[int, Program[Tensor]]]:
        for index, (source, level, seed) in enumerate(jobs):
            label = int(real.labels[source])
            request = request_for(bed, spec, effort.steps, (source, level, seed), replicate, label)
            job = Job(request=request, source=real.pixels[source], cond=conds[label])
            yield index, bed.renderer.program(job)

    started = time.perf_counter()
    done = sorted(Engine(bed.backbone, BATCH).run(programs()), key=lambda end: end.key)
    seconds = time.perf_counter() - started
    kept = [end for end in done if end.value is not None]
    rows = [jobs[end.key] for end in kept]
    sources = torch.tensor([row[0] for row in rows], dtype=torch.int64)
    pixels = [end.value for end in kept if end.value is not None]
    shape = (0, *bed.backbone.sample_shape)
    samples = torch.stack(pixels).clamp(-1, 1).clone() if pixels else torch.zeros(shape)
    return Made(
        images=Images(pixels=samples, labels=real.labels[sources]),
        sources=sources,
        levels=torch.tensor([row[1] for row in rows]),
        evaluations=sum(end.num_model_calls for end in done),
        readings=sum(end.num_readings for end in done),
        asked=len(jobs),
        seconds=seconds,
    )


def request_for(
    bed: Bed,
    spec: MethodSpec,
    steps: int,
    job: tuple[int, int, int],
    replicate: int,
    label: int,
) -> GenerationRequest:
    """One image; the same noise whatever the method."""
    source, level, seed = job
    return GenerationRequest(
        source_key=f"{replicate}-{source}",
        source_sha256="0" * 64,
        label=label,
        class_name=bed.renderer.models.class_names[label],
        prompt="",
        image_guidance=level,
        seed=seed,
        num_inference_steps=steps,
        guidance=spec,
        sampler=MethodSpec(name="ddim"),
        backbone=bed.backbone.fingerprint,
    )


def measure(bed: Bed, spec: MethodSpec, effort: Effort, *, downstream: bool) -> dict[str, Any]:
    """One row: means over replicates; the few-shot accuracy of each."""
    judged: list[dict[str, Any]] = []
    learned: list[float] = []
    for replicate in range(effort.replicates):
        real = few_shot(bed, effort.per_class, replicate)
        made = make(bed, spec, real, effort, replicate)
        judged.append(quality(bed, real, made))
        if downstream:
            learned.append(learn(bed, real, made, effort.updates, replicate))
    row: dict[str, Any] = {name: mean([each[name] for each in judged]) for name in judged[0]}
    if downstream:
        row["few_shot"] = learned
    return row


def quality(bed: Bed, real: Images, made: Made) -> dict[str, Any]:
    """What the judge says, and what it cost."""
    features, seen = look(bed.judge, made.images.pixels)
    of_test, _ = look(bed.judge, bed.test.pixels)
    of_sources, _ = look(bed.judge, real.pixels[made.sources])
    by_level = {
        str(level): similarity(features[rows], of_sources[rows])
        for level in LEVELS
        if (rows := (made.levels == level).numpy()).any()
    }
    return {
        "accuracy": 100 * float((seen == made.images.labels).double().mean()),
        "frechet": frechet(of_test, features),
        "kernel": kernel_distance(of_test, features),
        **coverage(of_test, features),
        "diversity": diversity(features, made.images.labels.numpy()),
        "similarity": by_level,
        "rejected": 1 - len(made.images.labels) / made.asked,
        "evaluations_per_image": made.evaluations / made.asked,
        "readings_per_image": made.readings / made.asked,
        "seconds_per_image": made.seconds / made.asked,
    }


def learn(bed: Bed, real: Images, made: Made, updates: int, replicate: int) -> float:
    """Test accuracy of a classifier of the few real images, repeated, and the images made of them.

    Real and synthetic images are drawn equally often.
    """
    repeats = max(1, round(len(made.images.labels) / len(real.labels)))
    pixels = torch.cat([real.pixels.repeat(repeats, 1, 1, 1), made.images.pixels])
    labels = torch.cat([real.labels.repeat(repeats), made.images.labels])
    images = Images(pixels=pixels, labels=labels)
    return accuracy(train(images, bed.num_classes, updates, replicate, "small_cnn"), bed.test)


def baseline(bed: Bed, effort: Effort) -> list[float]:
    """The same classifier on the few real images alone."""
    found = []
    for replicate in range(effort.replicates):
        real = few_shot(bed, effort.per_class, replicate)
        network = train(real, bed.num_classes, effort.updates, replicate, "small_cnn")
        found.append(accuracy(network, bed.test))
    return found


def mean(values: Sequence[Any]) -> Any:
    """Of numbers, or of dictionaries by name."""
    if isinstance(values[0], dict):
        return {name: mean([each[name] for each in values]) for name in values[0]}
    return float(np.mean(values))
