"""DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, Algorithm 2)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor

from generators.noise import NoiseLevel
from generators.program import Denoiser, Program
from generators.samplers.base import Sampler, clip


@dataclass(frozen=True, slots=True, kw_only=True)
class DpmSolverPlusPlus2M:
    """Second-order multistep: DDIM's quality in about half the steps; deterministic.

    Attributes:
        clip_sample: clamp the predicted clean image to [-1, 1] (pixel-space networks only).
        lower_order_final: make the last step first-order when fewer than 15 are made.
    """

    clip_sample: bool = False
    lower_order_final: bool = True

    def sample(
        self,
        denoise: Denoiser,
        x_t: Tensor,
        levels: Sequence[NoiseLevel],
        generator: torch.Generator,
    ) -> Program[Tensor]:
        """Algorithm 2: x' = (sigma'/sigma) x - alpha' (e^-h - 1) D, h the step in log-SNR/2."""
        previous: Tensor | None = None
        previous_h = 0.0
        steps = len(levels) - 1
        for index, (level, after) in enumerate(pairwise(levels)):
            x_0 = clip((yield from denoise(x_t, level)).x_0, self.clip_sample)
            h = _half_log_snr(after) - _half_log_snr(level)
            last = index == steps - 1
            first_order = last and (after.sigma == 0 or (self.lower_order_final and steps < 15))
            if previous is None or first_order or previous_h == 0:
                direction = x_0
            else:
                # 1 / r of the paper; 0 where the checkpoint's last two levels are the same.
                direction = torch.lerp(previous, x_0, 1 + h / (2 * previous_h))
            x_t = (after.sigma / level.sigma) * x_t - after.alpha * math.expm1(-h) * direction
            previous, previous_h = x_0, h
        return x_t


def _half_log_snr(level: NoiseLevel) -> float:
    """The paper's lambda = log(alpha / sigma): +inf at the clean end, -inf at pure noise."""
    if level.sigma == 0:
        return math.inf
    return math.log(level.alpha) - math.log(level.sigma) if level.alpha > 0 else -math.inf


METHOD: Final[type[Sampler]] = DpmSolverPlusPlus2M
