"""DDIM (Song, Meng & Ermon 2020, arXiv:2010.02502, Eq. 12 and 16)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Final

import torch
from pydantic import Field
from torch import Tensor

from generators.noise import NoiseLevel
from generators.program import Denoiser, Program
from generators.samplers.base import Sampler, clip
from generators.transfer import randn


@dataclass(frozen=True, slots=True, kw_only=True)
class Ddim:
    """First-order steps along the probability flow; eta > 0 adds fresh noise.

    Attributes:
        eta: 0 deterministic, 1 as noisy as DDPM.
        clip_sample: clamp the predicted clean image to [-1, 1] (pixel-space networks only).
    """

    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    clip_sample: bool = False

    def sample(
        self,
        denoise: Denoiser,
        x_t: Tensor,
        levels: Sequence[NoiseLevel],
        generator: torch.Generator,
    ) -> Program[Tensor]:
        """Eq. 12: x' = alpha' x_0 + sqrt(sigma'^2 - s^2) eps + s z, with s from Eq. 16."""
        for level, after in pairwise(levels):
            prediction = yield from denoise(x_t, level)
            x_0 = clip(prediction.x_0, self.clip_sample)
            noise_scale = self.eta * _ddpm_sigma(level, after)
            kept = max(after.sigma**2 - noise_scale**2, 0.0) ** 0.5
            x_t = torch.add(after.alpha * x_0, prediction.eps, alpha=kept)
            if noise_scale > 0:
                noise = randn(x_t.shape, generator, x_t.device)
                x_t = x_t + noise_scale * noise
        return x_t


def _ddpm_sigma(level: NoiseLevel, after: NoiseLevel) -> float:
    """Eq. 16 with eta = 1."""
    ratio = 1 - (level.alpha / after.alpha) ** 2
    return float((after.sigma / level.sigma) * max(ratio, 0.0) ** 0.5)


METHOD: Final[type[Sampler]] = Ddim
