"""Many free samples of the exact mixture under a guidance, for tests of what a method does."""

from typing import Any

import torch
from torch import Tensor

from generators.backbones.toy import GaussianMixture
from generators.engine import Engine, Finished
from generators.guidance.base import Guidance, Target
from generators.models import Models
from generators.program import Denoiser
from generators.registry import MethodSpec, build


def run_bed(
    mixture: GaussianMixture,
    guidance: Guidance | MethodSpec,
    label: int = 1,
    count: int = 500,
    steps: int = 50,
    eta: float = 0.0,
    models: Models | None = None,
) -> list[Finished[int, Tensor]]:
    """DDIM from the same noises whatever the guidance; in the order of the noises."""
    models = models or Models(mixture)
    method: Guidance = build("guidance", guidance) if isinstance(guidance, MethodSpec) else guidance
    sampler: Any = build("sampler", MethodSpec(name="ddim", params={"eta": eta}))
    levels = mixture.schedule.levels(steps)
    noise = torch.randn(count, *mixture.sample_shape, generator=torch.Generator().manual_seed(0))
    target = Target(
        cond=models.condition(models.class_names[label]),
        uncond=models.unconditional(),
        label=label,
        source=None,
        models=models,
        walk=levels,
    )

    def denoiser() -> Denoiser:
        return method.denoiser(target)

    programs = (
        (
            index,
            sampler.sample(denoiser(), x_t, levels, torch.Generator().manual_seed(index)),
        )
        for index, x_t in enumerate(noise)
    )
    return sorted(Engine(mixture, 512).run(programs), key=lambda done: done.key)


def values(done: list[Finished[int, Tensor]]) -> Tensor:
    """(N, C, h, w) samples."""
    return torch.stack([each.value for each in done if each.value is not None])


def mass(mixture: GaussianMixture, samples: Tensor, label: int = 1) -> float:
    """Mean probability of a class, as the exact posterior sees clean samples."""
    return float(mixture.class_posterior(samples, 1.0, 1e-3)[:, label].mean())
