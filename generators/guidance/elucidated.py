"""EluCD (Ma et al. 2023, arXiv:2310.11311, Sec. 3): off-the-shelf classifiers, on clean images."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from pydantic import Field
from torch import Tensor

from generators.guidance.base import Card, Guidance, Target, shift
from generators.models import Models
from generators.noise import NoiseLevel
from generators.program import Denoiser, Prediction, Program, gradient_of
from generators.steering.energies import TemperedLogProbability, class_inputs
from generators.steering.guide import check_guide, guide_files, open_guide
from generators.steering.softplus import softened

AT = "generation.guidance.classifier"


@dataclass(frozen=True, slots=True, kw_only=True)
class Elucidated(Guidance):
    """Towards its class as an ordinary classifier sees the predicted clean image.

    The gradient is with respect to the predicted image, not through the diffusion network. In steps
    with noise (`ddim` with eta 1) the shift of eps is the paper's shift of the mean by the step's
    variance, to first order; where the paper adds a multiple of the largest variance so far, the
    multiple is of the step's own. Its other form, for EDM's samplers, is not here.

    Attributes:
        classifier: a file that a run or `discl train` left, or `timm:NAME` with its weights.
        guidance_scale: of the gradient.
        softplus_beta: sharpness of what its ReLUs are replaced by; none keeps them.
        joint_temperature: tau_1 of tau_1 f_y - log sum exp(tau_2 f).
        margin_discount: tau_2 / tau_1; below 1 the joint logit weighs more than its margin.
        sine: how much more it guides in the middle of the run, as a share.
    """

    card: ClassVar = Card(
        role="gradient",
        paper="Ma et al. 2023, arXiv:2310.11311",
        cost="1 evaluation; 1 classifier gradient",
    )

    classifier: str
    guidance_scale: Annotated[float, Field(ge=0, le=1000)] = 1.0
    softplus_beta: Annotated[float, Field(gt=0)] | None = 3.0
    joint_temperature: Annotated[float, Field(gt=0)] = 1.0
    margin_discount: Annotated[float, Field(ge=0)] = 0.5
    sine: Annotated[float, Field(ge=0)] = 0.3

    @property
    def files(self) -> tuple[str, ...]:
        """The classifier."""
        return guide_files(self.classifier)

    def check(self, models: Models) -> None:
        """Raises ConfigError for a classifier of other classes, or without gradients."""
        check_guide(self.classifier, models, AT)

    def denoiser(self, target: Target) -> Denoiser:
        """Eps - sigma s (1 + sine sin(pi progress)) gradient."""
        if self.guidance_scale == 0:
            return target.moved
        models = target.models
        guide = open_guide(models, self.classifier, AT)
        if self.softplus_beta is not None:
            guide = softened(models, guide, self.softplus_beta)
        energy = TemperedLogProbability(guide)
        joint = self.joint_temperature
        temperatures = (joint, joint * self.margin_discount)
        inputs = class_inputs(models, guide, target.label, AT, temperatures)

        def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
            found = yield from target.moved(x_t, level)
            gradient = yield from gradient_of(energy, found.x_0, level, inputs)
            scale = self.guidance_scale * (1 + self.sine * math.sin(math.pi * level.progress))
            return shift(found, -scale * level.sigma * gradient, level)

        return denoise


METHOD: Final[type[Guidance]] = Elucidated
