"""The handwritten digits that come with scikit-learn (UCI optdigits, Alpaydin & Kaynak 1998)."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from curriculum.data.arrays import ArrayImages
from curriculum.sources.base import LabeledImages, SourceSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Digits:
    """scikit-learn's 1,797 handwritten digits: 8 x 8 gray, 10 classes, nothing to download.

    Values 0..16 become round(v * 255 / 16). No official splits.
    """

    def open(self) -> LabeledImages:
        """All images in memory; they are 115 kB."""
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        pixels = np.rint(images.reshape(-1, 8, 8, 1) * 255 / 16).astype(np.uint8)
        return ArrayImages(
            pixels=pixels,
            labels=labels.astype(np.int64),
            class_names=tuple(str(digit) for digit in range(10)),
            splits=None,
            name="digits",
        )


METHOD: Final[type[SourceSpec]] = Digits
