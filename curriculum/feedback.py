"""What a classifier has learned of each image-guidance level: the signal of adaptive schedules.

DisCL's (Liang et al. 2024, arXiv:2410.13674, and its code): the gain of the probability of the true
class on images that are held out, by level, from a short training on uniform real images.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

IQR_FACTOR = 1.5
"""Gains further outside the quartiles than this many times their distance are outliers (Tukey)."""


def learning_progress(
    levels: NDArray[np.int64], before: NDArray[np.float64], after: NDArray[np.float64]
) -> Mapping[int, float]:
    """Mean gain of each level, outliers left out.

    Args:
        levels: (N,) image-guidance percents of the held-out images.
        before: (N,) probability of each image's class before the short training.
        after: (N,) likewise after it.

    Returns:
        Image-guidance percent to mean gain, of the levels that have images, ascending.
    """
    gains = after - before
    return {
        int(level): float(np.mean(without_outliers(gains[levels == level])))
        for level in np.unique(levels)
    }


def without_outliers(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values within 1.5 interquartile distances of the quartiles; never none of them."""
    low, high = np.quantile(values, (0.25, 0.75))
    reach = IQR_FACTOR * (high - low)
    kept: NDArray[np.float64] = values[(values >= low - reach) & (values <= high + reach)]
    return kept
