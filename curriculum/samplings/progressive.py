"""Progressively balanced sampling (Kang et al. 2020, arXiv:1910.09217, Eq. 2)."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from curriculum.samplings.base import Sampling, Shares, power_shares
from curriculum.schedules.base import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressive:
    """From images as they come to balanced classes: (1 - e/E) instance + e/E class-balanced."""

    def shares(self, class_counts: NDArray[np.int64], progress: Progress) -> Shares | None:
        """A mixture of both by the epoch."""
        done = progress.epoch / progress.num_epochs
        instance, balanced = power_shares(class_counts, 1), power_shares(class_counts, 0)
        mixed: Shares = (1 - done) * instance + done * balanced
        return mixed


METHOD: Final[type[Sampling]] = Progressive
