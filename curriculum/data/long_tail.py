"""Makes a balanced data set long-tailed, and counts classes. Knows labels only."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from curriculum.data.classes import describe_class, rows_by_class
from curriculum.data.randomness import class_generator
from generators.errors import DataError


def class_counts(labels: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Images per class (num_classes,) of labels (N,) within 0..num_classes-1."""
    counts: NDArray[np.int64] = np.bincount(labels, minlength=num_classes).astype(np.int64)
    assert len(counts) == num_classes, "a label lies outside the classes"
    return counts


def long_tail_subset(
    labels: NDArray[np.int64],
    counts: NDArray[np.int64],
    seed: int,
    class_names: Sequence[str] = (),
) -> NDArray[np.int64]:
    """Indices of the images that stay: the first n_c of a seeded shuffle of each class.

    Drawn without replacement; a smaller count keeps a part of what a larger one keeps.

    Args:
        labels: (N,) class indices.
        counts: (num_classes,) images to keep of each class.
        seed: of the shuffles.
        class_names: by label, for the error message.

    Returns:
        Unique indices into `labels`, class after class.

    Raises:
        DataError: a class has fewer images than it is to keep; names it.
    """
    available = np.bincount(labels, minlength=len(counts))
    if len(available) > len(counts):
        raise DataError(f"the long tail has {len(counts)} classes, the data {len(available)}")
    kept: list[NDArray[np.int64]] = []
    rows = rows_by_class(labels)
    nothing = np.zeros(0, dtype=np.int64)
    for label, count in enumerate(counts.tolist()):
        if available[label] < count:
            raise DataError(
                f"{describe_class(label, class_names)} has {available[label]} training images; "
                f"the long tail keeps {count} of it: lower data.long_tail.max_count"
            )
        shuffled = class_generator("long_tail", seed, label).permutation(rows.get(label, nothing))
        kept.append(shuffled[:count])
    indices = np.concatenate([nothing, *kept])
    assert len(np.unique(indices)) == len(indices)
    return indices
