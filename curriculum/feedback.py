"""What a classifier has learned of each image-guidance level: the signal of adaptive schedules.

DisCL's (Liang et al. 2024, arXiv:2410.13674, and its code): the gain of the probability of the true
class on images that are held out, by level, from a short training on uniform real images.
"""

from collections.abc import Collection, Mapping, Sequence

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


def choose_held_out(
    sources: Sequence[str], levels: NDArray[np.int64], wanted: Collection[int], num_sources: int
) -> NDArray[np.bool_]:
    """Which synthetic images are looked at and not trained on: one a level of the chosen sources.

    Args:
        sources: (N,) source key of each image.
        levels: (N,) its image-guidance percent.
        wanted: levels that a source must have images of.
        num_sources: most sources; the first ones by key, which says nothing of the image.

    Returns:
        (N,), True for the first image of each level of each chosen source.
    """
    first: dict[str, dict[int, int]] = {}
    for row, (source, level) in enumerate(zip(sources, levels.tolist(), strict=True)):
        first.setdefault(source, {}).setdefault(level, row)
    whole = sorted(source for source, rows in first.items() if rows.keys() >= set(wanted))
    chosen = np.zeros(len(levels), dtype=np.bool_)
    for source in whole[:num_sources]:
        chosen[[first[source][level] for level in wanted]] = True
    return chosen


def without_outliers(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values within 1.5 interquartile distances of the quartiles; never none of them."""
    low, high = np.quantile(values, (0.25, 0.75))
    reach = IQR_FACTOR * (high - low)
    kept: NDArray[np.float64] = values[(values >= low - reach) & (values <= high + reach)]
    return kept
