"""The protocol of the guidance family."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from generators.program import Conditioning, Denoiser


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """What one request is steered towards.

    Attributes:
        cond: conditioning of its class and prompt.
        uncond: the null conditioning, None when the backbone has none.
        label: class index.
        source: (C, h, w), the encoded real image, None for requests without one.
    """

    cond: Conditioning
    uncond: Conditioning | None
    label: int
    source: Tensor | None


class Guidance(Protocol):
    """Turns a target into a denoiser. State of a request lives in the returned closure."""

    @property
    def needs_unconditional(self) -> bool:
        """Whether the backbone must have a null conditioning."""

    @property
    def calls_per_step(self) -> float:
        """Model evaluations a step costs, for estimates."""

    def denoiser(self, target: Target) -> Denoiser:
        """Called once per request."""
