"""Samples and predictions of a network outside of a run, for what is fitted to it."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from generators.engine import Engine
from generators.guidance.base import Guidance, Target
from generators.guidance.none import NoGuidance
from generators.models import Models
from generators.noise import NoiseLevel
from generators.program import Conditioning, ModelCall, Prediction, Program, ask
from generators.samplers.ddim import Ddim


def conditionings(models: Models, labels: Tensor) -> list[Conditioning]:
    """Of classes of the data set, (N,)."""
    return [models.condition(models.class_names[label]) for label in labels.tolist()]


def predict_rows(
    models: Models, x_t: Tensor, level: NoiseLevel, conds: Sequence[Conditioning], batch_size: int
) -> tuple[Tensor, Tensor]:
    """Predicted clean samples and noises, each (N, C, h, w), of rows x_t at one level."""

    def programs() -> Iterator[tuple[int, Program[Prediction]]]:
        for index, (row, cond) in enumerate(zip(x_t, conds, strict=True)):
            yield index, ask(ModelCall(x_t=row, level=level, cond=cond))

    done = sorted(Engine(models.backbone, batch_size).run(programs()), key=lambda end: end.key)
    found = [end.value for end in done if end.value is not None]
    return torch.stack([p.x_0 for p in found]), torch.stack([p.eps for p in found])


def generate(
    models: Models,
    labels: Tensor,
    num_inference_steps: int,
    batch_size: int,
    seed: int,
    guidance: Guidance | None = None,
) -> Tensor:
    """Free samples of classes, (N, C, h, w) on the CPU, by DDIM; the same noises for a seed.

    Args:
        models: of the network.
        labels: (N,), classes of the data set.
        num_inference_steps: a sample.
        batch_size: most rows in one evaluation.
        seed: of the noises.
        guidance: none where None.
    """
    method, sampler = guidance or NoGuidance(), Ddim()
    levels = models.backbone.schedule.levels(num_inference_steps)
    draw = torch.Generator().manual_seed(seed)
    noises = torch.randn(len(labels), *models.backbone.sample_shape, generator=draw)

    def programs() -> Iterator[tuple[int, Program[Tensor]]]:
        for index, (noise, label) in enumerate(zip(noises, labels.tolist(), strict=True)):
            target = Target(
                cond=models.condition(models.class_names[label]),
                uncond=models.unconditional() if method.needs_unconditional else None,
                label=label,
                source=None,
                models=models,
                walk=levels,
            )
            x_t = noise.to(models.backbone.device)
            generator = torch.Generator().manual_seed(seed + index)
            yield index, sampler.sample(method.denoiser(target), x_t, levels, generator)

    samples = torch.zeros(noises.shape)
    for end in Engine(models.backbone, batch_size).run(programs()):
        if end.value is not None:
            samples[end.key] = end.value.cpu()
    return samples
