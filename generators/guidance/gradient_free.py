"""GFCG (Shenoy et al. 2024, arXiv:2411.15393): away from the class it is most confused with."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

import torch
from pydantic import Field
from torch import Tensor

from generators.errors import ConfigError
from generators.guidance.base import Card, Guidance, Target, extrapolate
from generators.models import Models
from generators.noise import NoiseLevel
from generators.program import (
    Denoiser,
    EnergyCall,
    ModelCall,
    Prediction,
    Program,
    ask,
    gather,
    read,
)
from generators.steering.energies import Logits
from generators.steering.guide import check_guide, guide_files, open_guide

AT = "generation.guidance.classifier"


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientFree(Guidance):
    """Eps_c + (w_t - 1)(eps_c - eps_r): r is the likeliest other class, asked of a classifier.

    The classifier looks at the predicted clean image and only ever runs forwards. How w_t follows
    from its probabilities is not published in a form we could read; both rules here are ours.

    Attributes:
        classifier: a file that a run or `discl train` left, or `timm:NAME` with its weights.
        guidance_scale: w_max.
        rule: w_t - 1 as a share of w_max - 1: `ratio` p_r / (p_c + p_r), `doubt` 1 - p_c.
        reuse_estimate: classify the clean image of the step before, so that both evaluations of a
            step share a batch; the first step is then not guided.
    """

    card: ClassVar = Card(
        role="term",
        paper="Shenoy et al. 2024, arXiv:2411.15393",
        cost="2 evaluations; 1 classifier pass, no gradient",
    )

    classifier: str
    guidance_scale: Annotated[float, Field(ge=1, le=100)] = 3.0
    rule: Literal["ratio", "doubt"] = "ratio"
    reuse_estimate: bool = False

    @property
    def calls_per_step(self) -> float:
        """Its own class and the reference."""
        return 1.0 if self.guidance_scale == 1 else 2.0

    @property
    def files(self) -> tuple[str, ...]:
        """The classifier."""
        return guide_files(self.classifier)

    def check(self, models: Models) -> None:
        """Raises ConfigError for a classifier of other classes, or a data set of one class."""
        check_guide(self.classifier, models, AT, differentiable=False)
        if len(models.class_names) < 2:
            allowed = "a data set of two classes or more"
            raise ConfigError("generation.guidance", list(models.class_names), allowed)

    def denoiser(self, target: Target) -> Denoiser:
        """Asks the classifier which class to move away from, and how far, at every step."""
        if self.guidance_scale == 1:
            return target.conditional
        models, label = target.models, target.label
        guide = open_guide(models, self.classifier, AT)
        columns = [guide.index(name, AT) for name in models.class_names]
        energy = Logits(guide)
        estimate: Tensor | None = None

        def reference(x_0: Tensor, level: NoiseLevel) -> Program[tuple[str, float]]:
            call = EnergyCall(x=x_0, level=level, energy=energy, inputs={}, gradient=False)
            logits = (yield from read(call)).value[columns]
            found, weight = self.reference(logits.softmax(0), label)
            return models.class_names[found], weight

        def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
            nonlocal estimate
            if self.reuse_estimate and estimate is not None:
                name, weight = yield from reference(estimate, level)
                yes, no = yield from gather(
                    target.conditional(x_t, level), under(target, name, x_t, level)
                )
            else:
                yes = yield from target.conditional(x_t, level)
                if self.reuse_estimate:
                    estimate = yes.x_0
                    return yes
                name, weight = yield from reference(yes.x_0, level)
                no = yield from under(target, name, x_t, level)
            estimate = yes.x_0
            return extrapolate(no, yes, 1 + weight)

        return denoise

    def reference(self, probabilities: Tensor, label: int) -> tuple[int, float]:
        """The likeliest other class, and w_t - 1.

        Args:
            probabilities: (num_classes,), of the data set's classes.
            label: of the request.
        """
        others = probabilities.clone()
        others[label] = -1
        found = int(torch.argmax(others))
        own, most = float(probabilities[label]), float(probabilities[found])
        share = 1 - own if self.rule == "doubt" else most / max(own + most, 1e-12)
        return found, (self.guidance_scale - 1) * share


def under(target: Target, class_name: str, x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
    """Prediction for another class."""
    return ask(ModelCall(x_t=x_t, level=level, cond=target.condition_of(class_name)))


METHOD: Final[type[Guidance]] = GradientFree
