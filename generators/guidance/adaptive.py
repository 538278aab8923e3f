"""Adaptive Guidance (Castillo et al. 2023, arXiv:2312.12487, Sec. 5): stop paying for both rows."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

import torch
from pydantic import Field
from torch import Tensor

from generators.guidance.base import Card, Guidance, Target, extrapolate
from generators.noise import NoiseLevel
from generators.program import Denoiser, Prediction, Program, gather


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveGuidance(Guidance):
    """`cfg` until both predictions point the same way, then the conditional one alone.

    In the noise all predictions look alike where nearly everything is noise; the cosine of clean
    images does not have that flaw, and needs a threshold of its own.

    Attributes:
        guidance_scale: as of `cfg`.
        threshold: of the cosine between the two predictions; above 1 guides to the end.
        space: of the cosine: `eps`, the paper's, or `x_0`.
        warmup: share of the run, 0..1, in which nothing stops it.
    """

    card: ClassVar = Card(
        role="contrast",
        paper="Castillo et al. 2023, arXiv:2312.12487",
        cost="2 evaluations until it stops, then 1",
    )

    guidance_scale: Annotated[float, Field(ge=0, le=100)] = 2.0
    threshold: Annotated[float, Field(ge=-1, le=2)] = 0.991
    space: Literal["eps", "x_0"] = "eps"
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.25

    @property
    def needs_unconditional(self) -> bool:
        """Scale 1 is the conditional prediction alone."""
        return self.guidance_scale != 1

    @property
    def calls_per_step(self) -> float:
        """Two evaluations at most; how many of them are saved depends on the images."""
        return 1.0 if self.guidance_scale == 1 else 2.0

    def denoiser(self, target: Target) -> Denoiser:
        """The step at which the cosine is reached returns the conditional prediction already."""
        stopped = self.guidance_scale == 1

        def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
            nonlocal stopped
            if stopped:
                return (yield from target.conditional(x_t, level))
            no, yes = yield from gather(
                target.unconditional(x_t, level), target.conditional(x_t, level)
            )
            if level.progress >= self.warmup and self.threshold <= 1:
                one, other = (no.eps, yes.eps) if self.space == "eps" else (no.x_0, yes.x_0)
                cosine = torch.cosine_similarity(one.flatten(), other.flatten(), dim=0)
                stopped = float(cosine) >= self.threshold
            return yes if stopped else extrapolate(no, yes, self.guidance_scale)

        return denoise


METHOD: Final[type[Guidance]] = AdaptiveGuidance
