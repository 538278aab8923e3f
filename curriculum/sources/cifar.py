"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) through torchvision."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from curriculum.data.arrays import ArrayImages
from curriculum.sources.base import LabeledImages, SourceSpec
from generators.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Cifar:
    """CIFAR-10 or CIFAR-100: 32 x 32 colour, official train (50,000) and test (10,000) splits.

    torchvision checks the MD5 of every file before it reads it, so that the pickles of the original
    archive are only ever the original ones.

    Attributes:
        num_classes: 10 or 100.
        root: folder of the unpacked archive (`cifar-10-batches-py`, `cifar-100-python`).
        download: fetch the archive (170 MB) into `root` if it is not there.
    """

    num_classes: Literal[10, 100]
    root: str
    download: bool = False

    def open(self) -> LabeledImages:
        """All images in memory; they are 184 MB."""
        from torchvision.datasets import CIFAR10, CIFAR100

        dataset = CIFAR10 if self.num_classes == 10 else CIFAR100
        root = Path(self.root).expanduser()
        try:
            parts = [dataset(root, train=train, download=self.download) for train in (True, False)]
        except (RuntimeError, OSError) as error:
            raise DataError(
                f"root: no complete CIFAR-{self.num_classes} in {self.root!r} (expected the folder "
                f"{dataset.base_folder!r} in it; `download: true` fetches it): {error}"
            ) from error
        sizes = [len(part.targets) for part in parts]
        return ArrayImages(
            pixels=np.concatenate([part.data for part in parts]),
            labels=np.concatenate([part.targets for part in parts]).astype(np.int64),
            class_names=tuple(parts[0].classes),
            splits=np.repeat(np.array(["train", "test"], dtype="<U5"), sizes),
            name=f"cifar{self.num_classes}",
        )


METHOD: Final[type[SourceSpec]] = Cifar
