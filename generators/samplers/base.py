"""The protocol of the sampler family."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from generators.noise import NoiseLevel
from generators.program import Denoiser, Program


class Sampler(Protocol):
    """Walks down the noise levels, one denoiser call a step."""

    def sample(
        self,
        denoise: Denoiser,
        x_t: Tensor,
        levels: Sequence[NoiseLevel],
        generator: torch.Generator,
    ) -> Program[Tensor]:
        """From x_t (C, h, w) at `levels[0]` to the sample (C, h, w) at `levels[-1]`.

        Args:
            denoise: the guided prediction at a level.
            x_t: the start.
            levels: noisiest first; `len(levels) - 1` steps are made.
            generator: all noise of this request, on the CPU.
        """


def clip(x_0: Tensor, enabled: bool) -> Tensor:
    """Clamps a clean prediction to the pixel range [-1, 1]."""
    return x_0.clamp(-1, 1) if enabled else x_0
