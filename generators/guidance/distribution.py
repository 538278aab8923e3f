"""Wishes about a whole distribution, after PromptGen (Wu et al. 2022, arXiv:2209.06970)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import torch
from pydantic import Field
from torch import Tensor

from generators.errors import ConfigError
from generators.guidance.base import Card, Guidance, Target, shift
from generators.models import Models
from generators.noise import NoiseLevel
from generators.program import Conditioning, Denoiser, Prediction, Program, gather, gradient_of
from generators.steering.energies import LinearEnergy
from generators.steering.fit_file import open_fit
from generators.steering.guide import Guide, check_guide, guide_files, open_guide

AT = "generation.guidance.wishes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What one off-the-shelf model wants of the images.

    Attributes:
        classifier: a file that a run or `discl train` left, or `timm:NAME` with its weights.
        weight: lambda of its energy.
        class_name: one of its classes to prefer, -log p(class | x) is the energy; none: the
            request's own, unless a balance is given.
        balance: a file of `discl fit-guidance distribution`: shares of its classes instead.
    """

    classifier: str
    weight: Annotated[float, Field(ge=-100, le=100)] = 1.0
    class_name: str | None = None
    balance: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution(Guidance):
    """p(x) exp(-sum of lambda_i E_i(x)): several models' wishes at once, also about shares.

    The energies look at the predicted clean image. PromptGen trains an invertible network on the
    latent vector of a generator that has one; a diffusion network has none, so that the energies
    steer every image instead. Steering a share by tilting every image gets near the share only.

    Attributes:
        wishes: each model with its weight.
        guidance_scale: of them all.
    """

    card: ClassVar = Card(
        role="gradient",
        paper="Wu et al. 2022, arXiv:2209.06970",
        cost="1 evaluation; 1 classifier gradient a wish",
    )

    wishes: Annotated[tuple[Wish, ...], Field(min_length=1)]
    guidance_scale: Annotated[float, Field(ge=0, le=1000)] = 1.0

    @property
    def files(self) -> tuple[str, ...]:
        """The classifiers and the balances."""
        balances = tuple(wish.balance for wish in self.wishes if wish.balance is not None)
        return tuple(f for w in self.wishes for f in guide_files(w.classifier)) + balances

    def check(self, models: Models) -> None:
        """Raises ConfigError for a class or a balance that does not belong to its classifier."""
        for index, wish in enumerate(self.wishes):
            at = f"{AT}.{index}"
            own = wish.class_name is None and wish.balance is None
            check_guide(wish.classifier, models, f"{at}.classifier", names=own)
            if wish.class_name is not None and wish.balance is not None:
                raise ConfigError(f"{at}.balance", wish.balance, "a class_name or a balance")
            _energy_inputs(models, wish, None if not own else 0, at)

    def denoiser(self, target: Target) -> Denoiser:
        """Eps - sigma s sum of gradients."""
        if self.guidance_scale == 0:
            return target.moved
        models, calls = target.models, []
        for index, wish in enumerate(self.wishes):
            guide, inputs = _energy_inputs(models, wish, target.label, f"{AT}.{index}")
            calls.append((LinearEnergy(guide), inputs))

        def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
            found = yield from target.moved(x_t, level)
            gradients = yield from gather(
                *(gradient_of(energy, found.x_0, level, inputs) for energy, inputs in calls)
            )
            for gradient in gradients:
                found = shift(found, -self.guidance_scale * level.sigma * gradient, level)
            return found

        return denoise


def _energy_inputs(
    models: Models, wish: Wish, label: int | None, at: str
) -> tuple[Guide, Conditioning]:
    """Weights and tilts of the classes of its classifier, one row."""
    guide = open_guide(models, wish.classifier, f"{at}.classifier")
    names = guide.info.class_names
    weights, tilts = torch.zeros(2, 1, len(names), device=models.backbone.device)
    if wish.balance is not None:
        fit = open_fit(models, wish.balance, "distribution", f"{at}.balance")
        if tuple(fit.details["class_names"]) != names:
            allowed = f"a balance of the classifier's classes {list(names)}"
            raise ConfigError(f"{at}.balance", fit.details["class_names"], allowed)
        tilts = wish.weight * fit.tensors["tilts"][None]
    elif wish.class_name is not None or label is not None:
        name = wish.class_name or models.class_names[label or 0]
        weights[0, guide.index(name, f"{at}.class_name")] = wish.weight
    return guide, {"weights": weights, "tilts": tilts}


METHOD: Final[type[Guidance]] = Distribution
