"""Step imbalance (Buda, Maki & Mazurowski 2018, arXiv:1710.05381; as in LDAM, arXiv:1906.07413)."""

from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from curriculum.profiles.base import LongTailProfile
from generators.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The first half of the classes keeps n_max images, the second half n_max / IF.

    With an odd number of classes the class in the middle belongs to the second half.

    Attributes:
        imbalance_factor: images of a large class / images of a small one, >= 1.
    """

    imbalance_factor: Annotated[float, Field(ge=1, allow_inf_nan=False)]

    def counts(self, num_classes: int, max_count: int) -> NDArray[np.int64]:
        """Large classes first; a single class is large."""
        # One correctly rounded division: exact wherever n_max / IF is an integer.
        small = int(max_count / self.imbalance_factor)
        if small < 1:
            allowed = f"at most {max_count}, the images of a large class"
            raise ConfigError("profile.imbalance_factor", self.imbalance_factor, allowed)
        counts = np.full(num_classes, small, dtype=np.int64)
        counts[: max(num_classes // 2, 1)] = max_count
        return counts


METHOD: Final[type[LongTailProfile]] = Step
