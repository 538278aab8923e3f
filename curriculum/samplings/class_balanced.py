"""Class-balanced sampling (Kang et al. 2020, arXiv:1910.09217, section 4.1)."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from curriculum.samplings.base import Sampling, Shares, power_shares
from curriculum.schedules.base import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassBalanced:
    """Every class as often as every other."""

    def shares(self, class_counts: NDArray[np.int64], progress: Progress) -> Shares | None:
        """Equal shares."""
        return power_shares(class_counts, 0)


METHOD: Final[type[Sampling]] = ClassBalanced
