"""InvDiff (Hou et al. 2025, arXiv:2412.08480): a light module that serves all groups alike."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import torch
from pydantic import Field
from torch import Tensor

from generators.errors import ConfigError
from generators.guidance.base import Card, Guidance, Target, shift
from generators.models import Models
from generators.noise import NoiseLevel
from generators.program import Denoiser, ModelCall, Prediction, Program, ask, gather
from generators.steering.delta import LABEL, DeltaModel, DeltaNetwork
from generators.steering.fit_file import open_fit
from generators.transfer import to_device

AT = "generation.guidance.module"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant(Guidance):
    """Eps + rho delta: what was learned against bias, added to the generator's prediction.

    The paper mixes rho delta + (1 - rho) eps; added, a module that has learned nothing changes
    nothing, and rho = 0 is the generator.

    Attributes:
        module: a file of `discl fit-guidance invariant`.
        guidance_scale: rho.
    """

    card: ClassVar = Card(
        role="term",
        paper="Hou et al. 2025, arXiv:2412.08480",
        cost="1 evaluation, and 1 of a small module",
    )

    module: str
    guidance_scale: Annotated[float, Field(ge=0, le=1)] = 0.8

    @property
    def calls_per_step(self) -> float:
        """The generator and the module, which costs far less."""
        return 1.0 if self.guidance_scale == 0 else 2.0

    @property
    def files(self) -> tuple[str, ...]:
        """The module."""
        return (self.module,)

    def check(self, models: Models) -> None:
        """Raises ConfigError for a module of another network, or of other classes."""
        delta_model(models, self.module)

    def denoiser(self, target: Target) -> Denoiser:
        """Adds what the module says."""
        if self.guidance_scale == 0:
            return target.conditional
        network = delta_model(target.models, self.module)
        cond = {LABEL: to_device(torch.tensor([target.label]), target.models.backbone.device)}

        def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
            yes, added = yield from gather(
                target.conditional(x_t, level),
                ask(ModelCall(x_t=x_t, level=level, cond=cond, network=network)),
            )
            return shift(yes, self.guidance_scale * added.eps, level)

        return denoise


def delta_model(models: Models, path: str) -> DeltaModel:
    """The trained module; loaded once."""

    def load() -> DeltaModel:
        fit = open_fit(models, path, "invariant", AT)
        classes, details = tuple(fit.details["classes"]), fit.details
        if classes != models.class_names:
            raise ConfigError(AT, path, f"a module fitted to the classes {models.class_names}")
        channels = models.backbone.sample_shape[0]
        module = DeltaNetwork(channels, len(classes), details["width"], details["depth"])
        module.load_state_dict(fit.state("module."))
        return DeltaModel(module.to(models.backbone.device).eval().requires_grad_(False))

    return models.keep(("delta", path), load)


METHOD: Final[type[Guidance]] = Invariant
