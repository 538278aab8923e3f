"""What a classifier has learned of each image-guidance level: the signal of adaptive schedules.

DisCL's (Liang et al. 2024, arXiv:2410.13674, and its code): the gain of the probability of the true
class on images that are held out, by level, from a short training on uniform real images.
"""

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

CellGain = tuple[int, int, float]
"""A class, an image-guidance percent, and the mean gain on images of both."""

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


def cell_progress(
    labels: NDArray[np.int64],
    levels: NDArray[np.int64],
    before: NDArray[np.float64],
    after: NDArray[np.float64],
) -> tuple[CellGain, ...]:
    """`learning_progress` of every class.

    Args:
        labels: (N,) classes of the held-out images.
        levels: see there.
        before: see there.
        after: see there.

    Returns:
        Class, image-guidance percent, mean gain, of the cells that have images, in this order.
    """
    found: list[CellGain] = []
    for label in np.unique(labels).tolist():
        own = labels == label
        gains = learning_progress(levels[own], before[own], after[own])
        found += [(label, level, gain) for level, gain in gains.items()]
    return tuple(found)


def mean_gains(measured: Sequence[Sequence[CellGain]]) -> list[CellGain]:
    """Mean gain of each cell over the epochs in which it was measured."""
    found: dict[tuple[int, int], list[float]] = {}
    for epoch in measured:
        for label, level, gain in epoch:
            found.setdefault((label, level), []).append(gain)
    return [(label, level, fmean(gains)) for (label, level), gains in sorted(found.items())]


def choose_held_out(
    sources: Sequence[str],
    levels: NDArray[np.int64],
    wanted: Collection[int],
    num_sources: int,
    labels: NDArray[np.int64] | None = None,
) -> NDArray[np.bool_]:
    """Which synthetic images are looked at and not trained on: one a level of the chosen sources.

    Args:
        sources: (N,) source key of each image.
        levels: (N,) its image-guidance percent.
        wanted: levels that a source must have images of.
        num_sources: most sources; the first ones by key, which says nothing of the image.
        labels: (N,) classes; with them, sources are taken of every class in turn, at most half of
            those a class has.

    Returns:
        (N,), True for the first image of each level of each chosen source.
    """
    first: dict[str, dict[int, int]] = {}
    for row, (source, level) in enumerate(zip(sources, levels.tolist(), strict=True)):
        first.setdefault(source, {}).setdefault(level, row)
    whole = sorted(source for source, rows in first.items() if rows.keys() >= set(wanted))
    if labels is not None:
        whole = _in_turn({name: int(labels[min(first[name].values())]) for name in whole})
    chosen = np.zeros(len(levels), dtype=np.bool_)
    for source in whole[:num_sources]:
        chosen[[first[source][level] for level in wanted]] = True
    return chosen


def _in_turn(labels: Mapping[str, int]) -> list[str]:
    """Half of each class's sources, rounded down: the first of every class, then the second."""
    members: dict[int, list[str]] = {}
    for source in sorted(labels):
        members.setdefault(labels[source], []).append(source)
    ranked = [
        (rank, label, source)
        for label, own in members.items()
        for rank, source in enumerate(own[: len(own) // 2])
    ]
    return [source for _, _, source in sorted(ranked)]


def without_outliers(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values within 1.5 interquartile distances of the quartiles; never none of them."""
    low, high = np.quantile(values, (0.25, 0.75))
    reach = IQR_FACTOR * (high - low)
    kept: NDArray[np.float64] = values[(values >= low - reach) & (values <= high + reach)]
    return kept
