"""Pareto long tail, as ImageNet-LT has (Liu et al. 2019, arXiv:1904.05160)."""

from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from curriculum.profiles.base import LongTailProfile
from generators.errors import ConfigError

PLOTTING_POSITION: Final = 0.2  # to one decimal, what brings the total nearest to ImageNet-LT's


@dataclass(frozen=True, slots=True, kw_only=True)
class Pareto:
    """Counts are quantiles of a Pareto distribution: few huge classes, many small ones.

    ImageNet-LT was drawn at random; here class c of C gets the quantile at
    p_c = (C - c - a) / (C + 1 - 2 a), c = 0..C-1, a = 0.2, of the Pareto (Lomax) distribution
    x = (1 - p) ** (-1 / alpha) - 1, moved and scaled so that the largest class has n_max images and
    the smallest `min_count`, rounded half up. For 1,000 classes from 1280 to 5 that makes 116,079
    images, 0.2 % more than ImageNet-LT's 115,846, and 388 / 469 / 143 many / medium / few classes
    (ImageNet-LT: 385 / 479 / 136).

    Attributes:
        alpha: the power, > 0; the larger, the thinner the tail.
        min_count: images of the smallest class, >= 1.
    """

    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 6.0
    min_count: Annotated[int, Field(ge=1)] = 5

    def counts(self, num_classes: int, max_count: int) -> NDArray[np.int64]:
        """Largest class first; a single class has n_max images."""
        if self.min_count > max_count:
            allowed = f"at most {max_count}, the images of the largest class"
            raise ConfigError("profile.min_count", self.min_count, allowed)
        if num_classes == 1:
            return np.array([max_count], dtype=np.int64)
        upper = np.arange(1, num_classes + 1) - PLOTTING_POSITION
        upper /= num_classes + 1 - 2 * PLOTTING_POSITION
        # upper is 1 - p_c. Relative to the largest, so that a small alpha does not overflow.
        quantiles = (upper / upper[0]) ** (-1 / self.alpha)
        share = (quantiles - quantiles[-1]) / (1 - quantiles[-1])
        exact = self.min_count + (max_count - self.min_count) * share
        counts: NDArray[np.int64] = np.floor(exact + 0.5).astype(np.int64)
        return counts


METHOD: Final[type[LongTailProfile]] = Pareto
