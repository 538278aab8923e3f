"""CFG++ (Chung et al. 2024, arXiv:2406.08070, Alg. 2): guided clean image, unconditional noise."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import torch
from pydantic import Field
from torch import Tensor

from generators.guidance.base import Card, Guidance, Target
from generators.noise import NoiseLevel
from generators.program import Denoiser, Prediction, Program, gather


@dataclass(frozen=True, slots=True, kw_only=True)
class CfgPlusPlus(Guidance):
    """Denoises as guided, re-noises as unconditional: stays on the manifold; scales up to 1.

    With DDIM it is `cfg` whose scale at each step is lambda s / (s - s'), s = sigma / alpha before
    and after it: about lambda N / 4 on average over N steps, so a lambda belongs to a step count.

    Attributes:
        guidance_scale: lambda: 0 unconditional, 1 the conditional clean image.
    """

    card: ClassVar = Card(
        role="contrast",
        paper="Chung et al. 2024, arXiv:2406.08070",
        cost="2 evaluations; 1 at scale 0",
        samplers=("ddim", "euler_ancestral"),
    )

    guidance_scale: Annotated[float, Field(ge=0, le=1)] = 0.6

    @property
    def needs_unconditional(self) -> bool:
        """At every scale: the noise is the unconditional one."""
        return True

    @property
    def calls_per_step(self) -> float:
        """Two evaluations, one at scale 0."""
        return 1.0 if self.guidance_scale == 0 else 2.0

    def denoiser(self, target: Target) -> Denoiser:
        """x_0 of the mix, eps of the unconditional prediction: samplers use each for its part."""

        def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
            if self.guidance_scale == 0:
                return (yield from target.unconditional(x_t, level))
            no, yes = yield from gather(
                target.unconditional(x_t, level), target.conditional(x_t, level)
            )
            return Prediction(x_0=torch.lerp(no.x_0, yes.x_0, self.guidance_scale), eps=no.eps)

        return denoise


METHOD: Final[type[Guidance]] = CfgPlusPlus
