"""The protocols of the source family."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class LabeledImages(Protocol):
    """An opened data set: labels in memory, images read one by one. Knows nothing of pixels.

    The order of rows depends on the data set alone, never on the file system, so that an index
    means the same image in every process that opens the same source.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by label, all different."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class indices (N,), each within 0..len(class_names)-1; every class has a train image."""

    @property
    def splits(self) -> NDArray[np.str_] | None:
        """Official splits (N,) of `train`, `val` or `test`; None where the source has none."""

    def origin(self, index: int) -> str:
        """Where an image is, for humans: `train/cat/1.jpg`, `train.parquet#12`.

        Different for every row, free of the folder the data set lies in, and the same when other
        images are added: the identity of the image.
        """

    def read(self, index: int) -> bytes:
        """The encoded image file; sources of arrays encode PNG.

        Raises:
            SampleRejected: `missing_file` or `unreadable_image`.
        """


class SourceSpec(Protocol):
    """Names a data set without touching it; workers open it again from its parameters."""

    def open(self) -> LabeledImages:
        """Reads names and labels, no images.

        Raises:
            DataError: the data set cannot be used as described; says why and what there is.
        """
