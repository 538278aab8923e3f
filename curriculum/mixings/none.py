"""No mixing."""

from dataclasses import dataclass
from typing import Final

from torch import Tensor

from curriculum.mixings.base import MixContext, Mixing, WithinBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class NoMixing(WithinBatch):
    """Images stay as they are."""

    def mix(self, images: Tensor, labels: Tensor, context: MixContext) -> tuple[Tensor, Tensor]:
        """Both unchanged."""
        return images, labels


METHOD: Final[type[Mixing]] = NoMixing
