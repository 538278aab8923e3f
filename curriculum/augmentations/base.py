"""The protocol of the augmentation family."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Strengths = NDArray[np.int64]
"""(num_classes,) how strongly each class is augmented; 0 is not at all."""

Accuracy = Callable[[NDArray[np.int64], int, int], NDArray[np.float64]]
"""(classes (n,), strength, number of images of each) to (n,) shares, 0..1, of random training
images of each class that the network gets right at that strength."""


class Augmentation(Protocol):
    """Images changed by a strength that is their class's own."""

    @property
    def is_active(self) -> bool:
        """Whether there is anything to do at all."""

    def apply(
        self, images: Tensor, strengths: NDArray[np.int64], rng: np.random.Generator
    ) -> Tensor:
        """Changed images.

        Args:
            images: (N, C, H, W) uint8.
            strengths: (N,) of each image's class.
            rng: of all draws.
        """

    def update(self, strengths: Strengths, accuracy: Accuracy) -> Strengths:
        """The strengths of the next epoch."""
