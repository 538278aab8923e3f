"""No augmentation by class."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from curriculum.augmentations.base import Accuracy, Augmentation, Strengths


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAugmentation:
    """All classes alike, as `augment` says."""

    @property
    def is_active(self) -> bool:
        """Never."""
        return False

    def apply(
        self, images: Tensor, strengths: NDArray[np.int64], rng: np.random.Generator
    ) -> Tensor:
        """Unchanged."""
        return images

    def update(self, strengths: Strengths, accuracy: Accuracy) -> Strengths:
        """Unchanged."""
        return strengths


METHOD: Final[type[Augmentation]] = NoAugmentation
