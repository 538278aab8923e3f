"""The protocol of the profile family."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class LongTailProfile(Protocol):
    """How many training images each class of a benchmark keeps. Knows no data set."""

    def counts(self, num_classes: int, max_count: int) -> NDArray[np.int64]:
        """Images per class (num_classes,), largest class first, each >= 1.

        Args:
            num_classes: >= 1.
            max_count: images of the largest class, >= 1.

        Raises:
            ConfigError: a class would be left without images.
        """
