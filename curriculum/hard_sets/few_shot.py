"""Images of rare classes: the hard set of DisCL for long tails (arXiv:2410.13674)."""

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field
from torch import Tensor

from curriculum.hard_sets.base import HardSet


@dataclass(frozen=True, slots=True, kw_only=True)
class FewShot:
    """All images of classes with fewer training images than a threshold.

    Attributes:
        threshold: images; a class with exactly this many is not hard. 20 is the literature's.
    """

    threshold: Annotated[int, Field(ge=1)] = 20

    @property
    def needs_logits(self) -> bool:
        """Counts alone decide."""
        return False

    def select(self, logits: Tensor | None, labels: Tensor, class_counts: Tensor) -> Tensor:
        """Marks images whose class is below the threshold."""
        return class_counts.to(labels.device)[labels] < self.threshold


METHOD: Final[type[HardSet]] = FewShot
