"""Perturbed-attention guidance (Ahn et al. 2024, arXiv:2403.17377, Eq. 10-11)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from pydantic import Field
from torch import Tensor

from generators.guidance.base import Card, Guidance, Target, extrapolate
from generators.models import Models
from generators.noise import NoiseLevel
from generators.program import Denoiser, ModelCall, Network, Prediction, Program, ask, gather
from generators.steering.attention import choose_layers, perturbed, self_attentions


@dataclass(frozen=True, slots=True, kw_only=True)
class PerturbedAttention(Guidance):
    """Eps + s (eps - eps_pert): away from the network with its self-attention switched off.

    In the chosen layers every position attends to itself alone. Needs no null conditioning and no
    second network; a list with `cfg` adds both.

    Attributes:
        guidance_scale: s; 3 with cfg, 5 without, in the paper's Stable Diffusion.
        layers: names of self-attention layers, or how they begin (`mid_block`); none: those in the
            middle of the network. `discl fit-guidance head_hunter` lists them.
    """

    card: ClassVar = Card(
        role="term", paper="Ahn et al. 2024, arXiv:2403.17377", cost="2 evaluations"
    )

    guidance_scale: Annotated[float, Field(ge=0, le=100)] = 3.0
    layers: tuple[str, ...] = ()

    @property
    def calls_per_step(self) -> float:
        """The network as it is, and perturbed."""
        return 1.0 if self.guidance_scale == 0 else 2.0

    def check(self, models: Models) -> None:
        """Raises ConfigError for a network without self-attention, or layers it does not have."""
        choose_layers(models.backbone, self.layers, "generation.guidance.layers")

    def denoiser(self, target: Target) -> Denoiser:
        """Extrapolates from the perturbed through the conditional prediction."""
        if self.guidance_scale == 0:
            return target.conditional
        models = target.models
        network = models.keep(("perturbed layers", self.layers), lambda: self._network(models))
        return away_from(target, network, self.guidance_scale)

    def _network(self, models: Models) -> Network:
        heads = self_attentions(models.backbone)
        chosen = choose_layers(models.backbone, self.layers, "generation.guidance.layers")
        return perturbed(models, {name: (1.0,) * heads[name] for name in chosen})


def away_from(target: Target, network: Network, scale: float) -> Denoiser:
    """Eps + scale (eps - eps of the other network), both of the request's own conditioning."""

    def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
        worse, yes = yield from gather(
            ask(ModelCall(x_t=x_t, level=level, cond=target.cond, network=network)),
            target.conditional(x_t, level),
        )
        return extrapolate(worse, yes, 1 + scale)

    return denoise


METHOD: Final[type[Guidance]] = PerturbedAttention
