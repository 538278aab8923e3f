"""Multistep consistency sampling (Luo et al. 2023, arXiv:2310.04378, Algorithm 3)."""

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

SIGMA_DATA: Final = 0.5
"""Spread of the data that consistency models are distilled with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lcm:
    """Multistep consistency sampling, for LCM checkpoints and LCM-LoRA: 2 to 8 steps.

    Attributes:
        timestep_scaling: s of the boundary scalings; `timestep_scaling` of the checkpoint's
            scheduler config.
        clip_sample: clamp the predicted clean image to [-1, 1] (pixel-space networks only).
    """

    timestep_scaling: Annotated[float, Field(gt=0)] = 10.0
    clip_sample: bool = False

    def sample(
        self,
        denoise: Denoiser,
        x_t: Tensor,
        levels: Sequence[NoiseLevel],
        generator: torch.Generator,
    ) -> Program[Tensor]:
        """Jumps to the data, f = c_skip(t) x_t + c_out(t) x_0, and by fresh noise one level down.

        The last f is the result: no noise is added to it, even where the schedule's last level has
        some left.
        """
        last = len(levels) - 2
        for index, (level, after) in enumerate(pairwise(levels)):
            x_0 = clip((yield from denoise(x_t, level)).x_0, self.clip_sample)
            c_skip, c_out = self._boundary_scalings(level.timestep)
            clean = torch.add(c_skip * x_t, x_0, alpha=c_out)
            if index == last:
                return clean
            noise = randn(x_t.shape, generator, x_t.device)
            x_t = torch.add(after.alpha * clean, noise, alpha=after.sigma)
        return x_t

    def _boundary_scalings(self, timestep: float) -> tuple[float, float]:
        """c_skip and c_out: (1, 0) at the clean end, so that f is the identity there."""
        scaled = self.timestep_scaling * timestep
        square = scaled**2 + SIGMA_DATA**2
        return SIGMA_DATA**2 / square, scaled / square**0.5


METHOD: Final[type[Sampler]] = Lcm
