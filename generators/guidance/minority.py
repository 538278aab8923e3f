"""Minority guidance (Um et al. 2023, arXiv:2301.12334): towards what the network finds unusual."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import torch
from pydantic import Field
from torch import Tensor

from generators.errors import ConfigError
from generators.guidance.base import Card, Guidance, Target, shift
from generators.models import Models
from generators.noise import NoiseLevel
from generators.program import Denoiser, Prediction, Program, gradient_of
from generators.steering.energies import scalar
from generators.steering.fit_file import open_fit
from generators.steering.noisy import NoisyClassifier, NoisyLogProbability, noise_share
from generators.transfer import to_device

AT = "generation.guidance.classifier"


@dataclass(frozen=True, slots=True, kw_only=True)
class Minority(Guidance):
    """Towards a bin of uniqueness scores, as a classifier of noisy samples sees it.

    Attributes:
        classifier: a file of `discl fit-guidance minority`.
        guidance_scale: w; large ones make what looks unusual because it is broken.
        bin: 0 the most typical; none: the most unusual.
    """

    card: ClassVar = Card(
        role="gradient",
        paper="Um et al. 2023, arXiv:2301.12334",
        cost="1 evaluation; 1 gradient of a noisy classifier",
    )

    classifier: str
    guidance_scale: Annotated[float, Field(ge=0, le=1000)] = 1.0
    bin: Annotated[int, Field(ge=0)] | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The fit."""
        return (self.classifier,)

    def check(self, models: Models) -> None:
        """Raises ConfigError for a fit of another network, or a bin it does not have."""
        _, count = noisy_classifier(models, self.classifier)
        if self.bin is not None and self.bin >= count:
            raise ConfigError("generation.guidance.bin", self.bin, f"0..{count - 1}")

    def denoiser(self, target: Target) -> Denoiser:
        """Eps - sigma w gradient of log p(bin | x_t)."""
        if self.guidance_scale == 0:
            return target.moved
        models = target.models
        network, count = noisy_classifier(models, self.classifier)
        energy = NoisyLogProbability(network)
        wanted = count - 1 if self.bin is None else self.bin
        index = to_device(torch.tensor([wanted]), models.backbone.device)

        def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
            found = yield from target.moved(x_t, level)
            inputs = {"index": index, "noise": scalar(models, noise_share(level))}
            gradient = yield from gradient_of(energy, x_t, level, inputs)
            return shift(found, -self.guidance_scale * level.sigma * gradient, level)

        return denoise


def noisy_classifier(models: Models, path: str) -> tuple[NoisyClassifier, int]:
    """The trained classifier, ready for gradients with respect to samples, and its bins."""

    def load() -> tuple[NoisyClassifier, int]:
        fit = open_fit(models, path, "minority", AT)
        count = int(fit.details["num_bins"])
        network = NoisyClassifier(fit.details["model"], count, models.backbone.sample_shape)
        network.load_state_dict(fit.state("network."))
        return network.to(models.backbone.device).eval().requires_grad_(False), count

    return models.keep(("minority", path), load)


METHOD: Final[type[Guidance]] = Minority
