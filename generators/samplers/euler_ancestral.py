"""Euler with ancestral noise (Karras et al. 2022, arXiv:2206.00364; k-diffusion's `euler_a`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor

from generators.noise import NoiseLevel
from generators.program import Denoiser, Program
from generators.samplers.base import Sampler, clip
from generators.transfer import randn


@dataclass(frozen=True, slots=True, kw_only=True)
class EulerAncestral:
    """Euler steps with fresh noise, for Turbo checkpoints (1 to 4 steps) and for variety.

    Attributes:
        clip_sample: clamp the predicted clean image to [-1, 1] (pixel-space networks only).
    """

    clip_sample: bool = False

    def sample(
        self,
        denoise: Denoiser,
        x_t: Tensor,
        levels: Sequence[NoiseLevel],
        generator: torch.Generator,
    ) -> Program[Tensor]:
        """In y = x / alpha and s = sigma / alpha: y' = y + (s_down - s) eps + s_up z.

        With r = s' / s, s_down = s' r and s_up = s' sqrt(1 - r^2); since y = x_0 + s eps, the step
        is x' = alpha' x_0 + sigma' (r eps + sqrt(1 - r^2) z), which holds at zero signal too.
        """
        for level, after in pairwise(levels):
            prediction = yield from denoise(x_t, level)
            x_0 = clip(prediction.x_0, self.clip_sample)
            ratio = after.sigma * level.alpha / (after.alpha * level.sigma)
            kept = after.sigma * ratio
            x_t = torch.add(after.alpha * x_0, prediction.eps, alpha=kept)
            noise_scale = after.sigma * max(1 - ratio**2, 0.0) ** 0.5
            if noise_scale > 0:
                noise = randn(x_t.shape, generator, x_t.device)
                x_t = torch.add(x_t, noise, alpha=noise_scale)
        return x_t


METHOD: Final[type[Sampler]] = EulerAncestral
