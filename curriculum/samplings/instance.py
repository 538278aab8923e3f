"""Instance-balanced sampling: every image counts the same."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from curriculum.samplings.base import Sampling, Shares
from curriculum.schedules.base import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """Images as they come: classes in proportion to their images."""

    def shares(self, class_counts: NDArray[np.int64], progress: Progress) -> Shares | None:
        """No shares."""
        return None


METHOD: Final[type[Sampling]] = Instance
