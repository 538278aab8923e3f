"""PPAP (Go et al. 2023, arXiv:2212.05973): an off-the-shelf classifier with experts for noise."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from pydantic import Field
from torch import Tensor

from generators.errors import ConfigError
from generators.guidance.base import Card, Guidance, Target, shift
from generators.guidance_fits.plug_and_play import expert_of
from generators.models import Models
from generators.noise import NoiseLevel
from generators.program import Denoiser, Prediction, Program, gradient_of
from generators.steering.energies import TemperedLogProbability, class_inputs
from generators.steering.experts import make_expert
from generators.steering.fit_file import open_fit
from generators.steering.guide import Guide, check_guide, guide_files, open_guide

AT = "generation.guidance.classifier"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlugAndPlay(Guidance):
    """Towards its class as the expert of the step's noise sees the noisy sample itself.

    Attributes:
        classifier: the one that the experts were made from.
        experts: a file of `discl fit-guidance plug_and_play`.
        guidance_scale: of the gradient.
    """

    card: ClassVar = Card(
        role="gradient",
        paper="Go et al. 2023, arXiv:2212.05973",
        cost="1 evaluation; 1 classifier gradient",
    )

    classifier: str
    experts: str
    guidance_scale: Annotated[float, Field(ge=0, le=1000)] = 2.0

    @property
    def files(self) -> tuple[str, ...]:
        """The classifier and the fit."""
        return (*guide_files(self.classifier), self.experts)

    def check(self, models: Models) -> None:
        """Raises ConfigError for experts of another network or another classifier."""
        check_guide(self.classifier, models, AT)
        open_experts(models, self.classifier, self.experts)

    def denoiser(self, target: Target) -> Denoiser:
        """Eps - sigma s gradient of log p_n(y | x_t), n the expert of the level."""
        if self.guidance_scale == 0:
            return target.moved
        models = target.models
        energies = [
            TemperedLogProbability(expert)
            for expert in open_experts(models, self.classifier, self.experts)
        ]
        guide = open_guide(models, self.classifier, AT)
        inputs = class_inputs(models, guide, target.label, AT)

        def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
            found = yield from target.moved(x_t, level)
            energy = energies[expert_of(level, len(energies))]
            gradient = yield from gradient_of(energy, x_t, level, inputs)
            return shift(found, -self.guidance_scale * level.sigma * gradient, level)

        return denoise


def open_experts(models: Models, classifier: str, path: str) -> tuple[Guide, ...]:
    """The experts by their range of noise, cleanest first; loaded once."""

    def load() -> tuple[Guide, ...]:
        guide = open_guide(models, classifier, AT)
        fit = open_fit(models, path, "plug_and_play", "generation.guidance.experts")
        details = fit.details
        if (details["model"], tuple(details["class_names"])) != (
            guide.info.model,
            guide.info.class_names,
        ):
            allowed = f"the classifier of the experts: {details['model']} of other classes"
            raise ConfigError(AT, classifier, allowed)
        found = []
        for number in range(details["num_experts"]):
            network = make_expert(guide.network, details["rank"], details["alpha"])
            network.load_state_dict(fit.state(f"{number}/"), strict=False)
            network = network.eval().requires_grad_(False)
            found.append(
                Guide(network=network, info=guide.info, backbone=guide.backbone, clip=False)
            )
        return tuple(found)

    return models.keep(("experts", classifier, path), load)


METHOD: Final[type[Guidance]] = PlugAndPlay
