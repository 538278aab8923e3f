"""Loads a backbone where it will run, checks that it fits the run, and times it."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final

import torch
from platformdirs import user_cache_path

from generators.backbones.base import Backbone
from generators.errors import ConfigError, one_of
from generators.guidance.base import Guidance
from generators.guidance.together import Together
from generators.models import Models
from generators.noise import NoiseLevel
from generators.records import NO_IMAGE_INPUTS, ImageInputs
from generators.registry import MethodSpec, build, from_params
from infra.config import RunConfig
from infra.config.generation import GenerationConfig
from infra.jobs.loaded import generator_fingerprint, load_generator, time_rows
from infra.jobs.probe import batch_size_for
from infra.workers.base import Progress, WorkerContext

TIMED_SECONDS = 2.0
MEMORY: Final = user_cache_path("discl") / "batch_sizes.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneFacts:
    """What a plan and a report need to know of a network.

    Attributes:
        fingerprint: part of every request's key.
        class_names: that it can be conditioned on; None when any text will do.
        card: what is known of its making.
        batch_size: most rows in one evaluation: as configured, or found by trying.
        seconds_per_call: a row of a full batch takes this long on one worker.
    """

    fingerprint: str
    class_names: tuple[str, ...] | None
    card: dict[str, Any]
    batch_size: int
    seconds_per_call: float


NO_BACKBONE: Final = BackboneFacts(
    fingerprint="", class_names=None, card={}, batch_size=1, seconds_per_call=0.0
)
"""Of a run of real images alone."""


def inspect_backbone(
    context: WorkerContext,
    spec: MethodSpec,
    config: RunConfig,
    timed: bool,
    class_names: tuple[str, ...] = (),
) -> Generator[Progress, None, BackboneFacts]:
    """Facts of a backbone.

    Args:
        context: of the worker.
        spec: of the backbone.
        config: of the run.
        timed: whether its speed is wanted.
        class_names: of the data set, where they are known.

    Raises:
        CheckpointError: it cannot be loaded.
        ConfigError: its images have other channels than the data, it cannot be guided as
            configured, it has fewer timesteps than steps are asked for, two levels start at the
            same one, a level starts at noise it was not trained on, or it has no such image input.
    """
    backbone = load_generator(context, spec).backbone
    if backbone.pixel_shape[0] != config.data.channels:
        allowed = f"{backbone.pixel_shape[0]}, as the generator's images have"
        raise ConfigError("data.channels", config.data.channels, allowed)
    generation = config.generation
    check_starts(backbone, generation)
    check_trained_levels(backbone, generation)
    walks = walks_of(backbone, generation)
    check_guidance(generation, Models(backbone, class_names, generation.prompt, walks))
    _check_image_inputs(backbone, generation)
    size = batch_size_of(backbone, generation, context.threads)
    seconds = time_rows(backbone, size, TIMED_SECONDS) if timed else 0.0
    yield Progress(done=1, total=1)
    return BackboneFacts(
        fingerprint=generator_fingerprint(backbone, generation.guidance),
        class_names=backbone.class_names,
        card=dict(backbone.card),
        batch_size=size,
        seconds_per_call=seconds,
    )


def batch_size_of(backbone: Backbone, generation: GenerationConfig, threads: int) -> int:
    """Most rows in one evaluation: as configured, or found by trying."""
    if generation.batch_size == "auto":
        return batch_size_for(backbone, threads, MEMORY)
    return generation.batch_size


def check_starts(backbone: Backbone, generation: GenerationConfig) -> None:
    """Two levels that start at the same noise give the same images: seen in the schedule alone."""
    steps = generation.num_inference_steps
    backbone.schedule.levels(steps)
    starts: dict[float, int] = {}
    for level in generation.levels:
        if level == 100:
            continue
        start = backbone.schedule.levels(steps, level)[0].sigma
        if start in starts:
            allowed = f"levels that start apart; {starts[start]} and {level} start at the same step"
            raise ConfigError("generation.levels", list(generation.levels), allowed)
        starts[start] = level


def walks_of(backbone: Backbone, generation: GenerationConfig) -> list[tuple[NoiseLevel, ...]]:
    """The noise levels that requests of each image-guidance level visit; 100 % visits none."""
    steps = generation.num_inference_steps
    levels = [level for level in generation.levels if level < 100]
    return [backbone.schedule.levels(steps, level) for level in levels]


def check_guidance(generation: GenerationConfig, models: Models) -> None:
    """Raises ConfigError for guidance that does not fit the sampler, network or data set."""
    for spec in generation.guidances:
        guidance: Guidance = build("guidance", spec, "generation.guidance")
        for part in guidance.parts if isinstance(guidance, Together) else (guidance,):
            wanted, sampler = part.card.samplers, generation.sampler.name
            if wanted and sampler not in wanted:
                allowed = f"{' or '.join(wanted)} with guidance {spec.name}"
                raise ConfigError("generation.sampler", sampler, allowed)
        guidance.check(models)


def check_trained_levels(backbone: Backbone, generation: GenerationConfig) -> None:
    """A generator of `fit.least_image_guidance` knows no more noise than that level's."""
    least = backbone.card.get("least_image_guidance", 0)
    if isinstance(least, int) and min(generation.levels) < least:
        allowed = f"{least} or above: the generator was trained on the noise of these levels alone"
        raise ConfigError("generation.levels", list(generation.levels), allowed)


def _check_image_inputs(backbone: Backbone, generation: GenerationConfig) -> None:
    """Shows the network a gray image: raises ConfigError for an input it does not have."""
    inputs = from_params(ImageInputs, generation.image_inputs, "generation.image_inputs")
    if inputs != NO_IMAGE_INPUTS:
        gray = torch.zeros(backbone.pixel_shape, device=backbone.device)
        backbone.image_condition(gray, inputs)


def check_class_names(facts: BackboneFacts, wanted: list[str]) -> None:
    """Checks that a class-conditional network knows the classes it shall make.

    Raises:
        ConfigError: a class it does not know.
    """
    if facts.class_names is None:
        return
    for name in wanted:
        if name not in facts.class_names:
            allowed = f"{one_of(facts.class_names, name)}: the classes the generator knows"
            raise ConfigError("class name of the data set", name, allowed)
