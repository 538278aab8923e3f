"""Images that are in memory as arrays, behind the protocol of sources."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curriculum.data.decode import encode_image


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArrayImages:
    """A data set as one array; `read` encodes PNG, which loses nothing.

    Attributes:
        pixels: uint8 (N, H, W, C), C 1 or 3.
        labels: (N,) class indices.
        class_names: by label.
        splits: (N,) of `train`, `val`, `test`, or None.
        name: of the data set, for `origin`.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    splits: NDArray[np.str_] | None
    name: str

    def origin(self, index: int) -> str:
        """`digits#12`: the row."""
        return f"{self.name}#{index}"

    def read(self, index: int) -> bytes:
        """PNG of one image."""
        return encode_image(self.pixels[index], "png", 100)
