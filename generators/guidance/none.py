"""No guidance: the conditional prediction as it is."""

from dataclasses import dataclass
from typing import ClassVar, Final

from generators.guidance.base import Card, Guidance, Target
from generators.program import Denoiser


@dataclass(frozen=True, slots=True, kw_only=True)
class NoGuidance(Guidance):
    """The conditional prediction as it is; one model evaluation a step."""

    card: ClassVar = Card(role="none", paper="", cost="1 evaluation")

    def denoiser(self, target: Target) -> Denoiser:
        """Asks for the conditional prediction."""
        return target.conditional


METHOD: Final[type[Guidance]] = NoGuidance
