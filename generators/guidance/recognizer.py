"""LipVoicer's rule (Yemini et al. 2023, arXiv:2306.03258, Eq. 5): a recogniser in known amounts."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field
from torch import Tensor

from generators.guidance.base import Card, Guidance, Target, shift
from generators.models import Models
from generators.noise import NoiseLevel
from generators.program import Denoiser, Prediction, Program, gradient_of
from generators.steering.energies import TemperedLogProbability, class_inputs
from generators.steering.guide import check_guide, guide_files, open_guide

AT = "generation.guidance.classifier"
TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognizer(Guidance):
    """Moves the noise prediction by a share of its own norm along a recogniser's loss.

    The size of the step does not depend on the recogniser's units; nor does it fade where the
    recogniser is content, so late steps want a small scale. Norms are of one sample.

    Attributes:
        classifier: a file that a run or `discl train` left, or `timm:NAME` with its weights.
        guidance_scale: norm of the shift as a share of the prediction's.
        sigma_max: guide only where sigma / alpha is at most this; none guides everywhere. The
            paper's recogniser starts at 270 of 400 steps, which is 2.3.
        looks_at: the predicted clean image, or the noisy sample for a recogniser that knows noise.
    """

    card: ClassVar = Card(
        role="gradient",
        paper="Yemini et al. 2023, arXiv:2306.03258",
        cost="1 evaluation; 1 recogniser gradient below sigma_max",
    )

    classifier: str
    guidance_scale: Annotated[float, Field(ge=0, le=100)] = 0.2
    sigma_max: Annotated[float, Field(gt=0)] | None = 2.3
    looks_at: Literal["x_0", "x_t"] = "x_0"

    @property
    def files(self) -> tuple[str, ...]:
        """The recogniser."""
        return guide_files(self.classifier)

    def check(self, models: Models) -> None:
        """Raises ConfigError for a recogniser of other classes, or without gradients."""
        check_guide(self.classifier, models, AT)

    def denoiser(self, target: Target) -> Denoiser:
        """Eps + w |eps| g / |g|, with g the gradient of the loss."""
        if self.guidance_scale == 0:
            return target.moved
        models = target.models
        guide = open_guide(models, self.classifier, AT)
        energy = TemperedLogProbability(guide)
        inputs = class_inputs(models, guide, target.label, AT)

        def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
            found = yield from target.moved(x_t, level)
            ratio = level.sigma / level.alpha if level.alpha > 0 else math.inf
            if self.sigma_max is not None and ratio > self.sigma_max:
                return found
            seen = found.x_0 if self.looks_at == "x_0" else x_t
            gradient = yield from gradient_of(energy, seen, level, inputs)
            return shift(found, -self.guidance_scale * rescaled(gradient, found.eps), level)

        return denoise


def rescaled(gradient: Tensor, eps: Tensor) -> Tensor:
    """The gradient with the norm of eps; 0 where it is 0."""
    scaled: Tensor = gradient * (eps.norm() / gradient.norm().clamp_min(TINY))
    return scaled


METHOD: Final[type[Guidance]] = Recognizer
