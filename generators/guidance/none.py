"""No guidance: the conditional prediction as it is."""

from dataclasses import dataclass
from typing import ClassVar, Final

from generators.guidance.base import Card, Guidance, Target
from generators.models import Models
from generators.program import Denoiser


@dataclass(frozen=True, slots=True, kw_only=True)
class NoGuidance:
    """The conditional prediction as it is; one model evaluation a step."""

    card: ClassVar = Card(role="none", paper="", cost="1 evaluation")

    @property
    def needs_unconditional(self) -> bool:
        """No null conditioning is used."""
        return False

    @property
    def calls_per_step(self) -> float:
        """One evaluation a step."""
        return 1.0

    @property
    def files(self) -> tuple[str, ...]:
        """None."""
        return ()

    def check(self, models: Models) -> None:
        """Fits everywhere."""

    def denoiser(self, target: Target) -> Denoiser:
        """Asks for the conditional prediction."""
        return target.conditional


METHOD: Final[type[Guidance]] = NoGuidance
