"""A hard constraint on every image, after FISOR (Zheng et al. 2024, arXiv:2401.10700)."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import torch
from pydantic import Field
from torch import Tensor

from generators.errors import ConfigError, SampleRejected
from generators.guidance.base import Card, Guidance, Target, shift
from generators.guidance.recognizer import rescaled
from generators.models import Models
from generators.noise import NoiseLevel
from generators.program import Conditioning, Denoiser, EnergyCall, Prediction, Program, read
from generators.steering.energies import Features, Violation, class_index, scalar
from generators.steering.guide import Guide, check_guide, guide_files, open_guide

AT = "generation.guidance.classifier"
CLEAN = NoiseLevel(timestep=0.0, alpha=1.0, sigma=0.0, progress=1.0)
Share = Annotated[float, Field(ge=-1, le=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feasibility(Guidance):
    """Pushes images back inside a constraint, harder from further out; verifies each at last.

    FISOR weighs by the exponential of a constraint's violation, capped, and by nothing where there
    is none; here that is the weight of a step along its gradient. An image that still violates it
    in the end is rejected with the reason `infeasible`: none that is kept does.

    Attributes:
        classifier: whose probability and features are constrained; a file, or `timm:NAME`.
        min_probability: least probability of the request's class.
        similarity: lowest and highest cosine similarity to the source's features; for requests
            with a source.
        guidance_scale: norm of a step of weight one, as a share of the noise prediction's.
        temperature: of the weight, min(exp(temperature * violation) - 1, cap); a violation is one
            for a nat of log-probability or for 0.01 of similarity.
        cap: largest weight.
    """

    card: ClassVar = Card(
        role="gradient",
        paper="Zheng et al. 2024, arXiv:2401.10700",
        cost="1 evaluation; 1 classifier gradient, and 1 classifier pass at the end",
    )

    classifier: str
    min_probability: Annotated[float, Field(gt=0, lt=1)] | None = None
    similarity: tuple[Share, Share] | None = None
    guidance_scale: Annotated[float, Field(ge=0, le=100)] = 0.2
    temperature: Annotated[float, Field(gt=0)] = 0.7
    cap: Annotated[float, Field(gt=0)] = 3.0

    @property
    def files(self) -> tuple[str, ...]:
        """The classifier."""
        return guide_files(self.classifier)

    def check(self, models: Models) -> None:
        """Raises ConfigError for no constraint, an empty band, or a classifier that fits not."""
        if self.min_probability is None and self.similarity is None:
            allowed = "a min_probability, a similarity, or both"
            raise ConfigError("generation.guidance.min_probability", None, allowed)
        if self.similarity is not None and self.similarity[0] >= self.similarity[1]:
            allowed = "the lowest and the highest similarity, in this order"
            raise ConfigError("generation.guidance.similarity", list(self.similarity), allowed)
        check_guide(self.classifier, models, AT)

    def denoiser(self, target: Target) -> Denoiser:
        """Eps + w (exp(t h) - 1) |eps| g / |g|, with g the gradient of the violation h."""
        if self.guidance_scale == 0:
            return target.moved
        guide = open_guide(target.models, self.classifier, AT)
        energy = Violation(guide)
        inputs: Conditioning | None = None

        def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
            nonlocal inputs
            found = yield from target.moved(x_t, level)
            if inputs is None:
                inputs = yield from self._inputs(target, guide)
            call = EnergyCall(x=found.x_0, level=level, energy=energy, inputs=inputs)
            seen = yield from read(call)
            assert seen.gradient is not None
            weight = self.weight(float(seen.value))
            if weight == 0:
                return found
            step = self.guidance_scale * weight * rescaled(seen.gradient, found.eps)
            return shift(found, step, level)

        return denoise

    def weight(self, violation: float) -> float:
        """0 inside the constraint."""
        most = math.log1p(self.cap)  # exp of more would overflow before it is capped
        return math.expm1(min(self.temperature * violation, most))

    def verify(self, target: Target, sample: Tensor) -> Program[None]:
        """Raises SampleRejected for an image that violates the constraint."""
        guide = open_guide(target.models, self.classifier, AT)
        inputs = yield from self._inputs(target, guide)
        call = EnergyCall(
            x=sample, level=CLEAN, energy=Violation(guide), inputs=inputs, gradient=False
        )
        violation = float((yield from read(call)).value)
        if not violation <= 1e-4:
            raise SampleRejected("infeasible", f"violates the constraint by {violation:.3g}")

    def _inputs(self, target: Target, guide: Guide) -> Program[Conditioning]:
        """The bounds, and the source's features where they matter."""
        models, source = target.models, target.source
        least = -math.inf if self.min_probability is None else math.log(self.min_probability)
        low, high = -1.0, 1.0
        features = torch.zeros(guide.num_features, device=models.backbone.device)
        if self.similarity is not None and source is not None:
            low, high = self.similarity
            call = EnergyCall(
                x=source, level=CLEAN, energy=Features(guide), inputs={}, gradient=False
            )
            features = (yield from read(call)).value
        return {
            "index": class_index(models, guide, target.label, AT),
            "least_log_probability": scalar(models, least),
            "low": scalar(models, low - 1e-6),
            "high": scalar(models, high + 1e-6),
            "features": features[None],
        }


METHOD: Final[type[Guidance]] = Feasibility
