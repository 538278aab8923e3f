"""Square-root sampling (Mahajan et al. 2018, arXiv:1805.00932; Kang et al. 2020)."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from curriculum.samplings.base import Sampling, Shares, power_shares
from curriculum.schedules.base import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class SquareRoot:
    """Classes in proportion to the root of their images."""

    def shares(self, class_counts: NDArray[np.int64], progress: Progress) -> Shares | None:
        """The same in every epoch."""
        return power_shares(class_counts, 0.5)


METHOD: Final[type[Sampling]] = SquareRoot
