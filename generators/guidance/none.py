"""No guidance: the conditional prediction as it is."""

from dataclasses import dataclass
from typing import Final

from torch import Tensor

from generators.guidance.base import Guidance, Target
from generators.noise import NoiseLevel
from generators.program import Denoiser, ModelCall, Prediction, Program


@dataclass(frozen=True, slots=True, kw_only=True)
class NoGuidance:
    """The conditional prediction as it is; one model evaluation a step."""

    @property
    def needs_unconditional(self) -> bool:
        """No null conditioning is used."""
        return False

    @property
    def calls_per_step(self) -> float:
        """One evaluation a step."""
        return 1.0

    def denoiser(self, target: Target) -> Denoiser:
        """Asks for the conditional prediction."""

        def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
            (prediction,) = yield (ModelCall(x_t=x_t, level=level, cond=target.cond),)
            return prediction

        return denoise


METHOD: Final[type[Guidance]] = NoGuidance
