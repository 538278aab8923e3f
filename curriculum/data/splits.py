"""Splits of images (train, val, test) and of classes (many, medium, few). Knows labels only."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from curriculum.data.classes import describe_class, rows_by_class
from curriculum.data.randomness import class_generator
from generators.errors import ConfigError, DataError

SPLIT_NAMES: Final[Mapping[str, str]] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""What data sets call their splits, in lower case, to what they are called here."""


def stratified_split(
    labels: NDArray[np.int64],
    fractions: Mapping[Literal["val", "test"], float],
    seed: int,
    class_names: Sequence[str] = (),
) -> NDArray[np.str_]:
    """Splits every class by itself, so that no class depends on the others.

    A class of n images gives round(n * fraction) of them to a split, but at least one, and keeps
    at least one for training.

    Args:
        labels: (N,) class indices.
        fractions: share of each split, each in [0, 1), together < 1; 0 asks for no split.
        seed: of the shuffles.
        class_names: by label, for the error message.

    Returns:
        (N,) of `train`, `val` or `test`.

    Raises:
        ConfigError: shares that are negative or leave nothing to train on.
        DataError: a class with fewer images than there are splits; names it.
    """
    if any(share < 0 for share in fractions.values()) or sum(fractions.values()) >= 1:
        raise ConfigError("fractions", dict(fractions), "shares >= 0 with a sum below 1")
    wanted = {name: share for name, share in sorted(fractions.items()) if share > 0}
    splits = np.full(len(labels), "train", dtype="<U5")
    for label, rows in rows_by_class(labels).items():
        if len(rows) < len(wanted) + 1:
            raise DataError(
                f"{describe_class(label, class_names)} has {len(rows)} image(s), too few for a "
                f"split into {', '.join(['train', *wanted])}: it needs one in each"
            )
        shuffled = class_generator("split", seed, label).permutation(rows)
        start = 0
        for name, count in _counts(len(rows), wanted).items():
            splits[shuffled[start : start + count]] = name
            start += count
    return splits


def _counts(num_images: int, fractions: Mapping[Literal["val", "test"], float]) -> dict[str, int]:
    """Images of each split; half an image is rounded up."""
    half = Fraction(1, 2)
    counts = {
        # 0.1 as a decimal, not as the binary number beside it: 5 of 50 whatever the float is
        str(name): max(1, int(Fraction(str(share)) * num_images + half))
        for name, share in fractions.items()
    }
    while sum(counts.values()) >= num_images:
        largest = max(counts, key=lambda name: counts[name])
        counts[largest] -= 1
    return counts


def shot_split(
    class_counts: NDArray[np.int64], many_above: int = 100, few_below: int = 20
) -> NDArray[np.str_]:
    """`many`, `medium` or `few` by training images (Liu et al. 2019, arXiv:1904.05160).

    Args:
        class_counts: (num_classes,) training images.
        many_above: a class with more is `many`.
        few_below: a class with fewer is `few`.

    Returns:
        (num_classes,) names; exactly `many_above` and exactly `few_below` are `medium`.
    """
    names = np.full(len(class_counts), "medium", dtype="<U6")
    names[class_counts > many_above] = "many"
    names[class_counts < few_below] = "few"
    return names
