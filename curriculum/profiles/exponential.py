"""Exponential long tail (Cui et al. 2019, arXiv:1901.05555; counts of arXiv:1906.07413)."""

import math
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from curriculum.profiles.base import LongTailProfile
from generators.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponential:
    """Counts fall by the same factor from class to class: CIFAR-10-LT and CIFAR-100-LT.

    n_c = int(n_max * (1 / IF) ** (c / (C - 1))), in Python floats: the published counts are what
    this expression gives, roundings included.

    Attributes:
        imbalance_factor: images of the largest class / images of the smallest, >= 1.
    """

    imbalance_factor: Annotated[float, Field(ge=1, allow_inf_nan=False)]

    def counts(self, num_classes: int, max_count: int) -> NDArray[np.int64]:
        """Largest class first."""
        ratio = 1 / self.imbalance_factor
        last = max(num_classes - 1, 1)
        exact = [max_count * ratio ** (c / last) for c in range(num_classes)]
        # 49 * (1 / 49) is 0.9999999999999999: one image, not none.
        counts = [1 if math.isclose(n, 1.0, rel_tol=1e-9) else int(n) for n in exact]
        if counts[-1] < 1:
            allowed = f"at most {max_count}, the images of the largest class"
            raise ConfigError("profile.imbalance_factor", self.imbalance_factor, allowed)
        return np.array(counts, dtype=np.int64)


METHOD: Final[type[LongTailProfile]] = Exponential
