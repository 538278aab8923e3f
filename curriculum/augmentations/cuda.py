"""CUDA: a curriculum of data augmentation (Ahn et al. 2023, arXiv:2302.05499, Algorithm 1)."""

from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from curriculum.augmentations.base import Accuracy, Augmentation, Strengths
from curriculum.image_operations import OPERATIONS, operate
from generators.errors import ConfigError, one_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuda:
    """Each class is augmented as strongly as the network still copes with.

    A class of strength L has, with some probability, L random operations on each image, at L / 30
    of their range. After each epoch it is tested at all strengths l up to L, on T (l + 1) random
    training images: L grows by one if more than gamma of them are right at every l, and falls by
    one otherwise.

    Attributes:
        probability: of an image to be augmented.
        max_strength: of a class.
        num_images: T.
        gamma: accuracy that counts as coping.
        without: operations to leave out, e.g. flips where they change the class.
    """

    probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    max_strength: Annotated[int, Field(ge=1, le=30)] = 10
    num_images: Annotated[int, Field(ge=1)] = 10
    gamma: Annotated[float, Field(ge=0, le=1)] = 0.6
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.without:
            if name not in OPERATIONS:
                raise ConfigError("cuda.without", name, one_of(OPERATIONS, name))

    @property
    def is_active(self) -> bool:
        """Always."""
        return True

    def apply(
        self, images: Tensor, strengths: NDArray[np.int64], rng: np.random.Generator
    ) -> Tensor:
        """Draws operations for each image on its own."""
        names = [name for name in OPERATIONS if name not in self.without]
        changed, chosen = images.clone(), rng.random(len(images)) < self.probability
        for row in np.flatnonzero(chosen & (strengths > 0)):
            strength, picture = int(strengths[row]), to_pil_image(images[row])
            for drawn in rng.integers(len(names), size=strength):
                picture = operate(names[drawn], picture, strength / 30, rng)
            changed[row] = pil_to_tensor(picture)
        return changed

    def update(self, strengths: Strengths, accuracy: Accuracy) -> Strengths:
        """One step up or down for each class, within 0..max_strength."""
        copes = np.full(len(strengths), True)
        for level in range(int(strengths.max()) + 1):
            asked = np.flatnonzero(copes & (strengths >= level))
            if len(asked):
                shares = accuracy(asked, level, self.num_images * (level + 1))
                copes[asked] = shares > self.gamma
        return np.clip(strengths + np.where(copes, 1, -1), 0, self.max_strength)


METHOD: Final[type[Augmentation]] = Cuda
