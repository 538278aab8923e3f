"""MNIST (LeCun et al. 1998), brought to the format of scikit-learn's handwritten digits."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curriculum.data.decode import encode_image
from curriculum.sources.base import LabeledImages, SourceSpec
from generators.errors import ConfigError, DataError, SampleRejected

SIDE: Final = 32  # of the bitmaps that optdigits was counted from
BLOCK: Final = 4  # pixels of a bitmap that become one pixel of the image, each way
THRESHOLD: Final = 96  # gives the ink of the digits: 0.30 of the largest, on average
ARRAYS: Final = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Handwriting:
    """MNIST as 8 x 8 gray images that look like scikit-learn's digits, by their recipe.

    Each digit is cropped to its bounding box, scaled to fill 32 x 32 with its aspect kept, made
    black and white, and counted in blocks of 4 x 4; the counts 0..16 become round(v * 255 / 16).
    Official train (60,000) and test (10,000) splits. Exactly one of `path` and `root` is given.

    Attributes:
        path: an `mnist.npz` with `x_train`, `y_train`, `x_test`, `y_test`.
        root: folder of torchvision's MNIST.
        download: fetch MNIST (12 MB) into `root` if it is not there.
    """

    path: str | None = None
    root: str | None = None
    download: bool = False

    def __post_init__(self) -> None:
        if (self.path is None) == (self.root is None):
            given = {"path": self.path, "root": self.root}
            raise ConfigError("handwriting", given, "either `path` (mnist.npz) or `root`")

    def open(self) -> LabeledImages:
        """All of MNIST in memory (55 MB); images are converted as they are read."""
        arrays = _from_npz(self.path) if self.path else _from_torchvision(self)
        sizes = [len(arrays["y_train"]), len(arrays["y_test"])]
        return HandwritingImages(
            bitmaps=np.concatenate([arrays["x_train"], arrays["x_test"]]),
            labels=np.concatenate([arrays["y_train"], arrays["y_test"]]).astype(np.int64),
            class_names=tuple(str(digit) for digit in range(10)),
            splits=np.repeat(np.array(["train", "test"], dtype="<U5"), sizes),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HandwritingImages:
    """MNIST, converted image by image.

    Attributes:
        bitmaps: uint8 (N, 28, 28), ink is 255.
        labels: (N,).
        class_names: the digits.
        splits: (N,).
    """

    bitmaps: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    splits: NDArray[np.str_] | None

    def origin(self, index: int) -> str:
        """`mnist#12`: the row, test images after the training images."""
        return f"mnist#{index}"

    def read(self, index: int) -> bytes:
        """PNG of 8 x 8."""
        counts = ink_counts(self.bitmaps[index])
        pixels = np.rint(counts * 255 / BLOCK**2).astype(np.uint8)
        return encode_image(pixels[:, :, None], "png", 100)


def ink_counts(bitmap: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Black pixels in each block of the digit, 0..16, as optdigits counts them.

    Args:
        bitmap: uint8 (H, W), ink is 255.

    Returns:
        (8, 8).

    Raises:
        SampleRejected: no ink.
    """
    rows, columns = np.flatnonzero(bitmap.any(axis=1)), np.flatnonzero(bitmap.any(axis=0))
    if len(rows) == 0:
        raise SampleRejected("unreadable_image", "no ink")
    digit = bitmap[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    longest = max(digit.shape)
    height, width = (max(1, round(side * SIDE / longest)) for side in digit.shape)
    image = Image.fromarray(np.ascontiguousarray(digit))
    scaled = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    black = np.zeros((SIDE, SIDE), dtype=np.int64)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    black[top : top + height, left : left + width] = scaled > THRESHOLD
    blocks = SIDE // BLOCK
    counts: NDArray[np.int64] = black.reshape(blocks, BLOCK, blocks, BLOCK).sum(axis=(1, 3))
    return counts


def _from_npz(name: str) -> dict[str, NDArray[np.uint8]]:
    path = Path(name).expanduser()
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in ARRAYS}
    except KeyError as error:
        raise DataError(f"path: {name!r} has no array {error}; expected {ARRAYS}") from error
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"path: cannot read {name!r} as mnist.npz: {error}") from error
    for part in ("train", "test"):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        matches = images.ndim == 3 and images.dtype == np.uint8 and labels.shape == images.shape[:1]
        if not matches or not np.isin(labels, np.arange(10)).all():
            raise DataError(
                f"path: {name!r}: x_{part} is {images.dtype} {images.shape} and y_{part} "
                f"{labels.dtype} {labels.shape}; expected uint8 (N, H, W) and digits (N,)"
            )
    return arrays


def _from_torchvision(spec: Handwriting) -> dict[str, NDArray[np.uint8]]:
    from torchvision.datasets import MNIST

    root = Path(spec.root or "").expanduser()
    arrays: dict[str, NDArray[np.uint8]] = {}
    for part in ("train", "test"):
        try:
            data = MNIST(root, train=part == "train", download=spec.download)
        except (RuntimeError, OSError) as error:
            raise DataError(
                f"root: no MNIST in {spec.root!r} (expected the folder 'MNIST/raw' in it; "
                f"`download: true` fetches it): {error}"
            ) from error
        arrays[f"x_{part}"], arrays[f"y_{part}"] = data.data.numpy(), data.targets.numpy()
    return arrays


METHOD: Final[type[SourceSpec]] = Handwriting
