"""Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598, Eq. 6), and what became of it.

A limited interval (Kynkäänniemi et al. 2024, arXiv:2404.07724), rescaling (Lin et al. 2023,
arXiv:2305.08891, Eq. 15-16) and weights that change along the run (Wang et al. 2024,
arXiv:2404.13040, Sec. 4: linear and cosine, growing towards the image).
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field
from torch import Tensor

from generators.errors import ConfigError
from generators.guidance.base import Card, Guidance, Target, extrapolate
from generators.models import Models
from generators.noise import NoiseLevel, PredictionType
from generators.prediction import from_raw, raw_output
from generators.program import Denoiser, Prediction, Program, gather


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierFreeGuidance(Guidance):
    """eps_u + w (eps_c - eps_u): stronger on its class, less diverse; two evaluations a step.

    Attributes:
        guidance_scale: w in diffusers' convention: 0 unconditional, 1 conditional (one evaluation),
            above 1 guided. The paper's w is this minus one.
        sigma_min: guide only where sigma / alpha is above; one evaluation elsewhere.
        sigma_max: and not above this; none is no limit.
        rescale: share of the way to the conditional prediction's standard deviation, 0..1, against
            burnt images at high scales.
        schedule: how w - 1 changes along the run, with the mean of a constant one; linear and
            cosine grow from 0 to twice that.
    """

    card: ClassVar = Card(
        role="contrast",
        paper="Ho & Salimans 2022, arXiv:2207.12598",
        cost="2 evaluations; 1 outside the interval and at scales 0 and 1",
    )

    guidance_scale: Annotated[float, Field(ge=0, le=100)] = 2.0
    sigma_min: Annotated[float, Field(ge=0)] = 0.0
    sigma_max: Annotated[float, Field(gt=0)] | None = None
    rescale: Annotated[float, Field(ge=0, le=1)] = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"

    @property
    def needs_unconditional(self) -> bool:
        """Scale 1 is the conditional prediction alone."""
        return self.guidance_scale != 1

    @property
    def calls_per_step(self) -> float:
        """Two evaluations, one at scales 0 and 1."""
        constant = self.schedule == "constant" and self._limits == (0, math.inf)
        return 1.0 if self.guidance_scale == 1 or (constant and self.guidance_scale == 0) else 2.0

    def check(self, models: Models) -> None:
        """Raises ConfigError for an empty interval, or a network without a null conditioning."""
        least, most = self._limits
        if least >= most:
            allowed = f"more than sigma_min, {least}"
            raise ConfigError("generation.guidance.sigma_max", most, allowed)
        if self.needs_unconditional:
            models.unconditional()

    @property
    def _limits(self) -> tuple[float, float]:
        return self.sigma_min, math.inf if self.sigma_max is None else self.sigma_max

    def scale_at(self, level: NoiseLevel) -> float:
        """W at a level."""
        least, most = self._limits
        sigma = level.sigma / level.alpha if level.alpha > 0 else math.inf
        if not least <= sigma <= most:
            return 1.0
        if self.schedule == "constant":
            return self.guidance_scale
        growth = {
            "linear": 2 * level.progress,
            "cosine": 1 - math.cos(math.pi * level.progress),
        }[self.schedule]
        return 1 + (self.guidance_scale - 1) * growth

    def denoiser(self, target: Target) -> Denoiser:
        """Extrapolates from the unconditional through the conditional prediction."""
        prediction_type = target.models.backbone.schedule.prediction_type

        def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
            scale = self.scale_at(level)
            if scale == 1:
                return (yield from target.conditional(x_t, level))
            if scale == 0:
                return (yield from target.unconditional(x_t, level))
            no, yes = yield from gather(
                target.unconditional(x_t, level), target.conditional(x_t, level)
            )
            guided = extrapolate(no, yes, scale)
            if self.rescale == 0:
                return guided
            return _rescaled(guided, yes, (x_t, level), self.rescale, prediction_type)

        return denoise


def _rescaled(
    guided: Prediction,
    yes: Prediction,
    at: tuple[Tensor, NoiseLevel],
    share: float,
    prediction_type: PredictionType,
) -> Prediction:
    """Lin et al. 2023, Eq. 15-16, in what the network was trained to output."""
    x_t, level = at
    raw, wanted = (raw_output(each, level, prediction_type) for each in (guided, yes))
    factor = share * wanted.std() / raw.std().clamp_min(1e-12) + (1 - share)
    return from_raw(x_t, raw * factor, level, prediction_type)


METHOD: Final[type[Guidance]] = ClassifierFreeGuidance
