"""The protocol of the sampling family."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from curriculum.schedules.base import Progress

Shares = NDArray[np.float64]


class Sampling(Protocol):
    """Shares of the classes among an epoch's samples."""

    def shares(self, class_counts: NDArray[np.int64], progress: Progress) -> Shares | None:
        """(num_classes,) of sum 1, 0 for classes without images; None draws images as they come.

        Args:
            class_counts: (num_classes,) images a class in the epoch's pool.
            progress: the epoch.
        """


def power_shares(class_counts: NDArray[np.int64], exponent: float) -> Shares:
    """n_c^exponent over the classes that have images, of sum 1 (Kang et al. 2020, Eq. 1)."""
    weights = np.where(class_counts > 0, np.maximum(class_counts, 1).astype(float) ** exponent, 0)
    total: Shares = weights / weights.sum()
    return total
