"""Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598, Eq. 6)."""

from dataclasses import dataclass
from typing import Annotated, Final

import torch
from pydantic import Field
from torch import Tensor

from generators.errors import ConfigError
from generators.guidance.base import Guidance, Target
from generators.noise import NoiseLevel
from generators.program import Denoiser, ModelCall, Prediction, Program


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierFreeGuidance:
    """eps_u + w (eps_c - eps_u): stronger on its class, less diverse; two evaluations a step.

    Attributes:
        guidance_scale: w in diffusers' convention: 0 unconditional, 1 conditional (one evaluation),
            above 1 guided. The paper's w is this minus one.
    """

    guidance_scale: Annotated[float, Field(ge=0, le=100)] = 2.0

    @property
    def needs_unconditional(self) -> bool:
        """Scale 1 is the conditional prediction alone."""
        return self.guidance_scale != 1

    @property
    def calls_per_step(self) -> float:
        """Two evaluations, one at scales 0 and 1."""
        return 1.0 if self.guidance_scale in (0, 1) else 2.0

    def denoiser(self, target: Target) -> Denoiser:
        """Extrapolates from the unconditional through the conditional prediction."""
        scale, uncond = self.guidance_scale, target.uncond
        if scale == 1:
            uncond = target.cond
        if uncond is None:
            raise ConfigError("guidance", "cfg", "a backbone with a null conditioning")

        def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
            if scale in (0, 1):
                (one,) = yield (ModelCall(x_t=x_t, level=level, cond=uncond),)
                return one
            no, yes = yield (
                ModelCall(x_t=x_t, level=level, cond=uncond),
                ModelCall(x_t=x_t, level=level, cond=target.cond),
            )
            # The weights sum to one, so the same mix holds for x_0 and eps.
            return Prediction(
                x_0=torch.lerp(no.x_0, yes.x_0, scale), eps=torch.lerp(no.eps, yes.eps, scale)
            )

        return denoise


METHOD: Final[type[Guidance]] = ClassifierFreeGuidance
